"""Read the model published for the ``capacity`` recipe, ayushshah/beta-vae-capacity-annealing-celeba.

Its folder has ``model.safetensors`` without a configuration, and one tensor (d,) a direction in ``directions/NAME.pt``.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from betavae import custom
from betavae.config import VAEConfig
from betavae.directions import Directions

# Its last convolution pads with zeros, all others reflect.
CONFIG = VAEConfig(head_padding="zeros")
# Lowest and highest strength of its sliders, and the step.
TRACK = (-3.0, 3.0, 0.1)
PATTERNS = ("directions/*.pt", "directions/*.npy")
# (pattern in its tensors' names, our name), applied in turn.
NAMES = (
    (r"^encoder\.0\.", "encoder.stem."),
    (r"^encoder\.1\.", "encoder.norm."),
    (r"^encoder\.([345])\.", lambda match: f"encoder.blocks.{int(match[1]) - 3}."),
    (r"^fc_mu\.", "encoder.mu."),
    (r"^fc_logvar\.", "encoder.logvar."),
    (r"^fc\.", "decoder.linear."),
    (r"^decoder\.([1357])\.", lambda match: f"decoder.blocks.{int(match[1]) // 2}."),
    (r"^decoder\.8\.", "decoder.head.0."),
    (r"\.gn([12])\.", r".norm\1."),
)


def recognised(names: Iterable[str]) -> bool:
    """Whether these are the names of that model's tensors."""
    return {"encoder.0.weight", "fc_mu.weight", "fc_logvar.weight", "fc.weight", "decoder.8.weight"} <= set(names)


def weights(tensors: Mapping[str, Tensor]) -> tuple[VAEConfig, dict[str, Tensor]]:
    """The configuration of that model, and its tensors under our names. Strict loading checks that they fit."""
    return (dataclasses.replace(CONFIG, latents=len(tensors["fc_mu.weight"])),
            {_ours(name): tensor for name, tensor in tensors.items()})


def directions(folder: Path, latents: int) -> Directions:
    """The directions of such a folder, with the sliders of the published app.

    The range of the data is not published, so the metric is that of N(0, I).

    Raises
    ------
    DirectionsError
        A file is damaged, holds more than a tensor, or has another size.
    """
    space = Directions([], latents)
    # A vector may be there in both formats.
    files = {path.stem: path for pattern in reversed(PATTERNS) for path in sorted(folder.glob(pattern))}
    found = []
    for _, path in sorted(files.items()):
        direction, = custom.read(path, space).values()
        found.append(dataclasses.replace(direction, method="published", track=TRACK))
    return space.having(found)


def _ours(name: str) -> str:
    for pattern, ours in NAMES:
        name = re.sub(pattern, ours, name)
    return name
