// Shared by the tabs: how a picture gets onto a canvas, and how the newest one wins.

export const CONNECTION_LOST = "The connection was lost.";

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
// request that the connection lost is sent again by `retry`, or when the browser is back online. `rest` is called when
// there is nothing left to do.
export function latest(stage, send, show, fail, rest = () => {}) {
  let wanted = null;
  let lost = null;
  let running = false;
  async function run() {
    running = true;
    stage.setAttribute("aria-busy", "true");
    while (wanted) {
      const request = wanted;
      wanted = null;
      try {
        const answer = await send(request);
        if (answer.error) fail(answer.error);
        else await show(answer, request);
      } catch {
        lost = request;
        fail(CONNECTION_LOST, retry);
      }
    }
    running = false;
    stage.setAttribute("aria-busy", "false");
    if (!lost) rest();
  }
  function ask(request) {
    wanted = request;
    lost = null;
    if (!running) run();
  }
  function retry() {
    if (lost) ask(lost);
  }
  window.addEventListener("online", retry);
  return {
    ask,
    retry,
    forget() {
      wanted = lost = null;
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

export function save(canvas, name) {
  canvas.toBlob((blob) => download(blob, name), "image/png");
}
