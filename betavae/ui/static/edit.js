// The page holds the face and the edit; the server is asked for pictures of latents and remembers nothing.

import { CONNECTION_LOST, connection } from "./connection.js";
import { SideEffects } from "./effects.js";
import { Filmstrip } from "./filmstrip.js";
import { Framing } from "./framing.js";
import { History } from "./history.js";
import { openingMove } from "./opening.js";
import { Previews } from "./previews.js";
import { averages, isNeutral, surprise } from "./proposals.js";
import { PhotoStage, pixelsOf, residualOf, totalField } from "./putback.js";
import { pictureWith, readAddress, recipeOf, writeAddress } from "./recipe.js";
import { session } from "./session.js";
import { card, frame, waysThere } from "./share.js";
import { Slider, valueText } from "./slider.js";
import { Space } from "./space.js";
import { Spectrum } from "./spectrum.js";
import { download, latest, loaded, paint, speaker } from "./stage.js";
import { state as shared } from "./state.js";
import { Viewport } from "./viewport.js";

export default function mount({ element, props, server, watch }) {
const find = (selector) => element.querySelector(selector);
const stage = find(".stage");
const canvas = Object.fromEntries([...element.querySelectorAll("canvas")].map((c) => [c.dataset.canvas, c]));
const say = speaker(find(".status"));
const space = new Space(props.space);
const sliders = new Map();

let face = null;
let locks = [];
let against = "start";   // what the edit is compared with: the face before it, the photo, or a step
let era = 0;             // counts the jumps: an answer from before one is not drawn
const opening = props.value;
const isOpening = () => Boolean(face.seed) && JSON.stringify(face.seed) === JSON.stringify(opening.seed);
let arriving = readAddress();  // a link's recipe; it stays in the address bar until it is understood or an edit is made

// The one way to a picture: latent in, {picture} or {error} out. A decoder in the browser fits here.
// An edited face is laid on its photo by the outline that it had before, as the library does it.
const pictureOf = (z) => server.decode(props.mask ? { z, unedited: face.z } : { z });
const picturesOf = ({ latents, of = latents.map(() => face) }) =>
  server.pictures({ latents, ...(props.mask && { unedited: of.map(({ z }) => z) }) });

// Edits under locks as the server holds them (messages.held); while a slider is dragged the page has its own approximation.
const heldEdits = new Map();
const keyOf = ({ face: { z }, strengths, locks: names }) => JSON.stringify([z, strengths, names]);
const heldEdit = (state) => (state.locks.length ? heldEdits.get(keyOf(state)) : undefined);
const toBeHeld = (state) => props.effects && state.locks.length > 0 && Object.keys(state.strengths).length > 0 && !heldEdit(state);
const given = new Set(props.groups.flatMap((group) => group.sliders.map(({ name }) => name)));

async function held(state) {
  const { face: { z }, strengths, locks: names } = state;
  const own = [...new Set([...Object.keys(strengths), ...names])].filter((name) => !given.has(name));
  const vectors = Object.fromEntries(own.map((name) => [name, [...space.get(name).vector]]));
  const answer = await server.held({ z, strengths, locks: names, vectors });
  if (!answer.error) heldEdits.set(keyOf(state), answer);
  return answer;
}

// Where a model that draws the face alone puts it back.
const behind = (who) => (props.mask ? who.original : null);

const live = latest(
  stage,
  ({ z, state }) => (state ? held(state) : z === face.z ? face : pictureOf(z)),
  async ({ picture, z }, request) => {
    if (request.era !== era) return;
    shown = { z: request.state ? z : request.z, picture };
    if (request.state) measure();
    await drawEdit(picture, request.state?.strengths ?? request.strengths);
    develop();
    say(face.caption);
  },
  trouble,
  async () => {
    // Steps that were overtaken before their picture came.
    const missing = history.nodes.filter((node) => !node.picture);
    if (!missing.length) return keep();
    for (const { state } of missing) if (toBeHeld(state)) await held(state);
    const { pictures } = await picturesOf({ latents: missing.map(({ state }) => latentOf(state)), of: missing.map(({ state }) => state.face) });
    pictures?.forEach((picture, i) => history.develop(missing[i], picture));
    keep();
  },
);
let shown = null;  // the latest picture, and its latent

const history = new History();
const filmstrip = new Filmstrip(find(".steps"), history, { go, pin: (node) => node.picture && compare(node) });
const zoom = find("[data-do=zoom]");
let magnified = 1;
const viewport = new Viewport(find(".viewport"), {
  zoomed(times) {
    zoom.textContent = `${times}×`;
    zoom.setAttribute("aria-label", `Zoom, ${times}×`);
    if (times !== magnified && face?.photo) redisplay();
    magnified = times;
  },
});
const spectrum = new Spectrum(find(".spectrum"), { server: { pictures: picturesOf }, space, state: current, choose: (strengths, caption) => {
  move(strengths);
  release(caption);
}, fail: trouble });

const previews = new Previews({ presets: find(".presets"), targets: props.presets.map(({ targets }) => targets), ends: find(".ends"),
  server: { pictures: picturesOf }, space, sliders, state: current });
element.addEventListener("focusin", ({ target }) => previews.focus(target.dataset.name ? sliders.get(target.dataset.name) : null));
element.addEventListener("focusout", () => previews.focus(null));

const effects = new SideEffects(find(".effects"), {
  server: props.effects ? server : null,
  isLocked: (name) => (sliders.has(name) ? locks.includes(name) : null),
  fail: trouble,
});

function trouble(sentence) {
  say(sentence, true);
}

connection.watch((lost) => {
  if (!lost && !find(".offline").hidden) say(face.caption);
  find(".offline").hidden = !lost;
});
find(".offline button").addEventListener("click", () => connection.retry());

// A question below the picture, with one way to say yes; it goes when it is answered, or when an edit is made instead.
function ask(sentence, yes, then) {
  find(".asks").hidden = !sentence;
  find(".asks span").textContent = sentence ?? "";
  find("[data-do=yes]").textContent = yes ?? "";
  answered = then;
}
let answered = null;

function current() {
  const moved = [...sliders.values()].filter((slider) => slider.strength);
  return { model: props.space.model, face, strengths: Object.fromEntries(moved.map((slider) => [slider.name, slider.strength])), locks };
}

function latentOf({ face, strengths, locks }) {
  if (!Object.keys(strengths).length) return face.z;
  return heldEdit({ face, strengths, locks })?.z ?? space.edited(face.z, strengths, locks);
}

// What the page can say of an edit by itself; its latent.
function reflect() {
  const state = current();
  const z = latentOf(state);
  const remaining = heldEdit(state)?.remaining ?? (locks.length ? space.remaining(state.strengths, locks) : {});
  shared.set("edited", z);
  sliders.forEach((slider) => slider.keep(remaining[slider.name] ?? null));
  find(".outside").hidden = !(space.distance(z) > space.radius);
  find(".outside").textContent = z === face.z ? "Unlike the faces that the model has seen"
    : "Beyond the data: the picture is a guess";
  return z;
}

// The photo is moved at once; its shading comes with the decode.
function update() {
  const z = reflect();
  const { strengths } = current();
  moving = true;
  if (onPhoto()) redraw(strengths);
  live.ask({ z, era, strengths });
}

// ---- the photo ----

const photoStage = new PhotoStage();
const FINE = 1024;       // pixels a side of the stage at rest; magnified it has as many more, up to
const FINEST = 4096;
const COARSE = 512;      // and while a slider moves
let moving = false;
const views = find(".views");
let view = "photo";      // or "model": what the stage shows of a face that is a photo's
let whole = false;       // all of the photo, or the face and what is around it
let shade = null;        // the newest decode's residual: { residual, n }
const onPhoto = () => Boolean(face?.photo) && view === "photo" && photoStage.of === face.photo;

// What an edit may shade: 0 everything, 1 the person, 2 the background.
function touchOf(strengths) {
  const kinds = new Set(Object.entries(strengths).filter(([, s]) => s).map(([name]) => name.startsWith("background")));
  return kinds.size !== 1 ? 0 : kinds.has(true) ? 2 : 1;
}

// As many pixels as the photo itself has there, where it is magnified.
const sideOf = () => (moving ? COARSE : viewport.zoom === 1 ? FINE
  : Math.max(FINE, Math.min(FINEST, FINE * viewport.zoom, Math.ceil(photoStage.view(whole)[0]))));

function copy(target, source) {
  target.wanted = source;
  const side = sideOf();
  if (target.width !== side) target.width = target.height = side;
  const context = target.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#808080";
  context.fillRect(0, 0, target.width, target.height);
  context.drawImage(source, 0, 0, target.width, target.height);
}

function redraw(strengths, target = canvas.edit, shading = shade) {
  copy(target, photoStage.draw({ field: totalField(space, strengths), ...shading, touch: touchOf(strengths), whole,
    side: sideOf() }));
}

async function shadingOf(who, picture, strengths) {
  if (!Object.keys(strengths).length || picture === who.picture) return null;
  const [before, after] = await Promise.all([who.picture, picture].map(pixelsOf));
  return { residual: residualOf(before.data, after.data, before.n, totalField(space, strengths)), n: before.n };
}

// The stage shows a picture that the model made of these strengths: itself, or put back into the photo.
async function drawEdit(picture, strengths) {
  const who = face;
  if (face.photo && view === "photo" && !onPhoto()) await stagePhoto();
  if (!onPhoto()) {
    canvas.edit.width = canvas.edit.height = 512;
    return paint(canvas.edit, picture, behind(face));
  }
  const shading = await shadingOf(who, picture, strengths);
  if (face !== who || !onPhoto()) return false;
  shade = shading;
  redraw(current().strengths);
  return true;
}

// The files of the photos on the page, by what the server says of them.
const files = new WeakMap();
const fileOf = async (photo) => files.get(photo) ?? (await fetch(photo.picture)).blob();

// The face's photo onto the photo stage; of a file that the browser cannot read, the copy that the server sent.
async function stagePhoto() {
  const { photo } = face;
  views.hidden = !photo;
  find(".after").textContent = "After";
  document.dispatchEvent(new CustomEvent("photo-shown", { detail: photo ? { picture: photo.picture, name: photo.name } : null }));
  if (!photo || photoStage.of === photo) return;
  if (staging?.photo !== photo) staging = { photo, shown: showPhoto(photo) };
  await staging.shown;
}
let staging = null;

// By how much each direction moves a photo; the server sends it with the first one.
let fields = null;
function fetchFields() {
  fields ??= server.fields({}).then((answer) => {
    for (const [name, field] of Object.entries(answer.fields)) space.get(name).displacement = field;
  });
  return fields;
}

async function showPhoto(photo) {
  try {
    await fetchFields();
  } catch {
    fields = staging = null;
    trouble(CONNECTION_LOST);
    return connection.once(redisplay);
  }
  const picture = await (files.has(photo) ? createImageBitmap(files.get(photo)) : Promise.reject()).catch(() => loaded(photo.picture));
  const [w, h] = photo.size;
  const fits = Math.abs(picture.width / picture.height - w / h) < 0.02 * (w / h) ? picture : await loaded(photo.picture);
  const matte = await loaded(photo.matte);
  if (face.photo !== photo) return;
  photoStage.show({ picture: fits, size: photo.size, square: photo.square, matte });
  photoStage.of = photo;
  find(".kept").textContent = photo.kept ? `The model's picture ${photo.kept}.` : "";
}

const framing = new Framing(find(".framing"), { choose: (index) => openPhoto({ face: index }), eyes: (eyes) => openPhoto({ eyes }) });
let taken = null;  // the file that is being opened or framed: { file, name }

const base64 = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(blob);
});

