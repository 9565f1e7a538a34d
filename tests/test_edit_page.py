"""Tab Edit in a real browser, as a person uses it. What is checked are pixels, not only that elements exist."""

import io
import json
import time
from itertools import pairwise
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from browser import Visitors, captioned, change, decode, drag, pixels, push, set_slider, settled, state, upload
from PIL import Image
from skimage.data import astronaut

from betavae import Editor, Recipe, custom
from betavae.attributes import ATTRIBUTES, PRESETS, attribute

WHOLE = (0, 1)
ROUNDED = 2  # grey levels, of 255: numbers of the page have five decimals


@pytest.fixture(scope="module")
def editor():
    return Editor.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def edit_page(server, browser, photo):
    visitors = Visitors(server, browser)
    page = visitors()
    upload(page, photo)
    captioned(page, "portrait.png")
    page.click("[data-view=model]")  # what a photo's own pixels show is test_photo_page's subject
    settled(page)
    yield page
    # The one error that is wanted: the browser's own, of the connection that a test cuts.
    visitors.wrong = [text for text in visitors.wrong if "ERR_INTERNET_DISCONNECTED" not in text]
    visitors.leave()


@pytest.fixture
def edit(edit_page):
    """The Edit tab with the portrait on its stage and every slider at 0; one page for all tests, for their speed."""
    edit_page.get_by_role("searchbox").fill("")
    edit_page.get_by_role("button", name="Reset all").click()
    edit_page.locator(".handle").press("Home")
    settled(edit_page)
    return edit_page


@pytest.fixture
def second(one_page):
    """Another visitor's Edit tab, with a generated face just put on its stage."""
    show_example(one_page)
    return one_page


def until(holds) -> None:
    """Wait until something holds that the page does not announce."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it never held"
        time.sleep(0.05)


def show_example(page):
    steps = page.locator(".steps li").count()
    page.locator("#examples button").last.click()
    page.wait_for_function("steps => document.querySelectorAll('.steps li').length > steps", arg=steps)
    settled(page)


def tool(page, name, do):
    """Press one of a slider's buttons, which show when the pointer is over it."""
    page.locator(f"[data-slider={name}]").hover()
    page.locator(f"[data-slider={name}] [data-do={do}]").click()
    settled(page)


def face(page) -> torch.Tensor:
    """The latent on the stage, as the other tabs are given it."""
    return torch.tensor(state(page, "state.edited"))


def recipe(page) -> dict:
    """The recipe in the address bar."""
    return json.loads(unquote(page.url.partition("#recipe=")[2]))


def standing(page, name) -> str:
    return page.locator(f"[data-slider={name}] .standing").input_value()


def seen(page) -> np.ndarray:
    """The stage as the screen shows it, (h, w, 3)."""
    shot = page.locator(".viewport").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), dtype=float)


def requests(page) -> list[str]:
    """The server functions that the page calls from now on, in their order."""
    asked = []
    page.on("request", lambda request: "component_server" in request.url
            and asked.append(json.loads(request.post_data)["fn_name"]))
    return asked


def test_opens_with_a_face_and_live_sliders(visit):
    page = visit()
    before = pixels(page, "edit")
    assert before.std() > 10
    assert page.locator(".slider:visible [type=range]").count() == sum(entry.primary for entry in ATTRIBUTES.values())
    push(page, "Smiling", 0.7)
    assert change(before, pixels(page, "edit"), WHOLE, WHOLE) > 1


def test_photo_and_reconstruction_can_be_compared_with(edit, editor, photo):
    assert np.abs(pixels(edit, "edit") - pixels(edit, "before")).mean() < ROUNDED
    edit.get_by_role("button", name="Photo", exact=True).click()
    edit.wait_for_function("document.querySelector('.before').textContent === 'Photo'")
    shown = np.asarray(editor.input(photo).resize((512, 512), Image.Resampling.BICUBIC), dtype=float)
    until(lambda: np.abs(pixels(edit, "before") - shown).mean() < 6)
    assert np.abs(pixels(edit, "before") - pixels(edit, "edit")).mean() > 2
    edit.get_by_role("button", name="Start", exact=True).click()


def test_pictures_are_scaled_smoothly(edit):
    # In nearest-neighbour blocks of 8 pixels most neighbours are equal.
    rows = pixels(edit, "edit")
    assert (np.abs(np.diff(rows, axis=1)).sum(2) == 0).mean() < 0.6
    assert edit.locator("[data-canvas=edit]").bounding_box()["width"] <= 514


