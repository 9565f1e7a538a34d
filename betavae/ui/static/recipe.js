// The edit as JSON (betavae/recipe.py): in the address bar, and as a text chunk inside a PNG.

const KEYWORD = "betavae.recipe";
const PREFIX = "#recipe=";

// The face is its seed, or its latent, or left out; `sharp`: its picture is the second decoder's.
export function recipeOf({ model, face, strengths, locks }, withFace, sharp = false) {
  const recipe = { model, strengths };
  if (locks.length) recipe.locks = locks;
  if (sharp) recipe.sharp = true;
  if (face.seed) return { ...recipe, ...face.seed };
  return withFace ? { ...recipe, latent: face.z } : recipe;
}

export function writeAddress(recipe) {
  const { pathname, search } = window.location;
  const hash = recipe ? PREFIX + encodeURIComponent(JSON.stringify(recipe)) : "";
  window.history.replaceState(window.history.state, "", pathname + search + hash);
}

// The text of the recipe in the address bar, or null.
export function readAddress() {
  const { hash } = window.location;
  try {
    return hash.startsWith(PREFIX) ? decodeURIComponent(hash.slice(PREFIX.length)) : null;
  } catch {
    return hash;  // not even percent-encoded text: the server says what is wrong with it
  }
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

// The canvas as a PNG with the recipe in a tEXt chunk (PNG specification, 11.3.4.3) behind the header.
export async function pictureWith(canvas, recipe) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const json = JSON.stringify(recipe).replace(/[^ -~]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  const body = new TextEncoder().encode(`tEXt${KEYWORD}\0${json}`);
  const chunk = new DataView(new ArrayBuffer(body.length + 8));
  new Uint8Array(chunk.buffer).set(body, 4);
  chunk.setUint32(0, body.length - 4);
  chunk.setUint32(body.length + 4, ~body.reduce((crc, byte) => CRC[(crc ^ byte) & 255] ^ (crc >>> 8), -1));
  const header = 8 + 25;  // signature and IHDR
  return new Blob([blob.slice(0, header), chunk, blob.slice(header)], { type: "image/png" });
}