// Open the file that was taken; how to frame it, if it is said.
async function openPhoto(how = {}) {
  const mine = taken;
  say("Looking for faces…");
  stage.setAttribute("aria-busy", "true");
  try {
    const answer = await server.open({ name: mine.name, data: await base64(mine.file), ...how });
    if (mine !== taken) return;
    if (answer.face) {
      if (answer.face.photo) {
        files.set(answer.face.photo, mine.file);
        session.keep(`photo ${answer.face.id}`, mine.file);
      }
      framing.close();
      const { strengths, locks: held } = current();
      const { caption } = face;
      load(answer.face);
      if (arriving === null && Object.keys(strengths).length && !answer.face.strengths) {
        ask(`The edit of ${caption} stays with it.`, "Use it here too", () => load({ ...answer.face, strengths, locks: held }));
      }
      await stagePhoto();
      if (answer.warning) document.dispatchEvent(new CustomEvent("photo-refused", { detail: answer.warning }));
      return;
    }
    say(answer.error, true);
    document.dispatchEvent(new CustomEvent("photo-refused", { detail: answer.error }));
    if (answer.photo) framing.open(answer.photo);
  } catch {
    if (mine !== taken) return;
    trouble(CONNECTION_LOST);
    connection.once(() => mine === taken && openPhoto(how));
  } finally {
    stage.setAttribute("aria-busy", "false");
  }
}

