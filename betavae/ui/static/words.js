// Every word that the page's modules show. What stands there from the start is in the .html files, and what is wrong with a request
// is the server's to say. An entry that needs a value is a function.

const MINUS = "−";
const percent = (share) => Math.round(100 * share);
const signed = (value, digits) => `${value < 0 ? MINUS : "+"}${Math.abs(value).toFixed(digits)}`;
const number = (value, digits) => value.toFixed(digits).replace("-", MINUS);

export const CONNECTION_LOST = "The connection was lost.";

export const animation = {
  alt: "The animation",
  cancelled: "Cancelled.",
  download: (kind, bytes) =>
    `Download ${kind.toUpperCase()}, ${bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`}`,
  make: (format) => `Make ${format.toUpperCase()}`,
  progress: (done, total) => `${done} of ${total} frames`,
  seconds: (seconds) => `${seconds.toFixed(1)} s`,
  stopping: "Stopping …",
  waiting: "Waiting for the first frame …",
};

export const card = { after: "After", before: "Before", title: "Face Latents" };

export const comparison = { before: "Before", photo: "Photo" };

export const edit = {
  average: (label) => `${label} average`,
  beyond: "Beyond the data: the picture is a guess",
  faceless: "The link holds an edit and no face.",
  linked: (caption) => `${caption}, edited by a link`,
  lock: (label, locked) => `${label} ${locked ? "locked" : "unlocked"}`,
  neutral: "Neutral",
  notKept: "This browser keeps nothing for this page: a reload will lose the edit.",
  notRestored: "What was here last time cannot be shown any more.",
  nothingLeft: (preset) => `${preset}: nothing left to change on this face.`,
  reset: (label) => `${label} reset`,
  resetAll: "Reset",
  stays: (caption) => `The edit of ${caption} stays with it.`,
  surprise: "Surprise",
  times: (zoom) => `${zoom}×`,
  unlike: "Unlike the faces that the model has seen",
  useHere: "Use it here too",
  useOnThis: "Use it on this face",
  zoom: (zoom) => `Zoom, ${zoom}×`,
};

export const effects = {
  also: "Also changed",
  change: (before, after, quantity) => `${quantity ? "above " : ""}${percent(before)} → ${percent(after)} %`,
  invitation: "Release a slider to see what else it changed.",
  lock: "lock",
  locked: "locked",
  lockOf: (lock, label) => `${lock} ${label}`,
  none: "Nothing else changed.",
  probability: (label) => `${label}: how sure a classifier of pictures is, before and after`,
  quantity: (label) => `${label}: above how many of 100 faces it stands, before and after (its percentile)`,
};

export const explore = {
  explored: (caption) => (caption.startsWith("Explored") ? caption : `Explored: ${caption}`),
  kin: ({ latent, kl, r }) => `z${latent}, ${kl === null ? "KL unknown" : `${kl.toFixed(2)} nats`}, r = ${number(r, 2)}`,
  none: "none of its latents is known to",
  step: (latent, value) => `Latent ${latent} at ${value}`,
  value: (value) => number(value, 1),
};

export const filmstrip = {
  alt: (step, caption) => `Step ${step + 1}: ${caption}`,
  go: (caption) => `Go on from: ${caption}`,
  pin: "Compare with this step",
  pinned: "A",
};

export const framing = { face: (index) => `Face ${index + 1}` };

export const interpolate = {
  earlier: (caption) => `Move ${caption} towards the start`,
  full: (most) => `A path has at most ${most} faces; remove one first.`,
  later: (caption) => `Move ${caption} towards the end`,
  leg: (from, to) => `${from} → ${to}`,
  noPicture: "The picture has not come yet. Save it when the connection is back.",
  noStrip: "The strip has not come yet. Save it when the connection is back.",
  position: (share) => `${percent(share)} %`,
  remove: (caption) => `Remove ${caption}`,
  way: (share) => `${percent(share)} % of the way`,
};

export const make = {
  edited: "Edited face",
  isSlider: (label) => `${label} is a slider of the Edit tab now, under “Your own”.`,
  areSliders: (labels) => `Sliders of the Edit tab now, under “Your own”: ${labels.join(", ")}.`,
  remove: (caption) => `Remove ${caption}`,
  strength: (value) => signed(value, 1),
  taken: (name) => `There is a direction ${name} already; choose another name.`,
  tooMany: (most, left) => `A side has at most ${most} faces; ${left} were left out.`,
};

export const model = {
  chart: (title) => `${title}, against images seen`,
  loading: (name) => `Loading ${name} …`,
  noName: "Write the name of a repository, as user/repo.",
  number: (value) => value.toLocaleString("en"),
};

export const panel = { fewer: "fewer", more: (count) => `${count} more`, of: (more, group) => `${more} of ${group}` };

export const photo = {
  cameraDenied: "The camera was not allowed.",
  noCamera: "No camera was found.",
  noCameraHere: "This browser gives no camera to this page.",
};

export const photos = {
  looking: "Looking for faces…",
  saved: (name, size) => `Saved as ${name}, ${size.join(" × ")} pixels.`,
  saving: "Saving at the photo's own size…",
};

export const picture = { kept: (kept) => `The model ${kept}.` };

export const previews = { done: "nothing left to change" };

export const sample = {
  face: (label, index) => `${label} ${index + 1}`,
  said: {
    prior: "Random faces, as the model would have them",
    mixture: "Random faces, spread as real ones are",
    both: "The same noise, both ways",
    neighbours: "Neighbours of the face on the Edit tab",
  },
  seed: (said, seed) => `${said}, seed ${seed}`,
  unlimited: "off",
};

const held = (withFace) => (withFace ? "the edit and the face" : "the edit, not the face");

export const sharing = {
  copied: (withFace) => `Link copied; it holds ${held(withFace)}.`,
  drawing: (format) => `Drawing the ${format.toUpperCase()}…`,
  inAddress: (withFace) => `The link is in the address bar; it holds ${held(withFace)}.`,
  noEdit: "Move a slider first: there is no edit to show yet.",
  noPicture: "The picture of this edit has not come yet. Save it when the connection is back.",
  saved: (name) => `Saved as ${name}.`,
};

export const slider = {
  above: (rank) => `above ${rank} %`,
  beyond: "beyond",
  beyondAll: "beyond all faces",
  caption: (label, value) => `${label} ${value}`,
  held: (label) => `${label} is locked; open its lock to move it.`,
  kept: "kept",
  left: (share) => `${share} % left`,
  leftOf: (share) => `${share} % of the effect remains under the locks`,
  noPercentile: (label, entry) => `The percentile of ${label} is ${entry || "empty"}; it must be from 0 to 100.`,
  ofFaces: (standing) => `${standing} of faces`,
  percentile: (label) => `${label}: percentile`,
  reset: (label) => `${label} reset`,
  // The size as digits; nothing has no sign.
  value: (strength, size, degrees) => (Number(size) === 0 ? "0" : `${strength > 0 ? "+" : MINUS}${size}`) + (degrees ? "°" : ""),
};

export const wear = {
  alt: (name) => `The face in ${name}`,
  amount: (value) => `${value} %`,
  caption: (groups, name) => `${groups.join(", ") || "Nothing"} of ${name}`,
  invitation: "Drop a second photo, or choose one",
  next: (face, faces) => `Face ${face + 1} of ${faces}: take the next one`,
};
