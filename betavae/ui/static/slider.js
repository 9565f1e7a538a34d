// One direction's slider: value, percentile, the range of the data, reset, average and lock.

import { percentile, quantile } from "./space.js";
import { slider as words } from "./words.js";

const STEPS = 200;     // of a track
const MARGIN = 0.2;    // of the data's range, to both sides of it
const PLAIN = [-3, 3, 0.1];  // a track that knows nothing of the data: lowest and highest strength, step

export class Slider {
  // changed: while it moves; released: when that is done, with words for it and a name for what it is part of (the presses of a
  // key, or a double click, are one move); refused: with what is wrong with an entry.
  constructor(row, direction, { changed, released, refused }) {
    const { name, label } = direction;
    Object.assign(this, { row, direction, name, strength: 0, own: 0, locked: false, percent: null });
    row.dataset.slider = name;
    row.classList.toggle("extra", !direction.primary);
    row.classList.toggle("unlisted", direction.listed === false);
    this.input = row.querySelector("[type=range]");
    this.standing = row.querySelector(".standing");
    this.output = row.querySelector("output");
    this.remains = row.querySelector(".remains");
    const text = row.querySelector("label");
    text.textContent = label;
    text.title = name;
    text.htmlFor = this.input.id = `slider-${name}`;
    this.input.dataset.name = name;
    this.standing.setAttribute("aria-label", words.percentile(label));
    for (const button of row.querySelectorAll("button")) {
      button.title = button.title.replace("*", label);
      button.setAttribute("aria-label", button.title);
    }
    this.input.addEventListener("input", () => {
      if (this.locked) {
        this.show();  // where it was
        return refused(this.held);
      }
      this.set(Number(this.input.value));
      changed();
    });
    let before = null;
    this.input.addEventListener("keydown", () => (this.move = name));
    this.input.addEventListener("pointerdown", () => {
      before = this.move;
      this.move = `${name} ${Date.now()}`;
    });
    this.input.addEventListener("mousedown", ({ detail: clicks }) => {
      if (clicks > 1) this.move = before;
    });
    this.input.addEventListener("change", () => this.locked || released(this.caption, this.move));
    this.rove(row);
    this.standing.addEventListener("focus", () => {
      this.standing.value = Math.round(percentile(this.score, this.direction.quantiles));
      this.standing.select();
    });
    this.standing.addEventListener("keydown", (event) => event.key === "Enter" && this.standing.blur());
    this.standing.addEventListener("blur", () => this.show());
    this.standing.addEventListener("change", () => {
      const percent = parseFloat(this.standing.value);
      if (this.locked) {
        refused(this.held);
      } else if (!(percent >= 0 && percent <= 100)) {
        refused(words.noPercentile(label, this.standing.value));
      } else {
        this.reach(percent);
        changed();
        released(this.caption);
      }
    });
  }

  get score() {
    return this.own + this.strength;
  }

  // Why it does not move.
  get held() {
    return words.held(this.direction.label);
  }

  // Tab passes a slider in one stop, its track. Enter goes on to its buttons and its number, arrow keys between them, Escape back.
  rove(row) {
    const tools = [...row.querySelectorAll("button, .standing")];
    for (const tool of tools) tool.tabIndex = -1;
    const go = (event, to) => {
      event.preventDefault();
      event.stopPropagation();
      to?.focus();
    };
    row.addEventListener("keydown", (event) => {
      const { target, key } = event;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const shown = tools.filter((tool) => tool.checkVisibility({ visibilityProperty: true }));
      const at = shown.indexOf(target);
      if (target === this.input) {
        if (key === "Enter") go(event, shown[0]);
        else if (key === "Delete" || key === "Backspace") row.querySelector("[data-do=reset]").click();
        else if (key.toLowerCase() === "l") row.querySelector("[data-do=lock]").click();
      } else if (key === "Escape") {
        this.standing.value = "";  // an entry that was not confirmed
        this.show();
        go(event, this.input);
      } else if (target !== this.standing && key === "ArrowRight") {
        go(event, shown[at + 1]);
      } else if (target !== this.standing && key === "ArrowLeft") {
        go(event, shown[at - 1]);
      }
    });
  }