document.addEventListener("photo-taken", ({ detail }) => {
  taken = detail;
  openPhoto();
});
document.addEventListener("photo-forgotten", async () => {
  taken = null;
  framing.close();
  history.clear();
  load(opening);
  await session.forget();
  keep();
});

// The photo with the edit put back, at its own size, from the server: the file is read whole there, and not kept.
async function savePhoto() {
  const state = current();
  const { photo } = face;
  const file = await fileOf(photo);
  say("Saving at the photo's own size…");
  const field = totalField(space, state.strengths);
  const answer = await server.save({ name: photo.name, data: await base64(file), square: photo.square, before: face.z, after: latentOf(state),
    displacement: field && [...field], touch: touchOf(state.strengths), recipe: JSON.stringify(recipeOf(state, false)) })
    .catch(() => ({ error: CONNECTION_LOST }));
  if (answer.error) return say(answer.error, true);
  const bytes = Uint8Array.from(atob(answer.data), (letter) => letter.charCodeAt(0));
  download(new Blob([bytes], { type: `image/${answer.type}` }), answer.name);
  say(`Saved as ${answer.name}, ${photo.size.join(" × ")} pixels.`);
}

function choose(which) {
  view = which;
  views.querySelectorAll("[data-view]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.view === view));
}

function show(which) {
  choose(which);
  keep();
  redisplay();
}

async function redisplay() {
  stage.setAttribute("aria-busy", "true");
  await stagePhoto();
  await compare(against);
  if (shown) await drawEdit(shown.picture, current().strengths);
  stage.setAttribute("aria-busy", "false");
}

// A change is complete: it becomes a step, a link, and a question what else it changed.
function release(caption, by = null) {
  arriving = null;
  ask(null);
  const { current: step, back } = history;
  // A double click on a slider at rest moves it and puts it back.
  if (by && step.by === by && step === history.nodes.at(-1) && back && keyOf(back.state) === keyOf(current())) history.retract();
  else history.commit(current(), caption, { by });
  develop();
  settle();
}

function settle() {
  const state = current();
  moving = false;
  if (onPhoto()) redraw(state.strengths);
  address(state);
  keep();
  find("[data-do=undo]").disabled = !history.back;
  find("[data-do=redo]").disabled = !history.forth;
  if (toBeHeld(state)) live.ask({ state, era });
  else measure();
}

// What the edit did besides, and where else it could go.
function measure() {
  reflect();
  const state = current();
  effects.ask(face.z, latentOf(state), Object.keys(state.strengths));
  spectrum.draw();
  previews.draw();
}

function address(state) {
  if (arriving) return;
  const untouched = !Object.keys(state.strengths).length && !locks.length;
  const clean = untouched && (isOpening() || !face.seed) && !withFace.checked;
  writeAddress(clean ? null : recipeOf(state, withFace.checked));
}

// Steps whose picture is the one on the stage.
function develop() {
  const node = history.current;
  if (node && !node.picture && !toBeHeld(node.state) && shown && String(shown.z) === String(latentOf(node.state))) {
    history.develop(node, shown.picture);
  }
}

// These strengths, and 0 for those that are not named if `rest` is given, of sliders that are not locked; one request for all of
// them.
function move(strengths, rest = false) {
  era += 1;
  for (const [name, slider] of sliders) {
    if (slider.locked) continue;
    if (name in strengths) slider.set(strengths[name]);
    else if (rest && slider.strength) slider.set(0);
  }
  update();
}

// What the next page is to find again.
function keep() {
  if (started) session.keep("edit", { history: history.toJSON(), own: [...shared.own.values()], view, address: window.location.hash });
  if (session.broken && !warned) say("This browser keeps nothing for this page: a reload will lose the edit.", true);
  warned = session.broken;
}
let started = false;
let warned = false;

// A new face, perhaps with an edit of it; the steps so far stay in the filmstrip.
function load(message) {
  if (arriving === null) ask(null);
  arrange({ face: message, strengths: message.strengths ?? {}, locks: message.locks ?? [] });
  const state = current();
  const edited = Object.keys(state.strengths).length > 0;
  display(history.commit(state, face.caption, { picture: edited ? null : face.picture }));
  settle();
}

// Put a state on the sliders.
function arrange(state) {
  era += 1;
  live.forget();
  if (state.face !== face) {
    face = state.face;
    shade = null;
    sliders.forEach((slider) => slider.place(space.score(slider.name, face.z)));
    find(".photo").disabled = !face.original;
    find(".with-face").hidden = Boolean(face.seed);  // a link carries a seed in any case
    views.hidden = !face.photo;
    stagePhoto().then(() => compare("start"));
  }
  for (const [name, slider] of sliders) slider.set(state.strengths[name] ?? 0);
  setLocks(state.locks);
  say(face.caption);
}

// The picture of the step that has just been arranged: no decode where it is known.
async function display({ picture }) {
  if (!picture) return update();
  shown = { z: reflect(), picture };
  await stagePhoto();
  await drawEdit(picture, current().strengths);
  stage.setAttribute("aria-busy", "false");
}

function go(node) {
  history.visit(node);
  arrange(node.state);
  display(node);
  settle();
}

function setLocks(names) {
  locks = names;
  sliders.forEach((slider) => slider.locked !== locks.includes(slider.name) && slider.lock(!slider.locked));
}

function toggleLock(name) {
  const locked = !locks.includes(name);
  setLocks(locked ? [...locks, name] : locks.filter((other) => other !== name));
  era += 1;
  update();
  release(`${space.get(name).label} ${locked ? "locked" : "unlocked"}`);
}

// "start", "photo", or a step of the filmstrip.
function compare(choice) {
  against = choice;
  const step = typeof choice === "object" ? choice : null;
  filmstrip.pinned(step);
  for (const button of element.querySelectorAll("[data-against]")) {
    const chosen = button.dataset.against === (step ? "step" : choice);
    button.setAttribute("aria-pressed", chosen);
    if (button.dataset.against === "step") button.disabled = !step;
  }
  find(".before").textContent = step ? step.caption : choice === "photo" ? "Photo" : "Before";
  const picture = step ? step.picture : choice === "photo" ? face.original : face.picture;
  if (choice !== "start" && viewport.at === 0) viewport.split(0.5);
  return drawBefore(choice === "start" ? null : step, picture);
}

// What the edit is compared with: in the photo's view the photo itself, or a step put back into it.
async function drawBefore(step, picture) {
  if (onPhoto() && (!step || step.state.face === face)) {
    const strengths = step?.state.strengths ?? {};
    return redraw(strengths, canvas.before, step ? await shadingOf(face, picture, strengths) : null);
  }
  canvas.before.width = canvas.before.height = 512;
  return paint(canvas.before, picture, behind(step ? step.state.face : face));
}

// ---- to show to others ----

// Whether there is an edit; if not, that is said.
function hasEdit({ strengths }) {
  const moved = Object.keys(strengths).length > 0;
  if (!moved) say("Move a slider first: there is no edit to show yet.", true);
  return moved;
}

// What the model draws of a state.
async function pictureAt(state) {
  const z = latentOf(state);
  return shown && String(shown.z) === String(z) ? shown.picture : (await pictureOf(z)).picture;
}

// What the model drew of the face with these strengths as the stage would show it, on a canvas of its own.
async function rendered(picture, strengths) {
  const target = Object.assign(document.createElement("canvas"), { width: FINE, height: FINE });
  if (onPhoto()) redraw(strengths, target, await shadingOf(face, picture, strengths));
  else await paint(target, picture, behind(face));
  return target;
}

const wordsOf = (strengths) => Object.entries(strengths).map(([name, strength]) => {
  const { direction, digits } = sliders.get(name);
  return `${direction.label} ${valueText(strength, direction, digits)}`;
}).join(", ");

const within = (part) => [...sliders.values()].filter((slider) => part.contains(slider.row));
const zeros = (which) => Object.fromEntries(which.map((slider) => [slider.name, 0]));
const owner = (button) => sliders.get(button.closest(".slider").dataset.slider);
const withFace = find(".with-face input");

const actions = {
  reset(button, by = null) {
    const slider = owner(button);
    if (slider.locked) return say(slider.held, true);
    move(zeros([slider]));
    release(slider.caption, by);
  },
  average(button) {
    const slider = owner(button);
    if (slider.locked) return say(slider.held, true);
    move(averages([slider]));
    release(`${slider.direction.label} average`);
  },
  lock: (button) => toggleLock(owner(button).name),
  "lock-effect": (button) => toggleLock(button.dataset.effect),
  "reset-group"(button) {
    const group = button.closest("details");
    move(zeros(within(group)));
    release(`${group.dataset.group} reset`);
  },
  "reset-all"() {
    if (locks.length) setLocks([]);
    move({}, true);
    release("Reset");
  },
  neutral() {
    move(averages([...sliders.values()].filter(isNeutral)));
    release("Neutral");
  },
  surprise() {
    move(surprise(space, [...sliders.values()], face, locks), true);
    release("Surprise");
  },
  preset(button) {
    const { name } = props.presets[button.dataset.index];
    const moves = previews.moves(button.dataset.index);
    if (!Object.keys(moves).length) return say(`${name}: nothing left to change on this face.`);
    move(moves);
    release(name);
  },
  more(button) {
    const open = button.closest("details").classList.toggle("all");
    button.setAttribute("aria-expanded", open);
    button.textContent = open ? "fewer" : `${button.dataset.count} more`;
    button.setAttribute("aria-label", `${button.textContent} of ${button.closest("details").dataset.group}`);
  },
  undo: () => history.back && go(history.back),
  redo: () => history.forth && go(history.forth),
  zoom: () => viewport.nextZoom(),
  find() {
    const panel = find(".panel");
    if (!panel.classList.toggle("finding")) return search("");
    find(".search").scrollIntoView({ block: "start" });
    find(".search").focus({ preventScroll: true });
  },
  whole(button) {
    whole = !whole;
    button.setAttribute("aria-pressed", whole);
    redisplay();
  },
  async frame() {
    const { photo } = face;
    taken = { file: await fileOf(photo), name: photo.name };
    framing.open(photo);
  },
  yes() {
    const then = answered;
    ask(null);
    then?.();
  },
  no() {
    arriving = null;
    ask(null);
    address(current());
  },
  "frame-eyes": () => framing.done(),
  "frame-close": () => framing.close(),
  async save() {
    if (onPhoto()) return savePhoto();
    await live.settled();
    const state = current();
    if (String(shown?.z) !== String(latentOf(state))) {
      return say("The picture of this edit has not come yet. Save it when the connection is back.", true);
    }
    download(await pictureWith(canvas.edit, recipeOf(state, true)), "face.png");
  },
  async card() {
    const state = current();
    if (!hasEdit(state)) return;
    const after = await rendered(await pictureAt(state), state.strengths);
    const made = card(await rendered(face.picture, {}), after, wordsOf(state.strengths));
    download(await pictureWith(made, recipeOf(state, !face.photo)), "before-and-after.png");
  },
  async loop(button) {
    const state = current();
    if (!hasEdit(state)) return;
    const { format } = button.dataset;
    const loops = element.querySelectorAll(".loop");
    loops.forEach((one) => (one.disabled = true));
    say(`Drawing the ${format.toUpperCase()}…`);
    try {
      const shares = waysThere.slice(1, -1);
      const scaled = (share) => Object.fromEntries(Object.entries(state.strengths).map(([name, s]) => [name, s * share]));
      const answer = await picturesOf({ latents: shares.map((share) => space.edited(face.z, scaled(share), state.locks)) });
      if (answer.error) return say(answer.error, true);
      const pictures = [face.picture, ...answer.pictures, await pictureAt(state)];
      const frames = [];
      for (const [i, picture] of pictures.entries()) frames.push(frame(await rendered(picture, i ? scaled(waysThere[i]) : {})));
      const file = await server.loop({ frames, format });
      if (file.error) return say(file.error, true);
      download(await (await fetch(file.file)).blob(), `edit.${format}`);
      say(`Saved as edit.${format}.`);
    } catch {
      say(CONNECTION_LOST, true);
    } finally {
      loops.forEach((one) => (one.disabled = false));
    }
  },
  async link() {
    const kept = face.seed || withFace.checked ? "the edit and the face" : "the edit, not the face";
    address(current());
    try {
      await navigator.clipboard.writeText(window.location.href);
      say(`Link copied; it holds ${kept}.`);
    } catch {
      say(`The link is in the address bar; it holds ${kept}.`);
    }
  },
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { do: action, jump, against: choice, scale } = button.dataset;
  if (action in actions) {
    event.preventDefault();  // a button in a <summary> would close its group
    actions[action](button);
  } else if (jump) {
    const group = find(`[data-group="${jump}"]`);
    group.open = true;
    group.scrollIntoView({ behavior: "smooth" });
  } else if (choice && choice !== "step") {
    compare(choice);
  } else if (button.dataset.view) {
    show(button.dataset.view);
  } else if (scale) {
    for (const one of find(".scale").children) one.setAttribute("aria-pressed", one === button);
    sliders.forEach((slider) => slider.scale(scale === "plain"));
  }
});

