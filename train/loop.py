"""The training loop."""

import copy
import json
import signal
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from betavae.model import VAE
from train.checkpoint import Averaged, Checkpoint
from train.data import Batches
from train.evaluation import reconstruction_and_kl
from train.losses import Objective
from train.presets import TrainConfig

LOG_EVERY = 50           # steps
VALIDATIONS = 20         # in a whole run, at most one every LOG_EVERY steps
CHECKPOINT_SECONDS = 120


class Diverged(ArithmeticError):
    """The loss is no longer finite."""


class Interrupted(Exception):
    """A signal asked the run to stop; its state is saved."""


def fit(config: TrainConfig, train: Tensor, val: Tensor, out: str | Path, device: torch.device,
        stop_after: int | None = None) -> VAE:
    """Train to ``config.images`` and return the model with its averaged weights, in eval mode.

    Goes on from ``out/checkpoint.pt`` if there is one; a resumed run is bitwise the uninterrupted one on one device.
    Writes ``log.jsonl`` and TensorBoard events into ``out``.

    Parameters
    ----------
    train, val : Tensor
        uint8 (n, s, s, 3); ``val`` is looked at through the averaged weights and never trained on.
    stop_after : int, optional
        Save and raise ``Interrupted`` after that many steps, as a signal would.

    Raises
    ------
    Interrupted
        SIGINT or SIGTERM came; the state is saved.
    Diverged
        The loss became infinite or NaN; the last checkpoint is from before.
    """
    out = Path(out)
    torch.manual_seed(config.seed)
    model = VAE(config.model).to(device, memory_format=torch.channels_last)
    # Parameters are made after the seed and on the CPU first, so a seed means the same weights on every device.
    objective = Objective(config).to(device)
    parameters = [*model.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(parameters, config.lr, (config.beta1, config.beta2), config.eps, weight_decay=0.0,
                                  fused=device.type in ("cuda", "cpu"))
    average = Averaged(model, config.ema * config.images)
    checkpoint = Checkpoint(out / "checkpoint.pt", config.to_json(), model=model, optimizer=optimizer,
                            objective=objective, average=average)
    checkpoint.load()
    batches = Batches(train, config.batch, config.seed, config.flip, device)
    log = Log(out, checkpoint.step)
    signals = Signals()
    generator = torch.Generator(device)
    # Float32 on CPUs: without matrix units, bf16 convolutions are slower there (benchmarks/train.py measures it).
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" and torch.cuda.is_bf16_supported())
    validate_every = max(LOG_EVERY, config.steps // VALIDATIONS)
    sums, saved, first = None, time.monotonic(), checkpoint.step
    bar = tqdm(total=config.images, initial=min(checkpoint.step * config.batch, config.images), desc=config.preset,
               unit=" images", smoothing=0.05)
    model.train()
    try:
        while checkpoint.step < config.steps:
            step = checkpoint.step
            progress = step / config.steps
            level = config.level(progress)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate(progress)
            x, mask = batches(step), None
            generator.manual_seed(config.seed * 1_000_003 + step)
            noise = torch.randn(len(x), config.model.latents, device=device, generator=generator)
            with autocast:
                output = model(x, noise)
            loss, parts = objective(output, x, mask, level)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if config.clip:
                torch.nn.utils.clip_grad_norm_(parameters, config.clip)
            optimizer.step()
            checkpoint.step = step + 1
            if config.ema:
                average.update(checkpoint.step * config.batch, config.batch)
            # Summed on the device: reading a number here would stall the GPU in every step.
            terms = torch.stack(list(parts.values()))
            sums = terms if sums is None else sums + terms
            bar.update(min(config.batch, config.images - bar.n))
            last = checkpoint.step == config.steps
            if checkpoint.step % LOG_EVERY == 0 or last:
                count = (checkpoint.step - 1) % LOG_EVERY + 1
                mean = dict(zip(parts, (sums / min(count, checkpoint.step - first)).tolist()))
                sums = None
                if not all(map(_finite, mean.values())):
                    raise Diverged(f"The loss is {mean['loss']} after {bar.n:,} images; the last checkpoint is from before. "
                                   "A lower learning rate usually cures it.")
                held = {"beta" if config.objective == "beta" else "C": level}
                log.write("train", checkpoint.step, images=bar.n, **held, lr=config.learning_rate(progress), **mean)
                bar.set_postfix(loss=f"{mean['loss']:.4g}", kl=f"{mean['kl']:.1f}")
            if checkpoint.step % validate_every == 0 or last:
                log.write("val", checkpoint.step, images=bar.n, **_validate(model, average, config, val, device))
            if time.monotonic() - saved > CHECKPOINT_SECONDS or last:
                checkpoint.save()
                saved = time.monotonic()
            if (signals.received or checkpoint.step - first == stop_after) and not last:
                checkpoint.save()
                raise Interrupted(f"Stopped after {bar.n:,} of {config.images:,} images; the same command goes on from here.")
    finally:
        bar.close(), log.close(), signals.restore()
    return averaged_model(model, average, config)


def averaged_model(model: VAE, average: Averaged, config: TrainConfig) -> VAE:
    """A copy of the model with the averaged weights (its own where the run averages none), in eval mode."""
    model = copy.deepcopy(model)
    if config.ema:
        model.load_state_dict(average.weights)
    return model.eval()


def _validate(model: VAE, average: Averaged, config: TrainConfig, val: Tensor, device: torch.device) -> dict[str, float]:
    figures = reconstruction_and_kl(averaged_model(model, average, config), val, device)
    return {name: figures[name] for name in ("bce", "bce_gap", "kl", "active_0.1", "active_1")}


def _finite(value: float) -> bool:
    return abs(value) < float("inf")


class Log:
    """One JSON object a line in ``log.jsonl``, and the same figures for TensorBoard."""

    def __init__(self, out: Path, step: int):
        out.mkdir(parents=True, exist_ok=True)
        self.path = out / "log.jsonl"
        # A run that was killed has logged steps after its checkpoint; they are about to be made again.
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        self.path.write_text("".join(line + "\n" for line in kept))
        self.writer = SummaryWriter(out / "tensorboard", purge_step=step + 1)

    def write(self, kind: str, step: int, images: int, **figures: float) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, "images": images, **figures}) + "\n")
        for name, value in figures.items():
            self.writer.add_scalar(f"{kind}/{name}", value, images)

    def close(self) -> None:
        self.writer.close()


class Signals:
    """SIGINT and SIGTERM set ``received`` instead of ending the process in the middle of a step."""

    def __init__(self):
        self.received = False
        self._previous = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._receive)
            except ValueError:  # not in the main thread: whoever runs us there handles signals
                break

    def _receive(self, number, frame) -> None:
        self.received = True

    def restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
