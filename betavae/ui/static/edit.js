// The Edit tab: one face and its edit. The page holds both; the server is asked for pictures of latents and remembers nothing.
// Data flows one way: what a visitor does changes the panel's sliders (move, load, go), the sliders are the state (current), and
// everything else shows the state (update while it changes, settle once it has).

import { Comparison } from "./comparison.js";
import { connection } from "./connection.js";
import { Detail } from "./detail.js";
import { SideEffects } from "./effects.js";
import { Filmstrip } from "./filmstrip.js";
import { History } from "./history.js";
import { Latents, keyOf } from "./latents.js";
import { Link } from "./link.js";
import { openingMove } from "./opening.js";
import { Panel } from "./panel.js";
import { Photos } from "./photos.js";
import { Picture } from "./picture.js";
import { Previews } from "./previews.js";
import { averages, isNeutral, surprise } from "./proposals.js";
import { Question } from "./question.js";
import { session } from "./session.js";
import { Sharing } from "./sharing.js";
import { Space } from "./space.js";
import { Spectrum } from "./spectrum.js";
import { latest, speaker } from "./stage.js";
import { state as shared } from "./state.js";
import { Viewport } from "./viewport.js";
import { Wear } from "./wear.js";
import { CONNECTION_LOST, edit as words } from "./words.js";

