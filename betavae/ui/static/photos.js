// The visitor's photos: their files, which stay in this browser, how each is framed, and the edited file that comes back.

import { connection } from "./connection.js";
import { Framing } from "./framing.js";
import { session } from "./session.js";
import { download } from "./stage.js";
import { CONNECTION_LOST, photos as words } from "./words.js";

export const base64 = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(blob);
});

const refuse = (sentence) => document.dispatchEvent(new CustomEvent("photo-refused", { detail: sentence }));

export class Photos {
  // element: the tab; server: has open and save as photos.py has them; opened(face): puts a face on the stage, and says when it is
  // there; say(sentence, wrong).
  constructor(element, { server, opened, say }) {
    Object.assign(this, { stage: element.querySelector(".stage"), server, opened, say });
    this.files = new WeakMap();  // by what the server says of a photo
    this.taken = null;           // what is being opened or framed: { file, name }
    this.framing = new Framing(element.querySelector(".framing"), {
      choose: (index) => this.open({ face: index }),
      eyes: (eyes) => this.open({ eyes }),
    });
    document.addEventListener("photo-taken", ({ detail }) => this.take(detail));
    this.actions = {
      "frame-eyes": () => this.framing.done(),
      "frame-close": () => this.framing.close(),
    };
  }

  // The visitor's own file of a photo, if this browser has it.
  own(photo) {
    return this.files.get(photo);
  }

  // Its file, or the copy that the server sent.
  async file(photo) {
    return this.own(photo) ?? (await fetch(photo.picture)).blob();
  }

  take(taken) {
    this.taken = taken;
    return this.open();
  }

  // Open the file that was taken; how to frame it, if it is said.
  async open(how = {}) {
    const mine = this.taken;
    this.say(words.looking);
    this.stage.setAttribute("aria-busy", "true");
    try {
      const answer = await this.server.open({ name: mine.name, data: await base64(mine.file), ...how });
      if (mine !== this.taken) return;
      const { face, error, photo, warning } = answer;
      if (face) {
        if (face.photo) {
          this.files.set(face.photo, mine.file);
          session.keep(`photo ${face.id}`, mine.file);
        }
        this.framing.close();
        await this.opened(face);
        if (warning) refuse(warning);
        return;
      }
      this.say(error, true);
      refuse(error);
      if (photo) this.framing.open(photo);
    } catch {
      if (mine !== this.taken) return;
      this.say(CONNECTION_LOST, true);
      connection.once(() => mine === this.taken && this.open(how));
    } finally {
      this.stage.setAttribute("aria-busy", "false");
    }
  }

  // Let the visitor say where the face is.
  async frame(photo) {
    this.taken = { file: await this.file(photo), name: photo.name };
    this.framing.open(photo);
  }

  // The file of a face that an earlier page had.
  async recall({ id, photo }) {
    const file = photo && !this.files.has(photo) && await session.recall(`photo ${id}`);
    if (file) this.files.set(photo, file);
  }

  forget() {
    this.taken = null;
    this.framing.close();
  }

  // The photo with an edit put back, at its own size, from the server: the file is read whole there, and not kept. edit: before,
  // after, displacement and touch as photos.py has them; recipe: what the file is to hold.
  async save(photo, edit, recipe) {
    this.say(words.saving);
    const answer = await this.server.save({ name: photo.name, data: await base64(await this.file(photo)), square: photo.square, ...edit,
      recipe: JSON.stringify(recipe) }).catch(() => ({ error: CONNECTION_LOST }));
    if (answer.error) return this.say(answer.error, true);
    const bytes = Uint8Array.from(atob(answer.data), (letter) => letter.charCodeAt(0));
    download(new Blob([bytes], { type: `image/${answer.type}` }), answer.name);
    this.say(words.saved(answer.name, photo.size));
  }
}