def test_every_track_spans_the_data_and_holds_the_face(edit):
    tracks = edit.eval_on_selector_all("[data-slider]", """rows => rows.map((row) => {
        const { min, max, step, value } = row.querySelector("[type=range]");
        const [own, low, high] = ["--own", "--low", "--high"].map((name) => Number(row.style.getPropertyValue(name)));
        return { min: +min, max: +max, step: +step, value: +value, own, low, high };
    })""")
    assert len(tracks) >= len(ATTRIBUTES)
    for track in tracks:
        assert track["min"] < 0 < track["max"] and track["value"] == 0
        assert 0 < track["low"] < track["high"] < 1 and track["high"] - track["low"] > 0.4
        assert 0 < track["own"] < 1
        assert 150 <= (track["max"] - track["min"]) / track["step"] <= 520


def weighted(editor, vector) -> list[float]:
    return torch.linalg.solve(editor.directions.covariance, vector).tolist()


@pytest.mark.parametrize("spread", [0.02, 5.0])
def test_a_track_has_the_spread_of_its_direction(second, editor, spread):
    page, name = second, f"mine{spread:.0f}"
    vector = editor.directions["Smiling"].vector / spread
    quantiles = [spread * (i / 50 - 1) for i in range(101)]
    own = {"name": name, "label": "Mine", "primary": True, "vector": vector.tolist(), "weights": weighted(editor, vector),
           "quantiles": quantiles, "low": quantiles[1], "high": quantiles[99], "unit": "strength", "per_strength": 1}
    assert state(page, "state.addDirection(argument)", own)
    track = page.locator(f"[data-name='{name}']")
    low, high, step = (float(track.get_attribute(name)) for name in ("min", "max", "step"))
    assert 2.4 * spread < high - low < 4 * spread and 150 <= (high - low) / step <= 520
    before = pixels(page, "edit")
    set_slider(page, name, 0.8 * high)
    assert change(before, pixels(page, "edit"), WHOLE, WHOLE) > 0.5
    assert page.locator(f"[data-slider='{name}'] output").inner_text() not in ("0", "+0", "")


def test_the_plain_scale_is_the_same_for_every_face_and_keeps_the_edit(second):
    edit = second
    slider = edit.locator("[data-name=Smiling]")

    def track():
        return [float(slider.get_attribute(name)) for name in ("min", "max", "step")]

    around = track()
    set_slider(edit, "Smiling", 1.3)
    edited = pixels(edit, "edit")
    edit.get_by_role("button", name="−3 … 3").click()
    assert track() == [-3, 3, 0.1] and float(slider.input_value()) == 1.3
    assert np.array_equal(pixels(edit, "edit"), edited)
    edit.click("#random")
    edit.wait_for_function("() => document.querySelector('[data-name=Smiling]').value === '0'")
    settled(edit)
    assert track() == [-3, 3, 0.1]
    edit.get_by_role("button", name="Range of real faces").click()
    assert track() != [-3, 3, 0.1] and around != [-3, 3, 0.1]


def test_drag_smiling_changes_the_mouth_most(edit):
    before = pixels(edit, "edit")
    high = float(edit.locator("[data-name=Smiling]").get_attribute("max"))
    dragged = drag(edit, "Smiling", 0.9 * high)
    assert abs(dragged - 0.9 * high) < 0.1 * high
    after = pixels(edit, "edit")
    assert edit.locator("[data-slider=Smiling] output").inner_text().startswith("+")
    assert change(before, after, (0.6, 0.9), (0.25, 0.75)) > 1.2 * change(before, after, WHOLE, WHOLE) > 0.6


def test_drag_yaw_changes_the_face(edit):
    before = pixels(edit, "edit")
    drag(edit, "yaw", float(edit.locator("[data-name=yaw]").get_attribute("max")))
    after = pixels(edit, "edit")
    assert edit.locator("[data-slider=yaw] output").inner_text().endswith("°")
    assert change(before, after, (0.25, 0.85), (0.2, 0.8)) > 3


def test_drag_background_brightness_changes_the_edges_most(edit):
    before = pixels(edit, "edit")
    drag(edit, "background_brightness", float(edit.locator("[data-name=background_brightness]").get_attribute("max")))
    after = pixels(edit, "edit")
    centre = change(before, after, (0.35, 0.8), (0.3, 0.7))
    corners = (change(before, after, (0, 0.3), (0, 0.15)) + change(before, after, (0, 0.3), (0.85, 1))) / 2
    assert corners > 1.3 * centre


