"""Lists of a set of images (splits, attributes, geometry), and the protocol of a source of pictures."""

import dataclasses
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from betavae.config import VAEConfig
from train.batches import Pictures

SPLITS = ("train", "val", "test")
ANNOTATE = "python -m train.annotate --data DIR --masks"
# With fewer, figures mean little: every source asks for as many.
MIN_IMAGES = 1000


class DataError(ValueError):
    """The data cannot be used. The message is one sentence that names what is missing."""


# With fewer, figures of a split cannot be made (a covariance, the drawn faces) or mean nothing.
MIN_HELD_OUT = 20


def require_held_out(lists: "Lists", splits: Iterable[str]) -> None:
    """Check that each of these splits has ``MIN_HELD_OUT`` images.

    Raises
    ------
    DataError
        One has fewer; the sentence names it.
    """
    for split in splits:
        count = int((lists.split == split).sum())
        if count < MIN_HELD_OUT:
            raise DataError(
                f"The split {split} has {count} images; at least {MIN_HELD_OUT} are needed, on which nothing is trained."
            )


def require(count: int, found: str) -> None:
    """Check that there are enough images.

    Raises
    ------
    DataError
        There are fewer than ``MIN_IMAGES``; the sentence begins with ``found``.
    """
    if count < MIN_IMAGES:
        raise DataError(f"{found}; at least {MIN_IMAGES} are needed.")


@dataclass(frozen=True)
class Lists:
    """The lists of a set of images, all in one order.

    Parameters
    ----------
    names : ndarray
        (n,) unique names. The images of a split stand together, in the order of SPLITS.
    split : ndarray
        (n,) with values of SPLITS.
    attributes : dict of ndarray
        Name -> (n,) of 0 and 1; empty if nothing is labelled.
    geometry : dict of ndarray
        Column of ``train.annotate`` -> (n,) float, NaN if no face was found; empty if nothing was measured.
    missing : int
        Number of further images that the lists name and the disk lacks.
    unmasked : int
        Number of the n images without a mask. Masks are used only if all images have one.
    """

    names: np.ndarray
    split: np.ndarray
    attributes: dict[str, np.ndarray]
    geometry: dict[str, np.ndarray]
    missing: int = 0
    unmasked: int = 0

    @property
    def masked(self) -> bool:
        """True if every image has a mask."""
        return self.unmasked == 0

    def only(self, keep: np.ndarray) -> "Lists":
        """The lists of some of the images: those where ``keep``, (n,) bool, is true."""
        return dataclasses.replace(self, names=self.names[keep], split=self.split[keep],
                                   attributes={name: values[keep] for name, values in self.attributes.items()},
                                   geometry={name: values[keep] for name, values in self.geometry.items()})

    def __str__(self) -> str:
        text = f"{len(self.names):,} images ({', '.join(f'{(self.split == split).sum():,} {split}' for split in SPLITS)})"
        if self.missing:
            text += f"; {self.missing:,} more are in the lists and not on disk"
        if 0 < self.unmasked < len(self.names):
            text += f"; {self.unmasked:,} have no mask, so none is used ({ANNOTATE} makes them)"
        return text


def no_masks(lists: Lists) -> str:
    """A message that says how many masks are missing, and how to make them."""
    return (f"{lists.unmasked:,} of {len(lists.names):,} images have no mask (masks/NNNNNN.png, white is person); "
            f"{ANNOTATE} makes them.")


class Source(Protocol):
    """A source of pictures: CelebA, shards, a folder. ``train.cache.load`` decodes it once for a model's crop and size.

    ``str`` of a source is one line on its contents, which the command line prints.
    """

    @property
    def lists(self) -> Lists:
        """The lists of the images that ``decode`` gives. Use ``require`` to refuse too few."""

    @property
    def place(self) -> Path:
        """The folder that the images are read from. It tells caches apart, and error messages name it."""

    @property
    def title(self) -> str:
        """The name of the data in figures and models: "CelebA", "user/dataset"."""

    @property
    def unusable(self) -> str:
        """The word for an image that ``decode`` gives None for, such as "damaged"."""

    def stamp(self) -> str:
        """A text that changes whenever a pixel or mask may have changed, such as names, sizes and times of all files.

        A cache with another stamp is decoded again.
        """

    def decode(self, config: VAEConfig, pool: Executor) -> Iterator[tuple[np.ndarray, ...] | None]:
        """Every image in the order of ``lists.names``, decoded by the processes of ``pool`` or by threads.

        Each is ``train.cache.framed``: uint8 (s, s, 3), and (s, s) too if ``lists.masked``; None where it is ``unusable``.
        """

    def stream(self, config: VAEConfig, subset: int) -> Pictures | None:
        """The (first ``subset``) training images if they are too many for the cache; None if ``decode`` gives them all."""
