"""Tabs Interpolate, Sample and Explore in a real browser, as a person uses them; pictures are compared by their pixels."""

import io
import json

import av
import numpy as np
import pytest
import torch
from browser import Server, change, decode, pixels, set_slider, settled, upload
from conftest import TINY
from PIL import Image

from betavae import VAE, Editor, Recipe, hub
from betavae.hub import SHIPPED

WHOLE = (0, 1)
ZERO = [0.0] * json.loads((SHIPPED / "config.json").read_text())["latents"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The app on the shipped model beside two small ones, of which one has an atlas and figures."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name in ("measured", "bare"):
        hub.save(VAE(TINY), folder / name)
    entry = {"name": "yaw", "r": -0.9, "low": -0.91, "high": -0.89}
    (folder / "measured" / "atlas.json").write_text(json.dumps({"faces": 100, "latents": [[]] * 5 + [[entry]] + [[]] * 2}))
    (folder / "measured" / "metrics.json").write_text(json.dumps({"val": {"kl_per_latent": [1.0] * 8}}))
    with Server(folder / "log", "--compare", str(folder / "measured"), str(folder / "bare")) as server:
        yield server
    assert "Traceback" not in (folder / "log").read_text()


def opened(page, tab):
    page.get_by_role("tab", name=tab).click()
    settled(page, tab.lower())
    return page


def moved(page, selector, value):
    """Give an input of a tab another value, as dragging or typing does."""
    page.eval_on_selector(selector, """(input, value) => {
        input.value = value;
        input.dispatchEvent(new Event("input", { bubbles: true }));
        input.dispatchEvent(new Event("change", { bubbles: true }));
    }""", value)
    settled(page, selector.split()[0][1:])


def at(page, position):
    moved(page, "#interpolate .position", position)
    page.wait_for_selector("#interpolate .strip[aria-busy=false]")
    return pixels(page, "between")


def faces_on_path(page, count):
    page.wait_for_function("n => document.querySelectorAll('#interpolate .faces li').length === n", arg=count)
    settled(page, "interpolate")
    page.wait_for_selector("#interpolate .strip[aria-busy=false]")


def small(picture, size=128):
    return np.asarray(Image.fromarray(picture.astype(np.uint8)).resize((size, size), Image.Resampling.BOX), dtype=float)


def test_a_path_through_three_faces_reordered_and_exported(visit, photo):
    page = visit()
    set_slider(page, "Smiling", 1)
    edited = pixels(page, "edit")
    opened(page, "Interpolate")
    page.locator("#edited-path").click()
    faces_on_path(page, 3)
    assert change(at(page, 1), edited, WHOLE, WHOLE) < 1, "the edited face is the last"
    start, middle = at(page, 0), at(page, 0.5)
    assert change(start, middle, WHOLE, WHOLE) > 3 and change(middle, edited, WHOLE, WHOLE) > 3

    # The strip shows the same path, and its pictures are places on it.
    strip = page.eval_on_selector_all("#interpolate .strip canvas", "all => all.map((canvas) => canvas.toDataURL())")
    assert len(strip) == 9
    for i, picture in ((0, start), (4, middle), (8, edited)):
        assert np.abs(decode(strip[i]) - small(picture)).mean() < 3
    page.locator("#interpolate .strip button").nth(4).click()
    settled(page, "interpolate")
    assert np.array_equal(pixels(page, "between"), middle)

    # Between two faces the form of the path and its speed change the picture, and at a face they do not.
    quarter = at(page, 0.25)
    page.get_by_role("button", name="straight", exact=True).click()
    straight = at(page, 0.25)
    assert change(quarter, straight, WHOLE, WHOLE) > 0.1
    page.get_by_label("Speed").select_option("ease in")
    assert change(straight, at(page, 0.25), WHOLE, WHOLE) > 1
    assert change(middle, at(page, 0.5), WHOLE, WHOLE) < 0.5

    # Another order: the first face goes to the end, and then away.
    page.locator("#interpolate [data-do=later]").nth(0).click()
    page.locator("#interpolate [data-do=later]").nth(1).click()
    assert change(at(page, 1), start, WHOLE, WHOLE) < 1
    page.locator("#interpolate [data-do=remove]").nth(2).click()
    faces_on_path(page, 2)
    assert change(at(page, 1), edited, WHOLE, WHOLE) < 1 and change(at(page, 0), middle, WHOLE, WHOLE) < 1
    assert page.locator("#interpolate [data-do=remove]").first.is_disabled()

    # A photo joins; the input is empty again, for the next one.
    upload(page, photo, "photo-path")
    faces_on_path(page, 3)
    assert page.locator("#interpolate .faces small").last.inner_text() == "portrait.png"
    page.locator("#photo-path input[type=file]").wait_for(state="attached")

    # In motion: a loop that ends where it began, and a film of the same number of frames.
    moved_seconds = "#animation-seconds"
    page.eval_on_selector(moved_seconds, "input => { input.value = 0.4; input.dispatchEvent(new Event('input')); }")
    image = Image.open(io.BytesIO(exported(page, "gif")))
    assert image.n_frames == 30 and image.size == (256, 256) and image.info["loop"] == 0
    shown = []
    for i in range(30):
        image.seek(i)
        shown.append(np.asarray(image.convert("RGB"), dtype=float))
    assert np.abs(shown[10] - small(edited, 256)).mean() < 5
    steps = [np.abs(a - b).mean() for a, b in zip(shown, [*shown[1:], shown[0]], strict=True)]
    assert steps[-1] < 3 * np.median(steps), "no seam"
    with av.open(io.BytesIO(exported(page, "mp4"))) as video:
        film = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(film) == 30 and film[0].shape == (512, 512, 3)
    assert np.abs(small(film[0].astype(float), 256) - shown[0]).mean() < 6

    # A number that cannot be had is corrected where it was typed.
    moved(page, "#interpolate .count", 99)
    page.wait_for_selector("#interpolate .strip[aria-busy=false]")
    assert page.locator("#interpolate .count").input_value() == "15"
    assert page.locator("#interpolate .strip canvas").count() == 15

    # What is saved carries the face that it shows, and the strip its first one.
    wanted = at(page, 0.75)
    for name, shows in (("Save image", wanted), ("Save strip", first_of_strip(page))):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        z = torch.tensor(Recipe.read(download.value.path()).latent)
        (picture,) = Editor.from_pretrained(device="cpu").decode(z)
        side = shows.shape[:2]
        assert np.abs(np.asarray(picture.resize(side, Image.Resampling.BICUBIC), dtype=float) - shows).mean() < 5

    # An export that is not wanted any more is stopped, and the next one can begin.
    page.locator("#animation [data-do=make]").click()
    page.locator("#animation [data-do=cancel]").click()
    page.locator("#animation .status", has_text="Cancelled").wait_for()
    page.locator("#animation .run").wait_for(state="hidden")
    assert len(exported(page, "gif")) > 10_000

    # Back to Edit with a face of the path.
    wanted = at(page, 0.75)
    page.get_by_role("button", name="Edit this face").click()
    page.wait_for_selector("#edit canvas >> visible=true")
    page.wait_for_function("document.querySelector('#edit .status').textContent.includes('75 % of the way')")
    settled(page)
    assert change(pixels(page, "edit"), wanted, WHOLE, WHOLE) < 1


def first_of_strip(page) -> np.ndarray:
    return decode(page.eval_on_selector("#interpolate .strip canvas", "canvas => canvas.toDataURL()"))


def exported(page, kind) -> bytes:
    page.eval_on_selector("#animation .result", "result => result.replaceChildren()")
    page.locator(f"#animation [data-format={kind}]").click()
    page.locator("#animation [data-do=make]").click()
    page.wait_for_selector(f"#animation a[download='faces.{kind}']", timeout=120_000)
    with page.expect_download() as download:
        page.locator("#animation a").click()
    return download.value.path().read_bytes()


def grid(page, index=0):
    return page.eval_on_selector_all(f"#sample .grids section:nth-child({index + 1}) img",
                                     "images => images.map((image) => image.src)")


def test_samples_are_those_of_the_seed_the_source_and_the_sliders(visit):
    page = opened(visit(), "Sample")
    opening = grid(page)
    moved(page, "#sample #seed", 5)
    first = grid(page)
    moved(page, "#sample #seed", 6)
    assert first != opening and first != grid(page) and len(first) == 24
    moved(page, "#sample #seed", 5)
    assert grid(page) == first
    moved(page, "#sample #count", 6)
    assert grid(page) == first[:6]
    moved(page, "#sample #seed", 5.4)
    assert page.locator("#sample #seed").input_value() == "5" and grid(page) == first[:6]

    # The same noise from both sources; without noise, N(0, I) has one face, and the mixture one for each component.
    page.get_by_role("button", name="Both").click()
    page.wait_for_selector("#sample .grids section:nth-child(2) img")
    settled(page, "sample")
    assert grid(page) == first[:6] and not set(grid(page, 1)) & set(first)
    moved(page, "#sample #temperature", 0)
    assert len(set(grid(page))) == 1 and len(set(grid(page, 1))) > 1
    moved(page, "#sample #temperature", 0.8)

    # Truncation pulls every face towards the average one, and leaves each itself.
    page.get_by_role("button", name="From noise", exact=True).click()
    settled(page, "sample")
    moved(page, "#sample #truncation", 0.5)
    bounded = [decode(uri) for uri in grid(page)]
    free = [decode(uri) for uri in first[:6]]
    assert np.std(bounded, axis=0).mean() < 0.7 * np.std(free, axis=0).mean()
    apart = np.array([[np.corrcoef((a - np.mean(bounded, 0)).ravel(), (b - np.mean(free, 0)).ravel())[0, 1] for b in free]
                      for a in bounded])
    assert (apart.argmax(1) == np.arange(6)).all()


def test_neighbours_are_near_the_edited_face_and_open_elsewhere(visit):
    page = visit()
    set_slider(page, "Smiling", 1)
    centre = small(pixels(page, "edit"), 64)
    opened(page, "Sample")
    moved(page, "#sample #count", 6)
    page.get_by_role("button", name="Neighbours").click()
    settled(page, "sample")

    def distances():
        return np.array([np.abs(decode(uri) - centre).mean() for uri in grid(page)])

    moved(page, "#sample #radius", 0)
    assert (distances() < 4).all()
    moved(page, "#sample #radius", 2)
    near = distances()
    moved(page, "#sample #radius", 6)
    assert (distances() > near).mean() > 0.8 and near.min() > distances().min() * 0.1 and (near > 4).any()

    picture = decode(grid(page)[3])
    page.locator("#sample .faces button").nth(3).click()
    page.wait_for_function("document.querySelector('#edit .status').textContent.includes('Neighbours 4 of seed 0')")
    settled(page)
    assert np.abs(small(pixels(page, "edit"), 64) - picture).mean() < 4
    assert page.get_by_role("tab", name="Edit").get_attribute("aria-selected") == "true"

    opened(page, "Sample")
    page.get_by_role("button", name="From noise", exact=True).click()
    settled(page, "sample")
    picture = decode(grid(page)[0])
    page.get_by_role("button", name="adds to the path").click()
    page.locator("#sample .faces button").first.click()
    faces_on_path(page, 3)
    assert page.get_by_role("tab", name="Interpolate").get_attribute("aria-selected") == "true"
    assert np.abs(small(at(page, 1), 64) - picture).mean() < 4


def strip(page, latent):
    """The seven pictures of a row, once they are there."""
    page.locator(f"#explore .row[data-latent='{latent}']").scroll_into_view_if_needed()
    page.wait_for_selector("#explore .atlas[aria-busy=false]")
    uris = page.eval_on_selector_all(f"#explore .row[data-latent='{latent}'] canvas", "all => all.map((c) => c.toDataURL())")
    return [decode(uri) for uri in uris]


def test_the_atlas_shows_what_a_latent_does_to_the_edited_face(visit):
    page = visit()
    set_slider(page, "Smiling", 1)
    edited = pixels(page, "edit")
    opened(page, "Explore")
    page.wait_for_function("document.querySelector('#explore .status').textContent === 'The face from the Edit tab'")
    assert change(pixels(page, "explore"), edited, WHOLE, WHOLE) < 1
    # By falling KL, with words, a correlation and its interval.
    nats = [float(text) for text in page.locator("#explore .worth small").all_inner_texts()]
    assert len(nats) == 32 and nats == sorted(nats, reverse=True) and nats[0] > 3
    turns = page.locator("#explore .row").filter(has_text="turns the head").first
    assert "Turn head r = 0.60 [0.5" in turns.locator("small").nth(1).inner_text()
    latent = int(turns.get_attribute("data-latent"))

    # The slider is live, and stands under the picture that it makes.
    shown = strip(page, latent)
    assert len(shown) == 7 and np.abs(shown[0] - shown[6]).mean() > 10
    for value, picture in ((3, shown[6]), (-2, shown[1])):
        moved(page, f"#explore input[data-z='{latent}']", value)
        now = pixels(page, "explore")
        assert np.abs(small(now, 96) - picture).mean() < 3
    assert np.abs(small(edited, 96) - small(now, 96)).mean() > 2
    page.locator(f"#explore .row[data-latent='{latent}'] .strip button").nth(6).click()
    settled(page, "explore")
    assert page.locator(f"#explore input[data-z='{latent}']").input_value() == "3"
    # The strips of the other rows follow the face; its own stays.
    assert np.abs(strip(page, latent)[6] - shown[6]).mean() < 1

    wanted = pixels(page, "explore")
    page.locator("#explore [data-do=edit]").click()
    page.wait_for_function("document.querySelector('#edit .status').textContent.startsWith('Explored')")
    settled(page)
    assert change(pixels(page, "edit"), wanted, WHOLE, WHOLE) < 1
    opened(page, "Explore")
    page.locator("#explore [data-do=random]").click()
    page.wait_for_function("document.querySelector('#explore .status').textContent.startsWith('Generated')")
    settled(page, "explore")
    assert change(pixels(page, "explore"), wanted, WHOLE, WHOLE) > 3


def test_models_are_compared_row_by_row(visit):
    page = opened(visit(), "Explore")
    page.wait_for_selector("#explore .models canvas")
    page.locator("#explore .column").select_option("yaw")
    page.wait_for_function("document.querySelector('#explore .models').textContent.includes('r = −0.90')")
    rows = page.locator("#explore .models .model")
    assert [row.locator("canvas").count() for row in rows.all()] == [7, 7, 0]
    assert "r = 0.60" in rows.nth(0).inner_text() and "z5, 1.00 nats" in rows.nth(1).inner_text()
    assert "none of its latents" in rows.nth(2).inner_text()
    note = page.locator("#explore .atlas .wrong").inner_text()
    assert "bare" in note and "--stages evaluate,directions" in note


def test_phone(visit):
    page = visit(390, 844)
    for tab in ("Interpolate", "Sample", "Explore"):
        opened(page, tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
    # The picture stays in view above the slider that is under the thumb.
    page.locator("#explore .row").nth(20).scroll_into_view_if_needed()
    picture, row = page.locator("[data-canvas=explore]").bounding_box(), page.locator("#explore .row").nth(20).bounding_box()
    assert picture["y"] >= 0 and picture["y"] + picture["height"] < row["y"] < 844 - 52


PATH = {"faces": [ZERO, ZERO], "positions": [0.5], "method": "slerp", "easing": "linear"}
GRID = {"source": "mixture", "seed": 0, "count": 4, "temperature": 1, "truncation": None}


@pytest.mark.parametrize(("component", "function", "payload"), [
    ("interpolate", "between", PATH | {"faces": [[0.0], [0.0]]}), ("interpolate", "between", PATH | {"faces": [ZERO]}),
    ("interpolate", "between", PATH | {"faces": [ZERO] * 99}), ("interpolate", "between", PATH | {"positions": [0.5] * 1000}),
    ("interpolate", "between", PATH | {"method": ["slerp"]}), ("interpolate", "between", PATH | {"easing": None}),
    ("sample", "draw", {}), ("sample", "draw", GRID | {"count": 10_000}), ("sample", "draw", GRID | {"seed": -1}),
    ("sample", "draw", GRID | {"seed": "x"}), ("sample", "draw", GRID | {"temperature": None}),
    ("sample", "draw", GRID | {"truncation": 0}), ("sample", "draw", GRID | {"source": "Other"}),
    ("explore", "decode", {"z": [0.0]}), ("explore", "take", {"z": ZERO}), ("explore", "strips", {"z": ZERO, "latents": [32]}),
    ("explore", "strips", {"z": ZERO, "latents": [0] * 99}), ("explore", "across", {"z": "x", "name": "yaw"}),
    ("sample", "draw", GRID | {"source": "neighbours", "radius": 1, "z": [0.0], "strengths": {}}),
])
def test_malformed_requests_get_a_sentence(server, component, function, payload):
    answer = server.ask(component, function, payload)
    assert set(answer) == {"error"} and answer["error"].endswith(".")
