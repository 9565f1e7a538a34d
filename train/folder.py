"""Any pictures of faces: your own folder, a Hugging Face imagefolder, or a data set of the Hub.

    python train/run.py --data PICTURES              the largest face of each picture is found and framed as in CelebA
    python train/run.py --data PICTURES --aligned    the pictures are framed so already: 178 x 218, or any size of that shape
    python train/run.py --data user/dataset          pictures, or parquet tables with pictures, of the Hub

Pictures may lie in folders of any depth. Those in ``train/``, ``val/`` or ``validation/`` and ``test/`` are of that split; a
split that has none gets a tenth of the training pictures, chosen by the hash of their names. ``metadata.csv`` or
``metadata.jsonl`` beside pictures, with ``file_name`` and columns of 0 and 1 (-1 and 1, false and true), gives their
attributes. Parquet tables have such columns beside their pictures.
"""

import csv
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from betavae import face
from betavae.config import VAEConfig
from betavae.image import preprocess, read
from betavae.repository import HubError, fetch
from train.cache import cores
from train.lists import SPLITS, DataError, Lists, require

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif")
METADATA = ("metadata.csv", "metadata.jsonl")
NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
SHARE = 10  # one in so many training pictures goes to a split without pictures
VALUES = {"0": 0, "1": 1, "-1": 0, "false": 0, "true": 1, "0.0": 0, "1.0": 1, "-1.0": 0}


@dataclass(frozen=True)
class Part:
    """The place of pictures: a file, or some ``rows`` of one ``group`` of a parquet table, in its ``column``."""

    path: Path
    group: int = 0
    rows: tuple[int, ...] = ()
    column: str = ""

    def pictures(self) -> list[Path | bytes | None]:
        """The pictures, as input of ``betavae.image.read``; None if the table has no picture."""
        if not self.column:
            return [self.path]
        import pyarrow.parquet

        column = pyarrow.parquet.ParquetFile(self.path).read_row_group(self.group, [self.column])[self.column]
        return [(column[row].as_py() or {}).get("bytes") for row in self.rows]


@dataclass(frozen=True)
class Folder:
    """A folder of pictures, a ``Source``: ``parts`` are in the order of the lists; ``aligned`` pictures are framed already."""

    lists: Lists
    place: Path
    parts: tuple[Part, ...]
    aligned: bool = False
    title: str = "pictures of the maker's own"

    @classmethod
    def download(cls, name: str, aligned: bool = False) -> "Folder":
        """A data set of the Hub, ``user/dataset``, kept in the Hub's cache.

        Raises
        ------
        DataError
            There is no such data set, it cannot be downloaded, or see ``open``.
        """
        patterns = [*(f"*{suffix}" for suffix in (*SUFFIXES, ".parquet")), *METADATA]
        try:
            return dataclasses.replace(cls.open(fetch(name, patterns, kind="dataset"), aligned), title=name)
        except HubError as error:
            raise DataError(f"There is no data folder {name!r}, and on the Hub: {error}") from error

    @classmethod
    def open(cls, folder: str | Path, aligned: bool = False) -> "Folder":
        """Find the pictures, their splits and their attributes; none is read.

        Raises
        ------
        DataError
            There are fewer than 1,000 pictures, a picture is not in the list beside it, or a table cannot be read.
        """
        folder = Path(folder).expanduser()
        found = _tables(folder) or _files(folder)
        require(len(found), f"{str(folder)!r} has neither img_align_celeba/ nor shards, and {len(found):,} pictures")
        splits = _splits({name: split for name, (_, split, _) in found.items()})
        order = sorted(found, key=lambda name: (SPLITS.index(splits[name]), name))
        if aligned:
            _check_aligned(found[order[0]][0], order[0])
        attributes = _attributes([found[name][2] for name in order])
        lists = Lists(np.array(order), np.array([splits[name] for name in order]), attributes, {}, unmasked=len(order))
        return cls(lists, folder, tuple(_joined([found[name][0] for name in order])), aligned)

    @property
    def unusable(self) -> str:
        """The word for pictures that are left out."""
        return "damaged or of another shape" if self.aligned else "damaged or without a face"

    def stamp(self) -> str:
        """Names, sizes and times of all files, and how they are framed."""
        stats = {path: path.stat() for path in sorted({part.path for part in self.parts})}
        return repr([self.aligned, *((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats.items())])

    def decode(self, config: VAEConfig, pool: Executor) -> Iterator[tuple[np.ndarray, ...] | None]:
        """Every picture's face (s, s, 3) in the order of the names; None where it is ``unusable``."""
        # Threads, not the processes of the pool: OpenCV's networks do not survive a fork, and hold no lock while they work.
        with ThreadPoolExecutor(cores()) as threads:
            for pictures in threads.map(partial(_decode, config, self.aligned), self.parts):
                yield from pictures

    def stream(self, config: VAEConfig, subset: int) -> None:
        """None: ``decode`` gives all training images."""

    def __str__(self) -> str:
        known = f"{len(self.lists.attributes)} attributes" if self.lists.attributes else "no attributes"
        return f"{self.lists}; {known}; {'taken as aligned' if self.aligned else 'the largest face of each is framed'}"


Found = dict[str, tuple[Part, str | None, Mapping[str, object]]]  # name -> where it is, its split if it says, its columns


def _files(folder: Path) -> Found:
    """The pictures of a folder and its subfolders."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
                   and not any(piece.startswith(".") for piece in path.relative_to(folder).parts))
    folders = {above for path in paths for above in path.parents if above.is_relative_to(folder)}
    known = {where: rows for where in folders if (rows := _metadata(where)) is not None}
    found: Found = {}
    for path in paths:
        name = path.relative_to(folder)
        columns: Mapping[str, object] = {}
        listed = next((where for where in path.parents if where in known), None)
        if listed is not None:
            file_name = path.relative_to(listed).as_posix()
            if file_name not in known[listed]:
                raise DataError(f"The list of pictures in {str(listed)!r} does not name {file_name!r}.")
            columns = known[listed][file_name]
        split = next((NAMES[piece.lower()] for piece in name.parts[:-1] if piece.lower() in NAMES), None)
        found[name.as_posix()] = Part(path), split, columns
    return found


def _metadata(folder: Path) -> dict[str, dict] | None:
    """A folder's list: file name -> columns; None if it has no list."""
    path = next((folder / name for name in METADATA if (folder / name).exists()), None)
    if path is None:
        return None
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file if line.strip()]
        return {row.pop("file_name"): row for row in rows}
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise DataError(f"The list {str(path)!r} cannot be read; every row needs file_name, as a Hugging Face imagefolder "
                        "has it.") from error


