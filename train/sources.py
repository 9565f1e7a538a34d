"""``open_data``: the source of pictures that a path names."""

from pathlib import Path

from train.celeba import CelebA
from train.folder import Folder
from train.lists import SPLITS, DataError, Source
from train.shards import Shards


def open_data(path: str | Path | None, aligned: bool = False) -> Source:
    """A folder of shards, CelebA's folder, any folder of pictures, a data set of the Hub, or, without a path, Kaggle's CelebA.

    ``aligned`` says that pictures of any folder, or of the Hub, are framed already as CelebA's are.

    Raises
    ------
    DataError
        There is no such data, or it cannot be used; one sentence.
    """
    if path is None:
        return CelebA.download()
    folder = Path(path).expanduser()
    if not folder.is_dir():
        if len(folder.parts) == 2 and not folder.is_absolute() and not folder.exists():
            return Folder.download(str(path), aligned)
        raise DataError(f"There is no data folder {str(path)!r}; --data is a folder, or a data set of the Hub as user/dataset.")
    # By name: a folder of images may have an archive beside them.
    if any(any(folder.glob(f"{split}-*.tar")) for split in SPLITS):
        return Shards.open(folder)
    if (folder / "img_align_celeba").is_dir() or any(folder.glob("list_eval_partition.*")):
        return CelebA.open(folder)
    return Folder.open(folder, aligned)
