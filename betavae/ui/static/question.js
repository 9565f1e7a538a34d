// A question below the picture, with one way to say yes; it goes when it is answered, or when an edit is made instead.

export class Question {
  // declined() is told of a no.
  constructor(element, declined) {
    this.element = element;
    this.actions = {
      yes: () => {
        const { then } = this;
        this.drop();
        then?.();
      },
      no: () => {
        this.drop();
        declined();
      },
    };
  }

  ask(sentence, yes, then) {
    this.element.hidden = false;
    this.element.querySelector("span").textContent = sentence;
    this.element.querySelector("[data-do=yes]").textContent = yes;
    this.then = then;
  }

  drop() {
    this.element.hidden = true;
    this.then = null;
  }
}
