// The photo with its faces' boxes, and two rings that are put on the eyes by hand.

import { framing as words } from "./words.js";

export class Framing {
  // choose(index) and eyes([[x, y], [x, y]]) are told what was asked for, in the photo's own pixels.
  constructor(element, { choose, eyes }) {
    Object.assign(this, { element, eyes });
    this.image = element.querySelector("img");
    this.boxes = element.querySelector(".boxes");
    this.rings = [...element.querySelectorAll(".eye")];
    this.boxes.addEventListener("click", ({ target }) => target.dataset.face && choose(Number(target.dataset.face)));
    this.rings.forEach((ring, i) => {
      ring.addEventListener("pointerdown", (event) => {
        ring.setPointerCapture(event.pointerId);
        ring.onpointermove = ({ clientX, clientY }) => {
          const { left, top, width, height } = this.image.getBoundingClientRect();
          const [w, h] = this.photo.size;
          this.put(i, ((clientX - left) / width) * w, ((clientY - top) / height) * h);
        };
      });
      for (const end of ["pointerup", "pointercancel"]) ring.addEventListener(end, () => (ring.onpointermove = null));
      ring.addEventListener("keydown", (event) => {
        const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
        if (!dx && !dy) return;
        event.preventDefault();
        event.stopPropagation();
        const step = (Math.max(...this.photo.size) / 400) * (event.shiftKey ? 8 : 1);
        this.put(i, this.at[i][0] + dx * step, this.at[i][1] + dy * step);
      });
    });
    new ResizeObserver(() => this.photo && !this.element.hidden && this.lay()).observe(element);
  }

  async open(photo) {
    this.photo = photo;
    this.image.src = photo.picture;
    await this.image.decode();
    this.element.hidden = false;
    const [w, h] = photo.size;
    const own = photo.faces[photo.face ?? 0]?.eyes;
    this.at = own ? own.map((eye) => [...eye]) : [[0.42 * w, 0.42 * h], [0.58 * w, 0.42 * h]];
    this.boxes.replaceChildren(...photo.faces.map((_, i) => {
      const button = Object.assign(document.createElement("button"), { type: "button", title: words.face(i), ariaLabel: words.face(i) });
      button.dataset.face = i;
      button.setAttribute("aria-pressed", i === photo.face);
      return button;
    }));
    this.lay();
  }

  close() {
    this.element.hidden = true;
  }

  // Boxes and rings over the picture, wherever it lies.
  lay() {
    const { left, top, width, height } = this.image.getBoundingClientRect();
    const parent = this.image.parentElement.getBoundingClientRect();
    const [w, h] = this.photo.size;
    Object.assign(this.boxes.style, { left: `${left - parent.left}px`, top: `${top - parent.top}px`, width: `${width}px`, height: `${height}px` });
    this.photo.faces.forEach(({ box: [x0, y0, x1, y1] }, i) => Object.assign(this.boxes.children[i].style, {
      left: `${(100 * x0) / w}%`, top: `${(100 * y0) / h}%`, width: `${(100 * (x1 - x0)) / w}%`, height: `${(100 * (y1 - y0)) / h}%` }));
    this.rings.forEach((ring, i) => Object.assign(ring.style, {
      left: `${left - parent.left + (this.at[i][0] / w) * width}px`, top: `${top - parent.top + (this.at[i][1] / h) * height}px` }));
  }

  put(i, x, y) {
    const [w, h] = this.photo.size;
    this.at[i] = [Math.min(w, Math.max(0, x)), Math.min(h, Math.max(0, y))];
    this.lay();
  }

  // Left to right in the picture, whichever ring is which.
  done() {
    this.eyes([...this.at].sort((a, b) => a[0] - b[0]));
  }
}
