// A grid is a pure function of what the controls say, and of the face on the Edit tab where its neighbours are wanted.

import { latest, speaker } from "./stage.js";
import { state } from "./state.js";
import { sample as words } from "./words.js";

export default function mount({ element, props, server, trigger }) {
const stage = element.querySelector(".stage");
const say = speaker(element.querySelector(".status"));
const grids = element.querySelector(".grids");
const input = (id) => element.querySelector(`#${id}`);
const opening = props.opening;

let source = opening.source;
let to = "select";  // the event of a click on a face
let shown = null;  // what the pictures are of, which the controls may already have left behind when one is clicked

const unlimited = () => Number(input("truncation").value) >= props.limits.truncation;

function request() {
  const of = (id) => Number(input(id).value);
  const near = source === "neighbours";
  return {
    source, seed: Math.round(of("seed")), count: of("count"), temperature: of("temperature"),
    truncation: unlimited() ? null : of("truncation"),
    ...(near && { radius: of("radius"), z: state.edited, strengths: {} }),
  };
}

function show(answer, asked) {
  shown = asked;
  answer.grids.forEach(({ name, label, pictures }, i) => {
    const section = grids.children[i] ?? grids.appendChild(document.createElement("section"));
    if (section.children.length === 0) section.append(document.createElement("h2"), document.createElement("div"));
    const [title, faces] = section.children;
    title.textContent = label;
    title.hidden = answer.grids.length === 1;
    faces.className = "faces";
    while (faces.children.length > pictures.length) faces.lastChild.remove();
    // Pictures are exchanged in place, so that nothing flickers or moves while a slider is dragged.
    pictures.forEach((picture, j) => {
      const button = faces.children[j] ?? faces.appendChild(document.createElement("button"));
      if (!button.firstChild) button.append(Object.assign(document.createElement("img"), { alt: "", draggable: false }));
      Object.assign(button, { type: "button", title: words.face(label, j), ariaLabel: words.face(label, j) });
      Object.assign(button.dataset, { grid: name, index: j });
      button.firstChild.src = picture;
    });
  });
  while (grids.children.length > answer.grids.length) grids.lastChild.remove();
  say(words.seed(words.said[asked.source], asked.seed));
}

const live = latest(stage, (asked) => server.draw(asked), show, (sentence) => say(sentence, true));

function place() {
  for (const track of element.querySelectorAll(".track")) {
    const { min, max, value, id } = track.querySelector("input");
    track.style.setProperty("--at", (value - min) / (max - min));
    const digits = id === "temperature" ? 2 : id === "count" ? 0 : 1;
    const text = id === "truncation" && unlimited() ? words.unlimited : Number(value).toFixed(digits);
    track.parentElement.querySelector("output").value = text;
    track.querySelector("input").setAttribute("aria-valuetext", text);
  }
  const near = source === "neighbours";
  for (const part of element.querySelectorAll(".near")) part.hidden = !near;
  for (const part of element.querySelectorAll(".random")) part.hidden = near;
  for (const button of element.querySelectorAll("[data-source]")) {
    button.setAttribute("aria-pressed", button.dataset.source === source);
  }
}

function update() {
  place();
  // A number field is empty while it is being typed in.
  if (input("seed").value !== "") live.ask(request());
}

element.addEventListener("input", update);
// A seed that cannot be had is the nearest that can.
element.addEventListener("change", ({ target }) => {
  if (target.id !== "seed") return;
  target.value = Math.max(0, Math.min(props.limits.seed, Math.round(Number(target.value))));
  update();
});
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.source) {
    source = button.dataset.source;
    update();
  } else if (button.dataset.to) {
    to = button.dataset.to;
    for (const other of element.querySelectorAll("[data-to]")) other.setAttribute("aria-pressed", other === button);
  } else if (button.dataset.do) {
    input("seed").value = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
    update();
  } else {
    trigger(to, { ...shown, grid: button.dataset.grid, index: Number(button.dataset.index) });
  }
});

// The tab is drawn when it is opened; the Edit tab's face may be another one when that happens again.
new IntersectionObserver(([{ isIntersecting }]) => {
  if (isIntersecting && (!shown || source === "neighbours")) update();
}).observe(element);

for (const id of ["seed", "count", "temperature", "radius"]) input(id).value = opening[id];
input("truncation").value = opening.truncation ?? props.limits.truncation;
place();
}