// Its first click has moved the slider: both are one step.
element.addEventListener("dblclick", ({ target }) => {
  if (target.type === "range") actions.reset(target, owner(target).move);
});

const holdButton = find(".hold");
holdButton.addEventListener("pointerdown", () => viewport.hold(true));
for (const end of ["pointerup", "pointerleave", "pointercancel"]) {
  holdButton.addEventListener(end, () => viewport.hold(false));
}
const isText = ({ type, tagName, isContentEditable }) =>
  isContentEditable || tagName === "TEXTAREA" || (tagName === "INPUT" && type !== "range" && type !== "checkbox");

document.addEventListener("keydown", (event) => {
  if (!element.offsetParent || isText(event.target)) return;
  const key = event.key.toLowerCase();
  const command = event.ctrlKey || event.metaKey;
  const action = command && ((key === "z" && (event.shiftKey ? "redo" : "undo")) || (key === "y" && "redo"));
  if (action) {
    event.preventDefault();
    actions[action]();
  } else if (key === " " && (event.target === holdButton || !event.target.closest("button, summary, a, select, label"))) {
    event.preventDefault();
    viewport.hold(true);
  }
});
document.addEventListener("keyup", (event) => event.key === " " && viewport.hold(false));

withFace.addEventListener("change", () => {
  address(current());
  keep();
});

