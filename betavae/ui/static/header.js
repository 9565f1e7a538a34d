// The page's name and one sentence; and the arrow keys between the tabs below them, as ARIA's pattern for tabs has it.

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

// Gradio may draw the tabs after the header.
export default function mount({ element }) {
  const page = element.closest(".gradio-container");
  const drawn = new MutationObserver(() => tabsOf(page) && (drawn.disconnect(), follow(tabsOf(page))));
  if (tabsOf(page)) follow(tabsOf(page));
  else drawn.observe(page, { subtree: true, childList: true });
}

const tabsOf = (page) => page.querySelector("[role=tablist]");

function follow(list) {
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
