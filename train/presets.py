"""The configuration of a run, ``TrainConfig``, and the table of presets."""

import dataclasses
import inspect
import json
import math
import re
import textwrap
from dataclasses import dataclass
from typing import Any

from betavae.config import CENTRE_178, WHOLE, VAEConfig, choice

CELEBA_TRAIN = 162_770  # images in CelebA's training split
CELEBA_VAL = 19_867     # and in its validation split
CELEBA_95 = 192_469     # 95 % of all its images

RECONSTRUCTIONS = ("bce", "mse", "gaussian", "masked")
OBJECTIVES = ("beta", "capacity", "controller")
REDUCTIONS = ("sum", "mean")
SCHEDULES = ("constant", "onecycle")
TRAINED_ON = {"train": ("train",), "train+val": ("train", "val"), "all": ("train", "val", "test")}
INITS = ("default", "kaiming", "glorot", "he-glorot")
RECORDED = ("weights", "images_seen", "data", "precision")  # what run.json has besides the settings
SEEDS = 2 ** 32 - 1  # scikit-learn takes none beyond


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
        Cross-entropy; squared error in the network's own range; likelihood under the variance that is most likely
        (sigma-VAE); or, inside of the face alone, 2 - SSIM + 4 MAE, with the cross-entropy and Dice loss of the predicted mask.
    reduction : "sum" | "mean"
        Reconstruction summed over an image's values and KL over latents, or both divided by their number ("masked" is
        always a mean over values). Always a mean over the batch.
    perceptual : float
        Weight of the error in the features of the run's own classifier (0: none). Of 64 px models.
    objective : "beta" | "capacity" | "controller"
        beta * KL; gamma * |KL - C|; or beta * KL with beta steered towards KL = C.
    beta_start : float
        Weight of the KL at the start of the ramp.
    beta : float
        Weight of the KL from the end of the ramp on.
    gamma : float
        Weight of |KL - C|.
    gain : float
        By how much the controller moves log beta per step and relative error of the KL.
    C_start : float
        Capacity in nats at the start of the ramp.
    C_end : float
        Capacity in nats from the end of the ramp on.
    ramp : float
        Share of the run over which beta or C rises linearly (0: the last value from the start).
    images : int
        Images seen in all.
    splits : "train" | "train+val" | "all"
        Splits to train on. Figures on a training split are marked as not held out.
    subset : int
        Number of images to use, the first by name (0: all).
    init : "default" | "kaiming" | "glorot" | "he-glorot"
        Initialisation of the weights: PyTorch's default for each layer, or ``train.initialisation``.
    batch : int
        Images a step, over all processes.
    lr : float
        Learning rate of AdamW without weight decay, which is Adam.
    beta1 : float
        Adam's decay of the gradient's mean.
    beta2 : float
        Adam's decay of the gradient's square.
    eps : float
        Adam's epsilon.
    clip : float
        Largest norm of the whole gradient (0: any).
    clip_each : float
        Largest norm of each variable's gradient (0: any), as Keras' ``clipnorm``.
    start : str
        Hash of the weights of --start, from which the run starts (empty: it starts from ``init``).
    schedule : "constant" | "onecycle"
        Of the learning rate; "onecycle" goes up to lr over the warmup, then down to 0 along a cosine.
    warmup : float
        Share of the run over which "onecycle" goes up.
    ema : float
        Half-life of the averaged weights as a share of the run (0: none).
    flip : bool
        Mirror half of the images.
    seed : int
        Of weights, data order and noise.

    Raises
    ------
    ValueError
        A field has an invalid value; the message names it and the valid ones.
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
    perceptual: float = 0.0
    splits: str = "train"
    init: str = "default"
    clip_each: float = 0.0
    start: str = ""
    seed: int = 0

    def __post_init__(self):
        choice("reconstruction", self.reconstruction, RECONSTRUCTIONS)
        choice("reduction", self.reduction, REDUCTIONS)
        choice("objective", self.objective, OBJECTIVES)
        choice("schedule", self.schedule, SCHEDULES)
        choice("splits", self.splits, tuple(TRAINED_ON))
        choice("init", self.init, INITS)
        for fields, low, high in ((("batch",), 1, math.inf), (("images",), self.batch, math.inf),
                                  (("subset", "clip", "clip_each", "perceptual", "beta_start", "beta", "gamma", "gain",
                                    "C_start", "C_end"), 0, math.inf),
                                  (("seed",), 0, SEEDS), (("ramp", "ema", "beta1", "beta2"), 0, 1)):
            for field in fields:
                value = getattr(self, field)
                if not (low <= value <= high and math.isfinite(value)):
                    raise ValueError(f"{field} is {value:,}; it must be " + (f"at least {low:,}." if high == math.inf else
                                                                             f"from {low} to {high:,}."))
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
        """Steps of the run."""
        return math.ceil(self.images / self.batch)

    @property
    def trained_on(self) -> tuple[str, ...]:
        """The splits that ``splits`` names."""
        return TRAINED_ON[self.splits]

    def level(self, progress: float) -> float:
        """The level for the penalty: C in nats, or with the objective "beta" the weight of the KL."""
        start, end = (self.beta_start, self.beta) if self.objective == "beta" else (self.C_start, self.C_end)
        return start + (end - start) * (min(progress / self.ramp, 1.0) if self.ramp else 1.0)

    def learning_rate(self, progress: float) -> float:
        """The learning rate at a share of the run, from 0 to 1."""
        if self.schedule == "constant":
            return self.lr
        if progress < self.warmup:
            return self.lr * progress / self.warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))

    def to_json(self) -> str:
        """The text that ``from_json`` reads."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "TrainConfig":
        """The configuration in a run.json or checkpoint: the exact inverse of ``to_json``.

        Fields that an older file lacks have their defaults, so it means what it meant. What run.json says of the run besides
        (``RECORDED``) is passed over.

        Raises
        ------
        ValueError
            It is no JSON object, or a field is missing, unknown or has a value that no run can have.
        """
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise ValueError(f"it is not JSON ({error})") from error
        if not isinstance(fields, dict):
            raise ValueError("it is no JSON object")
        fields = {name: value for name, value in fields.items() if name not in RECORDED}
        valid = {field.name: field for field in dataclasses.fields(cls)}
        for name in fields:
            if name not in valid:
                raise ValueError(f"{name!r} is no setting; the settings are {', '.join(valid)}.")
        for name, field in valid.items():
            if name not in fields and field.default is dataclasses.MISSING:
                raise ValueError(f"it has no {name!r}.")
        try:
            return cls(**fields | {"model": VAEConfig.from_json(json.dumps(fields["model"]))})
        except TypeError as error:
            raise ValueError(f"a setting is of another kind than it must be ({error}).") from error


def settings(config: TrainConfig) -> dict[str, object]:
    """The settings that ``override`` takes, with their values: {"lr": 3e-4, ..., "model.latents": 32, ...}."""
    own = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    del own["preset"], own["model"], own["start"]
    return own | {f"model.{field.name}": getattr(config.model, field.name) for field in dataclasses.fields(config.model)}


def override(config: TrainConfig, texts: dict[str, str]) -> TrainConfig:
    """The config with settings given as text, as on a command line: {"lr": "1e-4", "model.latents": "16"}.

    Raises
    ------
    ValueError
        There is no such setting, its text cannot be read, or the config refuses its value.
    """
    valid, own, model = settings(config), dict[str, Any](), dict[str, Any]()
    for name, text in texts.items():
        if name not in valid:
            raise ValueError(f"There is no setting --{name}; choose from {', '.join(valid)}.")
        _, dot, field = name.rpartition(".")
        (model if dot else own)[field] = _value(name, text, getattr(VAEConfig, field) if dot else valid[name])
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **model), **own)


def _value(name: str, text: str, example: Any) -> Any:
    """``text`` as a value of the kind of ``example``; numbers of a network may be several, with commas between them."""
    kind = type(example) if not isinstance(example, tuple) else type(example[0]) if example else int
    if example == () and not text:
        return ()
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is str or not name.startswith("model."):
            return kind(text)
        numbers = tuple(kind(part) for part in text.split(","))
        return numbers if isinstance(example, tuple) or len(numbers) > 1 else numbers[0]
    except (ValueError, KeyError):
        wanted = "true or false" if kind is bool else "a whole number" if kind is int else "a number"
        several = ", or several with commas between them" if isinstance(example, tuple) else ""
        raise ValueError(f"--{name} is {text!r}; it must be {wanted}{several}.") from None


def explain(config: TrainConfig) -> str:
    """A page of all settings with their values in this config and what they mean, from the two configs' docstrings."""
    meanings = _meanings(TrainConfig) | {f"model.{name}": text for name, text in _meanings(VAEConfig).items()}
    return "\n".join(textwrap.fill(f"--{name} {_text(value)}".ljust(38) + " " + meanings[name], 118,
                                   initial_indent="  ", subsequent_indent=" " * 41)
                     for name, value in settings(config).items())


