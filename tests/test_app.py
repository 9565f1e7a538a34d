"""The web app in a real browser. What is checked are pixels read back from the canvas, not only that elements exist."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from browser import captioned, change, decode, pixels, settled, upload
from PIL import Image

import app
from betavae.hub import ROOT, SHIPPED

WHOLE = (0, 1)
LATENTS = json.loads((SHIPPED / "config.json").read_text())["latents"]
ZERO = [0.0] * LATENTS


def test_interpolation_ends_at_its_faces(visit, photo):
    page = visit()
    upload(page, photo)
    captioned(page, "portrait.png")
    a = pixels(page, "before")
    page.get_by_role("tab", name="Interpolate").click()
    settled(page, "interpolate")
    upload(page, photo, "photo-a")
    page.wait_for_function("document.querySelector('#interpolate .status').textContent.startsWith('portrait.png')")

    def move(position):
        page.eval_on_selector(".position", """(input, position) => {
            input.value = position;
            input.dispatchEvent(new Event("input", { bubbles: true }));
        }""", position)
        settled(page, "interpolate")
        page.wait_for_selector(".strip[aria-busy=false]")
        return pixels(page, "between")

    start, middle, end = move(0), move(0.5), move(1)
    assert np.abs(start - a).mean() < 2
    assert change(start, middle, WHOLE, WHOLE) > 1 and change(middle, end, WHOLE, WHOLE) > 1
    # B is still the generated face that the tab opens with; and the strip's ends are A and B.
    strip = page.eval_on_selector_all(".strip canvas", "all => all.map((canvas) => canvas.toDataURL())")
    assert len(strip) == 9
    for step, picture in ((0, start), (8, end)):
        thumbnail = np.asarray(Image.fromarray(picture.astype(np.uint8)).resize((128, 128)), dtype=float)
        assert np.abs(decode(strip[step]) - thumbnail).mean() < 3
    page.locator(".strip button").nth(0).click()
    settled(page, "interpolate")
    assert np.array_equal(pixels(page, "between"), start)
    # The edited face as B: at 1 the picture is the one on the Edit tab's stage.
    page.locator("#edited-b").click()
    page.wait_for_function("document.querySelector('#interpolate .status').textContent.endsWith('Edited face')")
    assert np.abs(move(1) - start).mean() < 1


def test_sample_is_the_same_for_the_same_seed_and_opens_in_edit(visit):
    page = visit()
    page.get_by_role("tab", name="Sample").click()
    page.wait_for_selector("#samples button")

    def grid():
        return page.eval_on_selector_all("#samples img", "images => images.map((image) => image.src)")

    def draw(seed):
        before = grid()
        page.locator("#seed input").fill(str(seed))
        page.locator("#seed input").blur()
        page.wait_for_function("old => document.querySelector('#samples img').src !== old", arg=before[0])
        return grid()

    first, other, again = draw(5), draw(6), draw(5)
    assert first == again and first != other and len(first) == 24
    page.locator("#samples button").nth(3).click()
    captioned(page, "Sample 4 of seed 5")
    assert page.get_by_role("tab", name="Edit").get_attribute("aria-selected") == "true"
    shown = np.asarray(Image.fromarray(pixels(page, "edit").astype(np.uint8)).resize((64, 64), Image.Resampling.BOX))
    assert np.abs(shown - decode(first[3])).mean() < 4


def test_phone(visit):
    page = visit(390, 844)
    for tab in ("Interpolate", "Sample", "Edit"):
        page.get_by_role("tab", name=tab).click()
        page.locator(f"#{tab.lower()}, #samples").locator("visible=true").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
    page.eval_on_selector("[data-slider=background_warmth]", "row => row.scrollIntoView({ block: 'end' })")
    box = page.locator("[data-canvas=edit]").bounding_box()
    row = page.locator("[data-slider=background_warmth]").bounding_box()
    assert page.evaluate("window.scrollY") > 500
    assert 0 <= box["y"] and box["y"] + box["height"] < row["y"] < 844 - 52
    thumb = page.eval_on_selector(".track", "track => getComputedStyle(track).getPropertyValue('--thumb')")
    assert thumb.strip() == "24px"


@pytest.mark.parametrize("payload", [
    {"a": [0.0], "b": [0.0], "positions": [0.5], "method": "slerp"},
    {"a": ZERO, "b": ZERO, "positions": [0.5] * 1000, "method": "slerp"},
    {"a": ZERO, "b": ZERO, "positions": [0.5], "method": ["slerp"]},
])
def test_malformed_requests_get_a_sentence(server, payload):
    answer = server.ask("interpolate", "between", payload)
    assert set(answer) == {"error"} and answer["error"].endswith(".")


def damaged(folder, name, content):
    """A copy of the model folder in which one file has only that content, or is missing."""
    shutil.copytree(SHIPPED, folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    return str(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_unusable_model_is_named_in_one_sentence(tmp_path, capsys, name, content):
    assert app.main(["--model", damaged(tmp_path / "model", name, content)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and name in said


def test_unusable_model_ends_the_process_with_1(tmp_path):
    folder = damaged(tmp_path / "model", "model.safetensors", (SHIPPED / "model.safetensors").read_bytes()[:1000])
    ended = subprocess.run([sys.executable, "app.py", "--model", folder], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
