"""What a model is, as data: the contents of ``config.json``. Imports neither torch nor anything else of ours."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

BLOCKS = ("residual", "preactivation")
HEADS = ("conv", "pixelshuffle")

# The aligned CelebA frame: 178 x 218 pixels, eyes near (69, 111) and (108, 111).
FRAME_WIDTH, FRAME_HEIGHT = 178, 218
# The centre 148 x 148 of that frame, as fractions: left, top, right, bottom.
CENTRE_148 = (15 / 178, 35 / 218, 163 / 178, 183 / 218)


@dataclass(frozen=True)
class VAEConfig:
    """Architecture and framing of one VAE. Frozen; ``to_json`` and ``from_json`` are exact inverses.

    Parameters
    ----------
    image_size : int
        Height and width of the square input and output, in pixels.
    latents : int
        Dimension d of z.
    crop : tuple of 4 floats
        Part of the aligned frame that the model sees, as fractions (left, top, right, bottom). It is part of the
        model, so training data and uploads are framed by one function.
    encoder : tuple of int
        Channels of the stem (4x4, stride 2) and of each stage after it; every stage halves the resolution.
    decoder : tuple of int
        Channels at the lowest resolution and of each stage after it; every stage doubles the resolution.
    depth : int
        Residual blocks in a stage.
    block : "residual" | "preactivation"
        "residual": conv, norm, LeakyReLU, conv, norm, plus shortcut, LeakyReLU (He et al. 2015).
        "preactivation": norm, SiLU, conv, norm, SiLU, conv, plus shortcut (He et al. 2016).
    head : "conv" | "pixelshuffle"
        Last layer: a 3x3 convolution to RGB, or one to 12 channels rearranged to RGB at twice the resolution.
    groups : int
        Groups of every GroupNorm.
    padding : "reflect" | "zeros"
        Padding of every convolution.

    Raises
    ------
    ValueError
        A field has a value that no model can be built from; the sentence names it and the valid ones.
    """

    image_size: int = 64
    latents: int = 32
    crop: tuple[float, float, float, float] = CENTRE_148
    encoder: tuple[int, ...] = (64, 128, 256, 256)
    decoder: tuple[int, ...] = (256, 128, 64, 64, 64)
    depth: int = 1
    block: str = "residual"
    head: str = "conv"
    groups: int = 32
    padding: str = "reflect"

    def __post_init__(self):
        # JSON has lists; a frozen, hashable config has tuples.
        for field in ("crop", "encoder", "decoder"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        _choice("block", self.block, BLOCKS)
        _choice("head", self.head, HEADS)
        _choice("padding", self.padding, ("reflect", "zeros"))
        for field in ("image_size", "latents", "depth", "groups"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{field} is {value!r}; it must be a whole number of at least 1.")
        left, top, right, bottom = self.crop
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(f"crop is {self.crop}; it must be fractions with 0 <= left < right <= 1 "
                             "and 0 <= top < bottom <= 1.")
        for field in ("encoder", "decoder"):
            for width in getattr(self, field):
                if width % self.groups:
                    raise ValueError(f"{field} has {width} channels; each must be a multiple of groups = {self.groups}.")
        if self.image_size % 2 ** len(self.encoder):
            raise ValueError(f"image_size is {self.image_size}; {len(self.encoder)} halvings in the encoder "
                             f"need a multiple of {2 ** len(self.encoder)}.")
        if self.decoder_base * 2 ** self.upsamplings != self.image_size:
            raise ValueError(f"image_size is {self.image_size}; {self.upsamplings} doublings in the decoder "
                             f"need a multiple of {2 ** self.upsamplings}.")

    @property
    def encoder_base(self) -> int:
        """Side of the encoder's last feature map, in pixels."""
        return self.image_size // 2 ** len(self.encoder)

    @property
    def upsamplings(self) -> int:
        """How often the decoder doubles the resolution."""
        return len(self.decoder) - 1 + (self.head == "pixelshuffle")

    @property
    def decoder_base(self) -> int:
        """Side of the decoder's first feature map, in pixels."""
        return self.image_size // 2 ** self.upsamplings

    def to_json(self) -> str:
        """The config as a JSON object, one field a line."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "VAEConfig":
        """Read what ``to_json`` wrote.

        Raises
        ------
        ValueError
            Not a JSON object, a field unknown to VAEConfig or missing, or a value that VAEConfig refuses.
        """
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON ({error}).") from error
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(fields, dict) or set(fields) != set(known):
            found = sorted(fields) if isinstance(fields, dict) else type(fields).__name__
            raise ValueError(f"it has the fields {found}; a VAEConfig has {sorted(known)}.")
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"a field has a value of the wrong kind ({error}).") from error

    @classmethod
    def load(cls, path: str | Path) -> "VAEConfig":
        """``from_json`` of a file."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))


def _choice(field: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise ValueError(f"{field} is {value!r}; choose from {', '.join(valid)}.")
