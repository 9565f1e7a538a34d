import assert from "node:assert/strict";
import test from "node:test";

import { History } from "../../betavae/ui/static/history.js";

const tree = () => {
  const history = new History();
  const told = [];
  history.watch({ added: ({ caption }) => told.push(`+${caption}`), visited: ({ caption }) => told.push(caption) });
  return { history, told };
};

test("going back and editing again starts a branch, and redo follows the branch that was left last", () => {
  const { history } = tree();
  const root = history.commit(0, "face");
  const smile = history.commit(1, "smile");
  history.visit(root);
  const turn = history.commit(2, "turn");
  assert.deepEqual([root.lane, smile.lane, turn.lane], [0, 0, 1]);
  assert.equal(turn.depth, 1);
  assert.equal(history.back, root);
  history.visit(root);
  assert.equal(history.forth, turn);
  history.visit(smile);
  history.visit(root);
  assert.equal(history.forth, smile);
});

test("what a slider does in a row by key is one step, unless something came between", () => {
  const { history } = tree();
  history.commit(0, "face");
  const first = history.commit(1, "smile 1", { by: "Smiling" });
  assert.equal(history.commit(2, "smile 2", { by: "Smiling" }), first);
  assert.equal(first.state, 2);
  assert.equal(first.picture, null);
  history.commit(3, "turn", { by: "yaw" });
  assert.notEqual(history.commit(4, "smile 3", { by: "Smiling" }), first);
  assert.equal(history.nodes.length, 4);
});

test("watchers hear of a step before it is visited", () => {
  const { history, told } = tree();
  history.commit(0, "face");
  assert.deepEqual(told, ["+face", "face"]);
});

test("a tree comes back as it was from its JSON", () => {
  const { history } = tree();
  const root = history.commit({ n: 0 }, "face");
  history.commit({ n: 1 }, "smile", { by: "Smiling" });
  history.visit(root);
  history.commit({ n: 2 }, "turn");
  history.visit(history.nodes[1]);
  const copy = new History();
  copy.restore(JSON.parse(JSON.stringify(history)));
  assert.deepEqual(JSON.parse(JSON.stringify(copy)), JSON.parse(JSON.stringify(history)));
  assert.equal(copy.current, copy.nodes[1]);
  assert.equal(copy.lanes, history.lanes);
  assert.equal(copy.nodes[1].by, "Smiling");
  copy.visit(copy.nodes[0]);
  assert.equal(copy.forth, copy.nodes[1]);
});
