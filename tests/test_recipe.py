"""An edit as JSON: it survives its round trips, makes the same picture again, and says what is wrong with it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from betavae import Editor, Recipe, RecipeError, hub
from betavae.__main__ import main
from train.directions.simple import simple_directions

MODEL = "0123456789ab"


@pytest.fixture
def editor(tiny) -> Editor:
    mu = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    smiling, young = (mu[:, 0] > 0).numpy(), (mu[:, 0] + mu[:, 1] > 0).numpy()
    return Editor(tiny, simple_directions(mu, {"Smiling": smiling, "Young": young}, {}), device="cpu")


@pytest.mark.parametrize("recipe", [
    Recipe(MODEL),
    Recipe(MODEL, {"Smiling": 1.5, "yaw": -1}, ["Male", "Young"], seed=29, temperature=0.8),
    Recipe(MODEL, {}, ("Male",), seed=0),
    Recipe(MODEL, {"Smiling": 0.1}, latent=torch.randn(32).tolist()),
    Recipe(MODEL, seed=0, temperature=0.0, sharp=True),
])
def test_round_trips(recipe, tmp_path):
    assert Recipe.from_json(recipe.to_json()) == recipe
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    Image.new("RGB", (64, 64)).save(tmp_path / "edited.png", pnginfo=recipe.png_info())
    assert Recipe.read(tmp_path / "recipe.json") == Recipe.read(tmp_path / "edited.png") == recipe


@pytest.mark.parametrize(("text", "sentence"), [
    ("{", "not JSON"),
    ("[1]", "not a JSON object"),
    ("[" * 100_000, "not JSON"),
    ("{}", "no field 'model'"),
    ('{"model": "0123456789ab", "strength": {}}', "unknown field 'strength'; the fields are model, strengths"),
    ('{"model": "xyz"}', "'xyz'; it must be 12 hexadecimal digits"),
    ('{"model": "0123456789ab", "strengths": {"Smiling": "1"}}', "Smiling is '1'"),
    ('{"model": "0123456789ab", "strengths": {"Smiling": NaN}}', "Smiling is nan"),
    ('{"model": "0123456789ab", "strengths": [1]}', "[1]; they must be numbers by name"),
    ('{"model": "0123456789ab", "locks": "Male"}', "'Male'; they must be a list"),
    ('{"model": "0123456789ab", "seed": -1}', "-1; it must be a whole number"),
    ('{"model": "0123456789ab", "seed": true}', "True; it must be a whole number"),
    ('{"model": "0123456789ab", "seed": 1, "temperature": -1}', "temperature is -1"),
    ('{"model": "0123456789ab", "latent": ["a"]}', "not a list of finite numbers"),
    ('{"model": "0123456789ab", "sharp": 1}', "sharp is 1; it must be true or false"),
    ('{"model": "0123456789ab", "seed": 1, "latent": [0]}', "both a seed and a latent"),
])
def test_mistakes_are_one_sentence(text, sentence):
    with pytest.raises(RecipeError) as error:
        Recipe.from_json(text)
    assert sentence in str(error.value) and str(error.value).endswith(".") and "\n" not in str(error.value)


def test_files_without_a_recipe_say_so(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "plain.png")
    assert Recipe.in_picture(tmp_path / "plain.png") is None
    (tmp_path / "text.png").write_text("This is no picture.")
    assert Recipe.in_picture(tmp_path / "text.png") is None
    for name in ("plain.png", "gone.json"):
        with pytest.raises(RecipeError, match=name):
            Recipe.read(tmp_path / name)


def test_apply_makes_the_edit_of_the_recipes_own_face_or_of_another(editor):
    strengths, locks = {"Smiling": 2.0}, ["Young"]
    recipe = Recipe(editor.hash, strengths, locks, seed=5, temperature=0.7)
    z = editor.sample(1, 5, 0.7)
    assert editor.apply(recipe) == editor.edit(z, strengths, locks)
    assert editor.apply(recipe) != editor.edit(z, strengths), "the lock is applied"
    assert editor.apply(Recipe(editor.hash, strengths, locks, latent=z[0].tolist())) == editor.apply(recipe)
    others = editor.sample(2, 6)
    assert editor.apply(recipe, others) == editor.edit(others, strengths, locks)


def test_apply_refuses_what_it_cannot_do(editor):
    with pytest.raises(RecipeError, match="no face of its own"):
        editor.apply(Recipe(editor.hash, {"Smiling": 1}))
    for z in (None, editor.sample(1, 0)):
        with pytest.raises(RecipeError, match=f"is of the model {MODEL} and this is {editor.hash}"):
            editor.apply(Recipe(MODEL, seed=1), z)
    with pytest.raises(ValueError, match="this model needs"):
        editor.apply(Recipe(editor.hash, latent=[0.0] * 3))


def test_the_hash_is_the_weights(editor, tmp_path):
    hub.save(editor.model, tmp_path)
    assert Editor.from_pretrained(tmp_path, "cpu").hash == hub.model_hash(editor.model) == editor.hash
    with torch.no_grad():
        next(editor.model.parameters()).view(-1)[0] += 1
    assert hub.model_hash(editor.model) != editor.hash


def test_the_command_line_takes_a_recipe(editor, tmp_path, capsys):
    hub.save(editor.model, tmp_path)
    editor.directions.save(tmp_path / "directions.safetensors")
    common = ["edit", "--model", str(tmp_path), "--device", "cpu", "--scale", "1", "--out", str(tmp_path / "out.png")]
    (picture,) = editor.decode(editor.sample(1, 5))
    saved = tmp_path / "saved.png"
    picture.save(saved, pnginfo=Recipe(editor.hash, {"Smiling": 1}, seed=5).png_info())
    assert main([*common, "--recipe", str(saved), "--set", "Young=1", "--lock", "Smiling"]) == 0
    made = np.asarray(Image.open(tmp_path / "out.png"))
    (wanted,) = editor.edit(editor.sample(1, 5), {"Smiling": 1, "Young": 1}, ["Smiling"])
    assert np.abs(made.astype(int) - np.asarray(wanted)).max() <= 1  # weights rounded to float16
    (tmp_path / "faceless.json").write_text(json.dumps({"model": editor.hash, "strengths": {"Smiling": 1}}))
    for arguments, sentence in (([], "give a photo, or a recipe"), (["--recipe", str(tmp_path / "faceless.json")], "no face")):
        assert main([*common, *arguments]) == 1
        assert sentence in capsys.readouterr().err


def test_side_effects_are_what_the_picture_shows():
    editor = Editor.from_pretrained(device="cpu")
    z = editor.sample(1, 2, 0.8)[0]
    effects = editor.side_effects(z, {"Smiling": 1.5, "Young": 0})
    names = [effect.name for effect in effects]
    assert "Smiling" not in names and "Young" in names and len(set(names)) == len(editor.classifier.names) - 1
    sizes = [abs(effect.after - effect.before) for effect in effects]
    assert sizes == sorted(sizes, reverse=True) and 0.05 < sizes[0] <= 1
    # Cheekbones rise with a smile in CelebA's labels, and so does the classifier's belief in them.
    cheekbones = effects[names.index("High_Cheekbones")]
    assert cheekbones.change > 1 and cheekbones.after > cheekbones.before
    # The same reading, made by hand.
    with torch.inference_mode():
        before, after = editor.classifier(editor.model.decode(torch.stack([z, editor.shift(z, {"Smiling": 1.5})[0]])))
    column = editor.classifier.names.index("High_Cheekbones")
    assert cheekbones.change == pytest.approx(float(after[column] - before[column]), abs=1e-3)
    assert cheekbones.before == pytest.approx(float(before[column].sigmoid()), abs=1e-3)
    assert all(effect.change == 0 for effect in editor.side_effects(z, {}))
    assert min(e.before for e in effects) >= 0 and max(e.after for e in effects) <= 1


def test_a_model_without_a_classifier_says_so(editor):
    with pytest.raises(ValueError, match="no classifier"):
        editor.side_effects(editor.sample(1, 0)[0], {"Smiling": 1})