  get caption() {
    return this.strength ? words.caption(this.direction.label, this.output.value) : words.reset(this.direction.label);
  }

  // The track of a face that stands at `own`: the data's range, a margin, and the face.
  place(own) {
    const { low, high, track } = this.direction;
    this.own = own;
    if (track || this.plain) return this.lay(...(track ?? PLAIN));
    const margin = MARGIN * (high - low);
    const from = Math.min(low - margin, own - margin / 4) - own;
    const to = Math.max(high + margin, own + margin / 4) - own;
    // 1, 2 or 5 times a power of ten; and the ends multiples of it, for 0, this face, is a value the input must take.
    const power = 10 ** Math.floor(Math.log10((to - from) / STEPS));
    const step = [5, 2, 1].find((factor) => factor * power * STEPS <= to - from) * power;
    this.lay(Math.floor(from / step) * step, Math.ceil(to / step) * step, step);
  }

  // From the data's range to the plain track and back; the strength stays.
  scale(plain) {
    const { strength, own } = this;
    this.plain = plain;
    this.place(own);
    this.set(strength);
  }

  // A track from one strength to another.
  lay(from, to, step) {
    const { own, direction: { low, high } } = this;
    this.digits = Math.max(0, Math.ceil(-Math.log10(5 * step)));
    Object.assign(this.input, { min: -1e9, max: 1e9, step: step.toPrecision(1) });
    this.input.min = from.toFixed(6);
    this.input.max = to.toFixed(6);
    for (const [end, strength] of Object.entries({ own: 0, low: low - own, high: high - own })) {
      this.row.style.setProperty(`--${end}`, this.share(strength));
    }
    this.set(0);
  }

  share(strength) {
    const { min, max } = this.input;
    return Math.min(1, Math.max(0, (strength - min) / (max - min)));
  }

  // To a percentile, 0 to 100, of the training faces.
  reach(percent) {
    this.set(Number((quantile(percent, this.direction.quantiles) - this.own).toFixed(4)));
  }

  set(strength) {
    this.strength = strength;
    this.show();
  }

  // As if it stood at this strength; `show` puts it back.
  pretend(strength) {
    this.input.value = strength;
    this.row.style.setProperty("--at", this.share(strength));
  }

  lock(locked) {
    this.locked = locked;
    this.row.classList.toggle("locked", locked);
    this.row.querySelector("[data-do=lock]").setAttribute("aria-pressed", locked);
    this.input.setAttribute("aria-disabled", locked);
    this.show();
  }

  show() {
    const { direction, strength, score } = this;
    const beyond = score < direction.low || score > direction.high;
    const rank = Math.min(99, Math.max(1, Math.round(percentile(score, direction.quantiles))));
    const standing = beyond ? words.beyond : words.above(rank);
    this.input.value = strength;
    this.row.style.setProperty("--at", this.share(strength));
    this.row.classList.toggle("changed", strength !== 0);
    this.row.classList.toggle("beyond", beyond && strength !== 0);
    this.output.value = strength || !this.locked ? valueText(strength, direction, this.digits) : words.kept;
    if (this.standing !== document.activeElement) this.standing.value = standing;
    this.input.setAttribute("aria-valuetext", `${this.output.value}, ${beyond ? words.beyondAll : words.ofFaces(standing)}`);
  }

  // What the locks leave of its effect; null where there is nothing to say.
  keep(share) {
    const percent = share === null ? null : Math.round(100 * share);
    if (percent === this.percent) return;
    this.percent = percent;
    this.remains.textContent = percent === null ? "" : words.left(percent);
    this.remains.title = percent === null ? "" : words.leftOf(percent);
  }
}

// Strengths by name, as a person reads them; sliders: by name.
export function inWords(strengths, sliders) {
  return Object.entries(strengths).map(([name, strength]) => {
    const { direction, digits } = sliders.get(name);
    return words.caption(direction.label, valueText(strength, direction, digits));
  }).join(", ");
}

export function valueText(strength, { unit, per_strength }, digits) {
  const degrees = unit === "degrees";
  const size = degrees ? Math.abs(strength * per_strength).toFixed(0) : Math.abs(strength).toFixed(digits);
  return words.value(strength, size, degrees);
}
