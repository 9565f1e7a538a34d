// The page's one state: what the tabs know of each other. A tab says what changed with `set`, and hears of it with `on`.

export class State {
  constructor() {
    this.edited = null;    // the latent on the Edit tab's stage
    this.path = null;      // the Interpolate tab's { faces, method, easing }
    this.own = new Map();  // name -> a direction of the visitor's own, as edit.py's `slider` writes one
    this.known = new Set();  // names of the model's directions
    this.watchers = new Map();
  }

  // tell(value) is called whenever `key` is set.
  on(key, tell) {
    this.watchers.set(key, [...(this.watchers.get(key) ?? []), tell]);
  }

  set(key, value) {
    this[key] = value;
    this.tell(key, value);
  }

  tell(key, value) {
    for (const tell of this.watchers.get(key) ?? []) tell(value);
  }

  // One more direction; false if its name is taken.
  addDirection(direction) {
    if (this.known.has(direction.name) || this.own.has(direction.name)) return false;
    this.own.set(direction.name, direction);
    this.tell("direction", direction);
    return true;
  }
}

export const state = new State();
