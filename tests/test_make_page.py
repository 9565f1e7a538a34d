"""The Make tab, in a browser: a direction of a visitor's own, made of faces whose difference is known."""

import re

import numpy as np
import pytest
import torch
from browser import captioned, change, pixels, set_slider, settled
from PIL import Image
from safetensors.torch import save_file

from betavae import Directions, Editor
from betavae.image import extend

WHOLE = (0, 1)


@pytest.fixture(scope="module")
def editor():
    return Editor.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def faces(editor, tmp_path_factory):
    """Pictures of five generated faces, smiling broadly and as they are."""
    folder = tmp_path_factory.mktemp("faces")
    z = editor.sample(5, seed=3, temperature=0.8)
    z = torch.cat([z + 1.5 * editor.directions["Smiling"].vector, z])
    paths = [folder / f"{i}.png" for i in range(10)]
    for picture, path in zip(editor.decode(z), paths, strict=True):
        extend(picture, editor.config).save(path)
    return paths[:5], paths[5:]


@pytest.fixture
def make(visit):
    """The Make tab of a new visitor, and what puts photos into its boxes."""
    page = visit()
    page.get_by_role("tab", name="Make").click()
    page.locator(".make").wait_for()

    def put(side, paths):
        count = page.locator(f"[data-side={side}] li").count()
        page.set_input_files(f"#photos-{side} input[type=file]", paths)
        page.wait_for_function("([side, count]) => document.querySelectorAll(`[data-side=${side}] li`).length === count",
                               arg=[side, count + len(paths)])

    page.put = put
    return page


def made(page):
    """Wait until the direction of the faces in the boxes is shown."""
    page.locator(".make dl dt").first.wait_for()
    settled(page, "make")


def test_faces_become_a_direction_that_joins_the_sliders(make, editor, faces, tmp_path):
    smiling, others = faces
    make.put("positives", smiling)
    assert not make.locator(".make .result").is_visible()
    make.put("negatives", others)
    made(make)
    report = make.locator(".make .report").inner_text()
    assert "Tells apart faces it has not seen" in report and "Stability" in report
    assert "5 faces on a side" in report or "Not to be trusted" in report
    assert "Smile (+" in report
    # The preview: the face being edited, and it with the direction; the mouth changes more than the rest.
    plain, with_it = pixels(make, "plain"), pixels(make, "made")
    assert change(plain, with_it, (0.6, 0.9), (0.25, 0.75)) > 1.1 * change(plain, with_it, WHOLE, WHOLE) > 1
    make.get_by_label("Name").fill("Broad smile")
    make.get_by_label("Name").press("Tab")
    settled(make, "make")
    with make.expect_download() as download:
        make.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "Broad-smile.safetensors"
    download.value.save_as(tmp_path / "pack.safetensors")
    pack = Directions.load(tmp_path / "pack.safetensors", editor.config.latents)
    expected = editor.encode(smiling).mean(0) - editor.encode(others).mean(0)
    torch.testing.assert_close(pack["Broad smile"].vector, expected, atol=1e-3, rtol=0)
    make.get_by_role("button", name="Add to the sliders").click()
    make.get_by_role("button", name="Add to the sliders").click()
    assert "already; choose another name" in make.locator(".make .status").inner_text()

    make.get_by_role("tab", name="Edit").click()
    before = pixels(make, "edit")
    set_slider(make, "'Broad smile'", 1)
    after = pixels(make, "edit")
    assert change(before, after, (0.6, 0.9), (0.25, 0.75)) > 1.1 * change(before, after, WHOLE, WHOLE) > 1
    assert np.abs(after[::2, ::2] - with_it).mean() < 4, "the same picture as in the preview"


def test_faces_dropped_on_a_box_are_taken(make, faces):
    files = [{"name": path.name, "bytes": list(path.read_bytes())} for path in faces[0][:2]]
    make.eval_on_selector("[data-side=negatives]", """(box, files) => {
        const dataTransfer = new DataTransfer();
        for (const { name, bytes } of files) {
            dataTransfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
        }
        box.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    }""", files)
    make.wait_for_function("document.querySelectorAll('[data-side=negatives] li').length === 2")
    assert make.locator("[data-side=positives] li").count() == 0


