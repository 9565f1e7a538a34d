// The edit in the address bar. One that a link brought stays there until it is understood, or an edit is made.

import { readAddress, recipeOf, writeAddress } from "./recipe.js";

export class Link {
  // opening: the face that the page opens with; withFace: the box that says whether a link is to hold any other; sharp(): whether
  // the picture is.
  constructor(opening, withFace, sharp) {
    Object.assign(this, { opening, withFace, sharp });
    this.read();
  }

  // Whether there is one that is not understood yet.
  get waits() {
    return this.arriving !== null;
  }

  // Its recipe as text, or null.
  read() {
    return (this.arriving = readAddress());
  }

  done() {
    this.arriving = null;
  }

  holdsFace(face) {
    return Boolean(face.seed) || this.withFace.checked;
  }

  write(state) {
    if (this.arriving) return;
    const { face: { seed }, strengths, locks } = state;
    const untouched = !Object.keys(strengths).length && !locks.length;
    const opening = Boolean(seed) && JSON.stringify(seed) === JSON.stringify(this.opening.seed);
    const clean = untouched && (seed ? opening && !this.sharp() : true) && !this.withFace.checked;
    writeAddress(clean ? null : recipeOf(state, this.withFace.checked, this.sharp()));
  }
}