find(".search").addEventListener("input", (event) => search(event.target.value));

// Only the sliders that the words are of.
function search(text) {
  const words = text.trim().toLowerCase();
  find(".search").value = text;
  const panel = find(".panel");
  panel.classList.toggle("searching", words !== "");
  for (const { row, direction } of sliders.values()) {
    const found = direction.listed !== false && `${direction.label} ${direction.name} ${direction.words ?? ""}`.toLowerCase().includes(words);
    row.classList.toggle("found", found);
  }
  for (const group of panel.querySelectorAll("details")) group.hidden = words !== "" && !group.querySelector(".found");
  find(".nothing").hidden = words === "" || panel.querySelector(".found") !== null;
}

// A direction as edit.py's catalogue has them, at the end of a group; false if there is one of that name.
function add(direction, group) {
  if (sliders.has(direction.name)) return false;
  const row = find("template").content.firstElementChild.cloneNode(true);
  const rows = find(`[data-group="${group}"]`);
  rows.insertBefore(row, rows.querySelector(".more"));
  space.add(direction);
  rows.hidden = false;
  const slider = new Slider(row, direction, { changed: update, released: release, refused: trouble });
  sliders.set(direction.name, slider);
  if (direction.listed !== false) spectrum.add(slider);
  slider.plain = Boolean(find("[data-scale=plain][aria-pressed=true]"));
  if (face) slider.place(space.score(direction.name, face.z));
  return true;
}
for (const { group, sliders: directions } of props.groups) directions.forEach((direction) => add(direction, group));

