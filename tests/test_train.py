"""The training spine on real faces: loop, resumption, evaluation, and the command."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY
from PIL import Image

from betavae import Editor
from betavae.classifier import Classifier, ClassifierError
from betavae.image import from_uint8
from train.classifier import fit_classifier, score
from train.evaluation import evaluate
from train.loop import fit
from train.presets import PRESETS
from train.run import main

CPU = torch.device("cpu")
RUN = dataclasses.replace(PRESETS["celeba64"], model=TINY, images=640, batch=16)


def weights(model) -> torch.Tensor:
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_schedules_scale_with_the_run():
    for images in (6_400, 400_000):
        run = dataclasses.replace(PRESETS["celeba64"], images=images)
        assert (run.level(0), run.level(0.125), run.level(0.25), run.level(1)) == (5, 27.5, 50, 50)
        assert run.learning_rate(0) == 0 and run.learning_rate(0.1) == pytest.approx(1e-3)
        assert run.learning_rate(1) == pytest.approx(0)
    assert PRESETS["capacity"].level(0.2) == 25 and PRESETS["capacity"].level(0.4) == 50


def test_training_learns(dataset, tmp_path):
    train, val = dataset.images("train"), dataset.images("val")
    model = fit(dataclasses.replace(RUN, images=9_600), train, val, tmp_path, CPU)
    figures = evaluate(model, val, "val", CPU)
    untrained = evaluate(fit(RUN, train, val, tmp_path / "short", CPU), val, "val", CPU)
    assert figures["bce"] < untrained["bce"] - 100
    mean_image = from_uint8(train).mean(0, keepdim=True).clamp(1e-3, 1 - 1e-3)
    x = from_uint8(val)
    of_mean = -(x * mean_image.log() + (1 - x) * (1 - mean_image).log()).sum((1, 2, 3)).mean()
    assert figures["bce"] < of_mean, "it knows less of these faces than one average face"
    assert figures["protocol"] == {"split": "val", "images": 100, "crop": [round(v, 6) for v in TINY.crop], "image_size": 64,
                                   "z": "mu", "weights": "float32", "arithmetic": "float32"}


def test_the_command_trains_is_interrupted_resumes_and_leaves_a_folder_that_opens(subset, tmp_path, cache):
    command = [sys.executable, str(ROOT / "train" / "run.py"), "--data", str(subset), "--preset", "celeba64", "--images", "640",
               "--model.encoder", "16,32,48,64", "--model.decoder", "64,64,32,16",
               "--out", str(tmp_path / "run"), "--cache", str(cache), "--device", "cpu", "--features", "none",
               "--condition", "Bearded = Male and not No_Beard"]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not list((tmp_path / "run").glob("tensorboard/*")):  # the loop has begun
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    assert "the same command goes on from here" in first.communicate(timeout=60)[1]
    assert first.returncode == 130
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    out = tmp_path / "run"
    for name in ("model.safetensors", "config.json", "directions.safetensors", "metrics.json", "log.jsonl"):
        assert (out / name).stat().st_size > 0
    for name in ("curves", "edits", "samples", "traversals", "reconstructions"):
        assert min(Image.open(out / "figures" / f"{name}.png").size) > 200
    editor = Editor.from_pretrained(out)
    # 1,000 faces have too few of some attributes; every measured quantity is there.
    assert {"Smiling", "Male", "Bearded", "light_side", "yaw", "pitch", "mouth_open", "eye_open", "background_brightness",
            "background_warmth"} <= set(editor.directions.names)
    aligned = next((subset / "img_align_celeba").iterdir())
    assert len(editor.edit(editor.encode(aligned, crop="aligned"), {"Smiling": 1.5, "yaw": -1})) == 1
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["val"]["protocol"]["images"] == metrics["test"]["protocol"]["images"] == 100
    assert metrics["val"]["bce"] != metrics["test"]["bce"]


def test_a_run_goes_on_from_the_weights_of_another_model(dataset, tmp_path):
    first = fit(RUN, dataset.images("train"), dataset.images("val"), tmp_path / "first", CPU)
    still = dataclasses.replace(RUN, images=16, lr=1e-12, ema=0.0)
    second = fit(still, dataset.images("train"), dataset.images("val"), tmp_path / "second", CPU, start=first)
    torch.testing.assert_close(weights(second), weights(first), rtol=0, atol=1e-9)


def test_the_settings_of_a_run_that_started_from_weights_ask_for_them(tmp_path, capsys):
    (tmp_path / "run.json").write_text(dataclasses.replace(RUN, start="0123456789ab").to_json())
    assert main(["--data", ".", "--config", str(tmp_path / "run.json")]) == 1
    assert "start from the weights 0123456789ab" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--data", "nowhere"], "'nowhere'"),
    (["--data", ".", "--stages", "fitt"], "'fitt'; choose from data, fit"),
    (["--data", ".", "--images", "3"], "images is 3"),
    (["--data", ".", "--lrr", "3"], "no setting --lrr; choose from reconstruction"),
    (["--data", ".", "--lr"], "--lr has no value"),
    (["--data", ".", "64"], "'64' belongs to no flag"),
    (["--data", ".", "--preset", "vea"], "'vea'"),
    (["--data", ".", "--stages"], "--stages: expected one argument"),
    (["--data", ".", "--device", "tpu"], "'tpu'"),
    (["--data", ".", "--condition", "Bearded"], "NAME=CONDITION"),
    (["--data", ".", "--preset", "vae", "--start", str(ROOT / "assets" / "celeba64")],
     "differs from the run's in image_size, latents"),
    (["--stages", "publish"], "--repo is missing"),
    (["--stages", "publish", "--repo", "someone/faces", "--out", "nowhere"], "'nowhere' has no file model.safetensors"),
])
def test_mistakes_on_the_command_line_are_one_sentence(arguments, sentence, capsys):
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1 and sentence in message


def test_the_classifier_learns_survives_unknown_numbers_and_its_file(dataset, tmp_path):
    geometry = {name: column.copy() for name, column in dataset.lists.geometry.items()}
    geometry["yaw_deg"][dataset.indices("train")[:50]] = np.nan  # as where no face was found
    dataset = dataclasses.replace(dataset, lists=dataclasses.replace(dataset.lists, geometry=geometry))
    assert np.isnan(dataset.numeric()["yaw"][:50]).all()
    model = fit_classifier(dataset, CPU, epochs=6)
    figures = score(model, dataset, "val", CPU)
    assert figures["auroc"]["Blond_Hair"] > 0.65 and figures["correlation"]["face_brightness"] > 0.5
    model.save(tmp_path / "classifier.safetensors")
    x = from_uint8(dataset.images("val")[:8])
    with torch.inference_mode():
        torch.testing.assert_close(Classifier.load(tmp_path / "classifier.safetensors")(x), model(x), atol=0.1, rtol=0.02)
    (tmp_path / "classifier.safetensors").write_bytes(b"nothing")
    with pytest.raises(ClassifierError, match=r"classifier.safetensors.*damaged"):
        Classifier.load(tmp_path / "classifier.safetensors")
