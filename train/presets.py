"""What a run is, as data: ``TrainConfig``, and one aligned table in which two presets differ by two rows."""

import dataclasses
import json
import math
from dataclasses import dataclass

from betavae.config import CENTRE_178, VAEConfig, choice

CELEBA_TRAIN = 162_770  # images in CelebA's training split
CELEBA_95 = 192_469     # 95 % of all its images

RECONSTRUCTIONS = ("bce", "mse", "gaussian", "masked")
OBJECTIVES = ("beta", "capacity", "controller")
REDUCTIONS = ("sum", "mean")
SCHEDULES = ("constant", "onecycle")


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Every schedule is a function of ``progress``, the share of ``images`` already seen.

    Parameters
    ----------
    preset : str
        Name of the row that the run started from.
    model : VAEConfig
        The network and its framing of faces.
    reconstruction : "bce" | "mse" | "gaussian" | "masked"
        Cross-entropy; squared error in the network's own range; likelihood under a learned variance; or, inside of the
        face alone, 2 - SSIM + 4 MAE, with the predicted mask's cross-entropy and Dice loss.
    reduction : "sum" | "mean"
        Reconstruction summed over an image's values and KL over latents, or both divided by their number ("masked" is
        always a mean over values). Always a mean over the batch.
    objective : "beta" | "capacity" | "controller"
        beta * KL; gamma * |KL - C|; or beta * KL with beta steered towards KL = C, log beta moved by ``gain`` per step
        and relative error.
    beta_start, beta : float
        Weight of the KL, rising linearly over the first ``ramp`` of the run.
    gamma, gain : float
        Of the objectives "capacity" and "controller".
    C_start, C_end : float
        Capacity in nats, rising linearly over the first ``ramp`` of the run.
    ramp : float
        Share of the run over which beta or C rises (0: the last value from the start).
    images : int
        Images seen in all.
    subset : int
        Images of the training split that are used, the first by name (0: all).
    batch : int
        Images a step, those of all processes together.
    lr, beta1, beta2, eps : float
        AdamW without weight decay, which is Adam.
    clip : float
        Largest norm of the whole gradient (0: any).
    schedule : "constant" | "onecycle"
        Of the learning rate; "onecycle" goes up to ``lr`` over the first ``warmup``, then down to 0 along a cosine.
    warmup : float
        Share of the run.
    ema : float
        Half-life of the averaged weights as a share of the run (0: none).
    flip : bool
        Mirror half of the images.
    seed : int
        Of weights, data order and noise.

    Raises
    ------
    ValueError
        A field has a value that no run can have; the sentence names it and the valid ones.
    """

    preset: str
    model: VAEConfig
    reconstruction: str
    reduction: str
    objective: str
    beta_start: float
    beta: float
    gamma: float
    gain: float
    C_start: float
    C_end: float
    ramp: float
    images: int
    subset: int
    batch: int
    lr: float
    beta1: float
    beta2: float
    eps: float
    clip: float
    schedule: str
    warmup: float
    ema: float
    flip: bool
    seed: int = 0

    def __post_init__(self):
        choice("reconstruction", self.reconstruction, RECONSTRUCTIONS)
        choice("reduction", self.reduction, REDUCTIONS)
        choice("objective", self.objective, OBJECTIVES)
        choice("schedule", self.schedule, SCHEDULES)
        for fields, low, high in ((("batch",), 1, math.inf), (("images",), self.batch, math.inf),
                                  (("subset", "seed", "clip", "beta_start", "beta", "gamma", "gain", "C_start", "C_end"),
                                   0, math.inf), (("ramp", "ema", "beta1", "beta2"), 0, 1)):
            for field in fields:
                value = getattr(self, field)
                if not (low <= value <= high and math.isfinite(value)):
                    raise ValueError(f"{field} is {value:,}; it must be " + (f"at least {low:,}." if high == math.inf else
                                                                             f"from {low} to {high}."))
        for field in ("lr", "eps"):
            if not 0 < getattr(self, field) < math.inf:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be above 0.")
        for field in ("warmup", "beta1", "beta2"):
            if not 0 <= getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be at least 0 and below 1.")
        if self.model.mask != (self.reconstruction == "masked"):
            raise ValueError(f"model.mask is {self.model.mask} and reconstruction is {self.reconstruction!r}; "
                             "a mask decoder and the reconstruction 'masked' need each other.")

    @property
    def steps(self) -> int:
        return math.ceil(self.images / self.batch)

    def level(self, progress: float) -> float:
        """What the KL is held by: C in nats, or with the objective "beta" its weight."""
        start, end = (self.beta_start, self.beta) if self.objective == "beta" else (self.C_start, self.C_end)
        return start + (end - start) * (min(progress / self.ramp, 1.0) if self.ramp else 1.0)

    def learning_rate(self, progress: float) -> float:
        if self.schedule == "constant":
            return self.lr
        if progress < self.warmup:
            return self.lr * progress / self.warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)


# Burgess et al. 2018 with the residual network that CelebA editors publish.
CAPACITY = VAEConfig()
LEAN = VAEConfig(encoder=(64, 128, 192, 256), decoder=(256, 256, 128, 64), block="preactivation", head="pixelshuffle",
                 groups=16, padding="zeros")
PLAIN = VAEConfig(encoder=(32, 64, 128), decoder=(128, 64, 32), block="strided", norm="none", head="transposed",
                  padding="zeros")
VANILLA = dataclasses.replace(PLAIN, image_size=128, latents=128, crop=CENTRE_178, encoder=(32, 64, 128, 256, 512),
                              decoder=(512, 256, 128, 64, 32), output="tanh")
BETA_NORM = dataclasses.replace(PLAIN, image_size=128, crop=(21 / 178, 57 / 218, 149 / 178, 185 / 218), kernel=5, norm="batch",
                                encoder=(64, 128, 256, 512), decoder=(512, 256, 128, 64))
# The widest square of the frame: what is to be left alone, the background, has to be in the picture.
MASKED = VAEConfig(image_size=144, latents=2048, crop=CENTRE_178, encoder=(32, 64, 128, 256, 512, 512),
                   decoder=(256, 128, 128, 128, 64, 32, 32), depth=(2, 2, 2, 2, 1, 1), block="pooled", norm="batch", hidden=1024,
                   padding="zeros", mask=True)

# Adam's epsilon and decays are PyTorch's where a source gives none. `plain` names neither batch, length nor crop.
_COLUMNS =       ("model",   "reconstruction", "reduction", "objective",  "beta_start", "beta", "gamma", "gain", "C_start", "C_end", "ramp", "images",           "subset", "batch", "lr", "beta1", "beta2", "eps", "clip", "schedule", "warmup", "ema", "flip")
_ROWS = {
    "capacity":  (CAPACITY,  "bce",            "sum",       "capacity",   1.0,          1.0,    1000.0,  0.01,   0.0,       50.0,    0.4,    200 * CELEBA_TRAIN, 0,        128,     3e-4, 0.9,     0.999,   1e-8,  0.0,    "constant", 0.0,      0.0,   False),
    "beta-norm": (BETA_NORM, "mse",            "mean",      "beta",       0.0,          0.7,    1000.0,  0.01,   0.0,       50.0,    0.0,    30 * CELEBA_95,     0,        32,      1e-4, 0.5,     0.999,   1e-8,  0.0,    "constant", 0.0,      0.0,   False),
    "vae":       (VANILLA,   "mse",            "sum",       "beta",       0.0,          1.0,    1000.0,  0.01,   0.0,       50.0,    0.0,    10 * 20_000,        20_000,   64,      1e-3, 0.9,     0.999,   1e-8,  0.0,    "constant", 0.0,      0.0,   False),
    "beta4":     (VANILLA,   "mse",            "sum",       "beta",       0.0,          4.0,    1000.0,  0.01,   0.0,       50.0,    0.0,    5 * 20_000,         20_000,   64,      1e-3, 0.9,     0.999,   1e-8,  0.0,    "constant", 0.0,      0.0,   False),
    "beta10":    (VANILLA,   "mse",            "sum",       "beta",       0.0,          10.0,   1000.0,  0.01,   0.0,       50.0,    0.0,    5 * 20_000,         20_000,   64,      1e-3, 0.9,     0.999,   1e-8,  0.0,    "constant", 0.0,      0.0,   False),
    "plain":     (PLAIN,     "mse",            "sum",       "beta",       0.0,          1.0,    1000.0,  0.01,   0.0,       50.0,    0.0,    20 * CELEBA_TRAIN,  0,        128,     1e-3, 0.9,     0.999,   1e-8,  0.0,    "constant", 0.0,      0.0,   False),
    "masked":    (MASKED,    "masked",         "mean",      "beta",       0.0,          1e-3,   1000.0,  0.01,   0.0,       50.0,    0.0,    113 * 4000 * 32,    0,        32,      1e-4, 0.9,     0.999,   1e-8,  1e-3,   "constant", 0.0,      0.0,   False),
    "celeba64":  (LEAN,      "bce",            "sum",       "controller", 1.0,          1.0,    1000.0,  0.01,   5.0,       50.0,    0.25,   400_000,            0,        64,      1e-3, 0.9,     0.999,   1e-8,  0.0,    "onecycle", 0.1,      0.02,  True),
}
PRESETS = {name: TrainConfig(preset=name, **dict(zip(_COLUMNS, row))) for name, row in _ROWS.items()}
