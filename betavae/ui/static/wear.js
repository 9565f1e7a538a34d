// Another face's expression, pose, hair: what is chosen of it goes to where that face stands, as an edit like any other.

import { connection } from "./connection.js";
import { base64 } from "./photos.js";
import { session } from "./session.js";
import { CONNECTION_LOST, wear as words } from "./words.js";

const rounded = (strength) => Number(strength.toFixed(4));

export class Wear {
  // element: the section; server: has other and wear as edit.py has them; state(): the edit; known: names of the directions that
  // the server has; move(strengths): sliders go there; release(caption, by): and that was a step.
  constructor(element, { server, state, known, move, release }) {
    Object.assign(this, { element, server, state, known, move, release });
    this.other = null;      // whose it is: { z, picture, name, face, faces }
    this.taken = null;      // the file: { file, name }
    this.groups = [];
    this.worn = new Map();  // name -> { before, now }: the strengths that this has set, and what was there
    this.input = element.querySelector("input[type=file]");
    this.amount = element.querySelector("input[type=range]");
    this.input.addEventListener("change", () => {
      this.take(this.input.files[0]);
      this.input.value = "";  // the same file again is a change again
    });
    element.addEventListener("dragover", (event) => event.preventDefault());
    element.addEventListener("drop", (event) => {
      event.preventDefault();
      this.take([...event.dataTransfer.files].find(({ type }) => !type || type.startsWith("image/")));
    });
    this.amount.addEventListener("input", () => {
      element.querySelector("output").textContent = words.amount(this.amount.value);
      element.style.setProperty("--at", this.amount.value / 100);
      this.apply().catch(() => {});  // what is wrong is said when it is released
    });
    this.amount.addEventListener("change", () => this.wear());
    this.actions = {
      take: (button) => this.toggle(button.dataset.take),
      "next-face": () => this.open({ face: (this.other.face + 1) % this.other.faces }),
    };
  }

  take(file) {
    if (!file) return;
    this.taken = { file, name: file.name || "photo.png" };
    return this.open();
  }

  refuse(sentence) {
    const line = this.element.querySelector("[role=alert]");
    line.hidden = !sentence;
    line.textContent = sentence ?? "";
  }

  // Open the file that was taken; which face of it, if that is said.
  async open(how = {}) {
    const mine = this.taken;
    this.refuse(null);
    this.element.setAttribute("aria-busy", "true");
    try {
      const answer = await this.server.other({ name: mine.name, data: await base64(mine.file), ...how });
      if (mine !== this.taken) return;
      if (answer.error) return this.refuse(answer.error);
      this.show(answer);
      session.keep("second", { other: answer, file: mine.file });
      if (!this.groups.length) this.press([this.first]);
      await this.wear();
    } catch {
      if (mine !== this.taken) return;
      this.refuse(CONNECTION_LOST);
      connection.once(() => mine === this.taken && this.open(how));
    } finally {
      this.element.setAttribute("aria-busy", "false");
    }
  }

  // The second photo that an earlier page had; the edit that it gave is in the history.
  async recall() {
    const kept = await session.recall("second");
    if (!kept || this.other) return;
    this.taken = { file: kept.file, name: kept.other.name };
    this.show(kept.other);
  }

  forget() {
    this.other = this.taken = null;
    this.press([]);
    this.show(null);
  }

  show(other) {
    this.other = other;
    const image = this.element.querySelector("img");
    image.hidden = !other;
    if (other) Object.assign(image, { src: other.picture, alt: words.alt(other.name) });
    this.element.querySelector(".second span").textContent = other?.name ?? words.invitation;
    this.element.querySelector(".taking").hidden = !other;
    const next = this.element.querySelector("[data-do=next-face]");
    next.hidden = !(other?.faces > 1);
    if (other) next.textContent = words.next(other.face, other.faces);
  }

  get buttons() {
    return [...this.element.querySelectorAll("[data-take]")];
  }

  // The first group in the panel: the expression.
  get first() {
    return this.buttons[0].dataset.take;
  }

  press(groups) {
    this.groups = groups;
    for (const button of this.buttons) button.setAttribute("aria-pressed", groups.includes(button.dataset.take));
  }

  toggle(group) {
    this.press(this.groups.includes(group) ? this.groups.filter((one) => one !== group) : [...this.groups, group]);
    return this.wear();
  }

  // What the server says of this face, the other one and the groups, asked once.
  async strengths() {
    const { face, locks } = this.state();
    const request = { z: face.z, other: this.other.z, groups: this.groups, locks: locks.filter((name) => this.known.has(name)) };
    const key = JSON.stringify(request);
    if (this.answer?.key !== key) this.answer = { key, ...(this.groups.length ? await this.server.wear(request) : { strengths: {} }) };
    return this.answer;
  }

  // The sliders go there, by so much; what an earlier choice had moved goes back unless it was moved since.
  async apply() {
    const asked = this.asked = {};
    const { error, strengths } = await this.strengths();
    if (asked !== this.asked) return false;  // overtaken
    if (error) {
      this.refuse(error);
      return false;
    }
    const state = this.state();
    if (this.face !== state.face) this.worn.clear();
    this.face = state.face;
    const share = this.amount.value / 100;
    const moves = {};
    const worn = new Map();
    for (const name of new Set([...this.worn.keys(), ...Object.keys(strengths)])) {
      const here = state.strengths[name] ?? 0;
      const mine = this.worn.get(name);
      const before = mine?.now === here ? mine.before : here;
      moves[name] = name in strengths ? rounded((1 - share) * before + share * strengths[name]) : before;
      if (name in strengths) worn.set(name, { before, now: moves[name] });
    }
    this.worn = worn;
    this.move(moves);
    return true;
  }

  // The same as a step.
  async wear() {
    try {
      if (!await this.apply()) return;
    } catch {
      this.refuse(CONNECTION_LOST);
      return connection.once(() => this.wear());
    }
    this.refuse(null);
    const caption = words.caption(this.groups, this.other.name);
    this.release(caption, `wear ${this.other.face} ${caption}`);
  }
}
