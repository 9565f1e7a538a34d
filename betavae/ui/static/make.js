// The faces of both sides live here and nowhere else; the server makes a direction of their latents and forgets them.

import { connection } from "./connection.js";
import { session } from "./session.js";
import { download, latest, paint, speaker } from "./stage.js";
import { state } from "./state.js";
import { CONNECTION_LOST, make as words } from "./words.js";

export default function mount({ element, props, server, watch }) {
const find = (selector) => element.querySelector(selector);
const say = speaker(find(".status"));
const result = find(".result");
const canvas = Object.fromEntries([...element.querySelectorAll("canvas")].map((c) => [c.dataset.canvas, c]));
const strength = find("#made-strength");
const name = find("#made-name");
const sides = { positives: [], negatives: [] };
let of = null;      // {name, positives, negatives}: what a direction is wanted of
let made = null;    // {of, direction, report, warning, pack} as the server made it
let plain = null;   // the latent that the preview starts from

// The direction, made anew where it is wanted of other faces, and then the edited face without and with it.
const live = latest(result, async ({ of: wanted, z, value }) => {
  if (made?.of !== wanted) {
    made = null;
    const answer = await server.make(wanted);
    if (answer.error) return answer;
    made = { ...answer, of: wanted };
    report();
  }
  return server.pictures({ latents: [z, z.map((x, i) => x + value * made.direction.vector[i])] });
}, async ({ pictures }) => {
  await Promise.all([paint(canvas.plain, pictures[0]), paint(canvas.made, pictures[1])]);
}, (sentence) => say(sentence, true));

function draw() {
  for (const [side, faces] of Object.entries(sides)) {
    const box = find(`[data-side="${side}"]`);
    box.querySelector(".count").textContent = faces.length ? faces.length : "";
    box.querySelector("ul").replaceChildren(...faces.map(({ picture, caption }, i) => {
      const item = document.createElement("li");
      item.append(Object.assign(new Image(), { src: picture, alt: caption, title: caption, draggable: false }));
      const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
      Object.assign(remove.dataset, { do: "remove", index: i });
      remove.ariaLabel = remove.title = words.remove(caption);
      item.append(remove);
      return item;
    }));
  }
}

function update() {
  draw();
  session.keep("sides", { ...sides, name: name.value });
  say("");
  live.forget();
  result.hidden = !(sides.positives.length && sides.negatives.length);
  const latents = (faces) => faces.map(({ z }) => z);
  of = result.hidden ? null : { name: name.value.trim(), positives: latents(sides.positives), negatives: latents(sides.negatives) };
  move();
}

function report() {
  say("");
  find(".warning").textContent = made.warning ?? "";
  find("dl").replaceChildren(...made.report.flatMap(({ term, text }) => [
    Object.assign(document.createElement("dt"), { textContent: term }),
    Object.assign(document.createElement("dd"), { textContent: text }),
  ]));
}

function move() {
  const value = Number(strength.value);
  find("output").value = words.strength(value);
  strength.parentElement.style.setProperty("--at", (value + 2) / 4);
  if (of) live.ask({ of, z: (plain = state.edited), value });
}

function append(side, faces) {
  const room = props.most - sides[side].length;
  sides[side].push(...faces.slice(0, room));
  update();
  if (faces.length > room) say(words.tooMany(props.most, faces.length - room), true);
}

// Whether what is wanted has been made.
const isMade = () => of && made?.of === of;

// Adds a direction to the Edit tab's sliders, in this page only; false if its name is taken.
function join(direction) {
  const added = state.addDirection(direction);
  if (!added) say(words.taken(direction.name), true);
  return added;
}

// Gradio's own file inputs take files in; they are out of sight.
const inputOf = (id) => document.querySelector(`#${id} input[type=file]`);

const actions = {
  choose(button) {
    inputOf(button.dataset.input ?? `photos-${button.closest("[data-side]").dataset.side}`)?.click();
  },
  async take(button) {
    const { side } = button.closest("[data-side]").dataset;
    const z = state.edited;
    try {
      const answer = await server.pictures({ latents: [z] });
      if (answer.error) say(answer.error, true);
      else append(side, [{ z, picture: answer.pictures[0], caption: words.edited }]);
    } catch {
      say(CONNECTION_LOST, true);
      connection.once(() => actions.take(button));
    }
  },
  remove(button) {
    sides[button.closest("[data-side]").dataset.side].splice(Number(button.dataset.index), 1);
    update();
  },
  add() {
    if (isMade() && join(made.direction)) say(words.isSlider(made.direction.label));
  },
  download() {
    if (!isMade()) return;
    const bytes = Uint8Array.from(atob(made.pack), (character) => character.charCodeAt(0));
    download(new Blob([bytes]), `${made.direction.name.replace(/[^0-9A-Za-z]+/g, "-")}.safetensors`);
  },
};

element.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (button?.dataset.do) actions[button.dataset.do](button);
});
for (const box of element.querySelectorAll(".side")) {
  box.addEventListener("dragover", (event) => {
    event.preventDefault();
    box.classList.add("over");
  });
  box.addEventListener("dragleave", () => box.classList.remove("over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("over");
    const input = inputOf(`photos-${box.dataset.side}`);
    if (!input || !event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
strength.addEventListener("input", move);
name.addEventListener("change", update);

// Faces from an upload, or the directions of a file.
function load(message) {
  if (message?.faces) append(message.side, message.faces);
  if (message?.directions) {
    const joined = message.directions.filter(join).map(({ label }) => label);
    if (joined.length) say(words.areSliders(joined));
  }
}
session.recall("sides").then((kept) => {
  if (!kept) return;
  name.value = kept.name;
  for (const side of Object.keys(sides)) sides[side].unshift(...kept[side]);
  update();
});
watch("value", () => load(props.value));
// The face may have changed on another tab.
new IntersectionObserver(([{ isIntersecting }]) => {
  if (isIntersecting && of && state.edited.join() !== plain.join()) move();
}).observe(result);
draw();
}
