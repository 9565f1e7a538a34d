// The page holds the face and the strengths; the server is asked for pictures and remembers nothing.

const MINIMUM_REACH = 2;      // every slider goes at least this far to both sides of the face
const DOMAIN = 3.5;           // and this far to both sides of the median of the training faces
const STEP = 0.05;

const stage = element.querySelector(".stage");
const say = speaker(element.querySelector(".status"));
const canvas = Object.fromEntries([...element.querySelectorAll("canvas")].map((c) => [c.dataset.canvas, c]));
const sliders = new Map();

let face = null;
let strengths = {};

// The one way to a picture: latent and strengths in, {picture} or {error} out. A decoder in the browser fits here.
const pictureOf = ({ z, strengths }) => server.decode({ z, strengths });

const live = latest(
  stage,
  pictureOf,
  async ({ picture }, request) => {
    if (request.z !== face.z) return;
    await paint(canvas.edit, picture);
    say(face.caption);
  },
  (sentence) => say(sentence, true),
);

function update() {
  live.ask({ z: face.z, strengths: { ...strengths } });
}

async function load(message) {
  face = message;
  strengths = {};
  live.forget();
  sliders.forEach((slider) => slider.place());
  stage.classList.toggle("generated", !face.original);
  say(face.caption);
  // The reconstruction is the edit with every strength at 0, so nothing needs decoding.
  const pictures = [paint(canvas.edit, face.picture), paint(canvas.reconstruction, face.picture)];
  if (face.original) pictures.push(paint(canvas.original, face.original));
  await Promise.all(pictures);
  stage.setAttribute("aria-busy", "false");
}

class Slider {
  constructor(row, direction) {
    this.row = row;
    this.direction = direction;
    this.input = row.querySelector("input");
    this.output = row.querySelector("output");
    this.standing = row.querySelector("small");
    this.input.addEventListener("input", () => {
      this.set(Number(this.input.value));
      update();
    });
    this.input.addEventListener("dblclick", () => reset([this]));
  }

  get name() {
    return this.direction.name;
  }

  get strength() {
    return strengths[this.name] ?? 0;
  }

  // The ends of the track, in strengths of this face.
  place() {
    const { quantiles } = this.direction;
    const median = quantiles[(quantiles.length - 1) / 2];
    this.own = face.scores[this.name];
    const low = Math.min(median - DOMAIN - this.own, -MINIMUM_REACH);
    const high = Math.max(median + DOMAIN - this.own, MINIMUM_REACH);
    // Multiples of the step: 0, this face, must be a value the input can take.
    this.input.min = (Math.floor(low / STEP) * STEP).toFixed(2);
    this.input.max = (Math.ceil(high / STEP) * STEP).toFixed(2);
    const style = this.row.style;
    style.setProperty("--own", this.share(0));
    style.setProperty("--low", this.share(this.direction.low - this.own));
    style.setProperty("--high", this.share(this.direction.high - this.own));
    this.set(0);
  }

  share(strength) {
    const { min, max } = this.input;
    return Math.min(1, Math.max(0, (strength - min) / (max - min)));
  }

  set(strength) {
    if (strength) strengths[this.name] = strength;
    else delete strengths[this.name];
    const score = this.own + strength;
    const beyond = score < this.direction.low || score > this.direction.high;
    const standing = beyond ? "beyond" : `${ordinal(percentile(score, this.direction.quantiles))} pct`;
    this.input.value = strength;
    this.row.style.setProperty("--at", this.share(strength));
    this.row.classList.toggle("changed", strength !== 0);
    this.row.classList.toggle("beyond", beyond);
    this.output.value = valueText(strength, this.direction);
    this.standing.textContent = standing;
    this.input.setAttribute("aria-valuetext", `${this.output.value}, ${standing}`);
  }
}

function valueText(strength, { unit, per_strength }) {
  const degrees = unit === "degrees";
  const size = degrees ? Math.abs(strength * per_strength).toFixed(0) : Math.abs(strength).toFixed(1);
  const sign = Number(size) === 0 ? "" : strength > 0 ? "+" : "−";
  return sign + (Number(size) === 0 ? "0" : size) + (degrees ? "°" : "");
}

// Share of the training faces below a score, as a whole number from 1 to 99; quantiles are evenly spaced.
function percentile(score, quantiles) {
  const above = quantiles.findIndex((q) => q >= score);
  if (above <= 0) return above ? 99 : 1;
  const [low, high] = [quantiles[above - 1], quantiles[above]];
  const position = above - 1 + (score - low) / (high - low);
  return Math.min(99, Math.max(1, Math.round((100 * position) / (quantiles.length - 1))));
}

function ordinal(n) {
  const suffix = { one: "st", two: "nd", few: "rd", other: "th" };
  return n + suffix[new Intl.PluralRules("en", { type: "ordinal" }).select(n)];
}

function reset(which) {
  which.forEach((slider) => slider.set(0));
  update();
}

const within = (part) => [...sliders.values()].filter((slider) => part.contains(slider.row));

const actions = {
  reset: (button) => reset(within(button.closest(".slider"))),
  "reset-group": (button) => reset(within(button.closest("details"))),
  "reset-all": () => reset([...sliders.values()]),
  more(button) {
    const open = button.closest("details").classList.toggle("all");
    button.setAttribute("aria-expanded", open);
    button.textContent = open ? "fewer" : `${button.dataset.count} more`;
  },
  save: () => save(canvas.edit, "face.png"),
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.do) {
    event.preventDefault();  // a button in a <summary> would close its group
    actions[button.dataset.do](button);
  } else if (button?.dataset.jump) {
    const group = element.querySelector(`[data-group="${button.dataset.jump}"]`);
    group.open = true;
    group.scrollIntoView({ behavior: "smooth" });
  }
});

element.querySelector(".search").addEventListener("input", (event) => {
  const words = event.target.value.trim().toLowerCase();
  const panel = element.querySelector(".panel");
  panel.classList.toggle("searching", words !== "");
  for (const { row, direction } of sliders.values()) {
    const found = `${direction.label} ${direction.name}`.toLowerCase().includes(words);
    row.classList.toggle("found", found);
  }
  for (const group of panel.querySelectorAll("details")) group.hidden = words !== "" && !group.querySelector(".found");
  panel.querySelector(".nothing").hidden = words === "" || panel.querySelector(".found") !== null;
});

for (const { sliders: directions } of props.groups) {
  for (const direction of directions) {
    const row = element.querySelector(`[data-slider="${direction.name}"]`);
    sliders.set(direction.name, new Slider(row, direction));
  }
}
// What the other tabs may ask of this one.
window.editedFace = () => ({ z: face.z, strengths: { ...strengths } });
watch("value", () => load(props.value));
load(props.value);