// A link restores its edit, on its own face; one without a face asks whether the edit is for the face that is here. The server
// checks it.
async function resume() {
  arriving = readAddress();
  if (arriving === null) return;
  const answer = await server.resume({ recipe: arriving }).catch(() => ({ error: CONNECTION_LOST }));
  if (answer.error) {
    say(answer.error, true);
    if (answer.error === CONNECTION_LOST) connection.once(resume);
    return;
  }
  const apply = () => {
    arriving = null;
    load({ ...face, caption: `${face.caption}, edited by a link`, ...answer });
  };
  if (answer.z) apply();
  else ask("The link holds an edit and no face.", "Use it on this face", apply);
}
window.addEventListener("hashchange", resume);

// What was here before the page was left.
async function restore({ history: tree, own, view: which, address: left }) {
  for (const direction of own) shared.addDirection(direction);
  for (const { state } of tree.steps) {
    const file = state.face.photo && !files.has(state.face.photo) && await session.recall(`photo ${state.face.id}`);
    if (file) files.set(state.face.photo, file);
  }
  history.restore(tree);
  choose(which);
  if (window.location.hash === left) arriving = null;
  arrange(history.current.state);
  display(history.current);
}

// That, or the opening face; and then what a link brings.
async function start() {
  await session.open(props.space.model, arriving === null);
  const kept = await session.recall("edit");
  try {
    if (kept) await restore(kept);
    started = true;
    if (kept) settle();
    else load(opening);
  } catch {
    started = true;
    history.clear();
    load(opening);
    say("What was here last time cannot be shown any more.", true);
  }
  if (arriving !== null) await resume();
  else if (!kept) moveOnce();
}

// The opening face's smile, there and back.
function moveOnce() {
  const smile = sliders.get("Smiling");
  if (!smile || props.mask) return;
  const { own, direction: { low, high } } = smile;
  openingMove({
    server, slider: smile, strength: 0.8 * (high - own > own - low ? high - own : low - own),
    latent: (strength) => space.edited(face.z, { [smile.name]: strength }, []),
    show: (image) => canvas.edit.getContext("2d").drawImage(image, 0, 0, canvas.edit.width, canvas.edit.height),
    done() {
      smile.show();
      if (shown) drawEdit(shown.picture, current().strengths);
    },
  });
}

shared.known = new Set(given);
shared.own.forEach((direction) => add(direction, "Your own"));
shared.on("direction", (direction) => add(direction, "Your own") && keep());
const begun = start();
watch("value", async () => {
  await begun;
  load(props.value);
});
}
