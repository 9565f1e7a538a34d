"""The table of recipes, and settings from text."""

import json

import pytest
import torch

from betavae.image import crop_box
from train.plan import plan
from train.presets import PRESETS, explain, override, settings
from train.run import main


def test_two_recipes_of_one_study_differ_in_weight_and_length_alone():
    def differences(a, b):
        a, b = settings(PRESETS[a]), settings(PRESETS[b])
        return {name for name in a if a[name] != b[name]}

    assert differences("vae", "beta4") == {"beta", "images"} and differences("beta4", "beta10") == {"beta"}


def test_recipes_see_the_published_part_of_the_frame():
    boxes = {name: crop_box(PRESETS[name].model) for name in PRESETS}
    assert boxes["capacity"] == (15, 35, 163, 183)  # centre 148
    assert boxes["vae"] == (0, 20, 178, 198)  # centre 178
    assert boxes["masked"] == (0, 0, 178, 218)  # all of it
    assert boxes["beta-norm"] == (21, 57, 149, 185)  # 128 x 128 at top 57, left 21


def test_annealing_is_a_ramp():
    config = override(PRESETS["vae"], {"beta_start": "0.5", "beta": "4", "ramp": "0.25"})
    assert [config.level(progress) for progress in (0, 0.125, 0.25, 1)] == [0.5, 2.25, 4, 4]
    assert PRESETS["beta4"].level(0) == PRESETS["beta4"].level(1) == 4


def test_settings_are_read_from_text():
    config = override(PRESETS["capacity"], {"lr": "1e-4", "flip": "true", "images": "50_000", "objective": "controller",
                                            "model.latents": "16", "model.encoder": "64,128", "model.depth": "2",
                                            "model.crop": "0,0.1,1,0.9", "model.output": "tanh"})
    assert (config.lr, config.flip, config.images, config.objective) == (1e-4, True, 50_000, "controller")
    assert (config.model.latents, config.model.encoder, config.model.depth) == (16, (64, 128), 2)
    assert (config.model.crop, config.model.output) == ((0, 0.1, 1, 0.9), "tanh")
    assert override(PRESETS["masked"], {"model.depth": "1"}).model.depth == 1
    assert override(PRESETS["masked"], {"model.decoder_depth": ""}).model.decoder_depth == ()
    assert override(PRESETS["masked"], {"model.decoder_depth": "1,1,1,1,1,2"}).model.decoder_depth == (1, 1, 1, 1, 1, 2)
    assert override(PRESETS["masked"], {"model.depth": "1,1,1,1,1,2"}).model.depth == (1, 1, 1, 1, 1, 2)
    assert override(PRESETS["vae"], {}) == PRESETS["vae"]


@pytest.mark.parametrize(("texts", "sentence"), [
    ({"lrr": "1"}, "no setting --lrr; choose from reconstruction, .*model.latents"),
    ({"preset": "vae"}, "no setting --preset"),
    ({"model.colour": "1"}, "no setting --model.colour"),
    ({"lr": "fast"}, "--lr is 'fast'; it must be a number"),
    ({"lr": "0"}, "lr is 0.0; it must be above 0"),
    ({"lr": "nan"}, "lr is nan"),
    ({"batch": "1.5"}, "--batch is '1.5'; it must be a whole number"),
    ({"batch": "0"}, "batch is 0; it must be at least 1"),
    ({"images": "3"}, "images is 3; it must be at least 128"),
    ({"ramp": "2"}, "ramp is 2.0; it must be from 0 to 1"),
    ({"beta1": "1"}, "beta1 is 1.0; it must be at least 0 and below 1"),
    ({"flip": "maybe"}, "--flip is 'maybe'; it must be true or false"),
    ({"objective": "vae"}, "'vae'; choose from beta, capacity, controller"),
    ({"model.latents": "3,4"}, r"latents is \(3, 4\)"),
    ({"model.encoder": "64,x"}, "number, or several with commas"),
    ({"model.image_size": "60"}, "image_size is 60"),
    ({"model.mask": "true"}, "need each other"),
])
def test_settings_that_make_no_run_are_one_sentence(texts, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        override(PRESETS["capacity"], texts)
    assert "\n" not in str(error.value)


def test_help_explains_every_setting_of_the_preset(capsys):
    assert main(["--preset", "beta10", "--help"]) == 0
    page = capsys.readouterr().out
    for name in settings(PRESETS["beta10"]):
        assert f"  --{name} " in page
    assert "--beta 10 " in page and "Weight of the KL from the end of the ramp on." in page and "examples" not in page
    assert max(map(len, explain(PRESETS["beta10"]).splitlines())) <= 118


def test_a_dry_run_is_one_object_and_needs_no_data(capsys):
    assert main(["--dry-run", "--device", "cpu"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["parameters"] == 3_541_251
    assert plan["config"]["images"] == 200 * (162_770 + 19_867) and plan["config"]["objective"] == "capacity"
    assert plan["images_per_second"] > 0


@pytest.mark.parametrize("preset", ["plain", "masked"])
def test_a_dry_runs_memory_is_the_weights_four_times_their_average_and_the_batch(preset):
    sizes = {"model.image_size": "32", "model.latents": "8", "model.encoder": "4,8", "model.hidden": "16", "model.depth": "1",
             "model.decoder": "8,4" if preset == "plain" else "8,4,4,4,4,4"}
    sizes |= {"model.decoder_depth": "", "model.narrow": "4"} if preset == "masked" else {}

    def memory(batch):
        made = plan(override(PRESETS[preset], sizes | {"batch": str(batch)}), torch.device("cpu"))
        return made["memory_bytes"], made["parameters"]

    (small, weights), (large, _) = memory(16), memory(32)
    kept = large - small  # of 16 images
    assert small - kept == pytest.approx(5 * 4 * weights, rel=0.1)
    # More than the pictures; not more than a few copies of what every layer makes (some 20 channels at full size).
    assert 16 * 3 * 32 * 32 * 4 < kept < 16 * 1000 * 32 * 32
