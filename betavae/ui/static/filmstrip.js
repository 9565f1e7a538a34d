// The history as a filmstrip: a picture a step, a lane a branch.

import { filmstrip as words } from "./words.js";

export class Filmstrip {
  // strip: an <ol>; go(node) shows a step, pin(node) compares with it.
  constructor(strip, history, { go, pin }) {
    this.strip = strip;
    strip.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      const node = button && history.nodes[button.closest("li").dataset.step];
      if (node) (button.dataset.do === "pin" ? pin : go)(node);
    });
    history.watch({
      added: (node) => strip.append(this.draw(node)),
      amended: (node) => strip.children[node.step].replaceWith(this.draw(node)),
      removed: (node) => strip.children[node.step].remove(),
      visited: (node) => this.visit(node),
      cleared: () => strip.replaceChildren(),
      developed: (node) => (strip.children[node.step].querySelector("img").src = node.picture),
    });
  }

  visit(node) {
    for (const item of this.strip.children) item.classList.toggle("here", Number(item.dataset.step) === node.step);
    // Only the strip is to scroll, not the page with it.
    const { offsetLeft, offsetTop, offsetWidth } = this.strip.children[node.step];
    this.strip.scrollTo({ left: offsetLeft - this.strip.clientWidth + offsetWidth + 80, top: offsetTop - 8 });
  }

  draw({ step, caption, picture, parent, lane, depth }) {
    const item = document.createElement("li");
    item.dataset.step = step;
    item.style.gridArea = `${lane + 1} / ${depth + 1}`;
    if (parent) item.style.setProperty("--rise", lane - parent.lane);
    item.classList.toggle("root", !parent);
    item.classList.toggle("branch", Boolean(parent) && lane !== parent.lane);
    item.innerHTML = `<button type="button" class="frame"><img alt=""></button><span></span>
      <button type="button" class="pin" data-do="pin"></button>`;
    const pin = item.querySelector(".pin");
    pin.textContent = words.pinned;
    pin.title = pin.ariaLabel = words.pin;
    item.querySelector("span").textContent = item.querySelector("span").title = caption;
    item.querySelector(".frame").title = words.go(caption);
    item.querySelector("img").alt = words.alt(step, caption);
    if (picture) item.querySelector("img").src = picture;
    return item;
  }

  pinned(node) {
    for (const item of this.strip.children) item.classList.toggle("pinned", Number(item.dataset.step) === node?.step);
  }
}
