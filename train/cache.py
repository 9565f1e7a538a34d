"""Pictures decoded once for a model's crop and size: a cache on disk that is verified, then mapped."""

import fcntl
import hashlib
import io
import json
import os
import shutil
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from betavae.config import VAEConfig
from betavae.image import preprocess, read
from train.batches import Pictures
from train.lists import DataError, Lists, Source, no_masks, require
from train.measure import measure

CACHE_VERSION = 2


@dataclass(frozen=True)
class Dataset:
    """Decoded pictures of a ``source``: its lists restricted to readable images, with their pixels and, where known, masks.

    ``pixels`` uint8 (n, s, s, 3); ``person`` uint8 (n, s, s), 255 = person, or None. Both may be mapped from disk.
    """

    source: Source
    lists: Lists
    pixels: Tensor
    person: Tensor | None

    def indices(self, split: str) -> np.ndarray:
        """Positions of a split's images, in the order of their names."""
        return np.flatnonzero(self.lists.split == split)

    def images(self, split: str) -> Tensor:
        """uint8 (n, s, s, 3) of one split: a view, without a pixel read."""
        return self.pixels[self._slice(split)]

    def masks(self, split: str) -> Tensor:
        """uint8 (n, s, s) of one split, 255 = person, framed as ``images``: a view.

        Raises
        ------
        DataError
            Not every image has a mask.
        """
        if self.person is None:
            raise DataError(no_masks(self.lists))
        return self.person[self._slice(split)]

    def training(self, config: VAEConfig, subset: int = 0, splits: Sequence[str] = ("train",)) -> "Pictures":
        """The source of ``Batches``: the (first ``subset``) images of ``splits``, with masks if the model draws them.

        ``splits`` are the first of SPLITS: one, two or all.

        Raises
        ------
        DataError
            The model draws masks, and not every image has one.
        """
        if config.mask and self.person is None:
            raise DataError(no_masks(self.lists))
        count = sum(len(self.indices(split)) for split in splits)
        rows = slice(min(subset, count) if subset else count)
        streamed = self.source.stream(config, subset)
        return streamed or Pictures(self.pixels[rows], self.person[rows] if config.mask and self.person is not None else None)

    def _slice(self, split: str) -> slice:
        # The images of a split stand together, so that taking one never copies a set larger than memory.
        index = self.indices(split)
        return slice(index[0], index[-1] + 1) if len(index) else slice(0)

    def numeric(self) -> dict[str, np.ndarray]:
        """The measured columns of all images: see ``train.measure.measure``."""
        return measure(self.pixels, self.person, self.lists.geometry)


