"""A visitor's photo on the stage, in a real browser: found, framed, edited, saved; and nothing of it left on the server."""

import io
import json
import os
import tempfile
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import captioned, change, drag, pixels, set_slider, settled, state, upload
from PIL import ExifTags, Image
from skimage.data import astronaut

from betavae import Editor, Recipe

PORTRAIT = Image.fromarray(astronaut())


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.from_pretrained(device="cpu")


def opened(page, path) -> None:
    """Give the page a photo and wait until it is on the stage."""
    upload(page, path)
    captioned(page, path.name)
    page.wait_for_function("!document.querySelector('#edit .views').hidden")


def saved(page, tmp_path) -> Path:
    # On a phone the stage stays over what scrolls.
    page.eval_on_selector("#edit [data-do=save]", "button => button.scrollIntoView({ block: 'end' })")
    with page.expect_download() as download:
        page.click("#edit [data-do=save]")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_a_photo_is_edited_on_the_stage_and_saved_as_the_library_does_it(visit, editor, tmp_path):
    path = tmp_path / "me.png"
    PORTRAIT.save(path)
    page = visit()
    opened(page, path)
    before = pixels(page, "edit")
    assert before.shape == (1024, 1024, 3)
    # The picture is the photo's own: sharper than any that the model draws.
    detail = np.abs(np.diff(before[300:500, 300:700], axis=1)).mean()
    page.click("[data-view=model]")
    page.wait_for_function("document.querySelector('#edit [data-canvas=edit]').width === 512")
    assert detail > 1.5 * np.abs(np.diff(pixels(page, "edit").repeat(2, 0).repeat(2, 1)[300:500, 300:700], axis=1)).mean()
    page.click("[data-view=photo]")
    page.wait_for_function("document.querySelector('#edit [data-canvas=edit]').width === 1024")
    set_slider(page, "Smiling", -2)
    page.wait_for_function("document.querySelector('#edit [data-canvas=edit]').width === 1024")
    after = pixels(page, "edit")
    assert change(before, after, (0.2, 0.7), (0.3, 0.7)) > 2 and change(before, after, (0.92, 1), (0, 1)) == 0
    path = saved(page, tmp_path)
    assert path.name == "me-edited.png"
    expected = np.asarray(editor.put_back(PORTRAIT, {"Smiling": -2})).astype(int)
    made = np.asarray(Image.open(path)).astype(int)
    assert np.abs(made - expected).mean() < 0.1
    assert Recipe.read(path).strengths == {"Smiling": -2.0}
    # The stage shows what the file holds.
    page.click("[data-do=whole][aria-pressed=false]")
    page.wait_for_selector("[data-do=whole][aria-pressed=true]")
    page.wait_for_function("document.querySelector('#edit .stage').getAttribute('aria-busy') === 'false'")
    stage = np.asarray(Image.fromarray(pixels(page, "edit").astype(np.uint8)).resize((512, 512), Image.Resampling.BOX)).astype(
        int
    )
    assert np.abs(stage - made).mean() < 2


def test_the_models_picture_and_the_photo_are_a_switch(visit, tmp_path):
    path = tmp_path / "me.png"
    PORTRAIT.save(path)
    page = visit()
    opened(page, path)
    photo = pixels(page, "edit")
    page.click("[data-view=model]")
    page.wait_for_function("document.querySelector('#edit [data-canvas=edit]').width === 512")
    assert "keeps" in page.inner_text(".views .kept") or "loses" in page.inner_text(".views .kept")
    page.click("[data-view=photo]")
    page.wait_for_function("document.querySelector('#edit [data-canvas=edit]').width === 1024")
    np.testing.assert_allclose(pixels(page, "edit"), photo, atol=1)


def test_a_lock_holds_in_the_photo_while_a_slider_moves_and_in_the_file(visit, editor, tmp_path):
    path = tmp_path / "me.png"
    PORTRAIT.save(path)
    page = visit()
    opened(page, path)
    z = torch.tensor(state(page, "state.edited"))
    before, locks = pixels(page, "edit"), ["yaw", "Male"]
    for name in locks:
        page.locator(f"[data-name={name}]").focus()
        page.keyboard.press("l")
        settled(page)
    assert drag(page, "yaw", 1.0) == 0
    np.testing.assert_array_equal(pixels(page, "edit"), before)
    # While a slider moves the page keeps the locked scores by itself.
    page.eval_on_selector("[data-name=Smiling]", """input => {
        input.value = -2;
        input.dispatchEvent(new Event("input", { bubbles: true }));
    }""")
    settled(page)
    moving = torch.tensor(state(page, "state.edited"))
    at = [editor.directions.names.index(name) for name in locks]
    scores = editor.directions.scores(torch.stack([z, moving, editor.shift(z, {"Smiling": -2})[0]]))[:, at]
    torch.testing.assert_close(scores[1], scores[0], atol=2e-3, rtol=0)
    assert (scores[2] - scores[0]).abs().max() > 0.05, "without the locks they would move"
    # Released, the edit is the library's, on the stage and in the file.
    set_slider(page, "Smiling", -2)
    edited = torch.tensor(state(page, "state.edited"))
    torch.testing.assert_close(edited, editor.shift(z, {"Smiling": -2}, locks)[0], atol=1e-3, rtol=0)
    made = np.asarray(Image.open(saved(page, tmp_path))).astype(int)
    expected = np.asarray(editor.put_back(PORTRAIT, {"Smiling": -2}, locks)).astype(int)
    assert np.abs(made - expected).mean() < 0.1
    free = np.asarray(editor.put_back(PORTRAIT, {"Smiling": -2})).astype(int)
    assert np.abs(expected - free).mean() > 0.05
    page.click("[data-do=whole]")
    page.wait_for_selector("[data-do=whole][aria-pressed=true]")
    settled(page)
    stage = Image.fromarray(pixels(page, "edit").astype(np.uint8)).resize((512, 512), Image.Resampling.BOX)
    assert np.abs(np.asarray(stage).astype(int) - made).mean() < 2


