// The latent space as the page knows it, so that an edit needs nobody but a decoder. The arithmetic is that of
// betavae/directions.py, which says where it comes from; a test holds the two together.

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
export const plus = (a, b, scale = 1) => a.map((value, i) => value + scale * b[i]);

export class Space {
  // precision: the inverse of the latents' covariance, null where there are too many of them for a page; radius: within it
  // lie 99 % of the training faces.
  constructor({ mean, precision, radius }) {
    Object.assign(this, { mean, precision, radius, directions: new Map() });
  }

  // Its weights are the inverse covariance times its vector.
  add(direction) {
    this.directions.set(direction.name, { ...direction, own: dot(direction.weights, direction.vector) });
  }

  get(name) {
    return this.directions.get(name);
  }

  // Change of the score of `name` by a step: what the step does, in strengths of it.
  reading(name, step) {
    const { weights, own } = this.get(name);
    return dot(weights, step) / own;
  }

  score(name, z) {
    return this.reading(name, plus(z, this.mean, -1));
  }

  distance(z) {
    if (!this.precision) return 0;
    const centred = plus(z, this.mean, -1);
    return Math.sqrt(dot(centred, this.precision.map((row) => dot(row, centred))));
  }

  // The sum of strength * direction, less what moves the locked ones.
  step(strengths, locks = []) {
    let step = this.mean.map(() => 0);
    for (const [name, strength] of Object.entries(strengths)) step = plus(step, this.get(name).vector, strength);
    const held = locks.map((name) => this.get(name));
    const inner = held.map((a) => held.map((b) => dot(a.weights, b.vector)));
    const excess = held.map(({ name, own }) => own * (this.reading(name, step) - (strengths[name] ?? 0)));
    solve(inner, excess).forEach((share, i) => {
      step = plus(step, held[i].vector, -share);
    });
    return step;
  }

  // With five decimals, which no picture can tell from more.
  edited(z, strengths, locks) {
    return plus(z, this.step(strengths, locks)).map((value) => Number(value.toFixed(5)));
  }

  // name -> the share of its effect that the locks leave.
  remaining(strengths, locks) {
    const free = this.step(strengths);
    const held = this.step(strengths, locks);
    return Object.fromEntries(Object.keys(strengths).map((name) => {
      const effect = this.reading(name, free);
      return [name, Math.abs(effect) > 1e-6 ? this.reading(name, held) / effect : 0];
    }));
  }
}

// x with A x = b for a symmetric, positive semidefinite A, by Cholesky's decomposition. What is a combination of what
// came before it (two locked directions may be one and the same) adds nothing and gets 0.
export function solve(matrix, right) {
  const lower = matrix.map(() => []);
  const y = [];
  matrix.forEach((row, i) => {
    for (let j = 0; j <= i; j++) {
      const rest = row[j] - dot(lower[i].slice(0, j), lower[j].slice(0, j));
      if (i === j) lower[i][i] = rest > 1e-9 * row[i] ? Math.sqrt(rest) : Infinity;
      else lower[i][j] = rest / lower[j][j];
    }
    y[i] = (right[i] - dot(lower[i].slice(0, i), y)) / lower[i][i];
  });
  const x = [];
  for (let i = matrix.length - 1; i >= 0; i--) {
    let rest = y[i];
    for (let k = i + 1; k < matrix.length; k++) rest -= lower[k][i] * x[k];
    x[i] = rest / lower[i][i];
  }
  return x;
}

// Share of the training faces below a score, in percent; quantiles are evenly spaced.
export function percentile(score, quantiles) {
  const above = quantiles.findIndex((q) => q >= score);
  if (above <= 0) return above ? 100 : 0;
  const [low, high] = [quantiles[above - 1], quantiles[above]];
  return (100 * (above - 1 + (score - low) / (high - low))) / (quantiles.length - 1);
}

// The score below which that share of the training faces lies.
export function quantile(percent, quantiles) {
  const position = (percent / 100) * (quantiles.length - 1);
  const below = Math.min(Math.floor(position), quantiles.length - 2);
  return quantiles[below] + (position - below) * (quantiles[below + 1] - quantiles[below]);
}
