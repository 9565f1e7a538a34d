import assert from "node:assert/strict";
import test from "node:test";

import { readAddress, recipeOf, writeAddress } from "../../betavae/ui/static/recipe.js";

const edit = { model: "abc", face: { z: [1, 2], seed: null }, strengths: { Smiling: 1 }, locks: [] };

test("a photo's face is in the recipe only if that is asked for, a generated one by its seed", () => {
  assert.deepEqual(recipeOf(edit, false), { model: "abc", strengths: { Smiling: 1 } });
  assert.deepEqual(recipeOf(edit, true).latent, [1, 2]);
  const generated = { ...edit, face: { z: [1, 2], seed: { seed: 7, temperature: 0.8 } }, locks: ["Male"] };
  assert.deepEqual(recipeOf(generated, true), { model: "abc", strengths: { Smiling: 1 }, locks: ["Male"], seed: 7, temperature: 0.8 });
});

test("the address gives back what was written, whatever letters a name has", () => {
  const location = { pathname: "/", search: "?__theme=dark", hash: "" };
  const replaceState = (_, __, address) => (location.hash = address.slice(address.indexOf("#") >>> 0));
  globalThis.window = { location, history: { state: null, replaceState } };
  const recipe = { model: "abc", strengths: { "Größe 50 % #1": -0.5 } };
  writeAddress(recipe);
  assert.deepEqual(JSON.parse(readAddress()), recipe);
  writeAddress(null);
  assert.equal(readAddress(), null);
  location.hash = "#recipe=%E0%A4%A";
  assert.equal(readAddress(), "#recipe=%E0%A4%A", "for the server to say what is wrong with it");
});