def test_programmatic_changes_cause_one_decode_and_known_pictures_none(edit):
    before = pixels(edit, "edit")
    asked = requests(edit)
    edit.get_by_role("button", name="Surprise me").click()
    settled(edit)
    assert asked.count("decode") == 1
    assert not np.array_equal(pixels(edit, "edit"), before)
    assert sum(value != "0" for value in edit.eval_on_selector_all("[data-name]", "all => all.map((i) => i.value)")) == 3
    edit.get_by_role("button", name="Reset all").click()
    settled(edit)
    assert np.array_equal(pixels(edit, "edit"), before)
    assert edit.locator("[data-name=Smiling]").input_value() == "0"
    edit.get_by_role("button", name="Undo").click()
    settled(edit)
    assert not np.array_equal(pixels(edit, "edit"), before)
    assert asked.count("decode") == 1


def test_keyboard_double_click_and_group_reset(edit):
    slider = edit.locator("[data-name=Smiling]")
    slider.press("ArrowRight")
    assert float(slider.input_value()) == pytest.approx(float(slider.get_attribute("step")))
    slider.dblclick(position={"x": 200, "y": 10})
    assert slider.input_value() == "0"
    push(edit, "yaw", 0.7)
    edit.locator("[data-group=Pose] .clear").click()
    assert edit.locator("[data-name=yaw]").input_value() == "0"
    assert edit.locator("[data-group=Pose]").get_attribute("open") is not None


def test_beyond_the_data_is_marked(edit):
    push(edit, "yaw", 1)
    assert standing(edit, "yaw") == "beyond"
    tool(edit, "yaw", "reset")
    assert standing(edit, "yaw").startswith("above ")


def test_an_edit_that_leaves_the_data_is_said(second, editor):
    outside = second.get_by_text("Beyond the data: the picture is a guess")
    assert not outside.is_visible()
    for name in ("yaw", "pitch", "Bangs", "Wearing_Hat", "light_side"):
        push(second, name, 1)
        beyond = float(editor.directions.distance(face(second)[None])) > editor.directions.radius
        assert outside.is_visible() == beyond
    assert beyond


def test_the_average_and_a_typed_percentile(edit, editor):
    z = face(edit)
    tool(edit, "Young", "average")
    young = float(editor.directions.scores(face(edit)[None])[0, editor.directions.names.index("Young")])
    assert abs(young) < 0.05
    field = edit.locator("[data-slider=Young] .standing")
    field.fill("90")
    field.press("Enter")
    settled(edit)
    assert standing(edit, "Young") == "above 90 %"
    assert torch.allclose(face(edit), editor.shift(z, {"Young": editor.directions.reach(z, "Young", 90)})[0], atol=1e-3)
    field.fill("120")
    field.press("Enter")
    assert edit.locator("#edit .status").inner_text() == "The percentile of Younger is 120; it must be from 0 to 100."
    assert standing(edit, "Young") == "above 90 %"


def test_neutral_is_the_average_expression_and_pose(edit, editor):
    z = face(edit)
    edit.get_by_role("button", name="Neutral").click()
    settled(edit)
    names = [name for name, entry in ATTRIBUTES.items() if entry.primary and entry.group in ("Expression", "Pose")]
    wanted = {name: -editor.directions.scores(z[None])[0, editor.directions.names.index(name)].item() for name in names}
    assert torch.allclose(face(edit), editor.shift(z, wanted)[0], atol=1e-2)


def test_more_and_search_find_the_other_sliders(edit):
    goatee = edit.locator("[data-slider=Goatee]")
    assert not goatee.is_visible()
    edit.locator("[data-group=Face] .more").click()
    assert goatee.is_visible()
    edit.get_by_role("searchbox").fill("lips")
    names = edit.locator(".slider:visible").evaluate_all("rows => rows.map((row) => row.dataset.slider)")
    assert set(names) == {"Mouth_Slightly_Open", "Big_Lips", "Wearing_Lipstick"}
    edit.get_by_role("searchbox").fill("no such thing")
    assert edit.get_by_text("No slider has that name.").is_visible()


def test_locks_hold_and_say_what_is_left(edit, editor):
    z = face(edit)
    strengths, locks = {"Smiling": push(edit, "Smiling", 0.7), "yaw": push(edit, "yaw", 0.3)}, ["Male", "yaw"]
    free = pixels(edit, "edit")
    assert edit.locator("[data-slider=Smiling] .remains").inner_text() == ""
    tool(edit, "Male", "lock")
    tool(edit, "yaw", "lock")
    assert torch.allclose(face(edit), editor.shift(z, strengths, locks)[0], atol=1e-3)
    left = editor.remaining(z, strengths, locks)["Smiling"]
    assert edit.locator("[data-slider=Smiling] .remains").inner_text() == f"{100 * left:.0f} % left"
    assert edit.locator("[data-slider=Male] output").inner_text() == "kept"
    assert not np.array_equal(pixels(edit, "edit"), free)
    (wanted,) = editor.edit(z, strengths, locks)
    wanted = np.asarray(wanted.resize((512, 512), Image.Resampling.BICUBIC), dtype=float)
    assert np.abs(pixels(edit, "edit") - wanted).mean() < 2
    tool(edit, "yaw", "lock")
    tool(edit, "Male", "lock")
    assert torch.allclose(face(edit), editor.shift(z, strengths)[0], atol=1e-3)


