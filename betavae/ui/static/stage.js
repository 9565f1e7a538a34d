// Shared by the tabs: how a picture gets onto a canvas, and how the newest one wins.

import { connection } from "./connection.js";
import { CONNECTION_LOST } from "./words.js";

// A picture that is read and can be drawn.
export async function loaded(src) {
  const image = Object.assign(new Image(), { src });
  await image.decode();
  return image;
}

// Scaled smoothly from the model's size to the canvas's own; a picture that was overtaken while it was being read is
// not drawn. A face without a background is drawn over `behind`, the photo that it is of, or over mid grey.
export async function paint(canvas, uri, behind = null) {
  canvas.wanted = uri;
  const images = await Promise.all([behind, uri].filter(Boolean).map(loaded));
  if (canvas.wanted !== uri) return false;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#808080";
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (const image of images) context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return true;
}

// At most one request is under way. What is asked for in the meantime replaces what was asked for before, so nothing
// queues up and the last value always wins. `stage` is marked busy until the page shows what was last asked for. A
// request that the connection lost is sent again when the server answers. `rest` is called when there is nothing left to do;
// `pause` may put a request off, and the newest is sent then.
export function latest(stage, send, show, fail, rest = () => {}, pause = () => {}) {
  let wanted = null;
  let lost = null;
  let running = null;
  async function run() {
    stage.setAttribute("aria-busy", "true");
    try {
      while (wanted) {
        await pause();
        if (!wanted) break;
        const request = wanted;
        wanted = lost = null;
        let answer;
        try {
          answer = await send(request);
        } catch {
          lost = request;
          connection.wait(retry);
          fail(CONNECTION_LOST);
          continue;
        }
        connection.done(retry);
        if (answer.error) fail(answer.error);
        else await show(answer, request);
      }
    } finally {
      running = null;
      stage.setAttribute("aria-busy", "false");
    }
    if (!lost) rest();
  }
  function ask(request) {
    wanted = request;
    running ??= run();
  }
  function retry() {
    if (lost && !running) ask(lost);
  }
  return {
    ask,
    // When nothing is under way; whether everything came.
    async settled() {
      await running;
      return !lost;
    },
    forget() {
      wanted = lost = null;
      connection.done(retry);
    },
  };
}

// A line below the stage: what it shows, or what went wrong.
export function speaker(line) {
  return (sentence, wrong = false) => {
    line.textContent = line.title = sentence;
    line.classList.toggle("wrong", Boolean(wrong));
  };
}

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
