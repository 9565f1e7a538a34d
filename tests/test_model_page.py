"""The Model tab, in a browser; and the shelf behind it, which gives each model a page of its own."""

import json
import re
from pathlib import Path
from urllib.parse import quote

import gradio as gr
import numpy as np
import pytest
from browser import captioned, change, pixels, set_slider, settled, upload
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from starlette.routing import Mount

import app
from betavae import Editor, ModelError
from betavae.hub import SHIPPED
from betavae.ui import shelf as shelves
from betavae.ui.shelf import PREFIX, Shelf


def test_card_scores_curves_and_limits_are_those_of_the_folder(visit):
    page = visit()
    page.get_by_role("tab", name="Model").click()
    metrics = json.loads((SHIPPED / "metrics.json").read_text())
    about = page.locator(".model .about").inner_text()
    assert f"{metrics['images_seen']:,} images" in about and "non-commercial research" in about
    row = page.locator(".model .scores tbody tr", has_text="val").inner_text().split()
    assert f"{metrics['val']['bce_gap']:,.2f}" in row and f"{metrics['val']['psnr']:.2f}" in row
    entries = [json.loads(line) for line in (SHIPPED / "log.jsonl").read_text().splitlines()]
    lines = page.eval_on_selector_all(".model svg path", "paths => paths.map((path) => path.getAttribute('d'))")
    assert len(lines) == 4
    trained, validated = (np.array(re.findall(r"([\d.-]+) ([\d.-]+)", line), dtype=float) for line in lines[:2])
    assert len(trained) == sum(entry["kind"] == "train" for entry in entries)
    # The validation curve as drawn is the one in the log: left to right in time, up and down in value.
    bce = [entry["bce"] for entry in entries if entry["kind"] == "val"]
    assert np.corrcoef(validated[:, 1], bce)[0, 1] < -0.999 and (np.diff(validated[:, 0]) > 0).all()
    assert "photographs of celebrities" in page.locator(".model .limits").inner_text()


def test_another_model_has_a_page_of_its_own_that_works(visit, server):
    page = visit()
    first = pixels(page, "edit")
    page.get_by_role("tab", name="Model").click()
    page.get_by_role("button", name="one", exact=True).click()
    page.wait_for_url(f"{server.url}/model/one/")
    settled(page)
    about = page.locator("#header small").get_attribute("title")
    assert "8 numbers, its latents; 2 directions" in about
    before = pixels(page, "edit")
    assert change(first, before, (0, 1), (0, 1)) > 1
    set_slider(page, "yaw", 1)
    assert change(before, pixels(page, "edit"), (0, 1), (0, 1)) > 0
    page.get_by_role("tab", name="Model").click()
    current = page.locator("[aria-current=page]")
    current.wait_for()
    assert current.inner_text() == "one"
    page.get_by_role("button", name="First model").click()
    page.wait_for_url(f"{server.url}/")
    settled(page)
    assert np.array_equal(pixels(page, "edit"), first)


def test_a_model_with_masks_leaves_the_photos_background_to_it(visit, shelf, photo):
    page = visit(address="/model/two/")
    upload(page, photo)
    captioned(page, "portrait.png")
    page.click("[data-view=model]")
    settled(page)
    set_slider(page, "yaw", 1)
    editor = Editor.from_pretrained(shelf / "two", "cpu")
    z, size = editor.encode(photo), (512, 512)
    wanted, over_grey = (
        np.asarray(
            editor.edit(z, {"yaw": 1}, background=behind)[0].resize(size, Image.Resampling.BICUBIC), float
        )
        for behind in (editor.input(photo), None)
    )
    shown = pixels(page, "edit")
    assert np.abs(shown - wanted).mean() < 5 < np.abs(shown - over_grey).mean()


def test_a_model_without_directions_says_so_and_offers_none(visit):
    page = visit(address="/model/bare/")
    panel = page.locator(".panel")
    assert "has no directions yet" in panel.inner_text()
    for name in ("Surprise me", "Neutral"):
        assert page.get_by_role("button", name=name).count() == 0
    assert not panel.get_by_role("searchbox").is_visible()


def test_a_model_that_there_is_not_is_one_sentence(visit):
    page = visit(390, 844)
    page.get_by_role("tab", name="Model").click()
    for name, sentence in (("three", "There is no model 'three' here; choose from bare, one, two,"),
                           ("some/faces", "The Hub repository 'some/faces' cannot be opened"), ("", "Write the name")):
        page.locator("#repository").fill(name)
        page.get_by_role("button", name="Open").click()
        page.wait_for_function("text => document.querySelector('.others .status').textContent.startsWith(text)", arg=sentence)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.fixture
def pages(shelf, monkeypatch):
    """A client of a shelf with room for one model; ``built`` are the names of the pages it built."""
    monkeypatch.setattr(shelves, "OPEN", 1)
    built = []

    def build(name: str, folder: Path) -> gr.Blocks:
        built.append(name)
        return app.build_demo(Editor.from_pretrained(folder, "cpu", name))

    shelf = Shelf([shelf], build, app.serving())
    page = FastAPI(routes=[Mount(PREFIX, shelf)], lifespan=shelf.lifespan)
    with TestClient(page, raise_server_exceptions=False) as client:
        client.built = built
        yield client


def test_a_model_that_made_room_comes_back(pages):
    def latents(name):
        return pages.post(f"{PREFIX}/{name}/gradio_api/run/model", json={"data": []}).json()["data"][0]["name"]

    assert [latents(name) for name in ("one", "one", "two", "one")] == ["one", "one", "two", "one"]
    assert pages.built == ["one", "two", "one"]


def test_only_models_that_were_given_are_opened(pages):
    for name in ("three", "..", "%2e%2e", "assets--celeba64"):
        answer = pages.get(f"{PREFIX}/{name}/")
        assert answer.status_code == 404 and "Traceback" not in answer.text
    assert pages.built == []


def test_a_page_on_the_shelf_opens_uploads_only(pages, shelf):
    secret = shelf / "secret.png"
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    answer = pages.post(f"{PREFIX}/one/gradio_api/run/encode", json={"data": [file, "auto"]})
    assert "not uploaded" in answer.json()["error"]


def test_without_a_second_decoder_there_is_no_switch_and_a_sharp_link_says_why(visit, shelf):
    page = visit(address=f"{PREFIX}/one/")
    assert page.locator("#edit .detail").count() == 0
    model = Editor.from_pretrained(shelf / "one", "cpu")
    recipe = {"model": model.hash, "strengths": {}, "seed": 5, "temperature": 0.8, "sharp": True}
    page.goto(f"{visit.server.url}{PREFIX}/one/#recipe={quote(json.dumps(recipe))}")
    page.get_by_text("This link is of a sharp picture, and this model has no second decoder to draw it.").wait_for()


def test_folders_without_models_and_names_that_are_taken_are_refused(shelf, tmp_path):
    with pytest.raises(ModelError, match="no model folder"):
        Shelf([tmp_path], None, {})
    with pytest.raises(ModelError, match="two models 'one'"):
        Shelf([shelf, shelf / "one"], None, {})
    assert app.main(["--models", str(tmp_path)]) == 1
