"""``open_data``: the source of pictures that a path names."""

from pathlib import Path

from train.celeba import CelebA
from train.lists import SPLITS, Source
from train.shards import Shards


def open_data(path: str | Path | None) -> Source:
    """A folder of shards, CelebA's folder, or, without a path, Kaggle's copy of CelebA.

    Raises
    ------
    DataError
        There is no such folder, or it cannot be used; one sentence.
    """
    if path is None:
        return CelebA.download()
    # By name: a folder of images may have an archive beside them.
    if any(any(Path(path).expanduser().glob(f"{split}-*.tar")) for split in SPLITS):
        return Shards.open(path)
    return CelebA.open(path)
