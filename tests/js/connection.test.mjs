import assert from "node:assert/strict";
import test from "node:test";

import { Connection, reaching } from "../../betavae/ui/static/connection.js";

// A connection whose clock is turned by hand, and whose server answers or not.
const hand = () => {
  const clock = [];
  const server = { answers: false };
  const connection = new Connection(async () => server.answers, (call, ms) => clock.push({ call, ms }));
  return { connection, server, clock, turn: () => clock.shift().call() };
};

test("what was lost is sent again when the server answers, and not before", async () => {
  const { connection, server, clock, turn } = hand();
  const told = [];
  let sent = 0;
  const send = () => {
    sent += 1;
    connection.done(send);
  };
  connection.watch((lost) => told.push(lost));
  connection.wait(send);
  await turn();
  await turn();
  assert.deepEqual([sent, clock.length], [0, 1]);
  server.answers = true;
  await turn();
  assert.deepEqual([sent, clock.length], [1, 0]);
  assert.deepEqual(told, [true, false]);
});

test("a server that answers and fails is asked ever more slowly, until an answer comes through", async () => {
  const { connection, server, clock, turn } = hand();
  server.answers = true;
  const send = () => connection.once(send);
  send();
  const waits = [];
  for (let i = 0; i < 6; i++) {
    waits.push(clock[0].ms);
    assert.equal(clock.length, 1, "one try at a time");
    await turn();
  }
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 4000, 4000]);
  connection.reached();
  await turn();
  assert.equal(clock[0].ms, 500);
});

test("several that were lost are all sent again, and one that fails does not hide the others", async () => {
  const { connection, server, turn } = hand();
  const sent = [];
  const stage = () => sent.push("stage") && connection.done(stage);
  const effects = () => sent.push("effects");
  connection.wait(stage);
  connection.wait(effects);
  server.answers = true;
  await turn();
  assert.deepEqual(sent, ["stage", "effects"]);
  assert.equal(connection.lost.size, 1);
  connection.retry();
  assert.deepEqual(sent, ["stage", "effects", "effects"]);
});

test("a server function that gives nothing throws, and one that answers does not", async () => {
  const server = reaching({ decode: async (request) => request.answer });
  await assert.rejects(server.decode({}));
  assert.deepEqual(await server.decode({ answer: { picture: 1 } }), { picture: 1 });
});
