// The first face moves once by itself, so that the page shows what a slider does before anybody reads a word.

const FRAMES = 16;     // out of which the way there is made; the way back is the same
const SECONDS = 2.4;   // there and back
const ENDS = ["pointerdown", "keydown", "wheel", "touchstart", "hashchange", "dragover"];

// slider: moved from 0 to `strength` and back; latent(strength): the face with it; show(picture); done: puts everything back as it
// was, as soon as it is over or the visitor does anything at all.
export async function openingMove({ server, slider, strength, latent, show, done }) {
  if (window.matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  let running = true;
  const end = () => {
    if (!running) return;
    running = false;
    for (const event of ENDS) window.removeEventListener(event, end, true);
    done();
  };
  for (const event of ENDS) window.addEventListener(event, end, { capture: true, passive: true });
  const steps = Array.from({ length: FRAMES }, (_, i) => (strength * (i + 1)) / FRAMES);
  const { pictures } = await server.pictures({ latents: steps.map(latent) }).catch(() => ({}));
  if (!pictures) return end();
  const images = await Promise.all(pictures.map(async (src) => {
    const image = Object.assign(new Image(), { src });
    await image.decode();
    return image;
  }));
  const start = performance.now();
  const frame = (now) => {
    if (!running) return;
    const share = (now - start) / (1000 * SECONDS);
    if (share >= 1 || document.hidden) return end();
    const at = Math.max(0, Math.round(FRAMES * Math.sin(Math.PI * Math.max(0, share)) ** 2) - 1);
    slider.pretend(steps[at]);
    show(images[at]);
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}
