"""``open_data``: the source of pictures that a path names."""

from pathlib import Path

from train.celeba import CelebA
from train.lists import Source
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
    if any(Path(path).expanduser().glob("*.tar")):
        return Shards.open(path)
    return CelebA.open(path)
