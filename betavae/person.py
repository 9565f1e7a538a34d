"""The matte of a photo: where the person is and where the background, so that an edit of one leaves the other alone."""

import functools
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from betavae.config import FRAME_HEIGHT, FRAME_WIDTH, VAEConfig
from betavae.files import save_tensors
from betavae.image import crop_box, cut, from_uint8, square

SHIPPED = Path(__file__).resolve().parent / "models" / "person.safetensors"
WIDTH, HEIGHT = 72, 88  # of the aligned frame as the network sees it
SIDE = 256  # of a matte
WIDTHS = (24, 48, 64)
RADIUS, EPSILON = 1 / 24, 1e-3  # of the guided filter: half its window, in sides of the picture; its regularisation


class PersonError(ValueError):
    """The network cannot be loaded. The message is one sentence that names the file."""


class Person(nn.Module):
    """Aligned frames (n, 3, 88, 72) in [0, 1] -> logits (n, 1, 88, 72) of the person, hair and clothes included.

    A small U-Net (Ronneberger et al. 2015), trained by ``train/person.py``.
    """

    def __init__(self):
        super().__init__()
        a, b, c = WIDTHS
        self.down = nn.ModuleList([_layer(3, a, 4, 2), _layer(a, b, 4, 2), _layer(b, c, 4, 2)])
        self.same = nn.ModuleList([_layer(a, a), _layer(b, b), _layer(c, c)])
        self.up = nn.ModuleList([_layer(c + b, b), _layer(b + a, a)])
        self.head = nn.Conv2d(a, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Aligned frames (n, 3, 88, 72) -> logits (n, 1, 88, 72)."""
        maps: list[Tensor] = []
        for down, same in zip(self.down, self.same, strict=True):
            x = same(down(2 * x - 1 if not maps else x))
            maps.append(x)
        for up, across in zip(self.up, (maps[1], maps[0]), strict=True):
            x = up(torch.cat([F.interpolate(x, size=across.shape[2:], mode="bilinear", align_corners=False), across], 1))
        return F.pixel_shuffle(self.head(x), 2)

    def save(self, path: str | Path) -> None:
        """Weights in float16."""
        save_tensors({name: value.detach().half().cpu().contiguous() for name, value in self.state_dict().items()}, path)

    @classmethod
    def load(cls, path: str | Path = SHIPPED) -> "Person":
        """Read what ``save`` wrote, strictly, in eval mode.

        Raises
        ------
        PersonError
            The file is missing, damaged, or of another network.
        """
        model = cls()
        try:
            model.load_state_dict(load_file(path))
        except (SafetensorError, OSError, RuntimeError) as error:
            raise PersonError(f"{str(path)!r} holds no network that finds persons: {str(error).splitlines()[0]}") from error
        return model.eval()


@functools.cache
def shipped() -> Person:
    """The network that comes with the package, read once."""
    return Person.load()


def _layer(channels: int, width: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, kernel, stride, 1, bias=False), nn.GroupNorm(8, width), nn.SiLU())


def guided_filter(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """``values`` (h, w) smoothed except at edges of the picture ``guide`` (h, w, 3), both in [0, 1]: (h, w).

    He, Sun and Tang 2010, "Guided Image Filtering", section 3.4: in every window of 2 radius + 1 pixels the result is an
    affine function of the guide's colour, the nearest to ``values`` by least squares with the ridge ``epsilon``.
    """
    guide, values = np.asarray(guide, np.float32), np.asarray(values, np.float32)

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    height, width = values.shape
    colour, value = mean(guide), mean(values)
    products = (guide[..., :, None] * guide[..., None, :]).reshape(height, width, 9)
    covariance = np.concatenate([mean(products[..., i:i + 3]) for i in (0, 3, 6)], 2).reshape(height, width, 3, 3)
    covariance = covariance - colour[..., :, None] * colour[..., None, :] + epsilon * np.eye(3, dtype=np.float32)
    cross = mean(guide * values[..., None]) - colour * value[..., None]
    slope = np.linalg.solve(covariance, cross[..., None])[..., 0]
    offset = value - (slope * colour).sum(2)
    return (mean(slope) * guide).sum(2) + mean(offset)


@torch.inference_mode()
def matte(network: Person, pixels: np.ndarray, frame: np.ndarray, config: VAEConfig) -> np.ndarray:
    """The person's matte over the model's square of a photo: float32 (SIDE, SIDE), from 0 (background) to 1 (person).

    It is the network's probability, sharpened along the photo's edges (``guided_filter``).

    Parameters
    ----------
    pixels : uint8 (h, w, 3)
        The upright photo.
    frame : (2, 3)
        The similarity that maps aligned-frame coordinates (178 x 218) to the photo's.
    config : VAEConfig
        Its ``crop`` is the model's square.
    """
    frame = np.asarray(frame, dtype=np.float64)
    whole = cut(pixels, frame @ np.diag([FRAME_WIDTH / WIDTH, FRAME_HEIGHT / HEIGHT, 1]), WIDTH, HEIGHT)
    share = network(from_uint8(torch.from_numpy(whole)[None])).sigmoid()[0, 0].numpy()
    left, top, right, bottom = crop_box(config)
    t = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    x, y = (left + t * (right - left)) * (WIDTH / FRAME_WIDTH), (top + t * (bottom - top)) * (HEIGHT / FRAME_HEIGHT)
    coarse = cv2.remap(share, *np.meshgrid(x - 0.5, y - 0.5), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    guide = cut(pixels, square(frame, config, SIDE), SIDE, SIDE)
    return guided_filter(guide.astype(np.float32) / 255, coarse, round(RADIUS * SIDE), EPSILON).clip(0, 1)

