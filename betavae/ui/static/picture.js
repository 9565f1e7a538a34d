// What the stage shows of a face: the picture that the model draws, or the photo that it is of, with the edit put back.

import { connection } from "./connection.js";
import { PhotoStage, pixelsOf, residualOf, totalField } from "./putback.js";
import { loaded, paint } from "./stage.js";
import { CONNECTION_LOST, picture as words } from "./words.js";

const FINE = 1024;       // pixels a side of the stage at rest; magnified it has as many more, up to
const FINEST = 4096;
const COARSE = 512;      // and while a slider moves
const MODEL = 512;       // of what the model draws

// What an edit may shade: 0 everything, 1 the person, 2 the background.
export function touchOf(strengths) {
  const kinds = new Set(Object.entries(strengths).filter(([, s]) => s).map(([name]) => name.startsWith("background")));
  return kinds.size !== 1 ? 0 : kinds.has(true) ? 2 : 1;
}

export class Picture {
  // element: the tab; server: has fields({}); state(): the edit; file(photo): the visitor's own file of a photo, if there is one;
  // zoom(): how many times the picture is magnified; masked: the model draws the face alone, and it is put back where it is from;
  // detail: how the model's pictures are drawn; restage(): shows everything again; fail(sentence).
  constructor(element, { server, space, state, file, zoom, masked, detail, restage, fail }) {
    Object.assign(this, { server, space, state, file, zoom, masked, detail, restage, fail });
    this.views = element.querySelector(".views");
    this.frame = element.querySelector(".stage");
    this.trio = element.querySelector(".trio");
    this.canvas = Object.fromEntries([...element.querySelectorAll("canvas")].map((one) => [one.dataset.canvas, one]));
    this.photo = new PhotoStage();
    this.staging = null;
    this.view = "photo";   // or "model" or "beside": what is shown of a face that is a photo's
    this.whole = false;    // all of the photo, or the face and what is around it
    this.moving = false;
    this.latest = null;    // the newest picture, { z, picture }, and what is shown instead: { how, drawn }
    this.shading = null;   // and what it adds to the photo: { residual, n }
  }

  get onPhoto() {
    const { face } = this.state();
    return Boolean(face?.photo) && this.view !== "model" && this.photo.of === face.photo;
  }

  // Whether the photo, what the model sees of it and the edit are side by side.
  get beside() {
    return this.view === "beside" && Boolean(this.state().face?.original);
  }

  // The model's picture of a latent, where it is the newest one.
  drawn(z) {
    return this.latest && String(this.latest.z) === String(z) ? this.latest.picture : null;
  }

  // Whether that latent is on the stage as it is to be shown.
  complete(z) {
    return Boolean(this.drawn(z)) && (this.detail.honest || this.onPhoto || this.latest.how === this.detail.how);
  }

  choose(view) {
    this.view = view;
    this.showViews();
  }

  // Another face: nothing of the last one may shade it.
  enter() {
    this.shading = null;
    this.showViews();
  }

  // What can be chosen for this face: a picture that is nobody's has no views, one of a data set no photo to put an edit back into.
  showViews() {
    const { face } = this.state();
    this.views.hidden = !face?.original;
    if (!face) return;
    const shown = face.photo || this.view === "beside" ? this.view : "model";
    for (const button of this.views.querySelectorAll("[data-view]")) {
      button.setAttribute("aria-pressed", button.dataset.view === shown);
      button.hidden = button.dataset.view === "photo" && !face.photo;
    }
    for (const button of this.views.querySelectorAll("[data-do]")) button.hidden = !face.photo;
    this.views.querySelector("[data-do=whole]").disabled = shown !== "photo";
    const kept = face.kept ? words.kept(face.kept) : "";
    for (const place of [this.views, this.trio]) place.querySelector(".kept").textContent = kept;
    this.detail.offer(!face.photo || shown === "model");
  }

  // A slider moves: the photo is moved at once; its shading comes with the decode.
  move() {
    this.moving = true;
    if (this.onPhoto) this.redraw();
  }

  rest() {
    this.moving = false;
    if (this.onPhoto) this.redraw();
  }

  // As many pixels as the photo itself has there, where it is magnified.
  get side() {
    const times = this.zoom();
    return this.moving ? COARSE : times === 1 ? FINE
      : Math.max(FINE, Math.min(FINEST, FINE * times, Math.ceil(this.photo.view(this.whole)[0])));
  }

  redraw(strengths = this.state().strengths, target = this.beside ? this.canvas.edited : this.canvas.edit, shading = this.shading) {
    const { photo } = this;
    const square = this.beside && target.isConnected;
    const view = square ? photo.square : photo.view(this.whole);
    const side = square ? COARSE : this.side;
    const source = photo.draw({ field: totalField(this.space, strengths), ...shading, touch: touchOf(strengths), view, side });
    target.wanted = source;
    if (target.width !== side) target.width = target.height = side;
    const context = target.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#808080";
    context.fillRect(0, 0, side, side);
    context.drawImage(source, 0, 0, side, side);
  }

  async shadingOf(face, picture, strengths) {
    if (!Object.keys(strengths).length || picture === face.picture) return null;
    const [before, after] = await Promise.all([face.picture, picture].map(pixelsOf));
    return { residual: residualOf(before.data, after.data, before.n, totalField(this.space, strengths)), n: before.n };
  }