def test_two_locks_on_one_direction_are_as_one(edit, editor):
    z = face(edit)
    double = editor.directions["Male"].vector
    state(edit, "state.addDirection(argument)",
          {"name": "double", "label": "Double", "primary": True, "vector": double.tolist(), "weights": weighted(editor, double),
           "quantiles": [-1, 0, 1], "low": -1, "high": 1, "unit": "strength", "per_strength": 1})
    younger = push(edit, "Young", 0.5)
    for name in ("Male", "double"):
        tool(edit, name, "lock")
    own = custom.from_vectors({"double": double}, editor.directions)
    assert torch.allclose(face(edit), editor.shift(z, {"Young": younger}, ["Male", "double"], own)[0], atol=1e-3)


def test_side_effects_are_said_and_can_be_locked(edit, editor):
    z = face(edit)
    older = push(edit, "Young", -0.8)
    edit.locator(".effects li").first.wait_for()
    effects = [e for e in editor.side_effects(z, {"Young": older}) if abs(e.after - e.before) >= 0.05]
    effects = [e for e in effects if attribute(e.name).listed][:4]
    shown = edit.eval_on_selector_all(".effects li button", "buttons => buttons.map((button) => button.dataset.effect)")
    assert shown == [effect.name for effect in effects] and shown
    assert edit.locator(".effects b").first.inner_text().startswith(f"{100 * effects[0].before:.0f} → ")
    before = pixels(edit, "edit")
    edit.locator(".effects li button").first.click()
    settled(edit)
    assert recipe(edit)["locks"] == [shown[0]]
    assert not np.array_equal(pixels(edit, "edit"), before)
    tool(edit, "Young", "reset")
    edit.get_by_text("Release a slider to see what else it changed.").wait_for()


def test_history_goes_back_and_branches(second):
    page, pictures = second, {}
    items = page.locator(".steps li")
    first = items.count() - 1

    def step(name):
        push(page, name, 0.7)
        pictures[name] = pixels(page, "edit")

    start = pixels(page, "edit")
    step("Smiling")
    step("yaw")
    page.keyboard.press("Control+z")
    settled(page)
    assert np.array_equal(pixels(page, "edit"), pictures["Smiling"])
    step("Blond_Hair")
    captions = page.locator(".steps span").all_inner_texts()[first:]
    assert len(captions) == 4 and captions[1].startswith("Smile +") and captions[2].startswith("Turn head +")
    assert captions[3].startswith("Blond hair +") and "branch" in items.nth(first + 3).get_attribute("class")
    # Undo and redo follow the branch that is here; a click goes to the other one.
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    settled(page)
    assert np.array_equal(pixels(page, "edit"), start)
    page.keyboard.press("Control+Shift+z")
    page.keyboard.press("Control+y")
    settled(page)
    assert np.array_equal(pixels(page, "edit"), pictures["Blond_Hair"])
    assert page.get_by_role("button", name="Redo").is_disabled()
    page.locator(".steps .frame").nth(first + 2).click()
    settled(page)
    assert np.array_equal(pixels(page, "edit"), pictures["yaw"])
    assert page.locator("[data-name=yaw]").input_value() != "0" and page.locator("[data-name=Blond_Hair]").input_value() == "0"
    # The thumbnails are the pictures.
    page.wait_for_function("!document.querySelector('.steps img:not([src])')")
    small = decode(page.locator(".steps img").nth(first + 1).get_attribute("src"))
    shown = Image.fromarray(pictures["Smiling"].astype(np.uint8)).resize((64, 64), Image.Resampling.BOX)
    assert np.abs(small - np.asarray(shown, dtype=float)).mean() < 4
    # Any two are compared: one is pinned, the other is gone to.
    items.nth(first + 3).hover()
    items.nth(first + 3).locator(".pin").click()
    page.wait_for_timeout(200)
    assert np.array_equal(pixels(page, "before"), pictures["Blond_Hair"])
    assert np.array_equal(pixels(page, "edit"), pictures["yaw"])


def test_what_an_arrow_key_does_in_a_row_is_one_step(second):
    page, steps = second, second.locator(".steps li").count()
    slider = page.locator("[data-name=Smiling]")
    for _ in range(5):
        slider.press("ArrowRight")
    settled(page)
    assert page.locator(".steps li").count() == steps + 1
    page.keyboard.press("Control+z")
    assert slider.input_value() == "0"


