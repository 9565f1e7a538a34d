// The latent space of the page against betavae/directions.py: tests/test_modules.py writes the vectors that VECTORS names.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { Space, percentile, quantile, solve } from "../../betavae/ui/static/space.js";

const vectors = JSON.parse(readFileSync(process.env.VECTORS));
const space = new Space(vectors.space);
vectors.directions.forEach((direction) => space.add(direction));

const close = (actual, expected, tolerance) => {
  assert.equal(actual.length, expected.length);
  actual.forEach((value, i) => assert.ok(Math.abs(value - expected[i]) <= tolerance, `${i}: ${value} is not ${expected[i]}`));
};

test("scores and distance of a face", () => {
  for (const { z, scores, distance } of vectors.faces) {
    close(Object.keys(scores).map((name) => space.score(name, z)), Object.values(scores), 1e-3);
    close([space.distance(z)], [distance], 1e-3);
  }
});

test("an edit, free and under locks", () => {
  for (const { z, strengths, locks, edited } of vectors.edits) close(space.edited(z, strengths, locks), edited, 1e-3);
});

test("what the locks leave of an effect", () => {
  for (const { strengths, locks, remaining } of vectors.edits) {
    const left = space.remaining(strengths, locks);
    close(Object.keys(remaining).map((name) => left[name]), Object.values(remaining), 1e-3);
  }
});

test("percentiles and quantiles are each other's inverse within the data, and stop at its ends", () => {
  const { quantiles } = vectors.directions[0];
  for (const percent of [0, 1, 12.5, 50, 99, 100]) close([percentile(quantile(percent, quantiles), quantiles)], [percent], 1e-6);
  assert.equal(percentile(quantiles[0] - 9, quantiles), 0);
  assert.equal(percentile(quantiles.at(-1) + 9, quantiles), 100);
});

test("a singular system is solved by the rows that are there", () => {
  close(solve([[4, 4], [4, 4]], [2, 2]), [0.5, 0], 1e-9);
});
