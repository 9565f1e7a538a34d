"""The app's API as programs use it: over HTTP, with gradio_client and with the examples of docs/api.md."""

import importlib.util
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from skimage.data import astronaut

import app
from betavae import Directions, Editor, Recipe
from betavae.hub import ROOT

ENDPOINTS = {"encode", "faces", "edit_photo", "decode", "edit", "apply", "remaining", "side_effects", "spectrum", "traverse",
             "interpolate", "sample", "neighbours", "wear", "percentiles", "reach", "directions", "make_direction", "model"}


@pytest.fixture(scope="module")
def editor():
    return Editor.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    return Client(server.url, verbose=False, download_files=str(tmp_path_factory.mktemp("answers")))


@pytest.fixture(scope="module")
def call(client):
    return lambda endpoint, *arguments, **named: client.predict(*arguments, **named, api_name=f"/{endpoint}")


@pytest.fixture(scope="module")
def z(editor, photo):
    return editor.encode(photo)


def values(picture) -> np.ndarray:
    return np.asarray(picture if isinstance(picture, Image.Image) else Image.open(picture), dtype=int)


def same(pictures, images) -> bool:
    """Files and images are alike, but for the last bit of a float."""
    if len(pictures) != len(images):
        return False
    return all(np.abs(values(a) - values(b)).max() <= 1 for a, b in zip(pictures, images, strict=True))