  // Where a model that draws the face alone puts it back.
  behind(face) {
    return this.masked ? face.original : null;
  }

  paint(canvas, picture, face) {
    canvas.width = canvas.height = MODEL;
    return paint(canvas, picture, this.behind(face));
  }

  // While a slider moves, and until it has come, the model's own picture stands for what is to be shown.
  asShown({ picture, drawn, how }) {
    return drawn && how === this.detail.how && !this.detail.honest ? drawn : picture;
  }

  // A picture that the model made of a latent, with these strengths: itself, or put back into the photo.
  async show(latest, strengths) {
    this.latest = latest;
    const { face } = this.state();
    if (face.photo && this.view !== "model" && !this.onPhoto) await this.stage();
    if (!this.onPhoto) {
      if (this.beside) await this.paint(this.canvas.edited, this.asShown(latest), face);
      return this.paint(this.canvas.edit, this.asShown(latest), face);
    }
    const shading = await this.shadingOf(face, latest.picture, strengths);
    if (this.state().face !== face || !this.onPhoto) return false;
    this.shading = shading;
    this.redraw();
    return true;
  }

  // An image for a moment, in the place of what is there.
  flash(image) {
    const { edit } = this.canvas;
    edit.getContext("2d").drawImage(image, 0, 0, edit.width, edit.height);
  }

  // The newest picture once more, as it is to be shown now.
  async again() {
    if (this.latest) await this.show(this.latest, this.state().strengths);
  }

  // What the edit is compared with: the photo itself where it is on the stage, or `picture`, which is of the face or of a step.
  async showBefore(step, picture, z) {
    const { face } = this.state();
    if (this.onPhoto && (!step || step.state.face === face)) {
      const strengths = step?.state.strengths ?? {};
      return this.redraw(strengths, this.canvas.before, step ? await this.shadingOf(face, picture, strengths) : null);
    }
    const canvas = this.canvas.before;
    const of = step ? step.state.face : face;
    const { how } = this.detail;
    const shown = await this.paint(canvas, picture, of);
    if (!z || this.detail.honest || canvas.wanted !== picture) return shown;
    try {
      const { drawn, error } = await this.detail.of(z);
      if (error) return this.fail(error);
      if (canvas.wanted === picture && this.detail.how === how) await this.paint(canvas, drawn, of);
    } catch {
      this.fail(CONNECTION_LOST);
      connection.once(this.restage);
    }
  }

  // The photo and what the model sees of it, both as large as the model's square, beside the edit.
  async showBeside() {
    const { beside } = this;
    this.trio.hidden = !beside;
    this.frame.classList.toggle("beside", beside);
    if (!beside) return;
    const { face } = this.state();
    if (this.onPhoto) this.redraw({}, this.canvas.given, null);
    else await this.paint(this.canvas.given, face.original, face);
    await this.paint(this.canvas.seen, face.picture, face);
  }

  // What the model drew of the face with these strengths as the stage would show it, on a canvas of its own.
  async rendered(picture, strengths) {
    const { face } = this.state();
    const target = Object.assign(document.createElement("canvas"), { width: FINE, height: FINE });
    if (this.onPhoto) this.redraw(strengths, target, await this.shadingOf(face, picture, strengths));
    else await paint(target, picture, this.behind(face));
    return target;
  }

  // What the server needs to know of these strengths to put them back.
  edit(strengths) {
    const field = totalField(this.space, strengths);
    return { displacement: field && [...field], touch: touchOf(strengths) };
  }

  // The face's photo onto the photo stage, and what is beside it.
  async stage() {
    await this.stagePhoto();
    await this.showBeside();
  }

  async stagePhoto() {
    const { face: { photo } } = this.state();
    document.dispatchEvent(new CustomEvent("photo-shown", { detail: photo ? { picture: photo.picture, name: photo.name } : null }));
    if (!photo || this.photo.of === photo) return;
    if (this.staging?.photo !== photo) this.staging = { photo, shown: this.load(photo) };
    await this.staging.shown;
  }

  // By how much each direction moves a photo; the server sends it with the first one.
  fields() {
    this.asked ??= this.server.fields({}).then(({ fields }) => {
      for (const [name, field] of Object.entries(fields)) this.space.get(name).displacement = field;
    });
    return this.asked;
  }

  // The visitor's file, or, of one that the browser cannot read, the copy that the server sent.
  async load(photo) {
    try {
      await this.fields();
    } catch {
      this.asked = this.staging = null;
      this.fail(CONNECTION_LOST);
      return connection.once(this.restage);
    }
    const file = this.file(photo);
    const picture = await (file ? createImageBitmap(file) : Promise.reject()).catch(() => loaded(photo.picture));
    const [w, h] = photo.size;
    const fits = Math.abs(picture.width / picture.height - w / h) < 0.02 * (w / h) ? picture : await loaded(photo.picture);
    const matte = await loaded(photo.matte);
    if (this.state().face.photo !== photo) return;
    this.photo.show({ picture: fits, size: photo.size, square: photo.square, matte });
    this.photo.of = photo;
  }
}
