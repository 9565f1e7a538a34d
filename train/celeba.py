"""CelebA on disk: its lists, in the official layout or Kaggle's, and its download."""

import csv
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from betavae.config import VAEConfig
from train.cache import framed
from train.lists import SPLITS, DataError, Lists, require

KAGGLE = "jessicali9530/celeba-dataset"


@dataclass(frozen=True)
class CelebA:
    """CelebA's folder, a ``Source`` of pictures: ``images`` and ``masks`` are folders; ``masks`` is None if any is missing."""

    lists: Lists
    images: Path
    masks: Path | None
    unusable: ClassVar[str] = "damaged"

    @classmethod
    def download(cls) -> "CelebA":
        """Kaggle's copy, which kagglehub downloads once into its cache (1.4 GB).

        Raises
        ------
        DataError
            It cannot be downloaded; the sentence says why and what to do.
        """
        cure = f"download {KAGGLE} yourself and give its folder as --data"
        try:
            import kagglehub
            from kagglehub import exceptions
            from requests import RequestException
        except ModuleNotFoundError as error:
            raise DataError(f"--data is missing, and to download CelebA needs {error.name!r}: "
                            f"pip install -r requirements-train.txt, or {cure}.") from error
        try:
            return cls.open(kagglehub.dataset_download(KAGGLE))
        except (exceptions.KaggleApiHTTPError, exceptions.UnauthenticatedError, exceptions.CredentialError) as error:
            raise DataError("--data is missing, and Kaggle does not give CelebA without credentials that it knows: put an "
                            "API token from kaggle.com/settings into KAGGLE_API_TOKEN, or kaggle.json into ~/.kaggle, "
                            f"or {cure}.") from error
        except (RequestException, exceptions.BackendError, exceptions.DataCorruptionError) as error:
            raise DataError(f"--data is missing, and the download from Kaggle failed ({type(error).__name__}): "
                            f"try again with a connection, or {cure}.") from error

    @classmethod
    def open(cls, folder: str | Path) -> "CelebA":
        """Read the lists of the official layout (.txt) or Kaggle's (.csv, images one folder deeper).

        Images that the lists name and the disk lacks are left out and counted in ``lists.missing``.

        Raises
        ------
        DataError
            The folder, the images or a list is absent, or fewer than 1,000 images are left.
        """
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise DataError(f"There is no data folder {str(folder)!r}; --data must be CelebA's, "
                            "with img_align_celeba/ and its lists.")
        images = folder / "img_align_celeba"
        if (images / "img_align_celeba").is_dir():
            images = images / "img_align_celeba"
        if not images.is_dir():
            raise DataError(f"{str(folder)!r} has no folder img_align_celeba, which holds CelebA's aligned images.")
        partition = _table(folder, "list_eval_partition")
        attributes = _table(folder, "list_attr_celeba")
        on_disk = {entry.name for entry in os.scandir(images)}
        rows = sorted((name for name in partition.rows if name in attributes.rows and name in on_disk),
                      key=lambda name: (partition.rows[name][0], name))
        splits = partition.numbers(rows, range(len(SPLITS)))[:, 0].astype(int) if rows else np.empty(0, int)
        require(len(rows), f"{str(images)!r} has {len(rows)} of the {len(partition.rows)} images that the lists name")
        names = np.array(rows)
        split = np.array(SPLITS)[splits]
        labels = attributes.numbers(rows, (-1, 0, 1))
        geometry = {}
        if (folder / "list_face_geometry.csv").exists():
            table = _table(folder, "list_face_geometry")
            geometry = dict(zip(table.columns, table.numbers(rows).T, strict=True))
        masks = folder / "masks"
        masked = {Path(entry.name).stem for entry in os.scandir(masks)} if masks.is_dir() else set()
        unmasked = sum(Path(name).stem not in masked for name in rows)
        lists = Lists(names, split, dict(zip(attributes.columns, (labels > 0).astype(np.int8).T, strict=True)), geometry,
                      missing=len(partition.rows) - len(rows), unmasked=unmasked)
        return cls(lists, images, masks if lists.masked else None)

    @property
    def title(self) -> str:
        """"CelebA", or the name of other data in CelebA's layout."""
        return "drawn faces (train.synthetic)" if (self.images.parent / "factors.csv").exists() else "CelebA"

    @property
    def place(self) -> Path:
        """The folder that holds the images."""
        return self.images

    def stamp(self) -> str:
        """Names, sizes and times of all images and masks."""
        folders = [folder for folder in (self.images, self.masks) if folder]
        return repr([sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in os.scandir(f)) for f in folders])

    def decode(self, config: VAEConfig, pool: Executor) -> Iterator[tuple[np.ndarray, ...] | None]:
        """``framed`` of every image and its mask, in the order of the names."""
        return pool.map(partial(_framed, self.images, self.masks, config), self.lists.names, chunksize=64)

    def stream(self, config: VAEConfig, subset: int) -> None:
        """None: ``decode`` gives all training images."""

    def __str__(self) -> str:
        return str(self.lists)


def _framed(images: Path, masks: Path | None, config: VAEConfig, name: str) -> tuple[np.ndarray, ...] | None:
    return framed(images / name, masks / Path(name).with_suffix(".png") if masks else None, config)


@dataclass(frozen=True)
class _Table:
    path: Path
    columns: list[str]
    rows: dict[str, list[str]]

    def numbers(self, names: Sequence[str], valid: Collection[int] | None = None) -> np.ndarray:
        """The rows of some images, (n, columns) float32, NaN for an image that the list does not have.

        Raises
        ------
        DataError
            A value is not a number or not in ``valid``; the message names the list, the image and the value.
        """
        nothing = ["nan"] * len(next(iter(self.rows.values())))
        rows = [self.rows.get(name, nothing) for name in names]
        try:
            values = np.array(rows, dtype=np.float32)
            if valid is None or np.isin(values, list(valid)).all():
                return values
        except ValueError:
            pass
        for name, row in zip(names, rows, strict=True):
            for text in row:
                if not _is_number(text, valid):
                    wanted = "a number" if valid is None else f"one of {', '.join(map(str, valid))}"
                    raise DataError(f"The list {str(self.path)!r} has {text!r} for {name}; it must be {wanted}.")
        raise AssertionError("every value is valid")


def _is_number(text: str, valid: Collection[int] | None) -> bool:
    try:
        number = float(text)
        return valid is None or number in valid
    except ValueError:
        return False


def _table(folder: Path, stem: str) -> _Table:
    """One of CelebA's lists, official (.txt: spaces, perhaps a count and a header) or Kaggle's (.csv)."""
    path = next((folder / f"{stem}{suffix}" for suffix in (".csv", ".txt") if (folder / f"{stem}{suffix}").exists()), None)
    if path is None:
        raise DataError(f"{str(folder)!r} has no list {stem}.txt (or .csv).")
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file)) if path.suffix == ".csv" else [line.split() for line in file]
    lines = [line for line in lines if line]
    rows = {line[0]: line[1:] for line in lines if line[0].endswith((".jpg", ".png"))}
    header = next((line for line in lines if len(line) > 1 and line[0] not in rows), [])
    columns = header[1:] if path.suffix == ".csv" else header
    width = len(columns) or len(next(iter(rows.values()), []))
    damaged = next((name for name, values in rows.items() if len(values) != width), None)
    if not rows or damaged:
        raise DataError(f"The list {str(path)!r} " + (f"is damaged at {damaged}." if damaged else "is empty."))
    return _Table(path, columns, rows)
