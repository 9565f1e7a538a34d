"""The classifier that measures edits: it reads attributes and quantities from pixels alone."""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from betavae.files import load_tensors, save_tensors

WIDTHS = (32, 64, 128, 192)


class ClassifierError(ValueError):
    """The classifier cannot be loaded. The message is one sentence that names the file."""


class Classifier(nn.Module):
    """Pictures (n, 3, 64, 64) in [0, 1] -> (n, k): a logit for each attribute, then each quantity in its unit.

    It sees pixels and never a latent, so it cannot favour a latent edit. It is a small residual network, trained by
    ``train/classifier.py`` on real faces, sharp and blurred, since the pictures that it judges are smooth.

    Parameters
    ----------
    attributes : list of str
        Names of the logits.
    quantities : list of str
        Names of the columns after them.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, attributes: list[str], quantities: list[str]):
        super().__init__()
        self.attributes, self.quantities = list(attributes), list(quantities)
        self.stem = nn.Conv2d(3, WIDTHS[0], 4, stride=2, padding=1)
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in pairwise(WIDTHS)))
        self.norm = nn.GroupNorm(16, WIDTHS[-1])
        self.head = nn.Linear(WIDTHS[-1], len(self.names))
        # Quantities are learned standardised; mean and deviation of the training faces restore their units.
        self.register_buffer("mean", torch.zeros(len(self.names)))
        self.register_buffer("deviation", torch.ones(len(self.names)))

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return self.attributes + self.quantities

    def features(self, x: Tensor) -> Tensor:
        """(n, 3, 64, 64) -> (n, 192), the input of the last layer."""
        h = self.blocks(self.stem(2 * x - 1))  # (n, 192, 4, 4)
        return F.silu(self.norm(h)).mean((2, 3))

    def standard(self, x: Tensor) -> Tensor:
        """(n, 3, 64, 64) -> (n, k): attributes in logits, quantities in standard deviations of the training faces.

        In these units, changes of different columns can be compared.
        """
        return self.head(self.features(x))

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, 64, 64) -> (n, k): attributes in logits, quantities in their own units."""
        return self.standard(x) * self.deviation + self.mean

    def save(self, path: str | Path) -> None:
        """Weights in float16, with the names in the file's metadata."""
        weights = {name: value.detach().half().cpu().contiguous() for name, value in self.state_dict().items()}
        save_tensors(weights, path, metadata={"attributes": json.dumps(self.attributes),
                                           "quantities": json.dumps(self.quantities)})

    @classmethod
    def load(cls, path: str | Path) -> "Classifier":
        """Read what ``save`` wrote, strictly, in eval mode.

        Raises
        ------
        ClassifierError
            The file is missing or damaged.
        """
        path = Path(path)
        if not path.is_file():
            raise ClassifierError(f"There is no file {str(path)!r} with a classifier.")
        try:
            tensors, metadata = load_tensors(path)
            classifier = cls(*(json.loads(metadata[key]) for key in ("attributes", "quantities")))
            classifier.load_state_dict(tensors)
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise ClassifierError(f"The classifier {str(path)!r} is damaged: {str(error).splitlines()[0]}") from error
        return classifier.eval().to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class SideEffect:
    """How one attribute or quantity changes from one picture to another.

    ``before`` and ``after`` are in [0, 1]: an attribute's probability, or for a quantity the share of training faces below it
    (if normally distributed). ``change`` is the change in logits, or in deviations of the training faces: it also shows
    changes of probabilities near 0 or 1.
    """

    name: str
    before: float
    after: float
    change: float


def side_effects(classifier: Classifier, before: Tensor, after: Tensor) -> list[SideEffect]:
    """The changes from one picture (1, 3, 64, 64) to another, largest ``after - before`` first."""
    logits = classifier.standard(torch.cat([before, after]))
    count = len(classifier.attributes)
    shares = torch.cat([logits[:, :count].sigmoid(), torch.special.ndtr(logits[:, count:])], 1)
    effects = map(SideEffect, classifier.names, *shares.tolist(), (logits[1] - logits[0]).tolist())
    return sorted(effects, key=lambda effect: -abs(effect.after - effect.before))


class Block(nn.Module):
    """norm, SiLU, conv, norm, SiLU, conv, plus shortcut, at half the resolution."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(16, channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(16, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(channels, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, a, h, w) -> (n, b, h / 2, w / 2)."""
        h = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(F.silu(self.norm2(h))) + self.shortcut(F.avg_pool2d(x, 2))
