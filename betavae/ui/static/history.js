// The steps of an edit as a tree: going back and editing again starts a branch, and nothing is ever lost.

class History {
  // strip: where the filmstrip goes; go(node) shows a step, pin(node) compares with it.
  constructor(strip, { go, pin }) {
    this.strip = strip;
    this.nodes = [];
    this.current = null;
    this.lanes = 0;
    strip.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      const node = button && this.nodes[button.closest("li").dataset.step];
      if (node) (button.dataset.do === "pin" ? pin : go)(node);
    });
  }

  // A step with its state (anything), its words, and its picture as a URI if that is known already. What the same
  // slider does in a row by key (`by` names it) is one step.
  commit(state, caption, { picture = null, by = null } = {}) {
    const parent = this.current;
    if (by && parent?.by === by && !parent.children.length) return this.amend(parent, state, caption);
    // The first child goes on in the lane of its parent; every other starts a lane of its own.
    const lane = parent && !parent.children.length ? parent.lane : this.lanes++;
    const node = { step: this.nodes.length, state, caption, picture, parent, children: [], next: null, lane,
      depth: parent ? parent.depth + 1 : 0, by };
    parent?.children.push(node);
    this.nodes.push(node);
    this.strip.append(this.draw(node));
    this.visit(node);
    return node;
  }

  amend(node, state, caption) {
    Object.assign(node, { state, caption, picture: null });
    this.strip.children[node.step].replaceWith(this.draw(node));
    this.visit(node);
    return node;
  }

  visit(node) {
    this.current = node;
    if (node.parent) node.parent.next = node;
    for (const item of this.strip.children) item.classList.toggle("here", Number(item.dataset.step) === node.step);
    // Only the strip is to scroll, not the page with it.
    const { offsetLeft, offsetTop, offsetWidth } = this.strip.children[node.step];
    this.strip.scrollTo({ left: offsetLeft - this.strip.clientWidth + offsetWidth + 80, top: offsetTop - 8 });
  }

  get back() {
    return this.current?.parent ?? null;
  }

  get forth() {
    return this.current?.next ?? null;
  }

  draw({ step, caption, picture, parent, lane, depth }) {
    const item = document.createElement("li");
    item.dataset.step = step;
    item.style.gridArea = `${lane + 1} / ${depth + 1}`;
    if (parent) item.style.setProperty("--rise", lane - parent.lane);
    item.classList.toggle("root", !parent);
    item.classList.toggle("branch", Boolean(parent) && lane !== parent.lane);
    item.innerHTML = `<button type="button" class="frame"><img alt=""></button><span></span>
      <button type="button" class="pin" data-do="pin" title="Compare with this step"
        aria-label="Compare with this step">A</button>`;
    item.querySelector("span").textContent = item.querySelector("span").title = caption;
    item.querySelector(".frame").title = `Go on from: ${caption}`;
    item.querySelector("img").alt = `Step ${step + 1}: ${caption}`;
    if (picture) item.querySelector("img").src = picture;
    return item;
  }

  // The picture of a step, as soon as it is there.
  develop(node, picture) {
    node.picture = picture;
    this.strip.children[node.step].querySelector("img").src = picture;
  }

  pinned(node) {
    for (const item of this.strip.children) item.classList.toggle("pinned", Number(item.dataset.step) === node?.step);
  }
}
