// What an edit changed besides what it was meant to, as a classifier sees the pictures; each with a lock.

import { latest } from "./stage.js";

const SHOWN = 4;        // at most, of those that
const SMALLEST = 0.05;  // change by this much, in probability or in share of the faces

export class SideEffects {
  // server: has effects({ before, after }), or is null where there is no classifier; isLocked(name): true, false, or null where
  // there is no slider to lock; fail(sentence).
  constructor(element, { server, isLocked, fail }) {
    Object.assign(this, { element, server, isLocked });
    element.hidden = !server;
    this.latest = latest(element, ({ before, after }) => server.effects({ before, after }), ({ effects }, request) => {
      if (request === this.request) this.show(effects.filter(({ name }) => !request.wanted.includes(name)));
    }, fail);
  }

  // From one latent to another, besides the names in `wanted`.
  ask(before, after, wanted) {
    if (!this.server) return;
    this.request = wanted.length ? { before, after, wanted } : null;
    if (this.request) {
      this.latest.ask(this.request);
    } else {
      this.latest.forget();
      this.show(null);
    }
  }

  show(found) {
    const rows = (found ?? []).filter(({ before, after }) => Math.abs(after - before) >= SMALLEST).slice(0, SHOWN);
    this.element.querySelector(".quiet").textContent = !found ? "Release a slider to see what else it changed."
      : rows.length ? "Also changed" : "Nothing else changed.";
    this.element.querySelector("ul").replaceChildren(...rows.map((row) => this.item(row)));
  }

  item({ name, label, before, after, quantity }) {
    const item = document.createElement("li");
    const percent = (share) => Math.round(100 * share);
    item.innerHTML = `<span></span> <b></b> <button type="button" class="link" data-do="lock-effect"></button>`;
    item.querySelector("span").textContent = label;
    item.querySelector("b").textContent = `${quantity ? "above " : ""}${percent(before)} → ${percent(after)} %`;
    item.title = quantity ? `${label}: above how many of 100 faces it stands, before and after (its percentile)`
      : `${label}: how sure a classifier of pictures is, before and after`;
    const button = item.querySelector("button");
    const locked = this.isLocked(name);
    button.dataset.effect = name;
    button.textContent = locked ? "locked" : "lock";
    button.disabled = locked !== false;
    button.setAttribute("aria-label", `${button.textContent} ${label}`);
    return item;
  }
}
