"""A run can be trusted: its files say what they belong to, and what cannot work is refused before it begins."""

import dataclasses
import errno
import json
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY
from torch import nn

from betavae import VAE, hub
from betavae.classifier import Classifier
from betavae.directions import Directions
from betavae.files import save_tensors
from betavae.model import bordered, conv
from train import lists, shards
from train.cache import load
from train.celeba import CelebA
from train.checkpoint import Checkpoint, CheckpointError
from train.directions.simple import simple_directions
from train.evaluation import arithmetic, encode_all
from train.lists import DataError
from train.loop import autocast, compiled
from train.mixture import posterior_samples
from train.presets import PRESETS, TrainConfig
from train.ranks import ALONE
from train.run import main
from train.sources import open_data
from train.stages import Run, judge, locked, set_aside

CPU = torch.device("cpu")


@pytest.fixture
def tiny_preset(monkeypatch):
    """A preset whose run takes a second."""
    tiny = dataclasses.replace(PRESETS["celeba64"], preset="tiny", model=TINY, images=320, batch=16)
    monkeypatch.setitem(PRESETS, "tiny", tiny)


@pytest.fixture
def work(few, tmp_path, monkeypatch):
    """260 faces, to change."""
    monkeypatch.setattr(lists, "MIN_IMAGES", 50)
    shutil.copytree(few, tmp_path / "celeba")
    return tmp_path / "celeba"


