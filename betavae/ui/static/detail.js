// How the model's pictures are drawn: "honest", by the model alone; "sharp", with detail that a second decoder adds to it; or
// "added", that detail alone.

const KEPT = 100;  // drawn pictures, of the newest latents

export class Detail {
  // bar: the switch, or null where the model has no second decoder; decode(z, how): { picture, drawn } or { error }.
  constructor(bar, decode) {
    Object.assign(this, { bar, decode, how: "honest", known: new Map() });
  }

  get honest() {
    return this.how === "honest";
  }

  choose(how) {
    if (!this.bar) return;
    this.how = how;
    for (const button of this.bar.querySelectorAll("[data-how]")) button.setAttribute("aria-pressed", button.dataset.how === how);
  }

  // A model's picture is on the stage, not a photo.
  offer(there) {
    if (this.bar) this.bar.hidden = !there;
  }

  // The model's picture of a latent and, unless that is wanted, the one that is: { picture, drawn }.
  async of(z, how = this.how) {
    const key = `${how} ${z}`;
    if (this.known.has(key)) return this.known.get(key);
    const answer = await this.decode(z, how);
    if (answer.error) return answer;
    this.known.set(key, answer);
    if (this.known.size > KEPT) this.known.delete(this.known.keys().next().value);
    return answer;
  }
}