def cores() -> int:
    """Number of cores that this process may use."""
    # macOS has no sched_getaffinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load(source: Source, config: VAEConfig, cache: str | Path, workers: int | None = None) -> Dataset:
    """The data set at the model's crop and size, decoded once into ``cache`` and mapped from there afterwards.

    The cache is verified by shape, checksum and a fingerprint of its sources (names, sizes, times). A damaged or stale cache is
    reported and built again. One process writes it aside and renames it when complete, while others wait. Damaged images are
    named and left out.

    Raises
    ------
    DataError
        Fewer than 1,000 images can be read, or the cache cannot be written.
    """
    key = json.dumps([str(source.place.resolve()), config.crop, config.image_size])
    folder = Path(cache) / f"{config.image_size}px-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    names = "\n".join(source.lists.names)
    fingerprint = hashlib.sha256(f"{CACHE_VERSION} {names} {source.stamp()}".encode()).hexdigest()
    if _problem(folder, fingerprint):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.with_name(folder.name + ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            problem = _problem(folder, fingerprint)  # another process may have built it meanwhile
            if problem and folder.exists():
                tqdm.write(f"The cache {str(folder)!r} {problem}; the images are decoded again.")
            if problem:
                _build(source, config, folder, fingerprint, workers)
    damaged = json.loads((folder / "meta.json").read_text())["damaged"]
    lists = source.lists.only(~np.isin(source.lists.names, damaged))
    pixels, person = (_mapped(folder / f"{name}.npy", len(lists.names)) for name in ("pixels", "masks"))
    assert pixels is not None  # ``_problem`` found them
    return Dataset(source, lists, pixels, person)


def _mapped(path: Path, rows: int) -> Tensor | None:
    # Copy-on-write: pages are shared by processes and read when first used.
    return torch.from_numpy(np.load(path, mmap_mode="c")[:rows]) if path.exists() else None


def _problem(folder: Path, fingerprint: str) -> str | None:
    """The reason why a cache cannot be used, as the end of a sentence; None if it can."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if meta["fingerprint"] != fingerprint:
            return "is of other images, lists or masks than there are now"
        for name, checksum in meta["checksums"].items():
            np.load(folder / name, mmap_mode="r")
            if _checksum(folder / name) != checksum:
                return f"is damaged ({name})"
    except (OSError, ValueError, KeyError, EOFError) as error:
        return f"is incomplete ({error})"
    return None


def _checksum(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            value = zlib.crc32(block, value)
    return value


def _build(source: Source, config: VAEConfig, folder: Path, fingerprint: str, workers: int | None) -> None:
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _fill(source, config, part, fingerprint, workers)
    except BaseException as error:  # a full disk, Ctrl-C, a failing source: leave nothing half made
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError):
            raise DataError(f"The cache {str(folder)!r} cannot be written ({error.strerror}); give another --cache.") from error
        raise
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _fill(source: Source, config: VAEConfig, part: Path, fingerprint: str, workers: int | None) -> None:
    n, size = len(source.lists.names), config.image_size
    arrays = [_allocated(part / "pixels.npy", (n, size, size, 3))]
    if source.lists.masked:
        arrays.append(_allocated(part / "masks.npy", (n, size, size)))
    damaged, row = [], 0
    with ProcessPoolExecutor(workers or cores()) as pool:
        decoded = tqdm(source.decode(config, pool), total=n, desc="decode", unit=" images", smoothing=0.05)
        for name, pictures in zip(source.lists.names, decoded, strict=True):
            if pictures is None:
                damaged.append(str(name))
                continue
            for array, picture in zip(arrays, pictures, strict=True):
                array[row] = picture
            row += 1
    if damaged:
        tqdm.write(f"{len(damaged)} images that are {source.unusable} are left out: {', '.join(damaged[:20])}"
                   + (" ..." if len(damaged) > 20 else ""))
    require(row, f"{len(damaged)} of {n} images in {str(source.place)!r} are {source.unusable} and {row} can be read")
    for array in arrays:
        array.flush()  # flush to the disk: a checksum read back from memory would not notice a power failure
    checksums = {path.name: _checksum(path) for path in part.glob("*.npy")}
    (part / "meta.json").write_text(json.dumps({"fingerprint": fingerprint, "damaged": damaged, "checksums": checksums}))


def _allocated(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A new uint8 array mapped from disk, with its space allocated: on a full disk, a sparse one would raise SIGBUS.

    Raises
    ------
    OSError
        The disk has no room for it.
    """
    array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    with open(path, "r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, array.offset + array.nbytes)
        else:  # macOS
            file.seek(array.offset)
            block = bytes(1 << 20)
            for start in range(0, array.nbytes, len(block)):
                file.write(block[:array.nbytes - start])
    return array


def framed(image: Path | bytes, mask: Path | bytes | None, config: VAEConfig) -> tuple[np.ndarray, ...] | None:
    """An image (s, s, 3), and its mask (s, s) if there is one, in the model's crop and size; None where either is damaged."""
    try:
        pictures = [read(image)]
        if mask is not None:
            # A mask may have another size than its image: at the image's size, one crop fits both.
            person = Image.open(io.BytesIO(mask) if isinstance(mask, bytes) else mask).convert("L")
            pictures.append(person.resize(pictures[0].size, Image.Resampling.BILINEAR))
        return tuple(np.asarray(preprocess(picture, config)) for picture in pictures)
    except (ValueError, OSError):
        return None
