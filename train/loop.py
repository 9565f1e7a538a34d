"""The training loop: ``Training`` makes steps, ``fit`` keeps, logs and resumes them."""

import copy
import ctypes
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from betavae.model import VAE
from train import private
from train.batches import Batches, Pictures
from train.checkpoint import Averaged, Checkpoint, write_durably
from train.evaluation import reconstruction_and_kl
from train.initialisation import initialise
from train.losses import Objective
from train.presets import TrainConfig
from train.ranks import ALONE, Ranks

LOG_EVERY = 50           # steps
VALIDATIONS = 20         # in a whole run, at most one every LOG_EVERY steps
VALIDATION_SHARE = 0.1   # of a run's time that they may take; looking at an image takes a third of learning from it
SAVE_SECONDS = 120.0
BAD_STEPS = 5            # in a row, and the run goes back to its last checkpoint
REWINDS = 8              # of a run; each halves the learning rate


class Diverged(ArithmeticError):
    """The loss or its gradient is not finite, and going back with a lower learning rate has not helped."""


class Interrupted(Exception):
    """A signal asked the run to stop; the message says what is saved."""


class Training:
    """A run's model, objective and optimiser, and the step that moves them.

    A step is a function of the seed and of its number alone. Of its batch every process takes its share, and all end the
    step with the same weights, those that one process would have on the whole batch.
    """

    def __init__(self, config: TrainConfig, train: Tensor | Pictures, device: torch.device, ranks: Ranks = ALONE,
                 features: Callable[[Tensor], Tensor] | None = None, start: VAE | None = None, bf16: bool = False):
        if config.batch % ranks.size:
            raise ValueError(f"The batch is {config.batch}; it must be a multiple of the {ranks.size} processes that share it.")
        self.config, self.device, self.ranks = config, device, ranks
        if device.type == "cpu":
            keep_memory()
        torch.manual_seed(config.seed)
        # Parameters are made after the seed and on the CPU first, so a seed means the same weights on every device.
        model = VAE(config.model)
        initialise(model, config.init)
        if start is not None:
            model.load_state_dict(start.state_dict())
        if ranks.size > 1 and any(isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d) for layer in model.modules()):
            if device.type != "cuda":
                raise ValueError("The network has BatchNorm, whose statistics several processes can share on GPUs only; "
                                 "start one process, or give --model.norm group.")
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.model = model.to(device).to(memory_format=torch.channels_last)
        self.objective = Objective(config, features).to(device)
        self.parameters = [*self.model.parameters(), *self.objective.parameters()]
        # Fused kernels leave out an update, moments and all, where ``found_inf`` says so: no number is read for it.
        self.optimizer = torch.optim.AdamW(self.parameters, config.lr, (config.beta1, config.beta2), config.eps,
                                           weight_decay=0.0, fused=True)
        self.average = Averaged(self.model, config.ema * config.images)
        self.meter = Meter(device)
        self.batches = Batches(train, config.batch, config.seed, config.flip, device, ranks.share(config.batch))
        self.generator = torch.Generator(device)
        self.autocast = autocast(device, bf16)
        self.model.train()
        # On GPUs launching a kernel costs as much as most of them take, and compiled ones are fewer. On CPUs the convolutions
        # are the time.
        self.network: nn.Module = self.model
        if device.type == "cuda":
            share = ranks.share(config.batch)
            self.network = compiled(self.model, share.stop - share.start, device, self.autocast)

    def step(self, step: int, rate: float = 1.0) -> None:
        """Make step number ``step`` with ``rate`` times the schedule's learning rate. Reads nothing from the device.

        Where the loss or a gradient is not finite, nothing moves: weights, moments, statistics of a BatchNorm, or the
        objective's state.
        """
        config, progress = self.config, step / self.config.steps
        for group in self.optimizer.param_groups:
            group["lr"] = rate * config.learning_rate(progress)
        x, mask = self.batches(step)
        self.generator.manual_seed(config.seed * 1_000_003 + step)
        noise = torch.randn(config.batch, config.model.latents, device=self.device, generator=self.generator)
        state = [buffer for part in (self.model, self.objective) for buffer in part.buffers()]
        before = [buffer.clone() for buffer in state]
        with self.autocast:
            output = self.network(x, noise[self.batches.share])
        loss, terms = self.objective(output, x, mask, config.level(progress), self.ranks.mean)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        self.ranks.mean_([*gradients, *terms.values()])
        norms = private.norms(gradients)
        norm = torch.linalg.vector_norm(norms)
        bad = ~(norm.isfinite() & terms["loss"].isfinite())
        if config.clip_each:
            private.scale_(gradients, (config.clip_each / norms).clamp(max=1))
        private.guarded_step(self.optimizer, bad, (norm / config.clip).clamp(min=1) if config.clip else None)
        for buffer, old in zip(state, before, strict=True):
            buffer.copy_(torch.where(bad, old, buffer))
        if config.ema:
            self.average.update((step + 1) * config.batch, config.batch)
        self.meter.add(terms, bad)


