"""The second decoder in the app: of a model that has one, over the API and on the page."""

import numpy as np
import pytest
from browser import Server, pixels, push, settled, state
from gradio_client import Client
from PIL import Image

from betavae import Editor, Recipe
from betavae.ui.api import Api, answering


@pytest.fixture(scope="module")
def server(sharp_model, tmp_path_factory):
    """The app on a model with a second decoder, in place of the shipped one."""
    with Server(tmp_path_factory.mktemp("app") / "log", "--model", str(sharp_model)) as server:
        yield server
    assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def editor(sharp_model):
    return Editor.from_pretrained(sharp_model, "cpu")


def test_endpoints_give_sharp_pictures(server, editor, tmp_path):
    client = Client(server.url, verbose=False, download_files=str(tmp_path))
    z = editor.sample(1, 7)
    face = z[0].tolist()
    calls = {
        "decode": ((face,), z),
        "edit": ((face, {"Smiling": 1.5}), editor.shift(z, {"Smiling": 1.5})),
        "spectrum": ((face, "yaw", 2), editor.spectrum(z[0], "yaw", 2)[0]),
        "traverse": ((face, 0, [float(z[0, 0])]), z),
        "interpolate": (([face, face], 2), z.repeat(2, 1)),
        "sample": ((1, 7), z),
    }
    for endpoint, (arguments, latents) in calls.items():
        answer = client.predict(*arguments, sharp=True, api_name=f"/{endpoint}")
        pictures = answer[0] if isinstance(answer, (list, tuple)) and endpoint != "traverse" else answer
        pictures = pictures if isinstance(pictures, list) else [pictures]
        for picture, expected in zip(pictures, editor.decode(latents, sharp=True), strict=True):
            assert np.abs(np.asarray(Image.open(picture), dtype=int) - np.asarray(expected)).max() <= 1, endpoint
    pictures, _ = client.predict(face, count=2, sharp=True, api_name="/neighbours")
    assert [Image.open(picture).size for picture in pictures] == [(128, 128)] * 2
    recipe = {"model": editor.hash, "seed": 7, "strengths": {"Smiling": 1.5}, "sharp": True}
    picture = client.predict(recipe, api_name="/apply")
    assert Image.open(picture).size == (128, 128) and Recipe.read(picture).sharp
    assert Image.open(client.predict(face, api_name="/decode")).size == (64, 64)
    assert client.predict(api_name="/model")["sharp"] is True


def test_a_model_without_a_second_decoder_says_so(shelf):
    api = Api(Editor.from_pretrained(shelf / "one", "cpu"))
    assert api.model()["sharp"] is False
    for endpoint, arguments in ((api.decode, [[0.0] * 8, True]), (api.sample, [1, 0, 1.0, None, "prior", True]),
                                (api.apply, [{"model": api.editor.hash, "seed": 1, "sharp": True}])):
        with pytest.raises(Exception, match="This model has no second decoder, which draws") as error:
            answering(endpoint)(*arguments)
        assert "\n" not in str(error.value)


def painted(image: Image.Image) -> np.ndarray:
    """A picture as large as the stage."""
    return np.asarray(image.resize((512, 512), Image.Resampling.BICUBIC), dtype=float)


def shows(page, expected: np.ndarray, canvas: str = "edit", most: float = 2) -> bool:
    return np.abs(pixels(page, canvas) - expected).mean() < most


def until_shown(page, expected: Image.Image, canvas: str = "edit") -> None:
    """Wait until the stage shows a picture, and not one that is merely like it."""
    for _ in range(200):
        if shows(page, painted(expected), canvas):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{canvas} differs by {np.abs(pixels(page, canvas) - painted(expected)).mean():.1f} grey levels")


def test_the_switch_shows_what_the_second_decoder_draws_and_what_it_adds(visit, editor):
    page = visit()
    settled(page)
    face, bar = np.array(state(page, "state.edited")), page.get_by_role("group", name="Detail")
    z = editor.directions.mean.new_tensor(face)
    honest, sharp, added = editor.decode(z)[0], editor.decode(z, sharp=True)[0], editor.detail(z)[0]
    assert np.abs(painted(honest) - painted(sharp)).mean() > 5, "the pictures can be told apart"
    assert "not encoded in z" in page.locator("#edit .detail").inner_text()
    until_shown(page, honest)
    for name, picture in (("Sharp", sharp), ("What was added", added), ("Honest", honest), ("Sharp", sharp)):
        bar.get_by_role("button", name=name).click()
        settled(page)
        until_shown(page, picture)
        until_shown(page, picture, "before")
        assert bar.get_by_role("button", name=name).get_attribute("aria-pressed") == "true"


def test_while_a_slider_moves_the_honest_picture_shows_and_the_sharp_one_comes_on_rest(visit, editor):
    page = visit()
    page.get_by_role("button", name="Sharp").click()
    settled(page)
    page.eval_on_selector("[data-name=Smiling]", """(input) => {
        input.value = input.max;
        input.dispatchEvent(new Event("input", { bubbles: true }));
    }""")
    settled(page)
    z = editor.directions.mean.new_tensor(state(page, "state.edited"))
    until_shown(page, editor.decode(z)[0])
    page.eval_on_selector("[data-name=Smiling]", """(input) => input.dispatchEvent(new Event("change", { bubbles: true }))""")
    settled(page)
    until_shown(page, editor.decode(z, sharp=True)[0])


def test_saving_gives_what_is_shown_and_the_switch_is_kept(visit, editor, tmp_path):
    page = visit()
    push(page, "Smiling", 0.8)
    page.get_by_role("button", name="Sharp").click()
    settled(page)
    z = editor.directions.mean.new_tensor(state(page, "state.edited"))
    expected = editor.decode(z, sharp=True)[0]
    until_shown(page, expected)
    with page.expect_download() as download:
        page.click("[data-do=save]")
    download.value.save_as(tmp_path / "face.png")
    recipe = Recipe.read(tmp_path / "face.png")
    assert recipe.sharp and recipe.strengths.keys() == {"Smiling"}
    assert np.abs(np.asarray(Image.open(tmp_path / "face.png").convert("RGB"), dtype=float) - painted(expected)).mean() < 2
    assert np.abs(painted(editor.apply(recipe)[0]) - painted(expected)).mean() < 2
    # A reload has it again, and so has whoever follows the link.
    page.reload()
    settled(page)
    until_shown(page, expected)
    other = visit(address="/" + page.evaluate("location.hash"))
    settled(other)
    until_shown(other, expected)
