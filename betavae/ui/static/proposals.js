// Edits that the page proposes, as strengths by name.

import { quantile } from "./space.js";

const SURPRISES = 3;  // sliders that a surprise moves
const DRAWS = 6;      // of which a surprise is the largest: towards the end of the data there is little way to go
const NOTHING = 0.01; // of a slider's range: nobody sees it
const NEUTRAL = ["Expression", "Pose"];

const rounded = (strength) => Number(strength.toFixed(4));

// The average face's place on these sliders.
export const averages = (sliders) => Object.fromEntries(sliders.map((slider) => [slider.name, rounded(-slider.own)]));

export const isNeutral = ({ direction, row }) => direction.primary && NEUTRAL.includes(row.closest("details").dataset.group);

// A few sliders moved to where the data is, and not so far that the whole edit leaves it.
export function surprise(space, sliders, face, locks) {
  const draws = Array.from({ length: DRAWS }, () => draw(space, sliders, face, locks));
  const size = (strengths) => Math.hypot(...space.step(strengths, locks));
  return draws.reduce((best, other) => (size(other) > size(best) ? other : best));
}

function draw(space, sliders, face, locks) {
  const free = sliders.filter(({ direction, name }) => direction.primary && !locks.includes(name));
  const strengths = {};
  for (let i = 0; i < SURPRISES && free.length; i++) {
    const [slider] = free.splice(Math.floor(Math.random() * free.length), 1);
    strengths[slider.name] = quantile(5 + 90 * Math.random(), slider.direction.quantiles) - slider.own;
  }
  const limit = Math.max(space.radius, space.distance(face.z));
  const scaled = (share) => Object.fromEntries(Object.entries(strengths).map(([name, s]) => [name, rounded(share * s)]));
  let share = 1;
  while (space.distance(space.edited(face.z, scaled(share), locks)) > limit) share *= 0.9;
  return scaled(share);
}

// Targets are percentiles: from 50 up at least, below it at most; a slider that is there already stays, and so does a locked one.
export function preset(targets, sliders) {
  const strengths = {};
  for (const [name, percent] of Object.entries(targets)) {
    const slider = sliders.get(name);
    if (slider.locked) continue;
    const way = quantile(percent, slider.direction.quantiles) - slider.score;
    const { low, high } = slider.direction;
    if (percent >= 50 === way > 0 && Math.abs(way) > NOTHING * (high - low)) strengths[name] = rounded(slider.strength + way);
  }
  return strengths;
}
