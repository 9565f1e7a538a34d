// Latents of edits by the page's own arithmetic; of those under locks as the server holds them, once it was asked.

export const keyOf = ({ face: { z }, strengths, locks }) => JSON.stringify([z, strengths, locks]);

export class Latents {
  // server: has held({ z, strengths, locks, vectors }), or is null where nothing tells what an edit does besides; known: names of
  // the directions that the server has.
  constructor({ space, server, known }) {
    Object.assign(this, { space, server, known, answers: new Map() });
  }

  answer(state) {
    return state.locks.length ? this.answers.get(keyOf(state)) : undefined;
  }

  // The latent of { face, strengths, locks }.
  of(state) {
    const { face, strengths, locks } = state;
    if (!Object.keys(strengths).length) return face.z;
    return this.answer(state)?.z ?? this.space.edited(face.z, strengths, locks);
  }

  // name -> the share of its effect that the locks leave.
  remaining(state) {
    const { strengths, locks } = state;
    return this.answer(state)?.remaining ?? (locks.length ? this.space.remaining(strengths, locks) : {});
  }

  // Whether the server has still to be asked.
  rough(state) {
    return Boolean(this.server) && state.locks.length > 0 && Object.keys(state.strengths).length > 0 && !this.answer(state);
  }

  async hold(state) {
    const { face: { z }, strengths, locks } = state;
    const own = [...new Set([...Object.keys(strengths), ...locks])].filter((name) => !this.known.has(name));
    const vectors = Object.fromEntries(own.map((name) => [name, [...this.space.get(name).vector]]));
    const answer = await this.server.held({ z, strengths, locks, vectors });
    if (!answer.error) this.answers.set(keyOf(state), answer);
    return answer;
  }
}
