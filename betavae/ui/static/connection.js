// Whether the server can be reached: what the connection lost is sent again as soon as it answers.

import { CONNECTION_LOST } from "./words.js";

const WAITS = [500, 1000, 2000, 4000];  // milliseconds before the next try, the last of them from then on

export class Connection {
  // answers(): whether the server answers at all; later(call, ms) as setTimeout.
  constructor(answers, later = (call, ms) => setTimeout(call, ms)) {
    Object.assign(this, { answers, later, lost: new Set(), tries: 0, trying: false, watchers: [] });
  }

  // tell(lost) hears whether anything is lost, whenever that changes.
  watch(tell) {
    this.watchers.push(tell);
  }

  tell() {
    for (const tell of this.watchers) tell(this.lost.size > 0);
  }

  // `send` sends again what was lost. It is called until it says by `done` that it came through.
  wait(send) {
    this.lost.add(send);
    this.tell();
    if (!this.trying) this.tryLater();
  }

  // The same for what is sent from anew each time: `send` calls `once` again if it fails.
  once(send) {
    const again = () => {
      this.done(again);
      send();
    };
    this.wait(again);
  }

  done(send) {
    if (this.lost.delete(send)) this.tell();
  }

  // An answer came.
  reached() {
    this.tries = 0;
  }

  retry() {
    for (const send of [...this.lost]) send();
  }

  tryLater() {
    this.trying = true;
    this.later(async () => {
      const back = this.lost.size > 0 && await this.answers();
      this.trying = false;
      if (back) this.retry();
      if (this.lost.size && !this.trying) this.tryLater();
    }, WAITS[Math.min(this.tries++, WAITS.length - 1)]);
  }
}

// Any answer is one, even that this module is no longer there.
export const connection = new Connection(() => fetch(import.meta.url, { method: "HEAD", cache: "no-store" }).then(() => true, () => false));
globalThis.window?.addEventListener?.("online", () => connection.retry());

// Server functions that throw where no answer came: Gradio's client gives undefined then.
export function reaching(server) {
  return new Proxy({}, {
    get: (_, name) => async (request) => {
      const answer = await server[name](request);
      if (answer === undefined || answer === null) throw new Error(CONNECTION_LOST);
      connection.reached();
      return answer;
    },
  });
}