def test_a_new_face_leaves_the_steps_of_the_one_before(second):
    page = second
    smile = push(page, "Smiling", 0.7)
    before = pixels(page, "edit")
    show_example(page)
    assert page.locator("[data-name=Smiling]").input_value() == "0"
    page.get_by_role("button", name="Undo").click()
    settled(page)
    assert np.array_equal(pixels(page, "edit"), before)
    assert float(page.locator("[data-name=Smiling]").input_value()) == smile


def test_comparison_handle_hold_and_zoom(edit):
    push(edit, "background_brightness", -1)
    edit.evaluate("window.scrollTo(0, 0)")
    after, before = pixels(edit, "edit"), pixels(edit, "before")
    left, right = (slice(60, 240), slice(60, 200)), (slice(60, 240), slice(330, 470))  # below what is written on the picture
    middle = (slice(320, 480), slice(150, 370))
    assert np.abs(seen(edit)[left] - after[left]).mean() < 3
    handle = edit.locator(".handle").bounding_box()
    box = edit.locator(".viewport").bounding_box()
    edit.mouse.move(handle["x"] + 22, handle["y"] + 200)
    edit.mouse.down()
    edit.mouse.move(box["x"] + 256, handle["y"] + 200, steps=4)
    edit.mouse.up()
    shown = seen(edit)
    assert np.abs(shown[left] - before[left]).mean() < 3 and np.abs(shown[right] - after[right]).mean() < 3
    assert np.abs(shown[left] - after[left]).mean() > 10
    handle = edit.locator(".handle")
    handle.press("End")
    assert np.abs(seen(edit)[right] - before[right]).mean() < 3
    handle.press("Home")
    assert np.abs(seen(edit)[left] - after[left]).mean() < 3
    edit.locator("[data-name=Smiling]").focus()
    edit.keyboard.down("Space")
    assert np.abs(seen(edit)[left] - before[left]).mean() < 3
    edit.keyboard.up("Space")
    assert np.abs(seen(edit)[left] - after[left]).mean() < 3
    hold = edit.get_by_role("button", name="Hold to compare")
    hold.hover()
    edit.mouse.down()
    assert np.abs(seen(edit)[left] - before[left]).mean() < 3
    edit.mouse.up()
    edit.get_by_role("button", name="Zoom").click()
    half = Image.fromarray(after.astype(np.uint8)).crop((128, 128, 384, 384)).resize((512, 512), Image.Resampling.BICUBIC)
    assert np.abs(seen(edit)[middle] - np.asarray(half, dtype=float)[middle]).mean() < 4
    assert np.abs(seen(edit)[middle] - after[middle]).mean() > 4
    for _ in range(2):
        edit.get_by_role("button", name="Zoom").click()
    assert np.abs(seen(edit)[left] - after[left]).mean() < 3


def test_spectrum_shows_the_range_and_goes_on(edit, editor):
    z = face(edit)
    edit.locator(".spectrum summary").click()
    cells = edit.locator(".cells button")
    cells.nth(6).wait_for()
    edit.get_by_label("Across").select_option("yaw")
    edit.locator(".spectrum[aria-busy=false] .cells button[title^='Turn head']").nth(6).wait_for()
    pictures = edit.eval_on_selector_all(".cells img", "all => all.map((image) => image.src)")
    yaw = editor.directions["yaw"]
    own = float(editor.directions.scores(z[None])[0, editor.directions.names.index("yaw")])
    for i, score in ((0, yaw.low), (6, yaw.high)):
        (wanted,) = editor.edit(z, {"yaw": score - own})
        assert np.abs(decode(pictures[i]) - np.asarray(wanted, dtype=float)).max() <= 3
    edit.get_by_label("Up", exact=True).select_option("background_brightness")
    edit.get_by_label("Steps", exact=True).select_option("5")
    edit.wait_for_function("document.querySelectorAll('.cells button').length === 25")
    with edit.expect_download() as download:
        edit.get_by_role("button", name="Save spectrum").click()
    sheet = np.asarray(Image.open(download.value.path()).convert("RGB"), dtype=float)
    assert sheet.shape == (640, 640, 3)
    kept = Recipe.in_picture(download.value.path())
    assert kept.strengths == {} and editor.face(kept).allclose(z, atol=1e-4), "its recipe is of the face that it spreads"
    assert sheet[:40].mean() > sheet[512:552].mean() + 20, "the background is brightest in the highest row"
    cells.nth(4).click()
    settled(edit)
    assert float(edit.locator("[data-name=yaw]").input_value()) == pytest.approx(yaw.high - own, abs=0.02)
    shown = Image.fromarray(pixels(edit, "edit").astype(np.uint8)).resize((128, 128), Image.Resampling.BOX)
    assert np.abs(sheet[:128, 512:] - np.asarray(shown, dtype=float)).mean() < 4
    edit.locator(".spectrum summary").click()


