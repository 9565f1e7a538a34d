// The page holds the latent; the server is asked for pictures of it and remembers nothing.

import { connection } from "./connection.js";
import { latest, paint, speaker } from "./stage.js";
import { state } from "./state.js";
import { CONNECTION_LOST, explore as words } from "./words.js";

export default function mount({ element, props, server, trigger }) {
const stage = element.querySelector(".stage");
const say = speaker(element.querySelector(".status"));
const canvas = element.querySelector("[data-canvas]");
const rows = new Map([...element.querySelectorAll(".row")].map((row) => [Number(row.dataset.latent), row]));
const column = element.querySelector(".column");
const models = element.querySelector(".models");

let own = null;      // the face as it came
let z = null;        // the face with the sliders' values
let caption = "";
let taken = null;    // which edit of the Edit tab it was

const wrong = (sentence) => say(sentence, true);
const live = latest(stage, (request) => server.decode(request), async ({ picture }, asked) => {
  if (asked.z !== z) return;
  await paint(canvas, picture);
  say(caption);
}, wrong);

// Strips are drawn for rows in view, a few at a time; one that shows another face than the current one is stale.
const inView = new Set();
const drawn = new Map();
const strips = latest(element.querySelector(".atlas"), (request) => server.strips(request), async (answer, asked) => {
  await Promise.all(asked.latents.flatMap((latent, i) => {
    drawn.set(latent, asked.z);
    return answer.strips[i].map((picture, j) => paint(rows.get(latent).querySelectorAll(".strip canvas")[j], picture));
  }));
  draw();
}, wrong);

function draw() {
  const stale = [...inView].filter((latent) => !same(drawn.get(latent), z, latent));
  if (z && stale.length) strips.ask({ z, latents: stale.slice(0, props.batch) });
}

// A row's own number does not matter for its strip, in which that takes every value.
function same(a, b, except) {
  return a && b && a.every((value, i) => i === except || value === b[i]);
}

// The same latent in other models.
const compare = props.compare && latest(models, (request) => server.across(request), async (answer) => {
  models.replaceChildren(...answer.rows.map((row) => {
    const line = document.createElement("div");
    line.className = "model";
    const name = document.createElement("div");
    name.append(Object.assign(document.createElement("b"), { textContent: row.model }));
    const told = row.latent === null ? words.none : words.kin(row);
    name.append(Object.assign(document.createElement("small"), { textContent: told }));
    const strip = document.createElement("div");
    strip.className = "strip";
    for (const picture of row.pictures ?? []) {
      const cell = Object.assign(document.createElement("canvas"), { width: 96, height: 96 });
      paint(cell, picture);
      strip.append(cell);
    }
    line.append(name, strip);
    return line;
  }));
}, wrong);

function place(latent) {
  const row = rows.get(latent);
  const input = row.querySelector("input");
  const share = (value) => Math.min(1, Math.max(0, (value - input.min) / (input.max - input.min)));
  const track = row.querySelector(".track");
  input.value = z[latent];
  track.style.setProperty("--at", share(z[latent]));
  track.style.setProperty("--own", share(own[latent]));
  row.querySelector("output").value = words.value(z[latent]);
}

function set(latent, value) {
  z = z.with(latent, value);
  place(latent);
  live.ask({ z });
}

function load(face) {
  own = z = face.z;
  caption = face.caption;
  rows.forEach((_, latent) => place(latent));
  live.ask({ z });
  released();
}

// The other strips and models follow when a slider is let go.
function released() {
  draw();
  if (props.compare) compare.ask({ z, name: column.value });
}

// A face that the server sends when it is asked; if it is lost on the way it is asked again.
async function receive(ask) {
  try {
    const face = await ask();
    if (face.error) wrong(face.error);
    else load(face);
  } catch {
    wrong(CONNECTION_LOST);
    connection.once(() => receive(ask));
  }
}

const actions = {
  random: () => receive(() => server.generate({})),
  reset: () => load({ z: own, caption }),
  edit: () => trigger("select", { z, caption: words.explored(caption) }),
  more(button) {
    element.querySelector(".atlas").classList.add("all");
    button.remove();
  },
};

for (const [latent, row] of rows) {
  row.querySelector(".strip").append(...props.values.map((value) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = button.ariaLabel = words.step(latent, value);
    button.dataset.value = value;
    button.append(Object.assign(document.createElement("canvas"), { width: 96, height: 96 }));
    return button;
  }));
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.value) {
    set(Number(button.closest(".row").dataset.latent), Number(button.dataset.value));
    released();
  } else if (button) {
    actions[button.dataset.do](button);
  }
});
element.addEventListener("input", ({ target }) => {
  if (target.dataset.z) set(Number(target.dataset.z), Number(target.value));
});
element.addEventListener("change", released);
element.addEventListener("dblclick", ({ target }) => {
  if (!target.dataset.z) return;
  set(Number(target.dataset.z), own[target.dataset.z]);
  released();
});

const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) inView.add(Number(target.dataset.latent));
    else inView.delete(Number(target.dataset.latent));
  }
  draw();
}, { rootMargin: "200px" });
rows.forEach((row) => watcher.observe(row));

// Whenever the tab is opened it takes the Edit tab's face, if that is another one than when it did so last.
new IntersectionObserver(([{ isIntersecting }]) => {
  const edited = isIntersecting && state.edited && { z: state.edited, strengths: {} };
  if (!edited || JSON.stringify(edited) === taken) return;
  taken = JSON.stringify(edited);
  receive(() => server.take(edited));
}).observe(stage);
}