export default function mount({ element, props, server, watch }) {
const find = (selector) => element.querySelector(selector);
const stage = find(".stage");
const say = speaker(find(".status"));
const trouble = (sentence) => say(sentence, true);
const opening = props.value;

let face = null;
let locks = [];
let era = 0;             // counts the jumps: an answer from before one is not drawn
let started = false;     // from then on the session is kept
let warned = false;

const current = () => ({ model: props.space.model, face, strengths: panel.strengths, locks });

// The one way to a picture: latent in, {picture} or {error} out. A decoder in the browser fits here.
// An edited face is laid on its photo by the outline that it had before, as the library does it.
const decoder = {
  decode: (z, how = "honest") => server.decode({ z, ...(props.mask && { unedited: face.z }), ...(how !== "honest" && { how }) }),
  pictures: ({ latents, of = latents.map(() => face), how = "honest" }) =>
    server.pictures({ latents, how, ...(props.mask && { unedited: of.map(({ z }) => z) }) }),
  loop: (request) => server.loop(request),
};

const space = new Space(props.space);
const panel = new Panel(element, { space, groups: props.groups, changed: update, released: release, refused: trouble });
const { sliders } = panel;
const latents = new Latents({ space, server: props.effects ? server : null, known: new Set(sliders.keys()) });
const history = new History();
const detail = new Detail(find(".detail"), decoder.decode);
const link = new Link(opening, find(".with-face input"), () => !detail.honest);
const question = new Question(find(".asks"), () => {
  link.done();
  link.write(current());
});

const live = latest(
  stage,
  ({ z, state, how }) => (state ? latents.hold(state) : how ? detail.of(z, how) : z === face.z ? face : decoder.decode(z)),
  async (answer, request) => {
    if (request.era !== era) return;
    const z = request.state ? answer.z : request.z;
    if (request.state) measure();
    const { how, strengths = request.state?.strengths } = request;
    await picture.show({ z, picture: answer.picture, drawn: answer.drawn, how }, strengths);
    develop();
    if (request.state) refine();
    say(face.caption);
  },
  trouble,
  async () => {
    // Steps that were overtaken before their picture came.
    const missing = history.nodes.filter((node) => !node.picture);
    if (!missing.length) return keep();
    for (const { state } of missing) if (latents.rough(state)) await latents.hold(state);
    const { pictures } = await decoder.pictures({ latents: missing.map(({ state }) => latents.of(state)), of: missing.map(({ state }) => state.face) });
    pictures?.forEach((uri, i) => history.develop(missing[i], uri));
    keep();
  },
);

const zoom = find("[data-do=zoom]");
let magnified = 1;
const viewport = new Viewport(find(".viewport"), {
  zoomed(times) {
    zoom.textContent = words.times(times);
    zoom.setAttribute("aria-label", words.zoom(times));
    if (times !== magnified && face?.photo) redisplay();
    magnified = times;
  },
});
const photos = new Photos(element, { server, opened, say });
const picture = new Picture(element, { server, space, state: current, file: (photo) => photos.own(photo), zoom: () => viewport.zoom,
  masked: props.mask, detail, restage: redisplay, fail: trouble });
const filmstrip = new Filmstrip(find(".steps"), history, { go, pin: (node) => node.picture && comparison.with(node) });
const comparison = new Comparison(element, { state: current, viewport, pinned: (step) => filmstrip.pinned(step),
  latent: (state) => latents.of(state), show: (...what) => picture.showBefore(...what) });
const spectrum = new Spectrum(find(".spectrum"), { server: decoder, space, state: current, choose: (strengths, caption) => {
  move(strengths);
  release(caption);
}, fail: trouble });
for (const slider of sliders.values()) if (slider.direction.listed !== false) spectrum.add(slider);
const previews = new Previews({ presets: find(".presets"), targets: props.presets.map(({ targets }) => targets), ends: find(".ends"),
  server: decoder, space, sliders, state: current });
const effects = new SideEffects(find(".effects"), {
  server: props.effects ? server : null,
  isLocked: (name) => (sliders.has(name) ? locks.includes(name) : null),
  fail: trouble,
});
const sharing = new Sharing(element, { server: decoder, space, state: current, sliders, latents, picture, photos, detail, link,
  settled: () => live.settled(), say });

const wear = props.count ? new Wear(find(".wear"), { server, state: current, known: latents.known, release, move: (strengths) => {
  panel.move(strengths);
  update();
} }) : null;

// ---- while an edit changes ----

// These strengths, and 0 for those that are not named if `rest` is given; one request for all of them.
function move(strengths, rest = false) {
  era += 1;
  panel.move(strengths, rest);
  update();
}

function update() {
  const z = reflect();
  picture.move();
  live.ask({ z, era, strengths: panel.strengths });
}

// What the page can say of an edit by itself; its latent.
function reflect() {
  const state = current();
  const z = latents.of(state);
  shared.set("edited", z);
  panel.keep(latents.remaining(state));
  find(".outside").hidden = !(space.distance(z) > space.radius);
  find(".outside").textContent = z === face.z ? words.unlike : words.beyond;
  return z;
}

// ---- once it has changed ----

// A change is complete: it becomes a step, a link, and a question what else it changed.
function release(caption, by = null) {
  link.done();
  question.drop();
  const { current: step, back } = history;
  // A double click on a slider at rest moves it and puts it back.
  if (by && step.by === by && step === history.nodes.at(-1) && back && keyOf(back.state) === keyOf(current())) history.retract();
  else history.commit(current(), caption, { by });
  develop();
  settle();
}

function settle() {
  const state = current();
  picture.rest();
  link.write(state);
  keep();
  find("[data-do=undo]").disabled = !history.back;
  find("[data-do=redo]").disabled = !history.forth;
  if (latents.rough(state)) return live.ask({ state, era });
  refine();
  measure();
}

// The picture as the switch has it comes when the edit rests.
function refine() {
  const state = current();
  const z = latents.of(state);
  if (!detail.honest && !picture.onPhoto && !picture.complete(z)) live.ask({ z, era, strengths: state.strengths, how: detail.how });
}

// What the edit did besides, and where else it could go.
function measure() {
  reflect();
  const state = current();
  effects.ask(face.z, latents.of(state), Object.keys(state.strengths));
  spectrum.draw();
  previews.draw();
}

// Steps whose picture is the one on the stage.
function develop() {
  const node = history.current;
  if (!node || node.picture || latents.rough(node.state)) return;
  const uri = picture.drawn(latents.of(node.state));
  if (uri) history.develop(node, uri);
}

// What the next page is to find again.
function keep() {
  if (started) {
    session.keep("edit", { history: history.toJSON(), own: [...shared.own.values()], view: picture.view, how: detail.how, address: window.location.hash });
  }
  if (session.broken && !warned) say(words.notKept, true);
  warned = session.broken;
}

// ---- another face, or another state of it ----

// A new face, perhaps with an edit of it; the steps so far stay in the filmstrip.
function load(message) {
  if (!link.waits) question.drop();
  if (message.sharp) detail.choose("sharp");
  arrange({ face: message, strengths: message.strengths ?? {}, locks: message.locks ?? [] });
  const state = current();
  const edited = Object.keys(state.strengths).length > 0;
  display(history.commit(state, face.caption, { picture: edited ? null : face.picture }));
  settle();
}

// Put a state on the sliders.
function arrange(state) {
  era += 1;
  live.forget();
  if (state.face !== face) {
    face = state.face;
    panel.place(face);
    find(".photo").disabled = !face.original;
    find(".with-face").hidden = Boolean(face.seed);  // a link carries a seed in any case
    picture.enter();
    picture.stage().then(() => comparison.with("start"));
  }
  panel.set(state.strengths);
  setLocks(state.locks);
  say(face.caption);
}

// The picture of the step that has just been arranged: no decode where it is known.
async function display({ picture: uri }) {
  if (!uri) return update();
  const shown = { z: reflect(), picture: uri };
  await Promise.all([picture.stage(), picture.show(shown, panel.strengths)]);
  await live.settled();
  stage.setAttribute("aria-busy", "false");
}

async function redisplay() {
  stage.setAttribute("aria-busy", "true");
  await picture.stage();
  await comparison.again();
  await picture.again();
  refine();
  await live.settled();
  stage.setAttribute("aria-busy", "false");
}

function go(node) {
  history.visit(node);
  arrange(node.state);
  display(node);
  settle();
}

function setLocks(names) {
  locks = names;
  panel.lock(names);
}

function toggleLock(name) {
  const locked = !locks.includes(name);
  setLocks(locked ? [...locks, name] : locks.filter((other) => other !== name));
  era += 1;
  update();
  release(words.lock(space.get(name).label, locked));
}

// ---- photos ----

// A photo was opened; the edit that is here may be meant for it too.
async function opened(message) {
  const { strengths, locks: names } = current();
  const { caption } = face;
  load(message);
  if (!link.waits && Object.keys(strengths).length && !message.strengths) {
    question.ask(words.stays(caption), words.useHere, () => load({ ...message, strengths, locks: names }));
  }
  await picture.stage();
}

document.addEventListener("photo-forgotten", async () => {
  photos.forget();
  wear?.forget();
  history.clear();
  load(opening);
  await session.forget();
  keep();
});

// ---- what a visitor does ----

const zeros = (which) => Object.fromEntries(which.map((slider) => [slider.name, 0]));

// Moved as a whole, if it is not locked.
function put(slider, strengths, caption, by = null) {
  if (slider.locked) return trouble(slider.held);
  move(strengths);
  release(caption, by);
}

function reset(slider, by = null) {
  put(slider, zeros([slider]), words.reset(slider.direction.label), by);
}

const actions = {
  ...panel.actions,
  ...photos.actions,
  ...question.actions,
  ...sharing.actions,
  ...wear?.actions,
  reset: (button) => reset(panel.of(button)),
  average(button) {
    const slider = panel.of(button);
    put(slider, averages([slider]), words.average(slider.direction.label));
  },
  lock: (button) => toggleLock(panel.of(button).name),
  "lock-effect": (button) => toggleLock(button.dataset.effect),
  "reset-group"(button) {
    const group = button.closest("details");
    move(zeros(panel.within(group)));
    release(words.reset(group.dataset.group));
  },
  "reset-all"() {
    if (locks.length) setLocks([]);
    move({}, true);
    release(words.resetAll);
  },
  neutral() {
    move(averages(panel.all.filter(isNeutral)));
    release(words.neutral);
  },
  surprise() {
    move(surprise(space, panel.all, face, locks), true);
    release(words.surprise);
  },
  preset(button) {
    const { name } = props.presets[button.dataset.index];
    const moves = previews.moves(button.dataset.index);
    if (!Object.keys(moves).length) return say(words.nothingLeft(name));
    move(moves);
    release(name);
  },
  undo: () => history.back && go(history.back),
  redo: () => history.forth && go(history.forth),
  zoom: () => viewport.nextZoom(),
  whole(button) {
    picture.whole = !picture.whole;
    button.setAttribute("aria-pressed", picture.whole);
    redisplay();
  },
  frame: () => photos.frame(face.photo),
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { do: action, jump, against, view, how, scale } = button.dataset;
  if (action in actions) {
    event.preventDefault();  // a button in a <summary> would close its group
    actions[action](button);
  } else if (jump) {
    panel.jump(jump);
  } else if (against && against !== "step") {
    comparison.with(against);
  } else if (view) {
    picture.choose(view);
    keep();
    redisplay();
  } else if (how) {
    detail.choose(how);
    link.write(current());
    keep();
    redisplay();
  } else if (scale) {
    panel.scale(scale);
  }
});