def _meanings(owner: type) -> dict[str, str]:
    """Field -> what its class's NumPy docstring says of it, in one line, the valid words first."""
    section = (inspect.getdoc(owner) or "").partition("Parameters\n----------\n")[2].partition("\n\nRaises")[0]
    meanings = {}
    for name, kind, text in re.findall(r"^(\w+) : (.*)\n((?: {4}.*\n?)+)", section, re.MULTILINE):
        meanings[name] = (f"{kind.replace(chr(34), '')}. " if "|" in kind else "") + " ".join(text.split())
    return meanings


def _text(value: object) -> str:
    """A setting's value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(f"{part:.4g}" for part in value)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


# Burgess et al. 2018 with the residual network that CelebA editors publish.
CAPACITY = VAEConfig(head_padding="zeros")
LEAN = VAEConfig(encoder=(64, 128, 192, 256), decoder=(256, 256, 128, 64), block="preactivation", head="pixelshuffle",
                 groups=16, padding="zeros")
PLAIN = VAEConfig(encoder=(32, 64, 128), decoder=(128, 64, 32), block="strided", norm="none", head="transposed",
                  padding="zeros")
VANILLA = dataclasses.replace(PLAIN, image_size=128, latents=128, crop=CENTRE_178, encoder=(32, 64, 128, 256, 512),
                              decoder=(512, 256, 128, 64, 32), output="tanh")
BETA_NORM = dataclasses.replace(PLAIN, image_size=128, crop=(21 / 178, 57 / 218, 149 / 178, 185 / 218), kernel=5, norm="batch",
                                encoder=(64, 128, 256, 512), decoder=(512, 512, 256, 128, 64), padding="valid",
                                latent_norm=True, head="conv", head_kernel=5, head_padding="zeros")
MASKED = VAEConfig(image_size=144, latents=2048, crop=WHOLE, encoder=(32, 64, 128, 256, 512, 512),
                   decoder=(512, 512, 512, 256, 128, 64, 32), depth=(2, 2, 2, 2, 1, 1), decoder_depth=(1, 1, 2, 2, 2, 2),
                   block="pooled", norm="batch", norm_eps=1e-3, hidden=1024, padding="zeros", mask=True)

# fmt: off
# Defaults of the rows: plain training with PyTorch's Adam. Rows name only what differs.
DEFAULTS: dict[str, Any] = dict(
    reconstruction="mse", reduction="sum", objective="beta", beta_start=0.0, beta=1.0, gamma=1000.0, gain=0.01, C_start=0.0,
    C_end=50.0, ramp=0.0, subset=0, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, clip=0.0, schedule="constant", warmup=0.0,
    ema=0.0, flip=False)
# 0.7 is the normalised beta that the source states. Its code divides the KL by the batch of 32 and the squared error not, so
# what it minimises per image, and what its curves show, is a normalised beta of 0.7 / 32.
BETA_NORM_ROW = dict(model=BETA_NORM, reduction="mean", beta=0.7 / 32, images=30 * CELEBA_95, batch=32, lr=1e-4, beta1=0.5,
                     splits="all", init="he-glorot")

# The source of `plain` names neither batch, length nor crop.
# `celeba64` learns pixels; `celeba64-features` goes on from its weights with the features of the classifier in the likelihood.
CELEBA64 = dict(model=LEAN, reconstruction="bce", objective="controller", beta_start=1.0, C_start=5.0, ramp=0.25,
                images=400_000, batch=64, schedule="onecycle", warmup=0.1, ema=0.02, flip=True)
_ROWS: dict[str, dict[str, Any]] = {
    "capacity": dict(model=CAPACITY, reconstruction="bce", objective="capacity", beta_start=1.0, ramp=0.4,
                     images=200 * (CELEBA_TRAIN + CELEBA_VAL), batch=128, lr=3e-4, splits="train+val", init="kaiming"),
    "beta-norm": BETA_NORM_ROW,
    "beta-norm-literal": BETA_NORM_ROW | dict(beta=0.7),
    "vae": dict(model=VANILLA, images=10 * 20_000, subset=20_000, batch=64),
    "beta4": dict(model=VANILLA, beta=4.0, images=5 * 20_000, subset=20_000, batch=64),
    "beta10": dict(model=VANILLA, beta=10.0, images=5 * 20_000, subset=20_000, batch=64),
    "plain": dict(model=PLAIN, images=20 * CELEBA_TRAIN, batch=128),
    "masked": dict(model=MASKED, reconstruction="masked", reduction="mean", beta=1e-3, images=113 * 4000 * 32, batch=32,
                   lr=1e-4, eps=1e-7, clip_each=1e-3, init="glorot"),
    "celeba64": CELEBA64,
    "celeba64-features": CELEBA64 | dict(perceptual=2.0, beta_start=3.0, C_start=50.0, ramp=0.0, images=100_000, lr=5e-4,
                                         warmup=0.05),
}
# fmt: on
PRESETS = {name: TrainConfig(preset=name, **DEFAULTS | row) for name, row in _ROWS.items()}