def test_presets_bring_sliders_to_their_percentiles(second):
    edit = second  # a face on which every preset has something to change
    for name, targets in PRESETS.items():
        before = pixels(edit, "edit")
        edit.get_by_role("button", name=name, exact=True).click()
        settled(edit)
        for direction, percent in targets.items():
            at = standing(edit, direction)
            rank = int("".join(filter(str.isdigit, at)) or (99 if percent >= 50 else 1))
            assert rank >= percent - 1 if percent >= 50 else rank <= percent + 1, (name, direction, at)
        assert change(before, pixels(edit, "edit"), WHOLE, WHOLE) > 0.5, name
        edit.get_by_role("button", name="Reset all").click()
        settled(edit)


def test_a_surprise_stays_among_the_data(second, editor):
    page = second
    z = face(page)
    for _ in range(5):
        page.get_by_role("button", name="Surprise me").click()
        assert float((face(page) - z).norm()) > 0.3
        assert float(editor.directions.distance(face(page)[None])) <= editor.directions.radius + 0.05
    settled(page)


def test_a_link_restores_a_generated_face_and_its_edit(second, visit):
    page, smile = second, push(second, "Smiling", 0.7)
    tool(page, "Male", "lock")
    assert recipe(page)["seed"] >= 0 and recipe(page)["strengths"] == {"Smiling": smile} and recipe(page)["locks"] == ["Male"]
    other = visit(address=page.url[page.url.index("/#"):])
    other.wait_for_function("value => Number(document.querySelector('[data-name=Smiling]').value) === value", arg=smile)
    settled(other)
    assert np.array_equal(pixels(other, "edit"), pixels(page, "edit"))
    assert other.locator("[data-slider=Male] [data-do=lock]").get_attribute("aria-pressed") == "true"
    assert recipe(other) == recipe(page)


def test_a_link_holds_the_face_of_a_photo_only_if_asked(edit, second):
    smile = push(edit, "Smiling", 0.7)
    assert set(recipe(edit)) == {"model", "strengths"}
    other, name = second, second.locator("#edit .status").text_content()
    other.goto(edit.url)  # only what is behind the # differs: the page is not loaded again
    other.get_by_role("button", name="Use it on this face").click()
    captioned(other, f"{name}, edited by a link")
    assert recipe(other)["strengths"] == {"Smiling": smile}, "whether or not this face's track is as long"
    stranger = pixels(other, "edit")
    assert change(stranger, pixels(edit, "edit"), WHOLE, WHOLE) > 5, "the edit, on the face that is here"
    edit.get_by_label("with the face").check()
    assert len(recipe(edit)["latent"]) == 32
    address = edit.url
    edit.get_by_label("with the face").uncheck()
    assert "latent" not in recipe(edit)
    other.goto(address)
    captioned(other, "A face from a link")
    assert np.array_equal(pixels(other, "edit"), pixels(edit, "edit"))


@pytest.mark.parametrize(("link", "sentence"), [
    ('{"model": "0123456789ab", "strengths": {"Smiling": 1}}', "of another model (0123456789ab)"),
    ('{"model": "MODEL", "strengths": {"no_such": 1}}', "moves 'no_such', and this model has no slider of that name"),
    ("{", "cut off or damaged"),
    ("%E0%A4%A", "cut off or damaged"),
])
def test_a_link_that_cannot_be_used_says_why_and_loses_nothing(server, second, editor, link, sentence):
    page, address = second, "/#recipe=" + link.replace("MODEL", editor.hash)
    turn = push(page, "yaw", 0.5)
    before = pixels(page, "edit")
    page.goto(server.url + address)
    page.wait_for_function("sentence => document.querySelector('#edit .status').textContent.includes(sentence)", arg=sentence)
    assert unquote(page.url).endswith(unquote(address)), "the link is still there to be copied"
    assert np.array_equal(pixels(page, "edit"), before)
    smile = push(page, "Smiling", 0.7)
    assert recipe(page)["strengths"] == {"Smiling": smile, "yaw": turn}


def test_copy_link_gives_the_address(edit):
    push(edit, "Smiling", 0.7)
    edit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    edit.get_by_role("button", name="Copy link").click()
    edit.get_by_text("Link copied; it holds the edit, not the face.").wait_for()
    assert edit.evaluate("navigator.clipboard.readText()") == edit.url


