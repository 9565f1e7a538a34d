// The stage's two pictures over each other: a handle that compares, a key that shows what was before, and zoom.

const ZOOMS = [1, 2, 4];
const NUDGE = 0.05;

export class Viewport {
  // zoomed(zoom) is told of every change of the zoom, whichever way it came.
  constructor(element, { zoomed }) {
    Object.assign(this, { element, zoomed });
    this.handle = element.querySelector(".handle");
    this.layers = element.querySelector(".layers");
    this.zoom = 1;
    this.centre = [0.5, 0.5];
    this.split(0);
    this.handle.addEventListener("pointerdown", (event) => {
      this.handle.setPointerCapture(event.pointerId);
      this.handle.onpointermove = ({ clientX }) => {
        const { left, width } = element.getBoundingClientRect();
        this.split((clientX - left) / width);
      };
    });
    const drop = () => (this.handle.onpointermove = null);
    this.handle.addEventListener("pointerup", drop);
    this.handle.addEventListener("pointercancel", drop);
    this.handle.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: this.at - NUDGE, ArrowDown: this.at - NUDGE, ArrowRight: this.at + NUDGE,
        ArrowUp: this.at + NUDGE, Home: 0, End: 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.split(to);
    });
    this.layers.addEventListener("dblclick", ({ clientX, clientY }) => {
      const { left, top, width, height } = this.layers.getBoundingClientRect();
      this.magnify(this.zoom > 1 ? 1 : ZOOMS[1], [(clientX - left) / width, (clientY - top) / height]);
    });
    this.layers.addEventListener("pointerdown", (event) => {
      if (this.zoom === 1) return;
      this.layers.setPointerCapture(event.pointerId);
      this.layers.onpointermove = ({ movementX, movementY }) => {
        const side = element.clientWidth * this.zoom;
        this.magnify(this.zoom, [this.centre[0] - movementX / side, this.centre[1] - movementY / side]);
      };
    });
    this.layers.addEventListener("pointerup", () => (this.layers.onpointermove = null));
    this.layers.addEventListener("pointercancel", () => (this.layers.onpointermove = null));
  }

  // Left of `at` (0 to 1) is before, right of it after.
  split(at) {
    this.at = Math.min(1, Math.max(0, at));
    this.element.style.setProperty("--split", this.at);
    this.element.classList.toggle("whole", this.at === 0);
    this.handle.setAttribute("aria-valuenow", Math.round(100 * this.at));
    this.clip();
  }

  // The upper picture's part in its own, zoomed coordinates.
  clip() {
    const left = this.centre[0] + (this.at - 0.5) / this.zoom;
    this.layers.style.setProperty("--clip", this.held ? 1 : Math.min(1, Math.max(0, left)));
  }

  hold(held) {
    this.held = held;
    this.element.classList.toggle("held", held);
    this.clip();
  }

  // centre: what is in the middle, in shares of the picture.
  magnify(zoom, centre = this.centre) {
    const edge = 0.5 / zoom;
    this.zoom = zoom;
    this.centre = centre.map((share) => Math.min(1 - edge, Math.max(edge, share)));
    const [x, y] = this.centre.map((share) => (0.5 - share) * 100 * zoom);
    this.layers.style.transform = `translate(${x}%, ${y}%) scale(${zoom})`;
    this.element.classList.toggle("zoomed", zoom > 1);
    this.zoomed(zoom);
    this.clip();
  }

  nextZoom() {
    this.magnify(ZOOMS[(ZOOMS.indexOf(this.zoom) + 1) % ZOOMS.length]);
  }
}
