// This face as the presets would make it, and as it is at both ends of a slider: pictures of what a click or a drag would do.

import { latest } from "./stage.js";
import { preset } from "./proposals.js";
import { previews as words } from "./words.js";

const REST = 300;  // milliseconds after the last change: a slider that goes on moving has the server to itself

export class Previews {
  // presets: buttons, with `targets` of each in the same order; ends: the two figures at the sides of the stage; server: has
  // pictures({ latents }); space: the directions; sliders: by name; state(): what is on the stage.
  constructor({ presets, targets, ends, server, space, sliders, state }) {
    const buttons = [...presets.querySelectorAll("button")];
    Object.assign(this, { buttons, targets, ends, space, sliders, state, focused: null, changed: -REST });
    const drawn = ({ latents }) => server.pictures({ latents });
    const quiet = () => {};  // the stage says what is wrong with the connection
    const pause = async () => {
      for (let left; (left = this.changed + REST - performance.now()) > 0;) await new Promise((resolve) => setTimeout(resolve, left));
    };
    this.presets = latest(presets, drawn, ({ pictures }) => {
      buttons.forEach((button, i) => (button.querySelector("img").src = pictures[i]));
    }, quiet, quiet, pause);
    this.sides = latest(ends, drawn, ({ pictures }, { slider }) => {
      if (slider !== this.focused) return;
      [...ends.querySelectorAll("img")].forEach((image, i) => (image.src = pictures[i]));
      ends.hidden = false;
    }, quiet, quiet, pause);
  }

  // The strengths that preset number `index` would change.
  moves(index) {
    return preset(this.targets[index], this.sliders);
  }

  latent(strengths) {
    const { face, strengths: own, locks } = this.state();
    return this.space.edited(face.z, { ...own, ...strengths }, locks);
  }

  draw() {
    const all = this.buttons.map((button, i) => ({ button, moves: this.moves(i) }));
    for (const { button, moves } of all) {
      const done = !Object.keys(moves).length;
      button.classList.toggle("done", done);
      button.setAttribute("aria-disabled", done);
      button.querySelector("small").textContent = done ? words.done : "";
    }
    this.changed = performance.now();
    if (all.length) this.presets.ask({ latents: all.map(({ moves }) => this.latent(moves)) });
    if (this.focused) this.focus(this.focused);
  }

  // Show both ends of this slider's range; null hides them.
  focus(slider) {
    this.focused = slider;
    if (!slider) {
      this.sides.forget();
      this.ends.hidden = true;
      return;
    }
    const { name, own, direction: { low, high } } = slider;
    this.sides.ask({ slider, latents: [low, high].map((score) => this.latent({ [name]: score - own })) });
  }
}