def test_a_saved_picture_resumes_its_edit(edit, editor, second, tmp_path):
    smile = push(edit, "Smiling", 0.7)
    tool(edit, "Male", "lock")
    with edit.expect_download() as download:
        edit.get_by_role("button", name="Save image").click()
    path = tmp_path / "saved.png"
    download.value.save_as(path)
    image = Image.open(path)
    assert image.size == (512, 512)
    assert np.array_equal(np.asarray(image.convert("RGB"), dtype=float), pixels(edit, "edit"))
    saved = Recipe.read(path)
    assert saved.strengths == {"Smiling": smile} and saved.locks == ("Male",) and saved.model == editor.hash
    assert torch.allclose(editor.shift(torch.tensor(saved.latent), saved.strengths, saved.locks)[0], face(edit), atol=1e-3)
    other = second
    upload(other, path)
    captioned(other, "saved.png")
    # The lock is held by the server once the page has shown its own approximation.
    until(lambda: np.abs(pixels(other, "edit") - pixels(edit, "edit")).mean() < ROUNDED)
    assert float(other.locator("[data-name=Smiling]").input_value()) == smile
    # Of another model, it is a photo, and that is said.
    image.save(path, pnginfo=Recipe("0123456789ab", {"Smiling": 1}, latent=[0.0] * 32).png_info())
    upload(other, path)
    said = other.locator(".photo-box [role=alert]").filter(has_text="opened as a photo").text_content()
    assert "is of the model 0123456789ab" in said


def test_last_value_wins_and_nothing_queues_up(edit):
    smile = push(edit, "Smiling", 0.7)
    wanted = pixels(edit, "edit")
    under_way, most, total = set(), [0], [0]

    def begin(request):
        if "component_server" in request.url and '"decode"' in request.post_data:
            under_way.add(request)
            total[0] += 1
            most[0] = max(most[0], len(under_way))

    edit.on("request", begin)
    edit.on("requestfinished", lambda request: under_way.discard(request))
    edit.eval_on_selector("[data-name=Smiling]", """async (input, last) => {
        for (let i = 0; i <= 100; i++) {
            input.value = i < 100 ? (-1 + (i % 30) / 10) * last : last;
            input.dispatchEvent(new Event("input", { bubbles: true }));
            if (i % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
        }
    }""", smile)
    settled(edit)
    assert np.array_equal(pixels(edit, "edit"), wanted)
    assert most[0] == 1
    assert 1 < total[0] < 60


def test_layout_stands_still_while_dragging(edit):
    def layout():
        return edit.eval_on_selector_all(".stage, .below, .effects, .slider, .slider .track, .standing", """parts => parts.map(
            (part) => {
                const { x, y, width, height } = part.getBoundingClientRect();
                return [x, y, width, height];
            })""")

    tool(edit, "Male", "lock")
    edit.evaluate("window.scrollTo(0, 0)")
    before = layout()
    push(edit, "Smiling", 0.7)
    push(edit, "yaw", -1)
    edit.locator(".effects li").first.wait_for()
    assert layout() == before


def test_lost_connection_is_said_and_recovers(edit):
    before = pixels(edit, "edit")
    edit.context.set_offline(True)
    push(edit, "Smiling", 0.7)
    alert = edit.get_by_role("alert").filter(has_text="connection was lost")
    alert.wait_for()
    assert np.array_equal(pixels(edit, "edit"), before)
    alert.get_by_role("button", name="Retry").click()
    settled(edit)
    assert alert.is_visible()
    edit.context.set_offline(False)  # the browser says so, and the page tries again by itself
    alert.wait_for(state="hidden")
    settled(edit)
    assert not np.array_equal(pixels(edit, "edit"), before)


def bad_text(path):
    path.write_text("This is no picture.")


def bad_truncated(path):
    Image.fromarray(astronaut()).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:9000])


def bad_tiny(path):
    Image.new("RGB", (1, 1)).save(path, "PNG")


def bad_bomb(path):
    Image.new("1", (20000, 20000)).save(path, "PNG")


@pytest.mark.parametrize("make, name", [(bad_text, "text.png"), (bad_truncated, "cut.jpg"), (bad_tiny, "tiny.png"),
                                        (bad_bomb, "bomb.png")])
def test_bad_photo_is_refused_in_one_sentence(edit, tmp_path, make, name):
    smile = push(edit, "Smiling", 0.7)
    before = pixels(edit, "edit")
    make(tmp_path / name)
    upload(edit, tmp_path / name)
    sentence = edit.locator(".photo-box [role=alert]").filter(has_text=name).text_content()
    assert sentence.count(". ") == 0 and sentence.endswith(".") and "Traceback" not in sentence
    assert np.array_equal(pixels(edit, "edit"), before)
    assert float(edit.locator("[data-name=Smiling]").input_value()) == smile


