// The page holds the faces of the path, in their order; the server is asked for pictures and remembers nothing.

import { pictureWith, recipeOf } from "./recipe.js";
import { session } from "./session.js";
import { download, latest, paint, speaker } from "./stage.js";
import { state } from "./state.js";
import { interpolate as words } from "./words.js";

export default function mount({ element, props, server, trigger, watch }) {
const stage = element.querySelector(".stage");
const say = speaker(element.querySelector(".status"));
const canvas = element.querySelector("[data-canvas]");
const position = element.querySelector(".position");
const output = element.querySelector("output");
const strip = element.querySelector(".strip");
const list = element.querySelector(".faces");
const easing = element.querySelector(".easing");
const count = element.querySelector(".count");

let faces = [];
let method = "slerp";
let steps = [];
let between = null;  // the latent of the face that is shown, and of the first one of the strip
let first = null;

const at = () => Number(position.value);
const path = () => ({ faces: faces.map((face) => face.z), method, easing: easing.value });
// Whoever asks for a picture says on which path; an answer for another path than the current one is not shown.
const same = (a, b) => JSON.stringify([a.faces, a.method, a.easing]) === JSON.stringify([b.faces, b.method, b.easing]);
const picturesOf = (request) => server.between(request);

const live = latest(stage, picturesOf, async ({ pictures, latents }, asked) => {
  if (!same(asked, path())) return;
  between = latents[0];
  await paint(canvas, pictures[0]);
  say(place());
}, (sentence) => say(sentence, true));

const row = latest(strip, picturesOf, async ({ pictures, latents }, asked) => {
  if (!same(asked, path()) || pictures.length !== strip.children.length) return;
  first = latents[0];
  await Promise.all(pictures.map((picture, i) => paint(strip.children[i].firstChild, picture)));
}, (sentence) => say(sentence, true));

// Between which two faces the position is.
function place() {
  const leg = Math.min(faces.length - 2, Math.floor(at() * (faces.length - 1)));
  return words.leg(faces[leg].caption, faces[leg + 1].caption);
}

function move() {
  output.value = words.position(at());
  position.setAttribute("aria-valuetext", `${output.value}, ${place()}`);
  position.parentElement.style.setProperty("--at", at());
  steps.forEach((step, i) => strip.children[i].classList.toggle("here", Math.abs(step - at()) < 0.001));
  live.ask({ ...path(), positions: [at()] });
}

function update() {
  state.set("path", path());
  session.keep("path", { faces, method, easing: easing.value });
  move();
  row.ask({ ...path(), positions: steps });
}

// As many empty pictures as the strip is to have.
function divide() {
  const n = Math.max(count.min, Math.min(count.max, Math.round(Number(count.value)) || 9));
  count.value = n;  // what was typed may not be had
  steps = Array.from({ length: n }, (_, i) => i / (n - 1));
  strip.replaceChildren(...steps.map((step) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.at = step;
    button.title = button.ariaLabel = words.way(step);
    button.append(Object.assign(document.createElement("canvas"), { width: 128, height: 128 }));
    return button;
  }));
}

function tool(what, sign, label, disabled) {
  const made = document.createElement("button");
  Object.assign(made, { type: "button", textContent: sign, ariaLabel: label, title: label, disabled });
  made.dataset.do = what;
  return made;
}

function listFaces() {
  list.replaceChildren(...faces.map((face, i) => {
    const item = document.createElement("li");
    item.draggable = true;
    const image = Object.assign(document.createElement("img"), { src: face.picture, alt: face.caption, draggable: false });
    const name = Object.assign(document.createElement("small"), { textContent: face.caption, title: face.caption });
    const tools = document.createElement("div");
    tools.className = "tools";
    tools.append(tool("earlier", "‹", words.earlier(face.caption), i === 0),
      tool("remove", "×", words.remove(face.caption), faces.length <= 2),
      tool("later", "›", words.later(face.caption), i === faces.length - 1));
    item.append(image, name, tools);
    return item;
  }));
  element.querySelector(".marks").replaceChildren(...faces.map((_, i) => {
    const mark = document.createElement("i");
    mark.style.left = `${(100 * i) / (faces.length - 1)}%`;
    return mark;
  }));
}