@contextmanager
def disk_of(size: int):
    """No file may grow beyond so many bytes, which fails as a full disk does: with an OSError."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def run(out, subset, cache, *more):
    return main(["--data", str(subset), "--cache", str(cache), "--out", str(out), "--device", "cpu", "--features", "none",
                 *more])


# ---- what a folder says of itself ---------------------------------------------------------------------------------


def test_a_refused_run_leaves_the_record_of_the_weights_that_are_there(subset, cache, tmp_path, tiny_preset, capsys):
    assert run(tmp_path, subset, cache, "--preset", "tiny", "--stages", "fit") == 0
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["preset"] == "tiny" and record["images_seen"] == 320
    assert record["weights"] == hub.model_hash(hub.load_model(tmp_path))
    assert run(tmp_path, subset, cache, "--preset", "vae", "--stages", "fit") == 1
    assert "other settings" in capsys.readouterr().err
    assert json.loads((tmp_path / "run.json").read_text()) == record


def test_new_weights_set_the_old_ones_files_aside(subset, cache, tmp_path, tiny_preset, capsys):
    assert run(tmp_path, subset, cache, "--preset", "tiny", "--stages", "fit,evaluate,directions") == 0
    made = ("metrics.json", "mixture.safetensors", "directions.safetensors", "atlas.json")
    # Val chose the number of components: what is printed is of the test faces.
    there, pixels = hub.load(tmp_path), load(CelebA.open(subset), TINY, cache).images("test")
    likelihood = there.folder.mixture.log_prob(posterior_samples(*encode_all(there.model, pixels, CPU)).double()).mean()
    assert f"{likelihood:.2f} nats a test face" in capsys.readouterr().out
    old = hub.model_hash(hub.load_model(tmp_path))
    assert {hub.stamped(tmp_path / name) for name in made} == {old}
    for path in tmp_path.glob("checkpoint*"):
        path.unlink()
    capsys.readouterr()
    assert run(tmp_path, subset, cache, "--preset", "tiny", "--stages", "fit", "--seed", "1") == 0
    said = capsys.readouterr().out
    for name in made:
        assert not (tmp_path / name).exists() and (tmp_path / f"of-{old}" / name).exists()
        assert f"{name}' is of the weights {old}" in said
    assert not hub.load(tmp_path).directions and not hub.load(tmp_path).folder.metrics


def test_new_weights_set_the_old_ones_figures_aside(tiny, tmp_path, capsys):
    for folder in ("figures", "figures/progress"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "picture.png").write_text(folder)
    set_aside(tmp_path, "before", "before")
    assert (tmp_path / "figures" / "picture.png").exists(), "the same weights"
    set_aside(tmp_path, "before", "now")
    assert (tmp_path / "of-before" / "figures" / "picture.png").read_text() == "figures"
    assert "figures of the weights before" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["progress"], "which this training drew"


def test_new_weights_set_the_training_of_the_old_ones_second_decoder_aside(tmp_path, capsys):
    (tmp_path / "sharpen").mkdir()
    (tmp_path / "sharpen" / "checkpoint.pt").write_text("of the old")
    set_aside(tmp_path, "before", "before")
    assert (tmp_path / "sharpen" / "checkpoint.pt").exists(), "the same weights"
    for _ in range(2):  # also where one of these weights is there from another time
        set_aside(tmp_path, "before", "now")
        assert (tmp_path / "of-before" / "sharpen" / "checkpoint.pt").read_text() == "of the old"
        assert not (tmp_path / "sharpen").exists() and "second decoder of the weights before" in capsys.readouterr().out
        shutil.copytree(tmp_path / "of-before" / "sharpen", tmp_path / "sharpen")


def test_results_of_another_model_are_not_laid_beside_a_run(tiny, subset, cache, tmp_path, capsys):
    hub.save(tiny, tmp_path / "model")
    hub.save(VAE(TINY), tmp_path / "run")
    assert run(tmp_path / "run", subset, cache, "--stages", "evaluate", "--model", str(tmp_path / "model")) == 1
    message = capsys.readouterr().err
    assert "holds a run with the weights" in message and "give another --out" in message and message.count("\n") == 1
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_judge_of_other_data_is_trained_again(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("train.stages.fit_classifier", lambda dataset, device, seed: made)
    columns = list(dataset.lists.attributes), list(dataset.numeric())
    made, other = Classifier(*columns), Classifier(["Fruit"], [])
    settings = Run(PRESETS["celeba64"], tmp_path, CPU)
    for there, expected, said in ((other, made, "is of other data"), (Classifier(*columns), None, "")):
        there.save(tmp_path / "classifier.safetensors")
        found = judge(settings, dataset, "classifier", 0)
        assert found.names == made.names and said in capsys.readouterr().out
        # Classifiers are kept in half precision.
        torch.testing.assert_close(found.head.weight, (expected or there).head.weight, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("stages", "missing"), [("fit", "metrics.json"), ("fit,evaluate", "directions.safetensors")])
def test_what_would_lack_a_file_is_not_trained_to_be_published(subset, cache, tmp_path, fake_hub, capsys, stages, missing):
    assert run(tmp_path / "run", subset, cache, "--stages", stages, "--push-to-hub", "--repo", "someone/faces") == 1
    message = capsys.readouterr().err
    assert f"has no {missing}" in message and "add the stage" in message and message.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_a_run_leaves_others_can_read(tmp_path):
    before = os.umask(0o022)
    try:
        hub.save(VAE(TINY), tmp_path)
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o644}
    finally:
        os.umask(before)


def test_a_second_run_in_one_folder_is_refused_with_the_first_ones_number(tmp_path, subset, cache, capsys):
    holder = subprocess.Popen([sys.executable, "-c", "import sys; from pathlib import Path; from train.stages import locked\n"
                               f"with locked(Path({str(tmp_path)!r})):\n print('held', flush=True); sys.stdin.read()"],
                              cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        assert run(tmp_path, subset, cache, "--stages", "fit") == 1
        message = capsys.readouterr().err
        assert f"in use by process {holder.pid} on" in message and message.count("\n") == 1
    finally:
        holder.stdin.close()
        holder.wait()
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


# ---- full disks ---------------------------------------------------------------------------------------------------


def test_a_cache_that_does_not_fit_is_one_sentence_and_leaves_nothing(work, tmp_path):
    with disk_of(500_000), pytest.raises(DataError, match=r"cache .* cannot be written .*another --cache"):
        load(CelebA.open(work), TINY, tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.suffix != ".lock"] == []


def test_the_cache_takes_its_space_before_it_is_filled(work, tmp_path):
    taken = []

    class Watched(CelebA):
        def decode(self, config, pool):
            # Before the first image: on a full disk, writing to a file that is mapped and sparse ends the process.
            taken.extend((path.stat().st_blocks * 512, path.stat().st_size) for path in (tmp_path / "cache").glob("*/*.npy"))
            return super().decode(config, pool)

    load(Watched.open(work), TINY, tmp_path / "cache")
    assert len(taken) == 2 and all(blocks >= size > 0 for blocks, size in taken)


def test_weights_that_do_not_fit_are_a_plain_error_and_the_old_ones_stay(tmp_path):
    save_tensors({"a": torch.zeros(10)}, tmp_path / "x.safetensors")
    before = (tmp_path / "x.safetensors").read_bytes()
    with disk_of(10_000), pytest.raises(OSError) as error:
        save_tensors({"a": torch.zeros(10_000)}, tmp_path / "x.safetensors")
    assert error.value.errno == errno.EFBIG and error.value.filename == str(tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


# ---- data ---------------------------------------------------------------------------------------------------------


def test_shards_are_not_written_over_others(work, tmp_path, capsys):
    command = ["--data", str(work), "--out", str(tmp_path / "shards"), "--shard-images", "50"]
    assert shards.main(command) == 0
    there = sorted((tmp_path / "shards").iterdir())
    assert shards.main(command) == 1
    assert "holds" in capsys.readouterr().err
    assert sorted((tmp_path / "shards").iterdir()) == there


def test_an_archive_beside_the_images_is_no_shard(work):
    (work / "img_align_celeba.tar").write_bytes(b"")
    assert len(open_data(work).lists.names) == 260


@pytest.mark.parametrize(("list_", "old", "new", "sentence"), [
    ("list_eval_partition.txt", " 2\n", " 3\n", r"list_eval_partition.txt' has '3' for \d+.jpg; it must be one of 0, 1, 2"),
    ("list_eval_partition.txt", " 2\n", " x\n", r"has 'x' for \d+.jpg; it must be one of 0, 1, 2"),
    ("list_attr_celeba.txt", r"-?1\n", "7\n", r"list_attr_celeba.txt' has '7' for \d+.jpg; it must be one of -1, 0, 1"),
    ("list_face_geometry.csv", ",", ",abc", r"list_face_geometry.csv' has 'abc\S*' for \d+.jpg; it must be a number"),
])
def test_a_wrong_value_in_a_list_is_named_with_its_list_and_image(work, list_, old, new, sentence):
    lines = (work / list_).read_text().splitlines(keepends=True)
    lines[-1] = re.sub(old, new, lines[-1], count=1)
    (work / list_).write_text("".join(lines))
    with pytest.raises(DataError, match=sentence):
        CelebA.open(work)


@pytest.mark.parametrize(("split", "stages"), [("val", "fit"), ("test", "fit,evaluate"), ("val", "evaluate")])
def test_too_few_faces_of_a_split_are_refused_before_anything_is_decoded(work, tmp_path, tiny_preset, capsys, split, stages):
    path = work / "list_eval_partition.txt"
    number = lists.SPLITS.index(split)
    path.write_text(path.read_text().replace(f" {number}\n", " 0\n", 25))
    assert main(["--data", str(work), "--preset", "tiny", "--stages", stages, "--out", str(tmp_path / "run"),
                 "--cache", str(tmp_path / "cache")]) == 1
    message = capsys.readouterr().err
    assert f"The split {split} has 5 images; at least 20" in message
    assert not (tmp_path / "cache").exists() and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--condition", "Male=Young"], "--condition has 'Male', which the data has already"),
    (["--condition", "New=Yuong"], "names 'Yuong'"),
    (["--stages", "compare"], "no file model.safetensors"),
    (["--compare", "nowhere"], "'nowhere' has no metrics.json"),
    (["--seed", str(2 ** 64)], "seed is"),
    (["--model.latents", "1"], "latents is 1; the stages evaluate"),
    (["--preset", "masked", "--stages", "fit"], "1 of 260 images have no mask"),
])
def test_what_cannot_work_is_refused_at_the_start(work, tmp_path, capsys, arguments, sentence):
    next((work / "masks").iterdir()).unlink()
    assert main(["--data", str(work), "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "cache"), *arguments]) == 1
    message = capsys.readouterr().err
    assert sentence in message and message.count("\n") == 1
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("where", "stages"), [("train.celeba._table", "data"), ("train.stages.load", "data"),
                                               ("train.evaluation.evaluate", "evaluate")])
def test_ctrl_c_is_one_sentence(subset, cache, tmp_path, tiny, monkeypatch, capsys, where, stages):
    """While lists are read, while images are decoded, in evaluate."""
    reached = []

    def stopped(*arguments):
        reached.append(where)
        raise KeyboardInterrupt

    hub.save(tiny, tmp_path)
    monkeypatch.setattr(where, stopped)
    assert run(tmp_path, subset, cache, "--stages", stages) == 130
    assert reached == [where]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Stopped") or "Traceback" in line]
    assert said == ["Stopped; the stages that were finished are kept, and the same command makes the others."]
    assert not (tmp_path / "run.lock").exists()


def test_an_out_that_is_a_file_is_named(subset, cache, tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert run(tmp_path / "out", subset, cache, "--stages", "data") == 1
    message = capsys.readouterr().err
    assert f"{str(tmp_path / 'out')!r}: File exists" in message and "Errno" not in message


def test_the_splits_that_are_named_are_trained_on(dataset):
    for splits, count in (("train", 1000), ("train+val", 1100), ("all", 1200)):
        config = dataclasses.replace(PRESETS["capacity"], splits=splits)
        assert len(dataset.training(TINY, 0, config.trained_on)) == count
    assert len(dataset.training(TINY, 1050, ("train", "val"))) == 1050


def test_figures_on_a_split_that_was_trained_on_say_so(subset, cache, tmp_path, tiny_preset, capsys):
    assert run(tmp_path, subset, cache, "--preset", "tiny", "--splits", "train+val", "--stages", "fit,evaluate") == 0
    said = capsys.readouterr().out
    assert "The split val is trained on" in said and "trained on val: these are no held-out figures" in said
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["val"]["protocol"]["held_out"] is False and "held_out" not in report["test"]["protocol"]


# ---- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_configuration_survives_its_file(preset):
    assert TrainConfig.from_json(preset.to_json()) == preset


def test_a_runs_record_is_the_configuration_of_another(subset, cache, tmp_path, tiny_preset, capsys):
    a, b = tmp_path / "a", tmp_path / "b"
    settings = "--lr", "0.00031", "--model.crop", "0.1,0.1,0.9,0.9"
    assert run(a, subset, cache, "--preset", "tiny", "--stages", "fit", *settings) == 0
    assert run(b, subset, cache, "--config", str(a / "run.json"), "--stages", "fit") == 0
    assert (a / "run.json").read_text() == (b / "run.json").read_text(), "weights and all"
    assert run(b, subset, cache, "--config", str(a / "run.json"), "--preset", "vae") == 1
    (a / "run.json").write_text('{"preset": "tiny"}')
    assert run(b, subset, cache, "--config", str(a / "run.json")) == 1
    assert "give one of them" in (said := capsys.readouterr().err) and "run.json' is no run's configuration: it has no" in said


def test_a_checkpoint_from_before_a_setting_was_there_is_gone_on_from(tmp_path):
    config = PRESETS["celeba64"]
    older = json.loads(config.to_json())
    for name in ("perceptual", "splits", "init", "clip_each"):
        del older[name]
    del older["model"]["head_padding"], older["model"]["norm_eps"]
    layer = nn.Linear(2, 2)
    Checkpoint(tmp_path, json.dumps(older), TrainConfig.from_json, layer=layer).save()
    assert Checkpoint(tmp_path, config.to_json(), TrainConfig.from_json, layer=layer).load(ALONE)
    with pytest.raises(CheckpointError, match="other settings"):
        other = dataclasses.replace(config, clip_each=1.0)
        Checkpoint(tmp_path, other.to_json(), TrainConfig.from_json, layer=layer).load(ALONE)


# ---- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_a_pass_after_fused_steps_is_of_the_weights_they_left(tiny, training):
    tiny.train(training)
    z = torch.randn(4, 8)
    with torch.no_grad():
        tiny.decode(z)
    optimizer = torch.optim.AdamW(tiny.parameters(), 1e-2, fused=True)
    for _ in range(8):
        optimizer.zero_grad()
        tiny.decode(z).square().mean().backward()
        optimizer.step()
    fresh = VAE(TINY).train(training)
    fresh.load_state_dict(tiny.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(tiny.decode(z), fresh.decode(z))


@pytest.mark.parametrize("name", ["order", "radius", "weights"])
def test_a_direction_may_have_a_name_that_the_file_uses_itself(tmp_path, name):
    mu = torch.randn(200, 8)
    directions = simple_directions(mu, {name: (mu[:, 0] > 0).numpy(), "Smiling": (mu[:, 1] > 0).numpy()}, {})
    directions.save(tmp_path / "d.safetensors")
    hub.stamp(tmp_path / "d.safetensors", "0" * 12)
    loaded = Directions.load(tmp_path / "d.safetensors", 8)
    assert loaded.names == directions.names
    np.testing.assert_array_equal(loaded[name].vector, directions[name].vector)


# ---- GPUs, as far as a CPU shows them -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@pytest.mark.parametrize("width", [1, 2])
def test_borders_from_slices_are_pytorchs_and_keep_the_layout(monkeypatch, mode, width):
    x = torch.randn(2, 5, 6, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    expected = nn.functional.pad(x, (width,) * 4, mode=mode)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    gradient, x.grad = x.grad, None
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    made = bordered(x, width, mode)
    (made * weights).sum().backward()
    assert torch.equal(made, expected) and made.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x.grad, gradient)


def test_the_layers_of_the_default_recipe_compile_with_their_gradients():
    torch.manual_seed(0)
    config = dataclasses.replace(PRESETS["capacity"].model, encoder=(32, 32), decoder=(32, 32, 32), image_size=16)
    layers = nn.Sequential(conv(config, 4, 4), conv(config, 4, 4, double=True))
    x = torch.randn(2, 4, 8, 8)
    layers(x).square().mean().backward()
    expected = [parameter.grad.clone() for parameter in layers.parameters()]
    layers.zero_grad()
    try:
        torch.compile(layers, backend="aot_eager")(x).square().mean().backward()
        for parameter, gradient in zip(layers.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
    finally:
        torch.compiler.reset()


def test_a_network_that_does_not_compile_is_said_and_runs_as_it_is(monkeypatch, capsys):
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, gradient):
            raise AssertionError("replication_pad2d_backward")

    def compile_(model):
        def network(x, noise):
            output = model(x, noise)
            return dataclasses.replace(output, logits=Fails.apply(output.logits))
        return network

    model = VAE(dataclasses.replace(TINY, norm="batch"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr(torch, "compile", compile_)
    assert compiled(model, 4, CPU, torch.autocast("cpu", enabled=False)) is model
    assert "torch.compile fails" in (said := capsys.readouterr().out) and "replication_pad2d_backward" in said
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in model.parameters())


def test_bf16_that_a_gpu_only_emulates_is_not_used(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "autocast", lambda *arguments, enabled, **options: asked.append(enabled))
    for real in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported",
                            lambda including_emulation=True, real=real: including_emulation or real)
        autocast(torch.device("cuda"))
    assert asked == [True, False]


def test_what_tf32_computes_is_not_called_float32(monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    for allowed, name in ((True, "tf32"), (False, "float32")):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        assert arithmetic(cuda) == name and arithmetic(CPU) == "float32"


def test_deterministic_kernels_are_asked_for(tmp_path, subset, cache, tiny_preset):
    try:
        assert run(tmp_path, subset, cache, "--preset", "tiny", "--stages", "data", "--deterministic") == 0
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
