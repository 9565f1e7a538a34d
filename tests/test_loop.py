"""A run is never lost: killed, interrupted, damaged, out of space or diverging, it goes on or says why not."""

import copy
import dataclasses
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT, TINY
from forks import shared, state
from torch import Tensor

from train import loop
from train.batches import Batches
from train.checkpoint import Checkpoint, CheckpointError
from train.evaluation import reconstruction_and_kl
from train.loop import Diverged, Interrupted, Training, fit
from train.losses import kl
from train.presets import PRESETS
from train.ranks import Ranks

CPU = torch.device("cpu")
RUN = dataclasses.replace(PRESETS["celeba64"], model=TINY, images=320, batch=8)


def same(a, b) -> bool:
    """Whether two checkpoints, or parts of them, are bitwise equal."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def read(path) -> dict:
    return torch.load(path, weights_only=True)


@pytest.fixture
def faces(dataset):
    """Pixels for training and for validation: few of the latter, which are not what is tested here."""
    return dataset.images("train"), dataset.images("val")[:20]


@pytest.fixture
def at_step(monkeypatch):
    """``at_step(n, do)``: have ``do(x)`` called with the batch of step n, when it is made, in place of it."""
    actions = {}

    class Acting(Batches):
        def __call__(self, step):
            x, mask = super().__call__(step)
            return actions[step](x) if step in actions else x, mask

    monkeypatch.setattr(loop, "Batches", Acting)
    return actions.__setitem__


def interrupt(x):
    signal.raise_signal(signal.SIGTERM)
    return x


class Forks:
    """``tests/forks.py``, running."""

    def __init__(self, errors):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}  # a process that has had threads cannot be forked safely
        self.errors, self.running = errors, False
        self.process = subprocess.Popen([sys.executable, ROOT / "tests" / "forks.py"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=errors.open("w"), text=True, env=environment)

    def start(self, name: str, *arguments, size: int = 1) -> list[int]:
        """Process numbers."""
        if self.running:  # a test that failed has not waited for its own
            self.ended()
        self.running = True
        self.process.stdin.write(json.dumps([name, arguments, size]) + "\n")
        self.process.stdin.flush()
        return self._numbers()

    def ended(self) -> list[int]:
        """Wait for what was started last: exit statuses."""
        self.running = False
        return self._numbers()

    def _numbers(self) -> list[int]:
        # The runs print to the same place.
        while not re.fullmatch(r"(-?\d+ ?)+\n", line := self.process.stdout.readline()):
            assert line, self.errors.read_text()
        return [int(number) for number in line.split()]


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    server = Forks(tmp_path_factory.mktemp("forks") / "stderr")
    yield server
    server.process.kill()
    server.process.wait()


def test_killed_at_20_random_moments_a_run_ends_bitwise_where_an_undisturbed_one_does(subset, dataset, cache, forks, tmp_path):
    a, b = tmp_path / "undisturbed", tmp_path / "killed"

    def start(out):
        return forks.start("run", "--data", str(subset), "--cache", str(cache), "--preset", "tiny", "--stages", "fit",
                           "--device", "cpu", "--save-every", "0.01", "--out", str(out))[0]

    def newest():
        try:
            return (b / "checkpoint.pt").stat().st_ino
        except FileNotFoundError:  # none yet, or just between the old one's renaming and the new one's
            return None

    start(a)
    assert forks.ended() == [0], forks.errors.read_text()
    moment = random.Random(0)
    for _ in range(20):
        before, run = newest(), start(b)
        while newest() in (None, before):  # until it has come further than the run before it
            time.sleep(0.001)
        time.sleep(moment.uniform(0, 0.03))
        os.kill(run, signal.SIGKILL)
        assert forks.ended() == [-signal.SIGKILL], "it ended before it was killed"
    start(b)
    assert forks.ended() == [0], forks.errors.read_text()
    assert same(read(a / "checkpoint.pt"), read(b / "checkpoint.pt"))
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    assert (a / "log.jsonl").read_text() == (b / "log.jsonl").read_text()


@pytest.mark.parametrize("settings", [{"objective": "capacity", "C_start": None}, {"objective": "controller"},
                                      {"objective": "beta", "beta": 4.0, "clip": 100.0}], ids=lambda s: s["objective"])
def test_two_processes_make_the_steps_of_one(faces, forks, tmp_path, settings):
    pixels = faces[0][:64].clone()
    torch.save(pixels, tmp_path / "pixels.pt")
    if settings["objective"] == "capacity":
        # Where the two halves of the batch pull in opposite directions, the mean of their |KL - C| is another objective.
        training = Training(shared({}), pixels, CPU)
        noise = torch.randn(8, TINY.latents, generator=torch.Generator().manual_seed(0))
        output = training.model(training.batches(0)[0], noise)
        halves = [part.sum(1).mean().item() for part in kl(output.mu, output.logvar).chunk(2)]
        C = 0.75 * max(halves) + 0.25 * min(halves)
        settings = settings | {"C_start": C, "C_end": C}
        assert min(halves) < sum(halves) / 2 < C < max(halves)
    forks.start("steps", str(tmp_path / "pixels.pt"), settings, str(tmp_path), size=2)
    assert forks.ended() == [0, 0], forks.errors.read_text()
    alone = Training(shared(settings), pixels, CPU)
    for step in range(2):
        alone.step(step)
    expected = state(alone)
    first, second = read(tmp_path / "0.pt"), read(tmp_path / "1.pt")
    assert same(first["weights"], second["weights"]) and same(first["objective"], second["objective"])
    # Adam's first steps are signs of gradients: where one is nearly zero, its rounding is a step of the learning rate.
    for ours, theirs in zip(first["gradients"], expected["gradients"], strict=True):
        assert (ours - theirs).norm() <= 2e-3 * theirs.norm() + 1e-3
    assert first["means"] == pytest.approx(expected["means"], rel=1e-4)
    torch.testing.assert_close(dict(first["objective"]), dict(expected["objective"]), rtol=1e-3, atol=1e-6)


def test_a_signal_to_any_process_stops_all_and_any_number_goes_on(subset, cache, forks, tmp_path):
    out = tmp_path / "run"
    command = ("run", "--data", str(subset), "--cache", str(cache), "--preset", "tiny", "--stages", "fit", "--device", "cpu",
               "--save-every", "0", "--out", str(out))
    _, second = forks.start(*command, size=2)
    while not (out / "checkpoint.previous.pt").exists():  # it has made a step
        time.sleep(0.01)
    os.kill(second, signal.SIGTERM)
    assert forks.ended() == [130, 130], forks.errors.read_text()
    stopped = read(out / "checkpoint.pt")["step"]
    assert 0 < stopped < 120
    forks.start(*command)
    assert forks.ended() == [0], forks.errors.read_text()
    assert read(out / "checkpoint.pt")["step"] == 120 and (out / "model.safetensors").exists()


def test_a_signal_saves_and_the_same_call_ends_bitwise_where_an_undisturbed_one_does(faces, at_step, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 10)
    undisturbed = fit(RUN, *faces, tmp_path / "a", CPU)
    at_step(6, interrupt)
    with pytest.raises(Interrupted, match="after 56 of 320 images; the same command goes on from here"):
        fit(RUN, *faces, tmp_path / "b", CPU)
    assert read(tmp_path / "b" / "checkpoint.pt")["step"] == 7
    resumed = fit(RUN, *faces, tmp_path / "b", CPU)
    assert same(resumed.state_dict(), undisturbed.state_dict())
    assert (tmp_path / "a" / "log.jsonl").read_text() == (tmp_path / "b" / "log.jsonl").read_text()


def test_in_bf16_a_run_that_stops_goes_on_bitwise_and_is_near_the_one_in_float32(faces, at_step, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 10)
    seen = []

    def look(model, images):
        seen.extend({value.dtype for value in model.state_dict().values()})

    run = dataclasses.replace(RUN, images=160)
    undisturbed = fit(run, *faces, tmp_path / "a", CPU, on_validation=look, bf16=True)
    exact = fit(run, *faces, tmp_path / "exact", CPU)
    at_step(6, interrupt)
    with pytest.raises(Interrupted):
        fit(run, *faces, tmp_path / "b", CPU, bf16=True)
    assert same(fit(run, *faces, tmp_path / "b", CPU, bf16=True).state_dict(), undisturbed.state_dict())
    assert (tmp_path / "a" / "log.jsonl").read_text() == (tmp_path / "b" / "log.jsonl").read_text()
    logs = {}
    for name in ("a", "exact"):
        lines = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        logs[name] = {kind: [line for line in lines if line["kind"] == kind] for kind in ("train", "val")}
    for ours, theirs in zip(logs["a"]["train"], logs["exact"]["train"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.01)
    assert not same(undisturbed.state_dict(), exact.state_dict()), "it was computed otherwise"
    # Weights, moments, averages and what is validated: float32, and the figures are those of a pass in float32.
    state = read(tmp_path / "a" / "checkpoint.pt")
    kept = [*state["model"].values(), *state["average"].values(),
            *(value for moments in state["optimizer"]["state"].values() for value in moments.values())]
    assert {value.dtype for value in kept} == set(seen) == {torch.float32}
    figures = reconstruction_and_kl(undisturbed, faces[1], CPU)
    assert {name: logs["a"]["val"][-1][name] for name in ("bce", "psnr", "kl")} == {
        name: figures[name] for name in ("bce", "psnr", "kl")}


@pytest.mark.parametrize("clip", [{"clip": 50.0}, {"clip_each": 5.0}], ids=["whole", "each"])
def test_a_step_is_the_textbooks(faces, clip):
    """AdamW and gradient clipping as PyTorch has them, one parameter after the other, on the same batches."""
    config = dataclasses.replace(RUN, **clip)
    ours, reference = Training(config, faces[0], CPU), Training(config, faces[0], CPU)
    optimizer = torch.optim.AdamW(reference.parameters, config.lr, weight_decay=0.0, foreach=False)
    norms = []
    for step in range(4):
        ours.step(step)
        noise = torch.randn(8, 8, generator=torch.Generator().manual_seed(step))
        x, mask = reference.batches(step)
        loss, _ = reference.objective(reference.model(x, noise), x, mask, config.level(step / config.steps))
        optimizer.zero_grad()
        loss.backward()
        for clipped in [reference.parameters] if config.clip else [[parameter] for parameter in reference.parameters]:
            norms.append(torch.nn.utils.clip_grad_norm_(clipped, config.clip or config.clip_each))
        optimizer.param_groups[0]["lr"] = config.learning_rate(step / config.steps)
        optimizer.step()
    assert max(norms) > (config.clip or config.clip_each), "nothing was clipped"
    for a, b in zip(ours.parameters, reference.parameters, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize(
    "network",
    [
        TINY,
        dataclasses.replace(
            PRESETS["beta-norm"].model, image_size=64, encoder=(8, 8, 16, 16), decoder=(16, 16, 8, 8), latents=8
        ),
    ],
    ids=["group", "batch"],
)
def test_a_step_that_is_not_finite_moves_nothing_and_is_counted(faces, network, at_step):
    at_step(1, lambda x: x.index_fill(0, torch.tensor([3]), torch.nan))
    training = Training(dataclasses.replace(RUN, model=network), faces[0], CPU)
    training.step(0)

    def state():
        return [training.model.state_dict(), training.optimizer.state_dict()["state"], training.objective.state_dict()]

    before = copy.deepcopy(state())
    training.step(1)
    assert same(state(), before)
    training.step(2)
    assert not same(state(), before)
    means, skipped, in_a_row = training.meter.take()
    assert all(map(math.isfinite, means.values())) and (skipped, in_a_row) == (1, 0)


def test_after_a_few_such_steps_the_run_goes_back_with_a_lower_rate(faces, at_step, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "LOG_EVERY", 10)
    broken = list(range(22, 30))
    for step in list(broken):
        # The first time that the step is made; the second time its batch is sound.
        at_step(step, lambda x: x * (broken.pop() * torch.nan if broken else 1))
    fit(RUN, *faces, tmp_path, CPU, save_seconds=0)
    assert "8 steps in a row" in (said := capsys.readouterr().out) and "back to 176 images, with 0.5 times" in said
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in lines] == [10, 20, 30, 40]
    for line, factor in zip(lines, (1, 1, 0.5, 0.5), strict=True):
        assert line["lr"] == pytest.approx(factor * RUN.learning_rate((line["step"] - 1) / RUN.steps))
        assert math.isfinite(line["loss"])
    assert read(tmp_path / "checkpoint.pt")["rate"] == {"factor": 0.5, "rewinds": 1}


def test_a_run_that_lower_rates_do_not_help_stops_with_a_sentence(faces, at_step, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 5)
    for step in range(40):
        at_step(step, lambda x: x * torch.nan)
    with pytest.raises(Diverged, match=r"not finite.*8 times has not helped; give a lower one, --lr"):
        fit(RUN, *faces, tmp_path, CPU)


def test_the_second_time_the_run_goes_back_further(tmp_path):
    part = torch.nn.Linear(1, 1)
    checkpoint = Checkpoint(tmp_path, "{}", part=part)
    for step in (1, 2, 3):
        checkpoint.step = step
        checkpoint.save()
    found = []
    for _ in range(3):
        checkpoint.rewind()
        checkpoint.load(Ranks())
        found.append(checkpoint.step)
    assert found == [3, 2, 2]


@pytest.fixture
def stopped(faces, at_step, tmp_path):
    """A run stopped after 9 of 40 steps, with a checkpoint after each of the last two."""
    at_step(8, interrupt)
    with pytest.raises(Interrupted):
        fit(RUN, *faces, tmp_path / "run", CPU, save_seconds=0)
    at_step(8, lambda x: x)
    return tmp_path / "run"


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [flip_a_bit, lambda path: path.write_bytes(path.read_bytes()[:5000]),
                                    lambda path: path.write_bytes(b"")], ids=["one bit", "half written", "empty"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_serves(faces, stopped, damage, capsys):
    damage(stopped / "checkpoint.pt")
    before = read(stopped / "checkpoint.previous.pt")
    assert before["step"] == 8
    checkpoint = of_run(stopped)
    assert checkpoint.load(Ranks()) and checkpoint.step == 8
    said = capsys.readouterr().out
    assert "checkpoint.pt' is damaged" in said and "checkpoint.previous.pt" in said
    damage(stopped / "checkpoint.pt")  # now the only one
    with pytest.raises(CheckpointError, match=r"checkpoint.pt.*cannot be read; remove it to start again"):
        fit(RUN, *faces, stopped, CPU)


def of_run(out) -> Checkpoint:
    training = Training(RUN, torch.zeros(10, 64, 64, 3, dtype=torch.uint8), CPU)
    return Checkpoint(out, RUN.to_json(), model=training.model, optimizer=training.optimizer)


def test_a_checkpoint_of_other_settings_is_refused(faces, stopped):
    with pytest.raises(CheckpointError, match="other settings"):
        fit(dataclasses.replace(RUN, lr=1e-4), *faces, stopped, CPU)


def test_a_checkpoint_runs_no_code(faces, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"config": RUN.to_json(), "step": 3, "model": Trap()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        fit(RUN, *faces, tmp_path, CPU)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full, /dev/full")
def test_a_full_disk_is_told_and_the_last_checkpoint_is_intact(faces, at_step, tmp_path, capsys):
    def fill(x):
        (tmp_path / "checkpoint.pt.part").symlink_to("/dev/full")
        kept.append((tmp_path / "checkpoint.pt").read_bytes())
        return x

    def look(x):
        kept.append((tmp_path / "checkpoint.pt").read_bytes())
        return x

    kept = []
    at_step(5, fill), at_step(6, look)
    fit(RUN, *faces, tmp_path, CPU, save_seconds=0)
    assert kept[0] == kept[1], "the checkpoint after 5 steps, also after the sixth"
    assert "after 48 images could not be written (No space left on device)" in capsys.readouterr().out
    assert read(tmp_path / "checkpoint.pt")["step"] == RUN.steps, "there was space again"
