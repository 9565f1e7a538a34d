// An edit to show to others: a card with before and after, and frames for a loop from one to the other.

import { card as words } from "./words.js";

const SIDE = 560;     // pixels of each picture on a card
const MARGIN = 20;
const FRAMES = 12;    // of a loop, one way
const LOOP = 384;     // pixels

export const waysThere = Array.from({ length: FRAMES }, (_, i) => (1 - Math.cos((Math.PI * i) / (FRAMES - 1))) / 2);

// before, after: canvases; edit: what was done, in words.
export function card(before, after, edit) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 2 * SIDE + 3 * MARGIN, height: SIDE + 3 * MARGIN + 44 });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  [before, after].forEach((picture, i) => {
    const left = MARGIN + i * (SIDE + MARGIN);
    context.drawImage(picture, left, MARGIN, SIDE, SIDE);
    context.font = "600 17px system-ui, sans-serif";
    const label = [words.before, words.after][i];
    context.fillStyle = "#000a";
    context.fillRect(left + 12, MARGIN + SIDE - 42, context.measureText(label).width + 20, 30);
    context.fillStyle = "#fff";
    context.fillText(label, left + 22, MARGIN + SIDE - 21);
  });
  context.fillStyle = "#1d1d1b";
  context.font = "600 24px system-ui, sans-serif";
  context.fillText(edit, MARGIN, SIDE + 3 * MARGIN + 12, canvas.width - 2 * MARGIN);
  context.fillStyle = "#6b6a64";
  context.font = "15px system-ui, sans-serif";
  context.fillText(words.title, MARGIN, SIDE + 3 * MARGIN + 36);
  return canvas;
}

// A frame of a loop as the server takes it: a JPEG in base64.
export function frame(canvas) {
  const small = Object.assign(document.createElement("canvas"), { width: LOOP, height: LOOP });
  const context = small.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, 0, 0, LOOP, LOOP);
  return small.toDataURL("image/jpeg", 0.95).split(",")[1];
}
