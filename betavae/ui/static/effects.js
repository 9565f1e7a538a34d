// What an edit changed besides what it was meant to, as a classifier sees the pictures; each with a lock.

import { latest } from "./stage.js";
import { effects as words } from "./words.js";

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
    this.element.querySelector(".quiet").textContent = !found ? words.invitation
      : rows.length ? words.also : words.none;
    this.element.querySelector("ul").replaceChildren(...rows.map((row) => this.item(row)));
  }

  item({ name, label, before, after, quantity }) {
    const item = document.createElement("li");
    item.innerHTML = `<span></span> <b></b> <button type="button" class="link" data-do="lock-effect"></button>`;
    item.querySelector("span").textContent = label;
    item.querySelector("b").textContent = words.change(before, after, quantity);
    item.title = quantity ? words.quantity(label) : words.probability(label);
    const button = item.querySelector("button");
    const locked = this.isLocked(name);
    button.dataset.effect = name;
    button.textContent = locked ? words.locked : words.lock;
    button.disabled = locked !== false;
    button.setAttribute("aria-label", words.lockOf(button.textContent, label));
    return item;
  }
}