@pytest.mark.parametrize("width", [1280, 390])
def test_the_photo_what_the_model_sees_and_the_edit_side_by_side(visit, editor, tmp_path, width):
    path = tmp_path / "me.png"
    PORTRAIT.save(path)
    page = visit(width=width, height=844)
    assert page.locator("[data-view=beside]").is_hidden()  # a generated face is no photo
    opened(page, path)
    page.click("[data-view=beside]")
    page.wait_for_selector(".trio:not([hidden])")
    settled(page)
    given, seen = pixels(page, "given"), pixels(page, "seen")
    photo = editor.open(path)
    for shown, expected in ((given, editor.input(photo)), (seen, editor.decode(photo.z)[0])):
        small = np.asarray(Image.fromarray(shown.astype(np.uint8)).resize((64, 64), Image.Resampling.BOX), dtype=float)
        assert np.abs(small - np.asarray(expected)).mean() < 6
    assert np.abs(pixels(page, "edited") - given).mean() < 1  # there is no edit yet
    assert page.inner_text(".trio .kept").startswith("The model keeps ")
    set_slider(page, "Smiling", -2)
    edited = pixels(page, "edited")
    assert change(given, edited, (0.55, 0.95), (0.25, 0.75)) > 2 and np.array_equal(pixels(page, "given"), given)
    boxes = [page.locator(f"[data-canvas={name}]").bounding_box() for name in ("given", "seen", "edited")]
    assert len({round(box["width"]) for box in boxes}) == 1 and boxes[0]["width"] > 150
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    page.click("[data-do=undo]")
    settled(page)
    assert np.abs(pixels(page, "edited") - given).mean() < 1
    page.click("[data-view=photo]")
    page.wait_for_selector(".trio", state="hidden")
    page.wait_for_function("document.querySelector('#edit [data-canvas=edit]').width === 1024")