function choose(which) {
  method = which;
  for (const button of element.querySelectorAll("[data-method]")) button.setAttribute("aria-pressed", button.dataset.method === method);
}

// Another order, or other faces.
function set(wanted) {
  faces = wanted;
  listFaces();
  update();
}

function moved(from, to) {
  const order = faces.toSpliced(from, 1);
  order.splice(to, 0, faces[from]);
  set(order);
}

// The list is written anew: what was pressed on a face is focused again, on it or on the one in its place.
function focus(where, what) {
  const buttons = [...list.children[Math.min(where, faces.length - 1)].querySelectorAll("button:not(:disabled)")];
  (buttons.find((button) => button.dataset.do === what) ?? buttons[0])?.focus();
}

function add(face) {
  if (faces.length === props.most) say(words.full(props.most), true);
  else set([...faces, face]);
}

// A picture that, dropped on the page, is the face of that latent.
async function save(picture, z, name) {
  download(await pictureWith(picture, recipeOf({ model: props.model, face: { z }, strengths: {}, locks: [] }, true)), name);
}

// The strip's recipe is of its first face.
async function saveStrip() {
  if (!(await row.settled())) return say(words.noStrip, true);
  const [{ firstChild: { width, height } }] = strip.children;
  const sheet = Object.assign(document.createElement("canvas"), { width: width * steps.length, height });
  [...strip.children].forEach(({ firstChild }, i) => sheet.getContext("2d").drawImage(firstChild, i * width, 0));
  await save(sheet, first, "strip.png");
}

const index = (node) => [...list.children].indexOf(node.closest("li"));

const actions = {
  earlier(node) {
    const i = index(node);
    moved(i, i - 1);
    focus(i - 1, "earlier");
  },
  later(node) {
    const i = index(node);
    moved(i, i + 1);
    focus(i + 1, "later");
  },
  remove(node) {
    const i = index(node);
    set(faces.toSpliced(i, 1));
    focus(i, "remove");
  },
  edit: () => trigger("select", { ...path(), positions: [at()], caption: words.way(at()) }),
  async save() {
    if (await live.settled()) await save(canvas, between, "between.png");
    else say(words.noPicture, true);
  },
  "save-strip": saveStrip,
};

element.addEventListener("click", (event) => {
  const node = event.target.closest("button");
  if (node?.dataset.at) {
    position.value = node.dataset.at;
    move();
  } else if (node?.dataset.method) {
    choose(node.dataset.method);
    update();
  } else if (node) {
    actions[node.dataset.do](node);
  }
});
position.addEventListener("input", move);
easing.addEventListener("change", update);
count.addEventListener("change", () => {
  divide();
  update();
});

let dragged = null;
list.addEventListener("dragstart", (event) => {
  dragged = index(event.target);
});
list.addEventListener("dragover", (event) => {
  event.preventDefault();
  for (const item of list.children) item.classList.toggle("over", item === event.target.closest("li"));
});
list.addEventListener("drop", (event) => {
  event.preventDefault();
  if (dragged !== null && event.target.closest("li")) moved(dragged, index(event.target));
});
list.addEventListener("dragend", () => {
  dragged = null;
  for (const item of list.children) item.classList.remove("over");
});

async function start() {
  const kept = await session.recall("path");
  if (kept) {
    choose(kept.method);
    easing.value = kept.easing;
  }
  divide();
  set(kept?.faces ?? props.opening);
  // A tab is built when it is first opened, which may be by a face that another tab sends.
  if (props.value) add(props.value);
}
const begun = start();
watch("value", async () => {
  await begun;
  add(props.value);
});
}
