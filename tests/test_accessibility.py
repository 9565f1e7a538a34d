"""The page for those who see it otherwise, or not at all: axe-core on every tab, the keyboard alone, a palette of one's own."""

import io
from pathlib import Path

import axe_playwright_python
import numpy as np
import pytest
from browser import Visitors, push, set_slider, settled
from PIL import Image

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
# A rule that is off until it is asked for.
RULES = {"rules": {"label-content-name-mismatch": {"enabled": True}}}
TABS = ("Edit", "Interpolate", "Sample", "Explore", "Make", "Model")
READY = {"Interpolate": "#interpolate .strip canvas", "Sample": "#sample .faces button", "Explore": "#explore .row .strip",
         "Make": ".make .sides", "Model": ".model .about"}


def violations(page) -> list[str]:
    """What axe-core finds wrong with what is on the screen."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    found = page.evaluate("rules => axe.run(document, rules)", RULES)["violations"]
    return [f"{rule['id']}: {node['html'][:120]}" for rule in found for node in rule["nodes"]
            if "upload-container" not in node["html"]]  # whose label is Gradio's own


def used(page, tab: str) -> None:
    """Leave the tab as somebody leaves it who has worked there."""
    if tab == "Edit":
        push(page, "Young", -0.7)
        page.locator(".effects li button").first.click()
        settled(page)
        page.keyboard.press("Control+z")
        push(page, "yaw", 1)
        page.locator("[data-group=Hair] .more").click()
        page.locator(".spectrum summary").click()
        page.locator(".spectrum[aria-busy=false] .cells button").first.wait_for()
        page.locator(".steps .frame").first.click()
        settled(page)
    elif tab == "Interpolate":
        page.get_by_role("button", name="Add a random face").click()
        page.locator(".interpolate .faces li").nth(2).wait_for()
    elif tab == "Sample":
        page.get_by_role("button", name="Neighbours").click()
        settled(page, "sample")
    elif tab == "Make":
        for button in page.get_by_role("button", name="Add the edited face").all():
            button.click()
        page.locator(".make .result").wait_for()


@pytest.fixture(scope="module", params=["light", "dark", "phone"])
def page(request, server, browser):
    visitors = Visitors(server, browser)
    size = {"width": 390, "height": 844, "has_touch": True} if request.param == "phone" else {}
    yield visitors(address="/?__theme=dark" if request.param == "dark" else "", **size)
    visitors.leave()


@pytest.mark.parametrize("tab", TABS)
def test_axe_finds_nothing(page, tab):
    page.get_by_role("tab", name=tab, exact=True).click()
    if tab in READY:
        page.locator(READY[tab]).first.wait_for()
    assert violations(page) == []
    used(page, tab)
    assert violations(page) == []


def test_arrow_keys_go_from_tab_to_tab(visit):
    page = visit()
    page.get_by_role("tab", name="Edit").focus()

    def selected():
        return page.get_by_role("tab", selected=True).text_content().strip()

    for key, tab in (("ArrowRight", "Interpolate"), ("End", "Model"), ("ArrowRight", "Edit"), ("ArrowLeft", "Model"),
                     ("Home", "Edit")):
        page.keyboard.press(key)
        page.wait_for_function("tab => document.activeElement.textContent.trim() === tab", arg=tab)
        assert selected() == tab
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") != "tab", "the other tabs are no stops"


def focused(page) -> str:
    """The slider that the keyboard is on, with what of it."""
    return page.evaluate("""() => {
        const { activeElement: at } = document;
        return `${at.closest("[data-slider]")?.dataset.slider} ${at.dataset.do ?? at.className ?? ""}`.trim();
    }""")


def test_tab_passes_a_slider_in_one_stop(visit):
    page = visit()
    page.locator("[data-name=Smiling]").focus()
    stops = []
    for _ in range(3):
        stops.append(focused(page))
        page.keyboard.press("Tab")
    assert stops == ["Smiling", "mouth_open", "eye_open"]
    # All that a slider has is reached from it, and what it does is done without leaving it.
    page.locator("[data-name=Smiling]").focus()
    page.keyboard.press("ArrowRight")
    settled(page)
    page.keyboard.press("Enter")
    assert focused(page) == "Smiling reset"
    page.keyboard.press("ArrowRight")
    assert focused(page) == "Smiling average"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    slider = page.locator("[data-name=Smiling]")
    assert slider.get_attribute("aria-disabled") == "true"
    page.keyboard.press("Escape")
    assert focused(page) == "Smiling"
    page.keyboard.press("l")
    assert slider.get_attribute("aria-disabled") == "false" and slider.input_value() != "0"
    page.keyboard.press("Delete")
    settled(page)
    assert slider.input_value() == "0"


def contrast(a, b) -> float:
    """WCAG's contrast of two colours, 1 to 21."""
    def luminance(colour):
        linear = np.asarray(colour, dtype=float)[:3] / 255
        linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def rail(page, name: str) -> np.ndarray:
    """A slider's rail as the screen shows it, (h, w, 3), with a little of what is around it."""
    box = page.locator(f"[data-slider={name}] .rail").bounding_box()
    shot = page.screenshot(clip={"x": box["x"], "y": box["y"] - 4, "width": box["width"], "height": 12})
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


@pytest.mark.parametrize("options", [{}, {"address": "/?__theme=dark"}, {"forced_colors": "active"}],
                         ids=["light", "dark", "forced"])
def test_rails_can_be_seen(visit, options):
    page = visit(**options)
    panel = rail(page, "Smiling")[0, 0]
    for name, share, wanted in (("Smiling", 0.02, "the line beyond the data"), ("Smiling", 0.4, "the data's range")):
        column = rail(page, name)[:, int(share * rail(page, name).shape[1])]
        assert max(contrast(colour, panel) for colour in column) >= 3, wanted


def test_beyond_the_data_is_not_told_by_hue_alone(visit):
    page = visit()
    set_slider(page, "yaw", 0)
    low, high = (float(page.locator("[data-name=yaw]").get_attribute(end)) for end in ("min", "max"))
    assert low < 0 < high
    push(page, "yaw", 1)
    strip = rail(page, "yaw")
    row = page.locator("[data-slider=yaw]")
    own, at = row.evaluate("row => ['--own', '--at'].map((end) => +row.style.getPropertyValue(end))")
    width = strip.shape[1]
    filled = strip[6, int((own + 0.05) * width):int((at - 0.06) * width)].mean(1)
    assert filled.max() - filled.min() > 60, "hatched: light and dark by turns, in grey as well"
    assert page.locator("[data-slider=yaw] .standing").input_value() == "beyond"


def test_a_face_that_is_moved_on_the_path_keeps_the_focus(visit):
    page = visit()
    page.get_by_role("tab", name="Interpolate").click()
    page.get_by_role("button", name="Add a random face").click()
    page.locator(".interpolate .faces li").nth(2).wait_for()
    first = page.locator(".interpolate .faces li").first
    name = first.locator("small").text_content()
    first.get_by_role("button", name="towards the end").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.locator(".interpolate .faces small").all_text_contents().index(name) == 2
    assert page.evaluate("document.activeElement.closest('li')?.querySelector('small').textContent") == name
    last = page.locator(".interpolate .faces li").nth(1)
    last.get_by_role("button", name="Remove").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('.faces li') !== null"), "on the face that took its place"
