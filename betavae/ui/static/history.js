// The steps of an edit as a tree: going back and editing again starts a branch, and nothing is ever lost.

export class History {
  constructor() {
    this.nodes = [];
    this.current = null;
    this.lanes = 0;
    this.watchers = [];
  }

  // Whoever shows the tree: added(node), amended(node), removed(node), visited(node), developed(node), cleared(), each if it wants
  // to know.
  watch(watcher) {
    this.watchers.push(watcher);
  }

  tell(what, node) {
    for (const watcher of this.watchers) watcher[what]?.(node);
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
    this.tell("added", node);
    this.visit(node);
    return node;
  }

  amend(node, state, caption) {
    Object.assign(node, { state, caption, picture: null });
    this.tell("amended", node);
    this.visit(node);
    return node;
  }

  // Take back the newest step: it came to nothing.
  retract() {
    const node = this.nodes.pop();
    const { parent } = node;
    parent.children.pop();
    parent.next = parent.children.at(-1) ?? null;
    if (node.lane !== parent.lane) this.lanes -= 1;
    this.tell("removed", node);
    this.visit(parent);
  }

  visit(node) {
    this.current = node;
    if (node.parent) node.parent.next = node;
    this.tell("visited", node);
  }

  get back() {
    return this.current?.parent ?? null;
  }

  get forth() {
    return this.current?.next ?? null;
  }

  // The picture of a step, as soon as it is there; the step itself may be gone by then.
  develop(node, picture) {
    if (this.nodes[node.step] !== node) return;
    node.picture = picture;
    this.tell("developed", node);
  }

  // No step is left.
  clear() {
    Object.assign(this, { nodes: [], current: null, lanes: 0 });
    this.tell("cleared");
  }

  // All steps as plain data; `restore` makes the same tree of it.
  toJSON() {
    return { current: this.current?.step ?? null, steps: this.nodes.map(({ state, caption, picture, parent, by, next }) => ({ state, caption,
      picture, by, parent: parent?.step ?? null, next: next?.step ?? null })) };
  }

  restore({ steps, current }) {
    this.clear();
    for (const { state, caption, picture, parent } of steps) {
      this.current = parent === null ? null : this.nodes[parent];
      this.commit(state, caption, { picture });
    }
    steps.forEach(({ next, by }, i) => Object.assign(this.nodes[i], { by, next: next === null ? null : this.nodes[next] }));
    if (current !== null) this.visit(this.nodes[current]);
  }
}