def test_every_endpoint_is_named_and_documented(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {f"/{name}" for name in ENDPOINTS}
    with urllib.request.urlopen(f"{client.src}gradio_api/info") as answer:
        for endpoint in json.load(answer)["named_endpoints"].values():
            for parameter in endpoint["parameters"]:
                assert f"{parameter['parameter_name']}: " in endpoint["description"]


def test_a_photo_becomes_the_latent_that_the_library_gives(call, photo, z):
    assert call("encode", handle_file(photo)) == pytest.approx(z[0].tolist(), abs=1e-4)


def test_an_edit_is_the_librarys(call, editor, z):
    picture, edited = call("edit", z[0].tolist(), {"Smiling": 1.5, "yaw": -1}, locks=["Male"])
    expected = editor.shift(z, {"Smiling": 1.5, "yaw": -1}, ["Male"])
    assert edited == pytest.approx(expected[0].tolist(), abs=1e-4)
    assert same([picture, call("decode", edited)], editor.decode(expected) * 2)
    held = call("remaining", {"Smiling": 1.5}, ["Male"])
    assert held == pytest.approx(editor.remaining(editor.directions.mean, {"Smiling": 1.5}, ["Male"]), abs=1e-4)


def test_a_vector_of_ones_own_is_a_direction_like_the_others(call, editor, z):
    vector = editor.directions["yaw"].vector
    _, edited = call("edit", z[0].tolist(), {"Mine": 2}, vectors={"Mine": vector.tolist()})
    assert edited == pytest.approx((z[0] + 2 * vector).tolist(), abs=1e-4)
    _, held = call("edit", z[0].tolist(), {"yaw": 2}, locks=["Mine"], vectors={"Mine": vector.tolist()})
    assert held == pytest.approx(z[0].tolist(), abs=1e-3), "the lock is the direction itself"


def test_pictures_between_faces_along_directions_and_of_seeds(call, editor, z):
    pictures, latents = call("sample", count=3, seed=7, temperature=0.8)
    assert same(pictures, editor.decode(editor.sample(3, 7, 0.8)))
    start, end = z[0], torch.tensor(latents[0])
    assert same(call("interpolate", [z[0].tolist(), latents[0]], steps=4)[0], editor.interpolate(start, end, 4))
    _, loop = call("interpolate", [z[0].tolist(), latents[0]], steps=4, method="lerp", closed=True)
    assert torch.tensor(loop).allclose(torch.stack([start, (start + end) / 2, end, (start + end) / 2]), atol=1e-4)
    _, near = call("neighbours", z[0].tolist(), count=5, radius=3)
    assert (torch.tensor(near) - start).norm(dim=1).tolist() == pytest.approx([3] * 5, abs=1e-3)
    _, bounded = call("sample", 4, truncation=0.5)
    assert torch.tensor(bounded).abs().max() <= 0.5
    pictures, strengths = call("spectrum", z[0].tolist(), "yaw", steps=3)
    assert same(pictures, editor.decode(torch.cat([editor.shift(z, {"yaw": s}) for s in strengths])))
    scores = editor.directions.scores(z)[0, editor.directions.names.index("yaw")] + torch.tensor(strengths)
    assert scores[[0, 2]].tolist() == pytest.approx([editor.directions["yaw"].low, editor.directions["yaw"].high], abs=1e-3)
    walked = z.repeat(2, 1)
    walked[:, 3] = torch.tensor([-2.0, 2.0])
    assert same(call("traverse", z[0].tolist(), 3, [-2, 2]), editor.decode(walked))


def test_a_face_is_placed_among_the_others(call, editor, z):
    assert call("percentiles", z[0].tolist()) == pytest.approx(editor.directions.percentiles(z[0]), abs=1e-2)
    strength = call("reach", z[0].tolist(), "Young", 90)
    _, edited = call("edit", z[0].tolist(), {"Young": strength})
    assert call("percentiles", edited)["Young"] == pytest.approx(90, abs=0.1)


def test_directions_and_model_are_what_the_library_says(call, editor):
    listed = call("directions")
    assert [entry["name"] for entry in listed] == editor.directions.names
    assert listed[0]["vector"] == pytest.approx(editor.directions.matrix[0].tolist(), abs=1e-6)
    assert {"label", "group", "unit", "per_strength", "low", "high"} <= set(listed[0])
    model = call("model")
    assert model["hash"] == editor.hash and model["config"]["latents"] == editor.config.latents


def test_side_effects_are_the_librarys(call, editor, z):
    (first, *_), (expected, *_) = call("side_effects", z[0].tolist(), {"Smiling": 2}), editor.side_effects(z, {"Smiling": 2})
    assert first["name"] == expected.name and first["change"] == pytest.approx(expected.change, abs=1e-3)


def test_a_direction_of_ones_own_comes_as_vector_pack_and_report(call, editor, photo, tmp_path):
    other = tmp_path / "other.png"
    editor.decode(editor.sample(1, 7))[0].save(other)
    pack, vector, report = call("make_direction", "A b", [handle_file(photo)], [handle_file(other)])
    assert vector == pytest.approx((editor.encode(photo) - editor.encode(other))[0].tolist(), abs=1e-3)
    assert Directions.load(pack, editor.config.latents).names == ["A b"]
    assert "One face" in report["warning"] and len(report["nearest"]) == 3


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """A public-domain photo of one person, by NASA."""
    path = tmp_path_factory.mktemp("photos") / "astronaut.jpg"
    Image.fromarray(astronaut()).save(path, quality=95)
    return path


def test_the_faces_of_a_photo_are_listed(call, editor, snapshot):
    (found,) = call("faces", handle_file(snapshot))
    (expected,) = editor.open(snapshot).faces
    assert found["box"] == pytest.approx(expected.box, abs=0.5)
    assert np.allclose(found["landmarks"], expected.landmarks, atol=0.5)


def test_an_edited_photo_is_the_librarys_and_the_server_keeps_none(server, editor, snapshot, tmp_path):
    client = Client(server.url, verbose=False, download_files=False)
    answer, latent = client.predict(handle_file(snapshot), {"Smiling": 1.5}, api_name="/edit_photo")
    expected = editor.open(snapshot)
    assert latent == pytest.approx(expected.z[0].tolist(), abs=1e-3)
    assert [path.name for path in Path(get_upload_folder()).rglob("astronaut*")] == ["astronaut-edited.jpg"]
    with urllib.request.urlopen(answer["url"]) as response:
        (tmp_path / "edited.jpg").write_bytes(response.read())
    assert answer["orig_name"] == "astronaut-edited.jpg"
    expected.save(editor.put_back(expected, {"Smiling": 1.5}), tmp_path / "expected.jpg")
    assert np.abs(values(tmp_path / "edited.jpg") - values(tmp_path / "expected.jpg")).mean() < 0.5
    assert Recipe.read(tmp_path / "edited.jpg").strengths == {"Smiling": 1.5}
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(answer["url"])
    assert not list(Path(get_upload_folder()).rglob("astronaut*")), "neither the upload nor the result is kept"


def test_a_face_may_be_framed_by_its_eyes(call, editor, snapshot, tmp_path):
    eyes = editor.open(snapshot).faces[0].landmarks[:2]
    _, latent = call("edit_photo", handle_file(snapshot), {}, eyes=eyes.tolist())
    marked = editor.open(snapshot)
    marked.frame_by_eyes(*map(tuple, eyes.tolist()))
    assert latent == pytest.approx(marked.z[0].tolist(), abs=1e-3)
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "wall.png")
    for wrong, sentence in (({"face": 1}, "no face 1"), ({"eyes": [[1, 2]]}, "list of 2 places")):
        with pytest.raises(AppError, match=sentence):
            call("edit_photo", handle_file(snapshot), {}, **wrong)
    with pytest.raises(AppError, match="no face was found"):
        call("edit_photo", handle_file(tmp_path / "wall.png"), {})


