"""What a run is, as data: ``TrainConfig``, and one aligned table in which two presets differ by two rows."""

import dataclasses
import json
import math
from dataclasses import dataclass

from betavae.config import VAEConfig

CELEBA_TRAIN = 162_770  # images in CelebA's training split


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Every schedule is a function of ``progress``, the share of ``images`` already seen.

    objective : "capacity" (gamma * |KL - C|) or "controller" (beta * KL, log beta moved by gain per step and error)
    C_start, C_end, ramp : capacity in nats, rising linearly over the first ``ramp`` of the run
    images : images seen in all; ``batch`` of them a step
    schedule : "constant", or "onecycle": up to ``lr`` over the first ``warmup``, then down to 0 along a cosine
    ema : half-life of the averaged weights as a share of the run (0: none)
    flip : mirror half of the images
    """

    preset: str
    model: VAEConfig
    objective: str
    gamma: float
    gain: float
    C_start: float
    C_end: float
    ramp: float
    images: int
    batch: int
    lr: float
    schedule: str
    warmup: float
    ema: float
    flip: bool
    seed: int = 0

    @property
    def steps(self) -> int:
        return math.ceil(self.images / self.batch)

    def C(self, progress: float) -> float:
        """Capacity in nats."""
        return self.C_start + (self.C_end - self.C_start) * min(progress / self.ramp, 1.0)

    def learning_rate(self, progress: float) -> float:
        if self.schedule == "constant":
            return self.lr
        if progress < self.warmup:
            return self.lr * progress / self.warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)


PUBLISHED = VAEConfig()  # system of Burgess et al. with the residual network that CelebA editors publish
LEAN = VAEConfig(encoder=(64, 128, 192, 256), decoder=(256, 256, 128, 64), block="preactivation", head="pixelshuffle",
                 groups=16, padding="zeros")

_COLUMNS = ("model",   "objective",  "gamma", "gain", "C_start", "C_end", "ramp", "images",             "batch", "lr", "schedule", "warmup", "ema", "flip")
_ROWS = {
    "capacity": (PUBLISHED, "capacity",   1000.0, 0.0,  0.0,       50.0,    0.4,    200 * CELEBA_TRAIN,   128,     3e-4, "constant", 0.0,      0.0,   False),
    "celeba64": (LEAN,      "controller", 0.0,    0.01, 5.0,       50.0,    0.25,   400_000,              64,      1e-3, "onecycle", 0.1,      0.02,  True), 
}
PRESETS = {name: TrainConfig(preset=name, **dict(zip(_COLUMNS, row))) for name, row in _ROWS.items()}