def test_odd_but_valid_photos_load(second, portrait, tmp_path):
    def cmyk(path):
        portrait.convert("CMYK").save(path, "JPEG")

    def sixteen_bit(path):
        Image.fromarray(np.asarray(portrait.convert("L")).astype(np.uint16) * 257).save(path, "PNG")

    def palette(path):
        portrait.convert("P").save(path, "PNG")

    def alpha(path):
        portrait.convert("RGBA").save(path, "PNG")

    def rotated(path):
        exif = Image.Exif()
        exif[274] = 6
        portrait.transpose(Image.Transpose.ROTATE_90).save(path, "JPEG", exif=exif)

    def animated(path):
        portrait.save(path, "GIF", save_all=True, append_images=[Image.new("RGB", portrait.size)])

    def original(page):
        page.wait_for_function("document.querySelector('#edit [data-canvas=edit]').width === 1024")
        page.get_by_role("button", name="Photo", exact=True).click()
        return pixels(page, "before").mean(2)

    page = second
    plain = tmp_path / "plain.png"
    portrait.save(plain)
    upload(page, plain)
    captioned(page, "plain.png")
    wanted = original(page)
    for make, name in [(cmyk, "cmyk.jpg"), (sixteen_bit, "sixteen.png"), (palette, "palette.png"), (alpha, "alpha.png"),
                       (rotated, "rotated.jpg"), (animated, "animated.gif")]:
        make(tmp_path / name)
        upload(page, tmp_path / name)
        captioned(page, name)
        # Upright and of the right brightness: it is the same picture.
        until(lambda: np.abs(original(page) - wanted).mean() < 12)


def test_random_example_and_sample_faces_reach_the_stage(second):
    page = second
    faces = [pixels(page, "edit")]
    for choose in (lambda: page.locator("#random").click(), lambda: page.locator("#examples button").last.click()):
        caption = page.locator("#edit .status").inner_text()
        choose()
        page.wait_for_function("old => document.querySelector('#edit .status').textContent !== old", arg=caption)
        settled(page)
        faces.append(pixels(page, "edit"))
    assert all(change(a, b, WHOLE, WHOLE) > 1 for a, b in pairwise(faces))
    # The same example again, after an edit, is the example again.
    push(page, "Smiling", 0.7)
    page.locator("#examples button").last.click()
    page.wait_for_function("document.querySelector('[data-name=Smiling]').value === '0'")
    settled(page)
    assert np.array_equal(pixels(page, "edit"), faces[-1])


def test_edit_survives_a_visit_to_another_tab(edit):
    smile = push(edit, "Smiling", 0.7)
    before = pixels(edit, "edit")
    edit.get_by_role("tab", name="Sample").click()
    edit.wait_for_selector("#sample .faces button")
    edit.get_by_role("tab", name="Edit").click()
    edit.locator("#edit canvas").first.wait_for()
    assert float(edit.locator("[data-name=Smiling]").input_value()) == smile
    assert np.array_equal(pixels(edit, "edit"), before)


def test_visitors_never_see_each_others_face(edit, second):
    stranger = pixels(second, "edit")
    push(edit, "Smiling", 0.7)
    mine = pixels(edit, "edit")
    assert np.array_equal(pixels(second, "edit"), stranger)
    push(second, "yaw", 0.7)
    set_slider(second, "yaw", 0)
    assert np.array_equal(pixels(second, "edit"), stranger)
    set_slider(edit, "Smiling", 0)
    push(edit, "Smiling", 0.7)
    assert np.array_equal(pixels(edit, "edit"), mine)


@pytest.mark.parametrize("function, payload", [
    ("decode", None),
    ("decode", {}),
    ("decode", {"z": [1.0]}),
    ("decode", {"z": "abc"}),
    ("decode", {"z": [None]}),
    ("decode", {"z": [float("nan")] * 32}),
    ("pictures", {"latents": []}),
    ("pictures", {"latents": [[0.0] * 32] * 82}),
    ("pictures", {"latents": [[0.0] * 32, [0.0]]}),
    ("effects", {"before": [0.0] * 32}),
    ("resume", {}),
    ("resume", {"recipe": {"model": 1}}),
    ("other", {}),
    ("other", {"data": "AAAA", "name": "second.png"}),
    ("wear", {"z": [0.0] * 32, "other": [0.0] * 32}),
    ("wear", {"z": [0.0] * 32, "other": [0.0], "groups": ["Expression"]}),
    ("wear", {"z": [0.0] * 32, "other": [0.0] * 32, "groups": ["Smile"]}),
    ("wear", {"z": [0.0] * 32, "other": [0.0] * 32, "groups": ["Pose"], "locks": ["nothing"]}),
])
def test_malformed_requests_get_a_sentence(server, function, payload):
    answer = server.ask("edit", function, payload)
    assert set(answer) == {"error"} and answer["error"].endswith(".")