def test_anothers_expression_is_worn(call, editor, z):
    other = editor.sample(1, 8, 0.8)
    strengths = call("wear", z[0].tolist(), other[0].tolist(), ["Expression", "Pose"])
    assert {"Smiling", "yaw"} <= set(strengths) and "Male" not in strengths
    before, worn, wanted = (editor.directions.percentiles(face) for face in (z[0], editor.shift(z, strengths)[0], other[0]))
    gaps = [[abs(at[name] - wanted[name]) for name in strengths] for at in (before, worn)]
    assert np.mean(gaps[1]) < 0.35 * np.mean(gaps[0]), gaps
    assert "Smiling" not in editor.wear(z, other, ["Expression"], locks=["Smiling"])
    assert "Attractive" not in editor.wear(z, other, ["Face"])  # it has no slider
    half = call("wear", z[0].tolist(), other[0].tolist(), ["Expression", "Pose"], amount=0.5)
    assert half == pytest.approx({name: strength / 2 for name, strength in strengths.items()}, abs=1e-5)
    assert call("wear", z[0].tolist(), z[0].tolist(), ["Hair"]) == pytest.approx(
        dict.fromkeys(editor.wear(z, other, ["Hair"]), 0), abs=0.05)


def test_a_recipe_is_made_and_kept_in_the_picture(call, editor):
    recipe = Recipe(editor.hash, {"Smiling": 2}, seed=7)
    picture = call("apply", json.loads(recipe.to_json()))
    assert same([picture], editor.apply(recipe))
    assert Recipe.read(picture) == recipe


