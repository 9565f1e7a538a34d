"""One move is one step, a lock holds, what is refused is said; and an edit as something to show to others."""

import io

import av
import numpy as np
import pytest
from browser import captioned, drag, pixels, push, settled, upload
from PIL import Image

from betavae import Recipe


@pytest.fixture
def page(one_page):
    """A generated face with every slider at 0."""
    one_page.get_by_role("button", name="Reset all").click()
    one_page.evaluate("window.scrollTo(0, 0)")
    settled(one_page)
    return one_page


def steps(page) -> int:
    return page.locator(".steps li").count()


def value(page, name) -> float:
    return float(page.locator(f"[data-name={name}]").input_value())


def test_a_double_click_resets_in_one_step(page):
    smile = push(page, "Smiling", 0.6)
    before = steps(page)
    page.locator("[data-name=Smiling]").dblclick(position={"x": 60, "y": 10})
    settled(page)
    assert value(page, "Smiling") == 0 and steps(page) == before + 1
    page.keyboard.press("Control+z")
    assert value(page, "Smiling") == smile
    # Of a slider at rest it changes nothing, and is no step.
    before = steps(page)
    page.locator("[data-name=pitch]").dblclick(position={"x": 60, "y": 10})
    settled(page)
    assert value(page, "pitch") == 0 and steps(page) == before


def test_two_drags_are_two_steps(page):
    before = steps(page)
    first = drag(page, "Smiling", 0.5)
    drag(page, "Smiling", 1)
    assert steps(page) == before + 2
    page.keyboard.press("Control+z")
    assert value(page, "Smiling") == first


def test_the_zoom_button_and_a_double_click_agree(page):
    button = page.get_by_role("button", name="Zoom")
    page.locator(".viewport").dblclick(position={"x": 300, "y": 300})
    assert button.inner_text() == "2×"
    button.click()
    assert button.inner_text() == "4×"
    page.locator(".viewport").dblclick(position={"x": 300, "y": 300})
    assert button.inner_text() == "1×"


def test_a_first_branch_moves_nothing_on_the_page(visit):
    page = visit()

    def layout():
        return page.evaluate("['.stage', '.below', '.spectrum', '.panel'].map((part) => {"
                             " const { top, height } = document.querySelector(`#edit ${part}`).getBoundingClientRect();"
                             " return [top, height]; })")

    push(page, "Smiling", 0.5)
    before = layout()
    page.keyboard.press("Control+z")
    push(page, "yaw", 0.5)
    page.locator(".steps .branch").wait_for()
    assert layout() == before
    shown = page.evaluate("[...document.querySelectorAll('.steps .frame')].map((e) => e.getBoundingClientRect().bottom)")
    assert max(shown) <= page.evaluate("document.querySelector('.steps').getBoundingClientRect().bottom"), "both lanes in sight"


def test_undo_of_an_upload_restores_the_box(visit, photo):
    page = visit()
    invite = page.get_by_text("Drop one anywhere, paste, or click")
    upload(page, photo)
    captioned(page, "portrait.png")
    assert page.locator(".drop img").is_visible() and not invite.is_visible()
    page.get_by_role("button", name="Undo").click()
    invite.wait_for()
    assert not page.locator(".drop img").is_visible()
    page.get_by_role("button", name="Redo").click()
    page.locator(".drop img").wait_for()


def test_a_locked_slider_stays_where_it_is(page):
    push(page, "yaw", 0.4)
    kept = value(page, "yaw")
    page.locator("[data-name=yaw]").focus()
    page.keyboard.press("l")
    settled(page)
    before = steps(page)
    assert drag(page, "yaw", -kept) == kept
    page.get_by_text("Turn head is locked; open its lock to move it.").wait_for()
    page.locator("[data-name=yaw]").press("ArrowRight")
    page.locator("[data-name=yaw]").press("Delete")
    page.locator("[data-name=yaw]").dblclick(position={"x": 60, "y": 10}, force=True)  # it is locked: aria-disabled
    page.get_by_role("button", name="Neutral").click()  # which moves the pose, but for what is locked
    settled(page)
    assert value(page, "yaw") == kept and value(page, "pitch") != 0
    assert steps(page) == before + 1
    page.get_by_role("button", name="Reset all").click()
    settled(page)
    assert value(page, "yaw") == 0


@pytest.mark.parametrize(("camera", "sentence"), [
    ("() => Promise.reject(new DOMException('', 'NotAllowedError'))", "The camera was not allowed."),
    ("() => Promise.reject(new DOMException('', 'NotFoundError'))", "No camera was found."),
    ("undefined", "This browser gives no camera to this page."),
])
def test_a_camera_that_cannot_be_had_is_one_sentence(page, camera, sentence):
    devices = f"{{ value: {{ getUserMedia: {camera} }}, configurable: true }}"
    page.evaluate(f"Object.defineProperty(navigator, 'mediaDevices', {devices})")
    before = pixels(page, "edit")
    page.get_by_role("button", name="Camera").click()
    page.get_by_role("alert").filter(has_text=sentence).wait_for()
    assert not page.locator("dialog").is_visible() and np.array_equal(pixels(page, "edit"), before)