// Its first click has moved the slider: both are one step.
element.addEventListener("dblclick", ({ target }) => {
  if (!target.dataset.name) return;
  const slider = panel.of(target);
  reset(slider, slider.move);
});

element.addEventListener("focusin", ({ target }) => previews.focus(target.dataset.name ? sliders.get(target.dataset.name) : null));
element.addEventListener("focusout", () => previews.focus(null));

const isText = ({ type, tagName, isContentEditable }) =>
  isContentEditable || tagName === "TEXTAREA" || (tagName === "INPUT" && type !== "range" && type !== "checkbox");

document.addEventListener("keydown", (event) => {
  const { target } = event;
  if (!element.offsetParent || isText(target)) return;
  const key = event.key.toLowerCase();
  const command = event.ctrlKey || event.metaKey;
  const action = command && ((key === "z" && (event.shiftKey ? "redo" : "undo")) || (key === "y" && "redo"));
  if (action) {
    event.preventDefault();
    actions[action]();
  } else if (key === " " && (target.matches(".hold") || !target.closest("button, summary, a, select, label"))) {
    event.preventDefault();
    viewport.hold(true);
  }
});

find(".with-face input").addEventListener("change", () => {
  link.write(current());
  keep();
});

connection.watch((lost) => {
  if (!lost && !find(".offline").hidden) say(face.caption);
  find(".offline").hidden = !lost;
});
find(".offline button").addEventListener("click", () => connection.retry());

