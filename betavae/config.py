"""The configuration of a model: the contents of ``config.json``. It imports neither torch nor another module of ours."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCKS = ("residual", "preactivation", "strided", "pooled")
HEADS = ("conv", "pixelshuffle", "transposed")
NORMS = ("group", "batch", "none")
OUTPUTS = ("sigmoid", "tanh")
PADDINGS = ("reflect", "zeros", "valid")
HEAD_PADDINGS = ("same", "reflect", "zeros")
KERNELS = (4, 5)
# Fields that a file must have. Others have the defaults of ``VAEConfig``, so files from before a field existed keep their
# meaning.
REQUIRED = ("image_size", "latents", "crop", "encoder", "decoder")

# The aligned CelebA frame: 178 x 218 pixels, eyes near (69, 111) and (108, 111).
FRAME_WIDTH, FRAME_HEIGHT = 178, 218
# The centre 148 x 148 of that frame, as fractions: left, top, right, bottom.
CENTRE_148 = (15 / 178, 35 / 218, 163 / 178, 183 / 218)
# Its widest square, in the middle.
CENTRE_178 = (0.0, 20 / 218, 1.0, 198 / 218)
# All of it, squashed to a square.
WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class VAEConfig:
    """Architecture and framing of one VAE. Frozen; ``to_json`` and ``from_json`` are exact inverses.

    Every layer is followed by the norm and by the block's activation: LeakyReLU(0.2) for "residual", SiLU for
    "preactivation", ReLU for "strided", ELU for "pooled".

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
        Channels of each stage; every stage halves the resolution. In residual networks the first is the stem.
    decoder : tuple of int
        Channels at the lowest resolution and of each stage after it; every stage doubles the resolution.
    depth : int or tuple of int
        Blocks in a stage; a tuple has those of each stage of the encoder, and the decoder then has one block a stage.
    block : "residual" | "preactivation" | "strided" | "pooled"
        "residual": conv, norm, LeakyReLU, conv, norm, plus shortcut, LeakyReLU (He et al. 2015).
        "preactivation": norm, SiLU, conv, norm, SiLU, conv, plus shortcut (He et al. 2016).
        "strided": one convolution, with stride 2 where it halves, transposed where it doubles.
        "pooled": 3x3 convolutions. A stage of the encoder ends with max pooling. The decoder reshapes z to its first
        feature map; each stage begins with a transposed convolution of ``narrow`` channels. Sides may be odd: they are
        halved rounding down, and doubled back to the same.
    decoder_depth : tuple of int
        With "pooled" blocks, the convolutions after each transposed one (empty: one each).
    narrow : int
        With "pooled" blocks, the channels of the transposed convolutions.
    kernel : int
        Side of the convolutions with stride 2 (the stem's; with "strided" blocks every one), 4 or 5.
    norm : "group" | "batch" | "none"
        Normalisation of every layer.
    norm_eps : float
        Added to the variance by the normalisation.
    latent_norm : bool
        Whether mu and logvar are batch-normalised.
    groups : int
        Groups of every GroupNorm.
    hidden : int
        Width of a dense layer between the encoder's last feature map and its heads (0: none).
    head : "conv" | "pixelshuffle" | "transposed"
        Last layer: a convolution to RGB, one to 12 channels rearranged to RGB at twice the resolution, or a
        transposed convolution to RGB at twice the resolution.
    head_kernel : int
        Side of the last convolution where ``head`` is no transposed one; odd.
    head_padding : "same" | "reflect" | "zeros"
        Padding of that convolution; "same" is ``padding``.
    output : "sigmoid" | "tanh"
        The last non-linearity. A tanh network works with pixels in [-1, 1]; the model's interface has [0, 1] for both.
    padding : "reflect" | "zeros" | "valid"
        Padding of every convolution but transposed ones, which have zeros. "valid", in strided encoders: none.
    flow : int
        Layers of a normalising flow after the posterior's Gaussian (0: none).
    mask : bool
        Whether a second decoder of the same shape predicts the mask of the face from z.

    Raises
    ------
    ValueError
        A field has an invalid value; the message names it and the valid ones.
    """

    image_size: int = 64
    latents: int = 32
    crop: tuple[float, float, float, float] = CENTRE_148
    encoder: tuple[int, ...] = (64, 128, 256, 256)
    decoder: tuple[int, ...] = (256, 128, 64, 64, 64)
    depth: int | tuple[int, ...] = 1
    block: str = "residual"
    decoder_depth: tuple[int, ...] = ()
    narrow: int = 64
    kernel: int = 4
    norm: str = "group"
    norm_eps: float = 1e-5
    latent_norm: bool = False
    groups: int = 32
    hidden: int = 0
    head: str = "conv"
    head_kernel: int = 3
    head_padding: str = "same"
    output: str = "sigmoid"
    padding: str = "reflect"
    flow: int = 0
    mask: bool = False

    def __post_init__(self):
        # JSON has lists; a frozen, hashable config has tuples.
        for field in ("crop", "encoder", "decoder", "decoder_depth"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if not isinstance(self.depth, int):
            object.__setattr__(self, "depth", tuple(self.depth))
        for field, valid in (("block", BLOCKS), ("norm", NORMS), ("head", HEADS), ("output", OUTPUTS), ("padding", PADDINGS),
                             ("head_padding", HEAD_PADDINGS), ("kernel", KERNELS), ("latent_norm", (False, True)),
                             ("mask", (False, True))):
            choice(field, getattr(self, field), valid)
        for field, values in (
            {field: (getattr(self, field),) for field in ("image_size", "latents", "groups", "narrow", "head_kernel")}
            | {"encoder": self.encoder, "decoder": self.decoder, "depth": self.depths, "decoder_depth": self.decoder_depth}
        ).items():
            for value in values:
                if type(value) is not int or value < 1:
                    raise ValueError(f"{field} is {getattr(self, field)!r}; it must be made of whole numbers of at least 1.")
        for field in ("hidden", "flow"):
            value = getattr(self, field)
            if type(value) is not int or value < 0:
                raise ValueError(f"{field} is {value!r}; it must be a whole number, 0 for none.")
        if self.head_kernel % 2 == 0:
            raise ValueError(f"head_kernel is {self.head_kernel}; it must be odd.")
        if not 0 < self.norm_eps < 1:
            raise ValueError(f"norm_eps is {self.norm_eps!r}; it must be above 0 and below 1.")
        if self.flow and self.latents < 2:
            raise ValueError(f"flow is {self.flow}; a flow needs at least 2 latents, of which one half moves the other.")
        if not self.encoder or not self.decoder or len(self.depths) != len(self.encoder):
            raise ValueError(f"encoder is {self.encoder}, decoder {self.decoder} and depth {self.depth}; each needs at least "
                             "one stage, and a tuple of depths one number for each stage of the encoder.")
        if self.decoder_depth and (self.block != "pooled" or len(self.decoder_depth) != len(self.decoder) - 1):
            raise ValueError(
                f"decoder_depth is {self.decoder_depth}; it needs pooled blocks, and one number for each stage of the "
                f"decoder but the first, {len(self.decoder) - 1}."
            )
        left, top, right, bottom = self.crop
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(f"crop is {self.crop}; it must be fractions with 0 <= left < right <= 1 "
                             "and 0 <= top < bottom <= 1.")
        if self.norm == "group":
            for field in ("encoder", "decoder"):
                for width in getattr(self, field):
                    if width % self.groups:
                        raise ValueError(f"{field} has {width} channels; each must be a multiple of groups = {self.groups}.")
            if self.hidden % self.groups:
                raise ValueError(f"hidden is {self.hidden}; it must be a multiple of groups = {self.groups}.")
        if self.padding == "valid" and (self.block != "strided" or self.head_padding == "same"):
            raise ValueError("padding is 'valid'; it needs strided blocks, and a head_padding of 'reflect' or 'zeros'.")
        halvings = [] if self.padding == "valid" else [("halvings in the encoder", len(self.encoder))]
        if not halvings and self.encoder_base < 1:
            raise ValueError(
                f"image_size is {self.image_size}; {len(self.encoder)} convolutions without padding leave nothing of it."
            )
        for side, count in (*halvings, ("doublings in the decoder", self.upsamplings)):
            if self.block != "pooled" and self.image_size % 2 ** count:
                raise ValueError(f"image_size is {self.image_size}; {count} {side} need a multiple of {2 ** count}.")
            if self.image_size < 2 ** count:
                raise ValueError(f"image_size is {self.image_size}; {count} {side} need at least {2 ** count}.")
        if self.block == "pooled" and self.head != "conv":
            raise ValueError(f"head is {self.head!r}; pooled blocks, whose sides may be odd, need 'conv'.")
        if self.block == "pooled" and self.latents != self.decoder[0] * self.decoder_sides[0] ** 2:
            raise ValueError(f"latents is {self.latents}; pooled decoders reshape z to {self.decoder[0]} channels of "
                             f"{self.decoder_sides[0]} x {self.decoder_sides[0]}, which needs "
                             f"{self.decoder[0] * self.decoder_sides[0] ** 2}.")

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks in each stage of the encoder: in all of ``encoder``, or, in residual networks, after the stem."""
        return self.depth if isinstance(self.depth, tuple) else (self.depth,) * len(self.encoder)

    @property
    def encoder_base(self) -> int:
        """Side of the encoder's last feature map, in pixels."""
        if self.padding != "valid":
            return self.image_size // 2 ** len(self.encoder)
        side = self.image_size
        for _ in self.encoder:
            side = (side - self.kernel) // 2 + 1
        return side

    @property
    def upsamplings(self) -> int:
        """Number of times that the decoder doubles the resolution."""
        return len(self.decoder) - 1 + (self.head != "conv")

    @property
    def decoder_sides(self) -> tuple[int, ...]:
        """Sides of the decoder's feature maps, in pixels, from the first to the picture's."""
        return tuple(self.image_size // 2 ** (self.upsamplings - i) for i in range(self.upsamplings + 1))

    def to_json(self) -> str:
        """The config as a JSON object, one field a line."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "VAEConfig":
        """Read what ``to_json`` wrote.

        Raises
        ------
        ValueError
            Not a JSON object, a field unknown to VAEConfig, one of ``REQUIRED`` missing, or a value that VAEConfig refuses.
        """
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON ({error}).") from error
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(fields, dict) or not set(REQUIRED) <= set(fields) <= set(known):
            found = sorted(fields) if isinstance(fields, dict) else type(fields).__name__
            raise ValueError(f"it has the fields {found}; a VAEConfig has {sorted(known)}, "
                             f"of which {', '.join(REQUIRED)} are required.")
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"a field has a value of the wrong kind ({error}).") from error

    @classmethod
    def load(cls, path: str | Path) -> "VAEConfig":
        """``from_json`` of a file."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))


def choice(field: str, value, valid: Sequence) -> None:
    """Raise a ValueError that names the valid values unless ``value`` is one of them."""
    if value not in valid:
        raise ValueError(f"{field} is {value!r}; choose from {', '.join(map(str, valid))}.")