def test_another_visitor_does_not_get_it(make, visit, faces):
    make.put("positives", faces[0][:1])
    make.put("negatives", faces[1][:1])
    made(make)
    assert "One face on a side" in make.locator(".make .warning").inner_text()
    make.get_by_role("button", name="Add to the sliders").click()
    assert make.locator("[data-slider='My direction']").count() == 1
    stranger = visit()
    assert stranger.locator("[data-slider='My direction']").count() == 0
    stranger.get_by_role("tab", name="Make").click()
    assert stranger.locator(".make li").count() == 0


def test_this_face_minus_that_one_by_way_of_the_edit_tab(make):
    first = make.locator("#edit .status").text_content()
    make.locator("[data-side=negatives] [data-do=take]").click()
    make.locator("[data-side=negatives] li").wait_for()
    make.get_by_role("tab", name="Edit").click()
    captioned(make, first)
    set_slider(make, "Smiling", 2)
    edited = pixels(make, "edit")
    make.get_by_role("tab", name="Make").click()
    make.locator("[data-side=positives] [data-do=take]").click()
    made(make)
    # Nearly 1: the two faces differ by Smiling as it is at this face.
    assert re.search(r"Most like\s+Smile \(\+(0\.9\d|1\.00)\)", make.locator(".make .report").inner_text())
    assert np.abs(pixels(make, "plain") - edited[::2, ::2]).mean() < 4
    make.get_by_role("button", name="Remove Edited face").first.click()
    assert not make.locator(".make .result").is_visible()


def test_a_file_with_a_direction_becomes_a_slider_or_a_sentence(make, editor, tmp_path):
    def load(path):
        make.set_input_files("#pack input[type=file]", path)

    np.save(tmp_path / "Turned.npy", editor.directions["yaw"].vector.numpy())
    load(tmp_path / "Turned.npy")
    make.wait_for_function("document.querySelector('.make .status').textContent.includes('Turned')")
    assert make.locator("[data-slider=Turned]").count() == 1
    np.save(tmp_path / "wide.npy", np.zeros(9))
    load(tmp_path / "wide.npy")
    sentence = make.get_by_test_id("toast-text").filter(has_text="wide.npy").text_content()
    assert "(9,)" in sentence and "(32,)" in sentence and "/" not in sentence and sentence.endswith(".")
    save_file({"a": torch.zeros(3)}, tmp_path / "other.safetensors")
    load(tmp_path / "other.safetensors")
    assert "damaged" in make.get_by_test_id("toast-text").filter(has_text="other.safetensors").text_content()


@pytest.mark.parametrize(("payload", "sentence"), [
    ({"name": "Mine", "positives": [], "negatives": []}, "1 to 20 faces"),
    ({"name": "Mine", "positives": [[0.0] * 32] * 21, "negatives": [[1.0] * 32]}, "1 to 20 faces"),
    ({"name": "Mine", "positives": [[0.0], [0.0, 1.0]], "negatives": [[1.0] * 32]}, "different sizes"),
    ({"name": "Mine", "positives": [[0.0]], "negatives": [[1.0] * 32]}, "at least one is needed"),
    ({"name": "yaw", "positives": [[0.0] * 32], "negatives": [[1.0] * 32]}, "'yaw' already"),
    ({"name": " ", "positives": [[0.0] * 32], "negatives": [[1.0] * 32]}, "no name"),
    ({"name": "Mine", "positives": [[0.0] * 32], "negatives": [[0.0] * 32]}, "no length"),
])
def test_malformed_requests_get_a_sentence(server, payload, sentence):
    answer = server.ask("make", "make", payload)
    assert sentence in answer["error"] and answer["error"].endswith(".")


def test_a_picture_without_a_face_is_refused_by_name_and_the_others_stay(make, faces, tmp_path):
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "wall.png")
    (tmp_path / "notes.png").write_text("no picture")
    count = make.locator("[data-side=positives] li").count()
    make.set_input_files("#photos-positives input[type=file]", [faces[0][0], tmp_path / "wall.png", tmp_path / "notes.png"])
    for name, said in (("wall.png", "no face was found"), ("notes.png", "not an image")):
        assert said in make.get_by_test_id("toast-text").filter(has_text=name).text_content()
    make.wait_for_function("count => document.querySelectorAll('[data-side=positives] li').length === count", arg=count + 1)
