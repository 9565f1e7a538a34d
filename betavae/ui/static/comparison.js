// What the edit is compared with on the stage: the face before it ("start"), the photo ("photo"), or a step of the history.

import { comparison as words } from "./words.js";

export class Comparison {
  // element: the tab; show(step, picture, z): draws what is compared with; step: null for the face itself, z: null for the photo;
  // latent(state): the latent of an edit.
  constructor(element, { state, viewport, pinned, latent, show }) {
    Object.assign(this, { element, state, viewport, pinned, latent, show, choice: "start" });
    const hold = element.querySelector(".hold");
    hold.addEventListener("pointerdown", () => viewport.hold(true));
    for (const end of ["pointerup", "pointerleave", "pointercancel"]) hold.addEventListener(end, () => viewport.hold(false));
    document.addEventListener("keyup", (event) => event.key === " " && viewport.hold(false));
  }

  with(choice) {
    this.choice = choice;
    const { face } = this.state();
    const step = typeof choice === "object" ? choice : null;
    this.pinned(step);
    for (const button of this.element.querySelectorAll("[data-against]")) {
      const chosen = button.dataset.against === (step ? "step" : choice);
      button.setAttribute("aria-pressed", chosen);
      if (button.dataset.against === "step") button.disabled = !step;
    }
    this.element.querySelector(".before").textContent = step ? step.caption : choice === "photo" ? words.photo : words.before;
    const picture = step ? step.picture : choice === "photo" ? face.original : face.picture;
    if (choice !== "start" && this.viewport.at === 0) this.viewport.split(0.5);
    return this.show(step, picture, step ? this.latent(step.state) : choice === "photo" ? null : face.z);
  }

  again() {
    return this.with(this.choice);
  }
}