def _tables(folder: Path) -> Found:
    """The pictures in a folder's parquet tables."""
    paths = sorted(path for path in folder.rglob("*.parquet") if path.is_file())
    if not paths:
        return {}
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise DataError(f"{str(folder)!r} has parquet tables, which need pyarrow: "
                        "pip install -r requirements-train.txt.") from error
    found: Found = {}
    for path in paths:
        try:
            table = pyarrow.parquet.ParquetFile(path)
            kinds = {field.name: field.type for field in table.schema_arrow}
            image = next((name for name, kind in kinds.items()
                          if pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0), None)
            if image is None:
                raise DataError(f"The table {str(path)!r} has no column of pictures (a struct with bytes).")
            plain = [name for name, kind in kinds.items() if pyarrow.types.is_boolean(kind) or pyarrow.types.is_integer(kind)]
            match = re.match(r"[a-z]+", path.stem.lower())
            split = NAMES.get(match[0]) if match else None
            for group in range(table.num_row_groups):
                # Without a column a table has no rows to list.
                columns = table.read_row_group(group, plain).to_pylist() if plain else []
                for row in range(table.metadata.row_group(group).num_rows):
                    name = f"{path.relative_to(folder).as_posix()}:{group:05}:{row:06}"
                    found[name] = Part(path, group, (row,), image), split, columns[row] if columns else {}
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"The table {str(path)!r} is damaged ({type(error).__name__}).") from error
    return found


def _splits(given: Mapping[str, str | None]) -> dict[str, str]:
    """The split of every name: as given, else train. Splits without a picture get a part of train, chosen by hash."""
    absent = [split for split in SPLITS[1:] if split not in given.values()]
    splits = {}
    for name, split in given.items():
        part = int(hashlib.sha256(name.encode()).hexdigest(), 16) % SHARE
        splits[name] = absent[part] if split in (None, "train") and part < len(absent) else split or "train"
    return splits


def _attributes(rows: Sequence[Mapping[str, object]]) -> dict[str, np.ndarray]:
    """Name -> (n,) of 0 and 1, for the columns with a yes or no for every picture."""
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [VALUES.get(str(row.get(name)).strip().lower()) for row in rows]
        if None not in values:
            found[name] = np.array(values, np.int8)
    return found


def _joined(parts: list[Part]) -> Iterator[Part]:
    """The same parts, with neighbours in one group of a table joined, since a group is read as a whole."""
    waiting: Part | None = None
    for part in parts:
        if waiting and part.column and (waiting.path, waiting.group) == (part.path, part.group):
            waiting = Part(part.path, part.group, waiting.rows + part.rows, part.column)
            continue
        if waiting:
            yield waiting
        waiting = part
    if waiting:
        yield waiting


def _check_aligned(part: Part, name: str) -> None:
    """Check by the first picture that pictures are aligned frames."""
    try:
        face.whole(*read(part.pictures()[0] or b"").size)
    except ValueError as error:
        raise DataError(f"--aligned, and {name!r} is no aligned frame: {error}") from error


def _decode(config: VAEConfig, aligned: bool, part: Part) -> list[tuple[np.ndarray, ...] | None]:
    return [_framed(config, aligned, picture) for picture in part.pictures()]


def _framed(config: VAEConfig, aligned: bool, picture: Path | bytes | None) -> tuple[np.ndarray, ...] | None:
    try:
        image: Image.Image = read(picture or b"")
        if aligned:
            face.whole(*image.size)
        else:
            pixels = np.asarray(image)
            faces = face.find(pixels)
            if not faces:
                return None
            image = face.align(pixels, faces[0].frame)
        return (np.asarray(preprocess(image, config)),)
    except (ValueError, OSError):
        return None