def test_a_phone_photo_held_upright_of_12_megapixels(visit, editor, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    phone = Image.new("RGB", (3000, 4000), (120, 110, 100))
    phone.paste(PORTRAIT.resize((2000, 2000)), (500, 800))
    path = tmp_path / "IMG_0001.jpg"
    phone.rotate(90, expand=True).save(path, quality=92, exif=exif)
    page = visit(width=390, height=844)
    opened(page, path)
    set_slider(page, "Smiling", -1.5)
    file = saved(page, tmp_path)
    assert file.name == "IMG_0001-edited.jpg"
    picture = Image.open(file)
    assert picture.size == (4000, 3000) and picture.getexif()[ExifTags.Base.Orientation] == 6
    expected = np.asarray(editor.put_back(path, {"Smiling": -1.5})).astype(int)
    assert np.abs(np.asarray(picture).astype(int) - expected).mean() < 2


def test_another_face_of_a_group_is_chosen_by_its_box(visit, tmp_path):
    group = np.full((500, 700, 3), 130, np.uint8)
    face = PORTRAIT.crop((122, 0, 326, 250))
    for x, size, picture in ((20, 250, face), (400, 200, face.transpose(Image.Transpose.FLIP_LEFT_RIGHT))):
        small = picture.resize((size * 204 // 250, size))
        group[50:50 + size, x:x + small.width] = np.asarray(small)
    path = tmp_path / "group.png"
    Image.fromarray(group).save(path)
    page = visit()
    opened(page, path)
    first = pixels(page, "edit")
    page.click("[data-do=frame]")
    page.wait_for_selector(".boxes button[data-face='1']")
    assert page.locator(".boxes button").count() == 2
    page.click(".boxes button[data-face='1']")
    page.wait_for_selector(".framing", state="hidden")
    settled(page)
    page.wait_for_function("document.querySelectorAll('.steps li').length >= 3")
    assert np.abs(pixels(page, "edit") - first).mean() > 5


def test_a_photo_without_a_face_is_framed_by_hand_with_the_keyboard(visit, tmp_path):
    path = tmp_path / "wall.png"
    Image.new("RGB", (400, 300), (140, 130, 120)).save(path)
    page = visit()
    upload(page, path)
    page.wait_for_selector(".framing:not([hidden])")
    assert "no face was found" in page.inner_text(".photo-box [role=alert]")
    ring = page.locator(".eye[data-eye='0']")
    ring.focus()
    x = ring.evaluate("ring => ring.style.left")
    page.keyboard.press("Shift+ArrowLeft")
    assert ring.evaluate("ring => ring.style.left") != x
    page.click("[data-do=frame-eyes]")
    captioned(page, "wall.png")
    page.wait_for_selector(".framing", state="hidden")


def test_a_file_that_is_no_photo_is_one_sentence_and_the_face_stays(visit, tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("not a picture")
    page = visit()
    before = pixels(page, "edit")
    upload(page, path)
    page.wait_for_selector(".photo-box [role=alert]:not([hidden])")
    assert "'notes.png' is not an image" in page.inner_text(".photo-box [role=alert]")
    assert np.array_equal(pixels(page, "edit"), before)


def test_a_photo_dropped_or_pasted_anywhere_is_taken(visit, tmp_path):
    data = io.BytesIO()
    PORTRAIT.save(data, "PNG")
    for kind, field, name in (("drop", "dataTransfer", "dropped.png"), ("paste", "clipboardData", "pasted.png")):
        page = visit()
        page.evaluate("""([kind, field, name, bytes]) => {
            const files = new DataTransfer();
            files.items.add(new File([Uint8Array.from(bytes)], name, { type: "image/png" }));
            const event = kind === "drop" ? new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true })
                : new ClipboardEvent(kind, { clipboardData: files, bubbles: true, cancelable: true });
            document.querySelector(".panel").dispatchEvent(event);
        }""", [kind, field, name, list(data.getvalue())])
        captioned(page, name)


def strengths(page) -> dict[str, float]:
    """What the step that is on the stage has been moved by; the link says so."""
    recipe = urllib.parse.unquote(page.evaluate("window.location.hash").removeprefix("#recipe="))
    return json.loads(recipe)["strengths"] if recipe else {}


def test_anothers_smile_is_worn_and_is_an_edit_like_any(visit, editor, tmp_path):
    """A face of the model's own as the second photo: its expression, as the library has it; less of it, undone, locked."""
    second = tmp_path / "her.png"
    editor.decode(editor.sample(1, 8, 0.8))[0].resize((512, 512)).save(second)
    worn = editor.open(second)
    page = visit()
    z = torch.tensor(state(page, "state.edited"))
    page.get_by_text("Wear another's smile").click()
    page.set_input_files(".wear input[type=file]", second)
    page.wait_for_function("document.querySelectorAll('.steps li').length === 2")
    settled(page)
    assert strengths(page) == pytest.approx(editor.wear(z, worn.z[0], ["Expression"]), abs=2e-3)
    assert page.locator(".steps li.here span").inner_text() == "Expression of her.png"
    # Half of it, as the same step; then the pose as well, as another.
    whole = page.evaluate("window.location.hash")
    page.locator(".amount input").fill("50")
    page.wait_for_function("before => window.location.hash !== before", arg=whole)
    assert page.locator(".steps li").count() == 2
    half = {name: strength / 2 for name, strength in editor.wear(z, worn.z[0], ["Expression"]).items()}
    assert strengths(page) == pytest.approx(half, abs=2e-3)
    page.get_by_role("button", name="Pose", exact=True).click()
    page.wait_for_function("document.querySelectorAll('.steps li').length === 3")
    settled(page)
    both = {name: strength / 2 for name, strength in editor.wear(z, worn.z[0], ["Expression", "Pose"]).items()}
    assert strengths(page) == pytest.approx(both, abs=2e-3)
    page.click("[data-do=undo]")
    settled(page)
    assert strengths(page) == pytest.approx(half, abs=2e-3)
    page.click("[data-do=undo]")
    settled(page)
    # What is locked is left where it is.
    page.locator("[data-name=Smiling]").focus()
    page.keyboard.press("l")
    page.get_by_role("button", name="Pose", exact=True).click()  # no more of it
    page.wait_for_function("document.querySelector('.steps li.here span').textContent === 'Expression of her.png'")
    settled(page)
    held = {name: strength / 2 for name, strength in editor.wear(z, worn.z[0], ["Expression"], locks=["Smiling"]).items()}
    assert "Smiling" not in held and strengths(page) == pytest.approx(held, abs=2e-3)
    # A photo without a face is one sentence, and the edit stays.
    wall = tmp_path / "wall.png"
    Image.new("RGB", (300, 300), (120, 130, 140)).save(wall)
    page.set_input_files(".wear input[type=file]", wall)
    page.get_by_text("No face was found in wall.png; choose another photo to take from.").wait_for()
    assert strengths(page) == pytest.approx(held, abs=2e-3)


def test_nothing_of_a_photo_stays_on_the_server(visit, server, tmp_path):
    path = tmp_path / "me.png"
    PORTRAIT.save(path)
    page = visit()
    opened(page, path)
    set_slider(page, "Smiling", 1)
    saved(page, tmp_path)
    sent = path.read_bytes()
    cache = Path(os.environ.get("GRADIO_TEMP_DIR", Path(tempfile.gettempdir()) / "gradio"))
    assert not any(file.read_bytes() == sent for file in cache.rglob("*.png")), "the upload is kept"
