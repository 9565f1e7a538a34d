// The path of this tab as a file: the server sends how far it is, and at last the file itself, which it does not keep.

import { speaker } from "./stage.js";
import { state } from "./state.js";
import { animation as words } from "./words.js";

export default function mount({ element, props, trigger, watch }) {
const say = speaker(element.querySelector(".status"));
const seconds = element.querySelector("input[type=range]");
const closed = element.querySelector("input[type=checkbox]");
const make = element.querySelector(".make");
const run = element.querySelector(".run");
const stop = element.querySelector("[data-do=cancel]");
const bar = element.querySelector("progress");
const result = element.querySelector(".result");

let format = "gif";
let job = null;
let address = null;

function time() {
  element.querySelector("output").value = words.seconds(Number(seconds.value));
  seconds.parentElement.style.setProperty("--at", (seconds.value - seconds.min) / (seconds.max - seconds.min));
}

function busy(now) {
  make.disabled = now;
  run.hidden = !now;
}

function start() {
  job = crypto.getRandomValues(new Uint32Array(1))[0];
  busy(true);
  stop.disabled = true;  // until the server has it: there is nothing to stop before
  bar.value = 0;
  say(words.waiting);
  trigger("submit", { ...state.path, job, format, seconds: Number(seconds.value), closed: closed.checked });
}

// The server stops drawing, and says so: a new export before that would be stopped with this one.
function cancel() {
  stop.disabled = true;
  say(words.stopping);
  trigger("stop", { job });
}

async function show({ kind, file }) {
  const blob = await (await fetch(file)).blob();
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(blob);
  const picture = kind === "gif" ? Object.assign(new Image(), { alt: words.alt })
    : Object.assign(document.createElement("video"), { autoplay: true, loop: true, muted: true, playsInline: true });
  picture.src = address;
  const link = Object.assign(document.createElement("a"), { href: address, download: `faces.${kind}` });
  link.textContent = words.download(kind, blob.size);
  result.replaceChildren(picture, link);
  result.hidden = false;
}

async function receive(message) {
  // The first message is the empty one that the component was made with.
  if (!job || message?.job !== job) return;
  if (message.error) say(message.error, true);
  else if (message.cancelled) say(words.cancelled);
  else say(words.progress(message.done, message.total));
  stop.disabled = false;
  bar.value = message.total ? message.done / message.total : 0;
  if (message.file) await show(message);
  if (message.file || message.error || message.cancelled) {
    job = null;
    busy(false);
  }
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.format) {
    format = button.dataset.format;
    for (const other of element.querySelectorAll("[data-format]")) other.setAttribute("aria-pressed", other === button);
    make.textContent = words.make(format);
  } else if (button) {
    if (button.dataset.do === "cancel") cancel();
    else start();
  }
});
seconds.addEventListener("input", time);
watch("value", () => receive(props.value));
time();
}
