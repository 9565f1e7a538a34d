// How an edit leaves the page: saved as a picture, a card, a loop or a link.

import { pictureWith, recipeOf } from "./recipe.js";
import { card, frame, waysThere } from "./share.js";
import { inWords } from "./slider.js";
import { download } from "./stage.js";
import { CONNECTION_LOST, sharing as words } from "./words.js";

const scaled = (strengths, share) => Object.fromEntries(Object.entries(strengths).map(([name, strength]) => [name, strength * share]));

export class Sharing {
  // element: the tab; server: has decode, pictures and loop; sliders: by name; settled(): when no picture is under way; link: the
  // address bar; say(sentence, wrong).
  constructor(element, { server, space, state, sliders, latents, picture, photos, detail, link, settled, say }) {
    Object.assign(this, { server, space, state, sliders, latents, picture, photos, detail, link, settled, say });
    this.loops = element.querySelectorAll(".loop");
    this.actions = {
      save: () => this.save(),
      card: () => this.card(),
      loop: (button) => this.loop(button.dataset.format),
      link: () => this.copyLink(),
    };
  }

  // Whether there is an edit; if not, that is said.
  hasEdit({ strengths }) {
    const moved = Object.keys(strengths).length > 0;
    if (!moved) this.say(words.noEdit, true);
    return moved;
  }

  // How the pictures that leave the page are drawn: as those on the stage.
  get how() {
    return this.picture.onPhoto ? "honest" : this.detail.how;
  }

  // What the stage shows of a state.
  drawn(state) {
    return this.drawnAt(this.latents.of(state), this.picture.drawn(this.latents.of(state)));
  }

  // The same of a latent, of which the model's own picture may be known.
  async drawnAt(z, own = null) {
    if (this.how !== "honest") return (await this.detail.of(z)).drawn;
    return own ?? (await this.server.decode(z)).picture;
  }

  async save() {
    const { face: { photo } } = this.state();
    if (this.picture.onPhoto) return this.savePhoto(photo);
    await this.settled();
    const state = this.state();
    if (!this.picture.complete(this.latents.of(state))) {
      return this.say(words.noPicture, true);
    }
    download(await pictureWith(this.picture.canvas.edit, recipeOf(state, true, this.how !== "honest")), "face.png");
  }

  savePhoto(photo) {
    const state = this.state();
    const edit = { before: state.face.z, after: this.latents.of(state), ...this.picture.edit(state.strengths) };
    return this.photos.save(photo, edit, recipeOf(state, false));
  }

  async card() {
    const state = this.state();
    if (!this.hasEdit(state)) return;
    const after = await this.picture.rendered(await this.drawn(state), state.strengths);
    const before = await this.picture.rendered(await this.drawnAt(state.face.z, state.face.picture), {});
    const made = card(before, after, inWords(state.strengths, this.sliders));
    download(await pictureWith(made, recipeOf(state, !state.face.photo, this.how !== "honest")), "before-and-after.png");
  }

  async loop(format) {
    const state = this.state();
    if (!this.hasEdit(state)) return;
    const { face, strengths, locks } = state;
    this.loops.forEach((button) => (button.disabled = true));
    this.say(words.drawing(format));
    try {
      const between = waysThere.slice(1, -1);
      const latents = between.map((share) => this.space.edited(face.z, scaled(strengths, share), locks));
      const answer = await this.server.pictures({ latents, how: this.how });
      if (answer.error) return this.say(answer.error, true);
      const pictures = [await this.drawnAt(face.z, face.picture), ...answer.pictures, await this.drawn(state)];
      const frames = [];
      for (const [i, picture] of pictures.entries()) {
        frames.push(frame(await this.picture.rendered(picture, i ? scaled(strengths, waysThere[i]) : {})));
      }
      const file = await this.server.loop({ frames, format, recipe: recipeOf(state, !face.photo, this.how !== "honest") });
      if (file.error) return this.say(file.error, true);
      const name = `edit.${format}`;
      download(await (await fetch(file.file)).blob(), name);
      this.say(words.saved(name));
    } catch {
      this.say(CONNECTION_LOST, true);
    } finally {
      this.loops.forEach((button) => (button.disabled = false));
    }
  }

  async copyLink() {
    const state = this.state();
    const withFace = this.link.holdsFace(state.face);
    this.link.write(state);
    try {
      await navigator.clipboard.writeText(window.location.href);
      this.say(words.copied(withFace));
    } catch {
      this.say(words.inAddress(withFace));
    }
  }
}
