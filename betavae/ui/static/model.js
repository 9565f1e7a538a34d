import { connection } from "./connection.js";
import { speaker } from "./stage.js";
import { CONNECTION_LOST, model as words } from "./words.js";

const WIDTH = 460;
const HEIGHT = 220;
const LEFT = 48;      // for the numbers of the axis
const BOTTOM = 24;
const TICKS = 4;
const STYLES = [{ stroke: "var(--accent)" }, { stroke: "var(--warn)", dash: "dashed" }];

// About `count` round numbers from low to high.
function ticks(low, high, count) {
  const power = 10 ** Math.floor(Math.log10((high - low) / count));
  const step = [1, 2, 5, 10].find((factor) => (high - low) / (factor * power) <= count) * power;
  return Array.from({ length: Math.floor(high / step) - Math.ceil(low / step) + 1 },
    (_, i) => (Math.ceil(low / step) + i) * step);
}

function svg(name, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

function chart({ title, lines }) {
  const points = lines.flatMap((line) => line.points);
  const right = Math.max(...points.map(([x]) => x));
  // The first steps are far off and would flatten all the rest: the axis ends where 95 % of the points do, and the SVG clips.
  const sorted = points.map(([, y]) => y).sort((a, b) => a - b);
  const [low, high] = [sorted[0], sorted[Math.floor(0.95 * (sorted.length - 1))]];
  const margin = 0.05 * (high - low) || 1;
  const x = (value) => LEFT + (value / right) * (WIDTH - LEFT - 8);
  const share = (value) => (value - low + margin) / (high - low + 2 * margin);
  const y = (value) => HEIGHT - BOTTOM - share(value) * (HEIGHT - BOTTOM - 8);
  const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words.chart(title) });
  for (const value of ticks(low - margin, high + margin, TICKS)) {
    plot.append(svg("line", { x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value) }),
      svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, words.number(value)));
  }
  for (const value of ticks(0, right, TICKS)) {
    const anchor = x(value) > WIDTH - 30 ? "end" : value ? "middle" : "start";
    plot.append(svg("text", { x: x(value), y: HEIGHT - 6, "text-anchor": anchor }, words.number(value)));
  }
  const caption = document.createElement("figcaption");
  caption.append(Object.assign(document.createElement("b"), { textContent: title }));
  lines.forEach((line, i) => {
    const { stroke, dash } = STYLES[i];
    const path = line.points.map(([images, value], j) => `${j ? "L" : "M"}${x(images).toFixed(1)} ${y(value).toFixed(1)}`);
    plot.append(svg("path", { d: path.join(""), style: `stroke: ${stroke}`, "stroke-dasharray": dash ? "5 4" : "none" }));
    const entry = Object.assign(document.createElement("span"), { textContent: line.label });
    entry.style.setProperty("--stroke", stroke);
    if (dash) entry.style.setProperty("--dash", dash);
    caption.append(entry);
  });
  const figure = document.createElement("figure");
  figure.append(caption, plot);
  return figure;
}

export default function mount({ element, props, server }) {
element.querySelector(".charts").append(...props.charts.map(chart));

const form = element.querySelector("form");
if (form) {
  const say = speaker(form.querySelector(".status"));
  const root = location.pathname.replace(/\/(model\/[^/]+\/?)?$/, "/");
  const here = decodeURIComponent(location.pathname.slice(root.length)).split("/")[1] ?? null;
  const current = here === null ? form.querySelector("[data-first]") : form.querySelector(`[data-name="${CSS.escape(here)}"]`);
  current?.setAttribute("aria-current", "page");

  async function open(name) {
    if (!name) return say(words.noName, true);
    form.setAttribute("aria-busy", "true");
    say(words.loading(name));
    const answer = await server.open_model({ name }).catch(() => {
      connection.once(() => open(name));
      return { error: CONNECTION_LOST };
    });
    form.setAttribute("aria-busy", "false");
    if (answer.error) say(answer.error, true);
    else location.assign(`${root}model/${encodeURIComponent(answer.key)}/`);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    open(form.querySelector("#repository").value.trim());
  });
  form.addEventListener("click", ({ target }) => {
    if (target.dataset.name) open(target.dataset.name);
    else if ("first" in target.dataset) location.assign(root);
  });
}
}
