import assert from "node:assert/strict";
import test from "node:test";

import { State } from "../../betavae/ui/static/state.js";

test("whoever watches a key hears every value of it and of no other", () => {
  const state = new State();
  const heard = [];
  state.on("edited", (z) => heard.push(z));
  state.set("edited", [1]);
  state.set("path", { faces: [] });
  state.set("edited", [2]);
  assert.deepEqual(heard, [[1], [2]]);
  assert.deepEqual(state.edited, [2]);
});

test("a direction joins once, under a name that neither the model nor the visitor has", () => {
  const state = new State();
  state.known = new Set(["Smiling"]);
  const heard = [];
  state.on("direction", ({ name }) => heard.push(name));
  assert.equal(state.addDirection({ name: "Smiling" }), false);
  assert.equal(state.addDirection({ name: "Mine" }), true);
  assert.equal(state.addDirection({ name: "Mine" }), false);
  assert.deepEqual(heard, ["Mine"]);
  assert.deepEqual([...state.own.keys()], ["Mine"]);
});
