"""What the page says and shows before anybody has done anything, and what its words find."""

import json
import re
import urllib.request

import numpy as np
import pytest
import torch
from browser import change, decode, pixels, push, settled, state
from PIL import Image

from betavae import Editor
from betavae.attributes import ATTRIBUTES, PRESETS
from betavae.ui import messages
from betavae.ui.tabs.edit import promising

WHOLE = (0, 1)
JARGON = re.compile(r"\b(pct|latents?|N\(0, I\)|slerp|lerp|KL|truncation|VAE)\b")


@pytest.fixture(scope="module")
def editor():
    return Editor.from_pretrained(device="cpu")


def test_the_page_introduces_itself(server):
    with urllib.request.urlopen(server.url) as answer:
        page = answer.read().decode()
    for name in ("og:title", "og:description", "twitter:title", "description"):
        (content,) = re.findall(rf'<meta (?:property|name)="{name}" content="([^"]*)"', page)
        assert content.startswith("Face Latents" if "title" in name else "Make a face smile"), name
    assert "Click to try out the app" not in page and "@Gradio" not in page


def test_words_on_the_tabs_are_plain(visit):
    page = visit()
    for tab in ("Edit", "Interpolate", "Sample"):
        page.get_by_role("tab", name=tab, exact=True).click()
        settled(page, tab.lower())
        words = page.locator("body").inner_text().replace("Face Latents", "")
        assert not JARGON.search(words), (tab, JARGON.search(words))
    # The terms are there for who looks for them.
    assert page.locator("#sample [title*='N(0, I)']").count() == 1
    assert page.locator("#sample [title*='Truncation']").count() == 1
    assert page.locator("#interpolate [title*='slerp']").count() == 1


@pytest.mark.parametrize(("word", "name"), [
    ("age", "Young"), ("old", "Young"), ("wrinkles", "Young"), ("gender", "Male"), ("woman", "Male"), ("beard", "No_Beard"),
    ("eyeglasses", "Eyeglasses"), ("Smile", "Smiling"),
])
def test_search_knows_what_people_say(one_page, word, name):
    one_page.get_by_role("searchbox").fill(word)
    assert one_page.locator(f"[data-slider={name}]").is_visible()
    assert 0 < one_page.locator(".slider:visible").count() < 12


def test_twelve_sliders_at_first_and_none_for_a_judgement(visit, editor):
    page = visit()
    assert page.locator(".slider:visible").count() == 12
    for more in page.locator(".more").all():
        more.click()
    listed = sum(entry.listed for name, entry in ATTRIBUTES.items() if name in editor.directions)
    assert page.locator(".slider:visible").count() == listed
    assert not page.locator("[data-slider=Attractive]").is_visible()
    page.get_by_role("searchbox").fill("attractive")
    assert page.get_by_text("No slider has that name.").is_visible()
    assert page.locator(".spectrum option[value=Attractive]").count() == 0
    # An edit that was made elsewhere with it loses nothing.
    page.get_by_role("searchbox").fill("")
    recipe = json.dumps({"model": editor.hash, "seed": 3, "temperature": 0.8, "strengths": {"Attractive": 1}})
    page.goto(f"{page.url.partition('#')[0]}#recipe={recipe}")
    page.locator("[data-slider=Attractive]").wait_for()
    assert page.locator("[data-name=Attractive]").input_value() == "1"


def test_a_preset_is_this_face_with_it(visit, editor):
    page = visit()
    page.wait_for_function("[...document.querySelectorAll('.preset img')].every((image) => image.src)")
    for index in range(len(PRESETS)):
        page.wait_for_selector(".presets[aria-busy=false]")
        button = page.locator(".preset").nth(index)
        shown = decode(button.locator("img").get_attribute("src"))
        button.click()
        settled(page)
        full = Image.fromarray(pixels(page, "edit").astype(np.uint8)).resize((64, 64), Image.Resampling.BOX)
        assert np.abs(np.asarray(full, dtype=float) - shown).mean() < 4
        if index == 0:  # what is there already cannot be had again, and that is said
            page.wait_for_function("document.querySelector('.preset').getAttribute('aria-disabled') === 'true'")
            assert "nothing left to change" in button.inner_text()
            steps = page.locator(".steps li").count()
            button.click(force=True)
            page.get_by_text("nothing left to change on this face.").wait_for()
            assert page.locator(".steps li").count() == steps
        page.get_by_role("button", name="Reset all").click()
        settled(page)


def test_every_preset_changes_every_drawn_example(editor):
    seeds = promising(editor)
    assert len(set(seeds)) == len(seeds) == 6
    for seed in seeds:
        z = editor.sample(1, seed, messages.TEMPERATURE)[0]
        before = np.asarray(editor.decode(z[None])[0], dtype=float)
        for name, targets in PRESETS.items():
            moves = {direction: editor.directions.reach(z, direction, percent) for direction, percent in targets.items()}
            moves = {direction: s for direction, s in moves.items() if (targets[direction] >= 50) == (s > 0)}
            (after,) = editor.edit(z, moves)
            assert np.abs(np.asarray(after, dtype=float) - before).mean() > 1, (seed, name)


def test_a_focused_slider_shows_this_face_at_both_ends(visit, editor):
    page = visit()
    ends = page.locator(".ends figure")
    assert not ends.first.is_visible()
    page.locator("[data-name=yaw]").focus()
    ends.first.wait_for()
    page.wait_for_selector(".ends[aria-busy=false]", state="attached")
    z = torch.tensor(state(page, "state.edited"))
    yaw = editor.directions["yaw"]
    own = float(editor.directions.scores(z[None])[0, editor.directions.names.index("yaw")])
    shown = page.eval_on_selector_all(".ends img", "all => all.map((image) => image.src)")
    for picture, score in zip(shown, (yaw.low, yaw.high), strict=True):
        (wanted,) = editor.edit(z, {"yaw": score - own})
        assert np.abs(decode(picture) - np.asarray(wanted, dtype=float)).max() <= 3
    stage = page.locator("#edit .stage").bounding_box()
    for figure in ends.all():
        box = figure.bounding_box()
        assert stage["y"] <= box["y"] and box["y"] + box["height"] <= stage["y"] + stage["height"]
    page.get_by_role("searchbox").focus()
    ends.first.wait_for(state="hidden")


def test_the_first_face_moves_once_by_itself(visit):
    page = visit(reduced_motion="no-preference")
    thumb = "document.querySelector('[data-name=Smiling]').value"
    page.wait_for_function(f"{thumb} !== '0'")
    moving = pixels(page, "edit")
    page.wait_for_function(f"{thumb} === '0'")
    settled(page)
    page.wait_for_timeout(300)
    still = pixels(page, "edit")
    assert change(moving, still, WHOLE, WHOLE) > 0.2
    assert page.locator(".steps li").count() == 1 and "#recipe" not in page.url, "it was no edit"
    # Whoever does something does it to the face as it was.
    second = visit(reduced_motion="no-preference")
    second.wait_for_function(f"{thumb} !== '0'")
    push(second, "yaw", 0.5)
    second.keyboard.press("Control+z")
    second.wait_for_function(f"{thumb} === '0'")
    settled(second)
    assert np.abs(pixels(second, "edit") - still).mean() < 1
    calm = visit()
    assert calm.evaluate("matchMedia('(prefers-reduced-motion: reduce)').matches")
    for _ in range(5):
        assert calm.eval_on_selector("[data-name=Smiling]", "input => input.value") == "0"
        calm.wait_for_timeout(100)