@pytest.mark.parametrize(("endpoint", "arguments", "sentence"), [
    ("decode", {"latent": "face"}, "latent is 'face'; it must be a list of numbers"),
    ("decode", {"latent": [0.0]}, "this model needs"),
    ("edit", {"latent": [0.0] * 32, "strengths": {"Smile": 1}}, "no direction 'Smile'; choose from"),
    ("edit", {"latent": [0.0] * 32, "strengths": [1]}, "strengths is"),
    ("edit", {"latent": [0.0] * 32, "strengths": {"Smiling": "1"}}, "finite number"),
    ("edit", {"latent": [0.0] * 32, "strengths": {}, "locks": "Male"}, "locks is 'Male'"),
    ("edit", {"latent": [0.0] * 32, "strengths": {}, "vectors": {"Mine": [1.0]}}, "Mine has the shape"),
    ("edit", {"latent": [0.0] * 32, "strengths": {}, "vectors": {"yaw": [1.0] * 32}}, "'yaw' already"),
    ("sample", {"count": 65}, "count is 65; it must be a whole number from 1 to 64"),
    ("sample", {"count": 1.5}, "count is 1.5"),
    ("sample", {"count": True}, "count is True; it must be a whole number from 1 to 64"),
    ("sample", {"truncation": 0.01}, "it must be a number from 0.1 to 10, or null"),
    ("decode", {"latent": [1e9] * 32}, "it must be a list of numbers"),
    ("apply", {"recipe": "mine"}, "recipe is 'mine'; it must be an object"),
    ("sample", {"temperature": "hot"}, "temperature is 'hot'"),
    ("wear", {"latent": [0.0] * 32, "other": [0.0] * 32, "groups": ["Smile"]}, "group is 'Smile'; choose from Expression"),
    ("wear", {"latent": [0.0] * 32, "other": [0.0] * 32, "groups": ["Pose"], "amount": 2}, "amount is 2; it must be"),
    ("sample", {"source": "hat"}, "choose from prior, mixture"),
    ("interpolate", {"latents": [[0.0] * 32, [1.0] * 32], "method": "jump"}, "choose from lerp, slerp"),
    ("interpolate", {"latents": [[0.0] * 32]}, "at least 2 faces; there is 1"),
    ("interpolate", {"latents": []}, "at least 2 faces; there is none"),
    ("spectrum", {"latent": [0.0] * 32, "direction": "Smile"}, "no direction 'Smile'"),
    ("traverse", {"latent": [0.0] * 32, "dimension": 32, "values": [1]}, "whole number from 0 to 31"),
    ("traverse", {"latent": [0.0] * 32, "dimension": 0, "values": []}, "list of 1 to 64"),
    ("encode", {"photo": {"path": "/etc/hostname"}}, "it must be an uploaded file"),
    ("make_direction", {"name": "Mine", "positives": [], "negatives": []}, "a list of 1 to 64 uploaded files"),
    ("apply", {"recipe": {"model": "000000000000", "seed": 1}}, "of the model 000000000000"),
])
def test_mistakes_are_one_sentence(call, endpoint, arguments, sentence):
    with pytest.raises(AppError) as error:
        call(endpoint, **arguments)
    assert sentence in str(error.value) and "\n" not in str(error.value) and str(error.value).endswith(".")


def test_a_file_that_is_no_picture_is_one_sentence(call, tmp_path):
    (tmp_path / "text.png").write_text("This is no picture.")
    with pytest.raises(AppError, match=r"'text.png' is not an image"):
        call("encode", handle_file(tmp_path / "text.png"))


@pytest.mark.parametrize(("endpoint", "body", "sentence"), [
    ("decode", {}, "required argument: latent"), ("decode", {"z": []}, "`z`"), ("draw", {}, "/draw")])
def test_misspelt_calls_are_one_sentence(server, endpoint, body, sentence):
    request = urllib.request.Request(f"{server.url}/gradio_api/call/v2/{endpoint}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    assert error.value.code == 400
    answer = json.load(error.value)["error"]
    assert sentence in answer and answer.endswith(".") and answer.count(". ") == 0


def test_the_documented_examples_run(server, photo, tmp_path):
    section = (ROOT / "docs" / "api.md").read_text().split("\n## Endpoints\n")[1]
    examples = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert [language for language, _ in examples] == ["python", "sh"]
    Image.open(photo).save(tmp_path / "photo.jpg")
    printed = {}
    for language, text in examples:
        text = text.replace("http://127.0.0.1:7860", server.url)
        command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euo", "pipefail", "-c", text]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        printed[language] = ended.stdout
    assert Image.open(tmp_path / "edited.png").size == (64, 64)
    assert printed["sh"].startswith("event: complete") and printed["sh"].count("face.png") >= 2


def test_the_page_leads_to_the_documentation(visit):
    page = visit()
    # Gradio asks whether there is an MCP server; that there is none is the one error that is wanted.
    with page.expect_response("**/mcp/schema"):
        page.get_by_role("button", name="Use via API").click()
    page.get_by_text("/side_effects").first.wait_for()
    assert page.get_by_text("names of directions that must not change").first.is_visible()
    visit.wrong = [text for text in visit.wrong if "404" not in text]


@pytest.mark.skipif(importlib.util.find_spec("mcp") is not None, reason="gradio[mcp] is installed")
def test_an_mcp_server_without_its_package_is_one_sentence(capsys):
    assert app.main(["--mcp"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "gradio[mcp]" in said
