const STEPS = 9;

const stage = element.querySelector(".stage");
const say = speaker(element.querySelector(".status"));
const canvas = element.querySelector("[data-canvas]");
const position = element.querySelector(".position");
const output = element.querySelector("output");
const strip = element.querySelector(".strip");

const faces = {};
let method = "slerp";

const at = () => Number(position.value);
const picturesOf = ({ a, b, method, positions }) => server.between({ a, b, method, positions });
const request = (positions) => ({ a: faces.a.z, b: faces.b.z, method, positions });
const current = (asked) => asked.a === faces.a.z && asked.b === faces.b.z && asked.method === method;

const live = latest(stage, picturesOf, async ({ pictures }, asked) => {
  if (!current(asked)) return;
  await paint(canvas, pictures[0]);
  say(`${faces.a.caption} → ${faces.b.caption}`);
}, (sentence) => say(sentence, true));

const steps = latest(strip, picturesOf, async ({ pictures }, asked) => {
  if (current(asked)) await Promise.all(pictures.map((picture, i) => paint(strip.children[i].firstChild, picture)));
}, (sentence) => say(sentence, true));

function move() {
  output.value = `${Math.round(100 * at())} %`;
  position.setAttribute("aria-valuetext", output.value);
  position.parentElement.style.setProperty("--at", at());
  for (const button of strip.children) button.classList.toggle("here", Number(button.dataset.at) === at());
  live.ask(request([at()]));
}

function update() {
  steps.ask(request(positions));
  move();
}

const positions = Array.from({ length: STEPS }, (_, i) => i / (STEPS - 1));
for (const p of positions) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.at = p;
  button.title = button.ariaLabel = `${Math.round(100 * p)} % of the way`;
  button.append(Object.assign(document.createElement("canvas"), { width: 128, height: 128 }));
  strip.append(button);
}

position.addEventListener("input", move);
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.at) {
    position.value = button.dataset.at;
    move();
  } else if (button.dataset.method) {
    method = button.dataset.method;
    for (const other of element.querySelectorAll("[data-method]")) other.setAttribute("aria-pressed", other === button);
    update();
  } else {
    save(canvas, "between.png");
  }
});

// A message brings one face or both.
function load(message) {
  Object.assign(faces, message);
  update();
}
watch("value", () => load(props.value));
load(props.value);
