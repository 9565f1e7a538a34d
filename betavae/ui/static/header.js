// The page's name and one sentence; and the arrow keys between the tabs below them, as ARIA's pattern for tabs has it.

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

export default function mount({ element }) {
  const list = element.closest(".gradio-container").querySelector("[role=tablist]");
  const tabs = () => [...list.querySelectorAll("[role=tab]:not(:disabled)")];

  // Tab goes to the tab that is open, and from there to what is in it.
  const rove = () => tabs().forEach((tab) => (tab.tabIndex = tab.getAttribute("aria-selected") === "true" ? 0 : -1));
  new MutationObserver(rove).observe(list, { subtree: true, childList: true, attributeFilter: ["aria-selected"] });
  rove();

  list.addEventListener("keydown", (event) => {
    const all = tabs();
    const at = all.indexOf(event.target);
    const to = { Home: 0, End: all.length - 1 }[event.key] ?? (at + STEPS[event.key] + all.length) % all.length;
    if (at < 0 || !all[to]) return;
    event.preventDefault();
    all[to].click();
    all[to].focus();
  });
}