def in_bf16(device: torch.device, bf16: bool = False) -> bool:
    """Whether networks are trained in bf16: on GPUs that can; on CPUs if asked, for many lack the instructions."""
    return torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else bf16


def autocast(device: torch.device, bf16: bool = False, cache: bool = True) -> torch.autocast:
    """Where convolutions and products are computed in bf16, if they are (``in_bf16``).

    ``cache`` keeps the weights' casts while it lasts.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bf16(device, bf16), cache_enabled=cache)


def compiled(model: VAE, batch: int, device: torch.device, autocast: torch.autocast) -> nn.Module:
    """``torch.compile`` of the model, tried in one step of ``batch`` images; the model itself, and a sentence, if that fails.

    Compilation happens when the network first runs, forwards and backwards, so asking for it says nothing.
    """
    network: nn.Module = torch.compile(model)  # type: ignore[assignment]
    config, state = model.config, {name: buffer.clone() for name, buffer in model.named_buffers()}
    x = torch.zeros(batch, 3, config.image_size, config.image_size, device=device).contiguous(memory_format=torch.channels_last)
    noise = torch.zeros(batch, config.latents, device=device)
    try:
        with autocast:
            output = network(x, noise)
        parts = (output.logits, output.mu, output.logvar, output.log_scale, output.mask)
        sum(part.float().mean() for part in parts if part is not None).backward()
    except Exception as error:  # a compiler fails in any way that it likes
        reason = (str(error).strip().splitlines() or [""])[0]
        tqdm.write(f"torch.compile fails for this network ({type(error).__name__}: {reason[:200]}); it runs as it is, slower.")
        network = model
    finally:
        model.zero_grad(set_to_none=True)
        for name, buffer in model.named_buffers():
            buffer.copy_(state[name])
    return network


def keep_memory() -> None:
    """Have the C library keep what it frees: each step asks for the same again, and new pages must be cleared first."""
    if sys.platform == "linux":
        # M_MMAP_MAX and M_TRIM_THRESHOLD of glibc's malloc.h; another C library has no mallopt, or ignores them.
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt:
            mallopt(-4, 0), mallopt(-1, 2 ** 31 - 1)


class Meter(nn.Module):
    """Means of the loss's terms since they were last taken, and how many steps were left out; all on the device.

    A checkpoint has it too: a resumed run logs what the undisturbed one logs.
    """

    sums: Tensor
    counts: Tensor

    def __init__(self, device: torch.device):
        super().__init__()
        self.names: tuple[str, ...] = ()
        self.register_buffer("sums", torch.zeros(16, device=device))  # room for any objective's terms
        # Steps summed since last taken; steps left out in all; steps left out in a row until now.
        self.register_buffer("counts", torch.zeros(3, device=device))

    def add(self, terms: dict[str, Tensor], bad: Tensor) -> None:
        """Add the terms of a step; those of a ``bad`` one count as skipped."""
        self.names = tuple(terms)
        values = torch.stack(list(terms.values())).float()
        self.sums[:len(values)] += torch.where(bad, 0.0, values)
        summed, skipped, row = self.counts.unbind()
        self.counts.copy_(torch.stack([summed + ~bad, skipped + bad, (row + 1) * bad]))

    def take(self) -> tuple[dict[str, float], int, int]:
        """Means by name since the last call, steps left out in the run, and how many the last in a row are of those."""
        summed, skipped, row = self.counts.tolist()
        means = (self.sums[:len(self.names)] / summed).tolist()
        self.sums.zero_()
        self.counts[0].zero_()
        return dict(zip(self.names, means, strict=True)), int(skipped), int(row)

    def sound(self) -> bool:
        """Whether the last step was one that counts."""
        return not self.counts[2].item()


class Rate:
    """By how much the learning rate has been lowered, and how often: what going back to a checkpoint changes."""

    def __init__(self):
        self.factor, self.rewinds = 1.0, 0

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"factor": self.factor, "rewinds": self.rewinds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take up what a checkpoint kept."""
        self.factor, self.rewinds = state["factor"], int(state["rewinds"])


