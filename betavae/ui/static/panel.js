// The sliders, by name, in their groups; and what finds one among them.

import { Slider } from "./slider.js";
import { panel as words } from "./words.js";

export class Panel {
  // element: the tab; groups: the catalogue as edit.py has it; changed, released and refused as Slider has them.
  constructor(element, { space, groups, changed, released, refused }) {
    Object.assign(this, { element: element.querySelector(".panel"), space, sliders: new Map(), face: null });
    this.template = element.querySelector("template").content.firstElementChild;
    this.tell = { changed, released, refused };
    this.box = this.element.querySelector(".search");
    this.box.addEventListener("input", () => this.search(this.box.value));
    for (const { group, sliders } of groups) for (const direction of sliders) this.add(direction, group);
    this.actions = {
      more: (button) => this.more(button),
      find: () => this.find(),
    };
  }

  // A direction as edit.py's catalogue has them, at the end of a group; its slider, or null if there is one of that name.
  add(direction, group) {
    if (this.sliders.has(direction.name)) return null;
    const row = this.template.cloneNode(true);
    const rows = this.group(group);
    rows.insertBefore(row, rows.querySelector(".more"));
    this.space.add(direction);
    rows.hidden = false;
    const slider = new Slider(row, direction, this.tell);
    this.sliders.set(direction.name, slider);
    slider.plain = Boolean(this.element.querySelector("[data-scale=plain][aria-pressed=true]"));
    if (this.face) slider.place(this.space.score(direction.name, this.face.z));
    return slider;
  }

  get all() {
    return [...this.sliders.values()];
  }

  group(name) {
    return this.element.querySelector(`[data-group="${name}"]`);
  }

  within(part) {
    return this.all.filter((slider) => part.contains(slider.row));
  }

  // The slider whose row a control is in.
  of(control) {
    return this.sliders.get(control.closest(".slider").dataset.slider);
  }

  get strengths() {
    return Object.fromEntries(this.all.filter(({ strength }) => strength).map(({ name, strength }) => [name, strength]));
  }

  // For another face: where it stands.
  place(face) {
    this.face = face;
    for (const slider of this.all) slider.place(this.space.score(slider.name, face.z));
  }

  // Exactly these strengths, of locked sliders too.
  set(strengths) {
    for (const slider of this.all) slider.set(strengths[slider.name] ?? 0);
  }

  // These strengths, and 0 for those that are not named if `rest` is given, of sliders that are not locked.
  move(strengths, rest = false) {
    for (const slider of this.all) {
      if (slider.locked) continue;
      if (slider.name in strengths) slider.set(strengths[slider.name]);
      else if (rest && slider.strength) slider.set(0);
    }
  }

  // Exactly these are locked.
  lock(names) {
    for (const slider of this.all) if (slider.locked !== names.includes(slider.name)) slider.lock(!slider.locked);
  }

  // What the locks leave of each effect, by name.
  keep(remaining) {
    for (const slider of this.all) slider.keep(remaining[slider.name] ?? null);
  }

  // "plain" or "data": how far the tracks go.
  scale(which) {
    for (const button of this.element.querySelector(".scale").children) button.setAttribute("aria-pressed", button.dataset.scale === which);
    for (const slider of this.all) slider.scale(which === "plain");
  }

  jump(name) {
    const group = this.group(name);
    group.open = true;
    group.scrollIntoView({ behavior: "smooth" });
  }

  more(button) {
    const group = button.closest("details");
    const open = group.classList.toggle("all");
    button.setAttribute("aria-expanded", open);
    button.textContent = open ? words.fewer : words.more(button.dataset.count);
    button.setAttribute("aria-label", words.of(button.textContent, group.dataset.group));
  }

  find() {
    if (!this.element.classList.toggle("finding")) return this.search("");
    this.box.scrollIntoView({ block: "start" });
    this.box.focus({ preventScroll: true });
  }

  // Only the sliders that the words are of.
  search(text) {
    const wanted = text.trim().toLowerCase();
    this.box.value = text;
    this.element.classList.toggle("searching", wanted !== "");
    for (const { row, direction } of this.all) {
      const found = direction.listed !== false && `${direction.label} ${direction.name} ${direction.words ?? ""}`.toLowerCase().includes(wanted);
      row.classList.toggle("found", found);
    }
    for (const group of this.element.querySelectorAll("details")) group.hidden = wanted !== "" && !group.querySelector(".found");
    this.element.querySelector(".nothing").hidden = wanted === "" || this.element.querySelector(".found") !== null;
  }
}
