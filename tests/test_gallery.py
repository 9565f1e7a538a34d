"""The faces of a data set by number: from the folder, in the library, over the API and on the page."""

import numpy as np
import pytest
from browser import Server, Visitors, captioned, pixels, settled
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from betavae import Editor
from betavae.gallery import Gallery, GalleryError


def test_a_face_has_the_number_of_its_file(few, tmp_path, portrait):
    gallery = Gallery(few)
    low, high = gallery.numbers
    assert gallery.crop == "aligned" and gallery.path(low).name == f"{low:06d}.jpg"
    with pytest.raises(GalleryError, match=f"no face number 0 here; there are {len(gallery)}, from {low} to {high}"):
        gallery.path(0)
    with pytest.raises(GalleryError, match="nan"):
        gallery.path(float("nan"))
    with pytest.raises(GalleryError, match="no picture in"):
        Gallery(tmp_path)
    for name in ("b.png", "a.png"):
        portrait.save(tmp_path / name)
    others = Gallery(tmp_path)
    assert others.crop == "auto" and [others.path(n).name for n in (1, 2)] == ["a.png", "b.png"]


def test_original_reconstruction_and_edit(few):
    editor, gallery = Editor.from_pretrained(), Gallery(few)
    numbers = sorted(int(path.stem) for path in (few / "img_align_celeba").glob("*.jpg"))
    path = gallery.path(numbers[0])
    original, reconstruction, edit = (
        np.asarray(image, float) for image in editor.side_by_side(path, {"Smiling": 2}, crop="aligned")
    )
    assert original.shape == reconstruction.shape == edit.shape == (64, 64, 3)
    assert np.array_equal(original, np.asarray(editor.input(path, "aligned"), float))
    # The reconstruction is of this face and no other, and the edit is of the reconstruction.
    others = [np.asarray(editor.input(gallery.path(n), "aligned"), float) for n in numbers[1:40]]
    assert np.abs(original - reconstruction).mean() < min(np.abs(other - reconstruction).mean() for other in others)
    assert 2 < np.abs(edit - reconstruction).mean() < np.abs(original - others[0]).mean()


def test_by_number_on_the_page_and_over_the_api(few, browser, tmp_path):
    gallery = Gallery(few)
    low, high = gallery.numbers
    with Server(tmp_path / "log", "--data", str(few)) as server:
        visit = Visitors(server, browser)
        page = visit()
        field = page.locator("#face-number input")
        field.fill(str(high))
        field.press("Enter")
        captioned(page, f"Face {high}")
        page.click("[data-view=beside]")
        page.wait_for_selector(".trio:not([hidden])")
        settled(page)
        assert page.locator("[data-view=photo]").is_hidden()  # there is no photo to put an edit back into
        assert page.inner_text(".trio .kept").startswith("The model ")
        assert 2 < np.abs(pixels(page, "given") - pixels(page, "seen")).mean() < 60
        np.testing.assert_array_equal(pixels(page, "edited"), pixels(page, "seen"))
        field.fill("0")
        field.press("Enter")
        page.get_by_text(f"There is no face number 0 here; there are {len(gallery)}").wait_for()
        visit.leave()
        client = Client(server.url, verbose=False, download_files=str(tmp_path / "answers"))
        (original, _, edit), latent = client.predict(low, {"Smiling": 1.0}, api_name="/numbered_face")
        expected = Editor.from_pretrained(device="cpu").side_by_side(gallery.path(low), {"Smiling": 1.0}, crop="aligned")
        for file, image in ((original, expected[0]), (edit, expected[2])):
            assert np.abs(np.asarray(Image.open(file), int) - np.asarray(image, int)).max() <= 1
        assert len(latent) == 32
        with pytest.raises(AppError, match="There is no face number 0"):
            client.predict(0, api_name="/numbered_face")
    assert "Traceback" not in (tmp_path / "log").read_text()