def test_a_clipboard_that_is_denied_is_one_sentence(page):
    push(page, "Smiling", 0.5)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: { writeText: () => Promise.reject(new Error()) },"
                  " configurable: true })")
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("The link is in the address bar; it holds the edit and the face.").wait_for()


def saved(page, name) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=name, exact=True).click()
    return download.value.path().read_bytes()


def near(a, b, size=128) -> float:
    """Mean difference of two pictures, of whatever sizes."""
    a, b = (np.asarray(Image.fromarray(np.asarray(x, dtype=np.uint8)).resize((size, size), Image.Resampling.BOX), dtype=float)
            for x in (a, b))
    return float(np.abs(a - b).mean())


def test_a_card_shows_before_and_after_and_carries_the_edit(page):
    start = pixels(page, "edit")
    page.get_by_role("button", name="Before and after").click()
    page.get_by_text("Move a slider first: there is no edit to show yet.").wait_for()
    turn = push(page, "yaw", 0.8)
    after = pixels(page, "edit")
    file = io.BytesIO(saved(page, "Before and after"))
    card = np.asarray(Image.open(file).convert("RGB"))
    left, right = card[20:540, 20:580], card[20:540, 600:1160]
    assert near(left[:500], start[:round(512 * 500 / 560)]) < 4 and near(right[:500], after[:round(512 * 500 / 560)]) < 4
    assert near(left, right) > 3 and card.shape == (664, 1180, 3)
    recipe = Recipe.in_picture(file)
    assert recipe.strengths == {"yaw": turn} and recipe.seed is not None


def test_a_loop_goes_there_and_back(page):
    start = pixels(page, "edit")
    turn = push(page, "yaw", 0.8)
    after = pixels(page, "edit")
    file = io.BytesIO(saved(page, "GIF"))
    image = Image.open(file)
    assert image.size == (384, 384) and image.info["loop"] == 0
    frames = []
    for i in range(image.n_frames):
        image.seek(i)
        frames.append(np.asarray(image.convert("RGB")))
    away = [near(frame, start) for frame in frames]
    assert away[0] < 5 and min(near(frame, after) for frame in frames) < 5
    jumps = [near(a, b) for a, b in zip(frames, [*frames[1:], frames[0]], strict=True)]
    assert max(jumps) < 0.5 * max(away), "none, and at the seam neither"
    recipe = Recipe.in_picture(file)
    assert recipe.strengths == {"yaw": turn} and recipe.seed is not None
    with av.open(io.BytesIO(saved(page, "MP4"))) as video:
        assert video.metadata["comment"] == recipe.comment()
        film = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert film[0].shape == (384, 384, 3) and near(film[0], start) < 6 and min(near(frame, after) for frame in film) < 6
    assert 1 < len(film) / 20 < 4, "seconds"


def test_a_saved_loop_goes_on_where_it_was_saved(visit, tmp_path):
    page = visit()
    turn = push(page, "yaw", 0.8)
    after, path = pixels(page, "edit"), tmp_path / "edit.gif"
    path.write_bytes(saved(page, "GIF"))
    other = visit()
    upload(other, path)
    other.wait_for_function("turn => Number(document.querySelector('[data-name=yaw]').value) === turn", arg=turn)
    settled(other)
    assert near(pixels(other, "edit"), after) < 2


def test_a_loop_of_a_photo_is_of_the_photo(visit, photo):
    page = visit()
    upload(page, photo)
    captioned(page, "portrait.png")
    page.wait_for_function("document.querySelector('#edit [data-canvas=edit]').width === 1024")
    before = pixels(page, "edit")
    push(page, "Smiling", 0.7)
    image = Image.open(io.BytesIO(saved(page, "GIF")))
    assert near(np.asarray(image.convert("RGB")), before) < 6, "its own pixels, not the model's"


@pytest.mark.parametrize("request_", [
    {}, {"format": "gif"}, {"format": "gif", "frames": []}, {"format": "gif", "frames": ["x"] * 3},
    {"format": "avi", "frames": ["x"] * 3}, {"format": "gif", "frames": ["x"] * 3, "recipe": {"model": 1}},
    {"format": "mp4", "frames": ["aGVsbG8="] * 3}, {"format": "mp4", "frames": ["aGVsbG8="] * 1000},
])
def test_malformed_loops_get_a_sentence(server, request_):
    answer = server.ask("edit", "loop", request_)
    assert set(answer) == {"error"} and answer["error"].endswith(".")