def fit(config: TrainConfig, train: Tensor | Pictures, val: Tensor, out: str | Path, device: torch.device,
        ranks: Ranks = ALONE, save_seconds: float = SAVE_SECONDS,
        on_validation: Callable[[VAE, int], None] | None = None,
        features: Callable[[Tensor], Tensor] | None = None, start: VAE | None = None, bf16: bool = False) -> VAE:
    """Train to ``config.images`` and return the model with its averaged weights, in eval mode.

    Goes on from the checkpoint in ``out`` if there is one; a resumed run is bitwise the uninterrupted one on the CPU,
    and on one GPU after ``torch.use_deterministic_algorithms`` (--deterministic): its kernels add in no fixed order otherwise.
    Writes ``log.jsonl`` and TensorBoard events into ``out``. A step whose loss or gradient is not finite is left out and
    counted; after ``BAD_STEPS`` in a row the run goes back to its last checkpoint with half the learning rate.

    Parameters
    ----------
    train : Tensor or Pictures
        uint8 (n, s, s, 3), or ``Dataset.training``, with masks for a model that draws them.
    val : Tensor
        uint8 (n, s, s, 3), looked at through the averaged weights and never trained on.
    ranks : Ranks
        The processes that share each batch. All end with the same model; rank 0 alone writes.
    save_seconds : float
        Time between two checkpoints.
    on_validation : callable, optional
        Called with the averaged model and the images seen, each time it is validated; by rank 0 alone.
    features : callable, optional
        Pictures (n, 3, s, s) -> (n, k), what ``config.perceptual`` weighs the error of.
    start : VAE, optional
        The weights of the first step, in place of random ones; of the same architecture.
    bf16 : bool
        Compute convolutions in bf16 on a CPU too, not in float32. GPUs that can do by themselves.

    Raises
    ------
    Interrupted
        SIGINT or SIGTERM came, to any of the processes; the state is saved.
    Diverged
        The loss is still infinite or NaN after going back ``REWINDS`` times.
    CheckpointError
        The checkpoint in ``out`` is of other settings, or cannot be read.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    training, rate = Training(config, train, device, ranks, features, start, bf16), Rate()
    checkpoint = Checkpoint(out, config.to_json(), TrainConfig.from_json, model=training.model, optimizer=training.optimizer,
                            objective=training.objective, average=training.average, meter=training.meter, rate=rate)
    resumed = checkpoint.load(ranks)
    signals = Signals()
    log = Log(out, config, checkpoint.step, writes=ranks.first)
    validate_every = max(LOG_EVERY, config.steps // VALIDATIONS,
                         round(len(val) / 3 / VALIDATION_SHARE / config.batch))
    saved = time.monotonic()
    try:
        if not resumed:
            _save(checkpoint, log)  # what the first steps can go back to
        while checkpoint.step < config.steps:
            progress = checkpoint.step / config.steps
            training.step(checkpoint.step, rate.factor)
            checkpoint.step += 1
            log.advance(checkpoint.step)
            last = checkpoint.step == config.steps
            if checkpoint.step % LOG_EVERY == 0 or last:
                means, skipped, in_a_row = training.meter.take()
                if in_a_row >= BAD_STEPS:
                    _go_back(checkpoint, rate, ranks)
                    log.go_back(checkpoint.step)
                    log.say(f"{in_a_row} steps in a row had a loss or a gradient that is not finite: back to "
                            f"{log.images:,} images, with {rate.factor:g} times the learning rate.")
                    continue
                held = {"beta" if config.objective == "beta" else "C": config.level(progress)}
                log.write("train", **held, lr=rate.factor * config.learning_rate(progress), skipped=skipped, **means)
            if ranks.first and (checkpoint.step % validate_every == 0 or last):
                validated = averaged_model(training)
                log.write("val", **_validate(validated, val, device))
                if on_validation:
                    on_validation(validated, log.images)
            stop = ranks.any(signals.received) and not last
            # Weights that give no finite loss are not worth going back to.
            if last or stop or (time.monotonic() - saved > save_seconds and training.meter.sound()):
                written = _save(checkpoint, log)
                saved = time.monotonic()
            if stop:
                ranks.wait()
                raise Interrupted(f"Stopped after {log.images:,} of {config.images:,} images; "
                                  f"the same command goes on from {'here' if written else 'the last checkpoint'}.")
        ranks.wait()
    finally:
        log.close()
        signals.restore()
    return averaged_model(training)


def _save(checkpoint: Checkpoint, log: "Log") -> bool:
    """Save where this process writes; a disk that is full is no reason to stop training."""
    try:
        if log.writes:
            checkpoint.save()
        return True
    except OSError as error:
        log.say(f"The checkpoint after {log.images:,} images could not be written ({error.strerror}); "
                f"{str(checkpoint.newest)!r} is as it was.")
        return False


def _go_back(checkpoint: Checkpoint, rate: Rate, ranks: Ranks) -> None:
    """Load the last checkpoint, or the one before it where the run has been at the last already; halve the rate."""
    if rate.rewinds == REWINDS:
        raise Diverged(f"The loss is not finite, and halving the learning rate {REWINDS} times has not helped; "
                       "give a lower one, --lr.")
    factor, rewinds = rate.factor / 2, rate.rewinds + 1
    if ranks.first:
        checkpoint.rewind()
    checkpoint.load(ranks)
    rate.factor, rate.rewinds = factor, rewinds


def averaged_model(training: Training) -> VAE:
    """A copy of the model with the averaged weights (its own where the run averages none), in eval mode."""
    model = copy.deepcopy(training.model)
    if training.config.ema:
        model.load_state_dict(training.average.weights)
    return model.eval()


def _validate(model: VAE, val: Tensor, device: torch.device) -> dict[str, float]:
    figures = reconstruction_and_kl(model, val, device)
    return {name: figures[name] for name in ("bce", "bce_gap", "psnr", "kl", "active_0.1", "active_1")}


class Log:
    """What a run says: one JSON object a line in ``log.jsonl``, the same for TensorBoard, a progress bar, and sentences.

    Of several processes one writes (``writes``); in the others nothing is said.
    """

    def __init__(self, out: Path, config: TrainConfig, step: int, writes: bool):
        self.out, self.config, self.step, self.writes = out, config, step, writes
        self.path = out / "log.jsonl"
        self.board: SummaryWriter | None = None
        self.bar = tqdm(total=config.images, initial=self.images, desc=config.preset, unit=" images", smoothing=0.05,
                        disable=not writes)
        self.go_back(step)

    @property
    def images(self) -> int:
        """Images seen."""
        return min(self.step * self.config.batch, self.config.images)

    def go_back(self, step: int) -> None:
        """Forget what was written after ``step``, which is about to be made again."""
        self.step = step
        if not self.writes:
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except json.JSONDecodeError:
                break  # the run was killed while it wrote this
        write_durably(self.path, "".join(kept).encode())
        if self.board:
            self.board.close()
        self.board = SummaryWriter(self.out / "tensorboard", purge_step=self.images + 1)
        self.bar.n = self.images
        self.bar.refresh()

    def advance(self, step: int) -> None:
        """Move the bar to a step."""
        self.step = step
        self.bar.update(self.images - self.bar.n)

    def write(self, kind: str, **figures: float) -> None:
        """Figures of kind "train" or "val"."""
        if not self.writes:
            return
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": self.step, "images": self.images, **figures}) + "\n")
        for name, value in figures.items():
            if self.board:
                self.board.add_scalar(f"{kind}/{name}", value, self.images)
        if kind == "train":
            self.bar.set_postfix({name: f"{figures[name]:.4g}" for name in ("loss", "kl")})

    def say(self, sentence: str) -> None:
        """Print a sentence above the bar."""
        if self.writes:
            self.bar.write(sentence)

    def close(self) -> None:
        """End the bar and the board."""
        self.bar.close()
        if self.board:
            self.board.close()


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
        """Give the signals back to those who handled them before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
