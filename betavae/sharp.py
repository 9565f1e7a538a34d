"""A second decoder for sharp pictures: it draws detail onto the honest decode, at twice its size, from the same z."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from betavae.files import load_tensors, save_tensors

GAIN = 2  # of added detail where it is shown alone: it is faint


class SharpenerError(ValueError):
    """The sharpener cannot be loaded. The message is one sentence that names the file."""


@dataclass(frozen=True)
class SharpConfig:
    """Size of a ``Sharpener``.

    Parameters
    ----------
    latents : int
        Dimension d of z.
    image_size : int
        Side s of the honest decode in pixels, even; the sharp picture's is 2 s.
    width : int
        Channels at s / 2 pixels, the resolution of the residual blocks.
    blocks : int
        Number of residual blocks.
    """

    latents: int
    image_size: int
    width: int = 64
    blocks: int = 3


class Sharpener(nn.Module):
    """Honest pictures (n, 3, s, s) in [0, 1] and their latents (n, d) -> sharp pictures (n, 3, 2s, 2s) in [0, 1].

    The encoder and the honest decoder stay as they are, so every latent and every direction keeps its meaning. The network
    adds a residual to the upsampled decode. Its residual blocks (EDSR, Lim et al. 2017: no normalisation) are modulated by z
    (FiLM, Perez et al. 2018). It is resized before a convolution, not shuffled after one, which draws a checkerboard (Odena et
    al. 2016). The last convolution starts at zero: a new sharpener is bilinear upsampling.
    """

    def __init__(self, config: SharpConfig):
        super().__init__()
        self.config = config
        width, half, quarter = config.width, config.width // 2, config.width // 4
        self.stem = nn.Conv2d(12, width, 3, padding=1)  # of 2 x 2 pixels each: (n, 12, s/2, s/2)
        self.blocks = nn.ModuleList(ModulatedBlock(width, config.latents) for _ in range(config.blocks))
        self.up = nn.Conv2d(width, half, 3, padding=1)
        self.refine = nn.Conv2d(half, half, 3, padding=1)
        self.up_again = nn.Conv2d(half, quarter, 3, padding=1)
        self.last = nn.Conv2d(quarter, 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, picture: Tensor, z: Tensor) -> Tensor:
        """Decoded pictures (n, 3, s, s) and their latents (n, d) -> (n, 3, 2 s, 2 s)."""
        h = self.stem(F.pixel_unshuffle(2 * picture - 1, 2))
        for block in self.blocks:
            h = block(h, z)
        h = F.leaky_relu(self.up(upsampled(F.leaky_relu(h, 0.2))), 0.2)  # (n, width / 2, s, s)
        h = F.leaky_relu(self.refine(h), 0.2)
        h = F.leaky_relu(self.up_again(upsampled(h)), 0.2)  # (n, width / 4, 2 s, 2 s)
        return (upsampled(picture) + self.last(h)).clamp(0, 1)

    def save(self, path: str | Path, weights: str) -> None:
        """Write the weights in float16, with the hash ``weights`` of the model it belongs to (``betavae.hub.model_hash``)."""
        tensors = {name: value.detach().half().cpu().contiguous() for name, value in self.state_dict().items()}
        save_tensors(tensors, path, metadata={"format": "pt", "config": json.dumps(dataclasses.asdict(self.config)),
                                           "weights": weights})

    @classmethod
    def load(cls, path: str | Path, weights: str) -> "Sharpener":
        """Read what ``save`` wrote, strictly, in eval mode, for the model with the hash ``weights``.

        Raises
        ------
        SharpenerError
            The file is damaged, or belongs to another model.
        """
        path = Path(path)
        try:
            tensors, metadata = load_tensors(path)
            owner = metadata["weights"]
            sharpener = cls(SharpConfig(**json.loads(metadata["config"])))
            sharpener.load_state_dict(tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise SharpenerError(f"The sharpener {str(path)!r} is damaged: {str(error).splitlines()[0]}") from error
        if owner != weights:
            raise SharpenerError(f"The sharpener {str(path)!r} is of the model {owner} and this is {weights}; train it anew "
                                 "with --stages sharpen.")
        return sharpener.eval().to(memory_format=torch.channels_last)


class ModulatedBlock(nn.Module):
    """conv, LeakyReLU, scale and shift by z, conv, plus the input."""

    def __init__(self, width: int, latents: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(latents, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """(n, c, h, w) and latents (n, d) -> (n, c, h, w)."""
        scale, shift = self.modulation(z)[:, :, None, None].chunk(2, 1)
        h = F.leaky_relu(self.conv1(x), 0.2) * (1 + scale) + shift
        return x + 0.2 * self.conv2(h)


def upsampled(picture: Tensor) -> Tensor:
    """(n, 3, s, s) -> (n, 3, 2s, 2s), bilinear: the sharp picture minus this is the added detail."""
    return F.interpolate(picture, scale_factor=2, mode="bilinear", align_corners=False)


def added(picture: Tensor, sharp: Tensor) -> Tensor:
    """What sharp pictures (n, 3, 2s, 2s) of honest ones (n, 3, s, s) add: as pictures, ``GAIN`` times as strong, on grey."""
    return (0.5 + GAIN * (sharp - upsampled(picture))).clamp(0, 1)