// ---- the first face ----

// A link restores its edit, on its own face; one without a face asks whether the edit is for the face that is here. The server
// checks it.
async function resume() {
  const recipe = link.read();
  if (recipe === null) return;
  const answer = await server.resume({ recipe }).catch(() => ({ error: CONNECTION_LOST }));
  if (answer.error) {
    trouble(answer.error);
    if (answer.error === CONNECTION_LOST) connection.once(resume);
    return;
  }
  const apply = () => {
    link.done();
    load({ ...face, caption: words.linked(face.caption), ...answer });
  };
  if (answer.z) apply();
  else question.ask(words.faceless, words.useOnThis, apply);
}
window.addEventListener("hashchange", resume);

// What was here before the page was left.
async function restore({ history: tree, own, view, how, address }) {
  for (const direction of own) shared.addDirection(direction);
  for (const { state } of tree.steps) await photos.recall(state.face);
  history.restore(tree);
  picture.choose(view);
  detail.choose(how);
  if (window.location.hash === address) link.done();
  arrange(history.current.state);
  display(history.current);
}

// That, or the opening face; and then what a link brings.
async function start() {
  await session.open(props.space.model, !link.waits);
  await wear?.recall();
  const kept = await session.recall("edit");
  try {
    if (kept) await restore(kept);
    started = true;
    if (kept) settle();
    else load(opening);
  } catch {
    started = true;
    history.clear();
    load(opening);
    say(words.notRestored, true);
  }
  if (link.waits) await resume();
  else if (!kept) moveOnce();
}

// The opening face's smile, there and back.
function moveOnce() {
  const smile = sliders.get("Smiling");
  if (!smile || props.mask) return;
  const { own, direction: { low, high } } = smile;
  openingMove({
    server, slider: smile, strength: 0.8 * (high - own > own - low ? high - own : low - own),
    latent: (strength) => space.edited(face.z, { [smile.name]: strength }, []),
    show: (image) => picture.flash(image),
    done() {
      smile.show();
      picture.again();
    },
  });
}

// A direction of the visitor's own.
function add(direction) {
  const slider = panel.add(direction, "Your own");
  if (!slider) return;
  spectrum.add(slider);
  keep();
}

shared.known = latents.known;
shared.own.forEach(add);
shared.on("direction", add);
const begun = start();
watch("value", async () => {
  await begun;
  load(props.value);
});
}
