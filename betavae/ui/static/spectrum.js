// One attribute in steps over the range of the data, or two as a grid; every picture is a place to go on from.

import { inWords } from "./slider.js";
import { pictureWith, recipeOf } from "./recipe.js";
import { download, latest } from "./stage.js";

const CELL = 128;  // pixels, in the saved picture

export class Spectrum {
  // server: has pictures({ latents }); space: the directions; state(): what is on the stage; choose(strengths, caption): put these sliders there; fail(sentence).
  constructor(element, { server, space, state, choose, fail }) {
    Object.assign(this, { element, space, state, sliders: new Map() });
    this.details = element.querySelector("details");
    this.cells = element.querySelector(".cells");
    [this.across, this.upwards, this.count] = element.querySelectorAll("select");
    this.latest = latest(element, ({ latents }) => server.pictures({ latents }), ({ pictures }, { cells }) => {
      this.show(pictures, cells);
    }, fail);
    this.details.addEventListener("toggle", () => this.draw());
    for (const select of element.querySelectorAll("select")) select.addEventListener("change", () => this.draw());
    this.cells.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) choose(this.shown[button.dataset.cell].strengths, button.title);
    });
    element.querySelector("[data-do=save-spectrum]").addEventListener("click", () => this.save());
  }

  add(slider) {
    this.sliders.set(slider.name, slider);
    for (const select of [this.across, this.upwards]) select.add(new Option(slider.direction.label, slider.name));
  }

  // Strengths from one end of the data to the other, for the face on the stage.
  steps(slider, count) {
    const { low, high } = slider.direction;
    return Array.from({ length: count }, (_, i) =>
      Number((low + ((high - low) * i) / (count - 1) - slider.own).toFixed(4)));
  }

  draw() {
    if (!this.details.open) return;
    const { face, strengths, locks } = this.state();
    const [x, y] = [this.across, this.upwards].map((select) => this.sliders.get(select.value));
    const count = Number(this.count.value);
    const rows = y && y !== x ? this.steps(y, count).reverse().map((strength) => ({ [y.name]: strength })) : [{}];
    const cells = rows.flatMap((row) => this.steps(x, count).map((strength) => ({ ...row, [x.name]: strength })));
    this.latest.ask({
      latents: cells.map((cell) => this.space.edited(face.z, { ...strengths, ...cell }, locks)),
      cells: cells.map((cell) => ({ strengths: cell, caption: inWords(cell, this.sliders) })),
    });
  }

  show(pictures, cells) {
    this.shown = cells;
    this.element.style.setProperty("--columns", this.count.value);
    this.cells.replaceChildren(...pictures.map((picture, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.cell = i;
      button.title = cells[i].caption;
      const image = new Image();
      image.src = picture;
      image.alt = cells[i].caption;
      button.append(image);
      return button;
    }));
  }

  async save() {
    const images = [...this.cells.querySelectorAll("img")];
    const columns = Number(this.element.style.getPropertyValue("--columns"));
    if (!images.length) return;
    await Promise.all(images.map((image) => image.decode()));
    const canvas = document.createElement("canvas");
    canvas.width = columns * CELL;
    canvas.height = (images.length / columns) * CELL;
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    images.forEach((image, i) =>
      context.drawImage(image, (i % columns) * CELL, Math.floor(i / columns) * CELL, CELL, CELL));
    download(await pictureWith(canvas, recipeOf(this.state(), true)), "spectrum.png");
  }
}
