"""CelebA on disk -> a uint8 cache -> batches on the device; with attributes, face geometry and background."""

import csv
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from betavae.config import VAEConfig
from betavae.image import from_uint8, preprocess, read

SPLITS = ("train", "val", "test")
ANNOTATE = "python -m train.annotate --data DIR --masks"
# Fewer than this and a "run on CelebA" would be a run on something else.
MIN_IMAGES = 1000
CACHE_VERSION = 2


class DataError(ValueError):
    """The data folder cannot be used. The message is one sentence that names what is missing."""


@dataclass(frozen=True)
class CelebA:
    """The lists of a CelebA folder: what is known of each image, in one order, without a pixel read.

    ``names`` (n,) split by split, ``split`` (n,) with values of SPLITS, ``attributes`` name -> (n,) of 0 / 1, ``geometry``
    column -> (n,) float with NaN where no face was found, ``images`` and ``masks`` folders (``masks`` None where not
    every image has one). ``missing`` images are in the lists and not on disk; ``unmasked`` ones have no mask.
    """

    images: Path
    masks: Path | None
    names: np.ndarray
    split: np.ndarray
    attributes: dict[str, np.ndarray]
    geometry: dict[str, np.ndarray]
    missing: int
    unmasked: int

    @classmethod
    def open(cls, folder: str | Path) -> "CelebA":
        """Read the lists of the official layout (.txt) or Kaggle's (.csv, images one folder deeper).

        Images that the lists name and the disk lacks are left out and counted in ``missing``.

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
        if len(rows) < MIN_IMAGES:
            raise DataError(f"{str(images)!r} has {len(rows)} of the {len(partition.rows)} images that the lists name; "
                            f"at least {MIN_IMAGES} are needed.")
        names = np.array(rows)
        split = np.array([SPLITS[int(partition.rows[name][0])] for name in rows])
        labels = np.array([attributes.rows[name] for name in rows], dtype=np.int8)
        geometry = {}
        if (folder / "list_face_geometry.csv").exists():
            table = _table(folder, "list_face_geometry")
            nothing = ["nan"] * len(table.columns)
            values = np.array([table.rows.get(name, nothing) for name in rows], dtype=np.float32)
            geometry = dict(zip(table.columns, values.T))
        masks = folder / "masks"
        masked = {Path(entry.name).stem for entry in os.scandir(masks)} if masks.is_dir() else set()
        unmasked = sum(Path(name).stem not in masked for name in rows)
        return cls(images, None if unmasked else masks, names, split,
                   dict(zip(attributes.columns, (labels > 0).astype(np.int8).T)), geometry,
                   missing=len(partition.rows) - len(rows), unmasked=unmasked)

    def only(self, keep: np.ndarray) -> "CelebA":
        """The lists restricted to some images: (n,) bool."""
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


@dataclass(frozen=True)
class _Table:
    columns: list[str]
    rows: dict[str, list[str]]


def _table(folder: Path, stem: str) -> _Table:
    """One of CelebA's lists, official (.txt: spaces, a count, a header where there are names) or Kaggle's (.csv)."""
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
    return _Table(columns, rows)


@dataclass(frozen=True)
class Dataset:
    """Decoded CelebA: ``celeba``'s lists restricted to readable images, with their pixels and, where known, masks.

    ``pixels`` uint8 (n, s, s, 3); ``person`` uint8 (n, s, s), 255 = person, or None. Both may be mapped from disk.
    """

    celeba: CelebA
    pixels: Tensor
    person: Tensor | None

    def indices(self, split: str) -> np.ndarray:
        """Positions of a split's images, in the order of their names."""
        return np.flatnonzero(self.celeba.split == split)

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
            raise DataError(f"{self.celeba.unmasked:,} of {len(self.celeba.names):,} images have no mask (masks/NNNNNN.png, "
                            f"white is person); {ANNOTATE} makes them.")
        return self.person[self._slice(split)]

    def _slice(self, split: str) -> slice:
        # CelebA keeps the images of a split together, so that taking one never copies a set larger than memory.
        index = self.indices(split)
        return slice(index[0], index[-1] + 1) if len(index) else slice(0)

    def numeric(self) -> dict[str, np.ndarray]:
        """Measured columns for which CelebA has no label, (n,) float each, NaN where unknown.

        ``yaw`` and ``pitch`` in degrees (yaw > 0: the face turns towards the left edge of the image), ``mouth_open``
        and ``eye_open`` as aspect ratios. From the pixels outside the mask, where those are 5 % of the picture:
        ``background_brightness`` (mean luma), ``background_warmth`` (mean red minus mean blue) and ``background_tint``
        (mean green minus the mean of both). From the middle of the face: ``face_brightness`` (mean luma) and
        ``light_side`` (that of its left half minus that of its right, as seen).
        """
        columns = {"yaw": "yaw_deg", "pitch": "pitch_deg", "mouth_open": "mouth_open", "eye_open": "eye_open"}
        numeric = {name: self.celeba.geometry[column] for name, column in columns.items()
                   if column in self.celeba.geometry}
        if self.person is not None:
            background = {"background_brightness": [], "background_warmth": [], "background_tint": []}
            share = []
            for start in range(0, len(self.pixels), 2048):
                pixels = self.pixels[start:start + 2048].float() / 255
                outside = (self.person[start:start + 2048] < 128).float()
                count = outside.sum((1, 2))
                r, g, b = ((pixels[..., c] * outside).sum((1, 2)) / count.clamp_min(1) for c in range(3))
                for name, values in (("background_brightness", 0.299 * r + 0.587 * g + 0.114 * b),
                                     ("background_warmth", r - b), ("background_tint", g - (r + b) / 2)):
                    background[name].append(values)
                share.append(outside.mean((1, 2)))
            unknown = torch.cat(share) < 0.05
            for name, values in background.items():
                numeric[name] = torch.cat(values).masked_fill(unknown, float("nan")).numpy()
        luma = torch.tensor([0.299, 0.587, 0.114]) / 255
        # Aligned faces stand still: nose, cheeks and mouth are in this part of every picture.
        size = self.pixels.shape[1]
        rows, left, right = (slice(round(a * size), round(b * size)) for a, b in ((0.45, 0.8), (0.3, 0.5), (0.5, 0.7)))
        sides = []
        for half in (left, right):
            parts = [(part[:, rows, half].float() @ luma).mean((1, 2)) for part in self.pixels.split(2048)]
            sides.append(torch.cat(parts).numpy())
        numeric["face_brightness"], numeric["light_side"] = (sides[0] + sides[1]) / 2, sides[0] - sides[1]
        return numeric


def load(celeba: CelebA, config: VAEConfig, cache: str | Path, workers: int | None = None) -> Dataset:
    """The data set at the model's crop and size, decoded once into ``cache`` and mapped from there afterwards.

    The cache is verified by shape, checksum and a fingerprint of its sources (names, sizes, times); one that is
    damaged or stale is said to be so and built again. It is written aside and renamed when complete, by one process
    while others wait. Damaged images are named and left out.

    Raises
    ------
    DataError
        Fewer than 1,000 images can be read.
    """
    source = json.dumps([str(celeba.images.resolve()), config.crop, config.image_size])
    folder = Path(cache) / f"{config.image_size}px-{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    fingerprint = _fingerprint(celeba, config)
    if _problem(folder, fingerprint):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.with_name(folder.name + ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            problem = _problem(folder, fingerprint)  # whoever held the lock may have built it
            if problem and folder.exists():
                tqdm.write(f"The cache {str(folder)!r} {problem}; the images are decoded again.")
            if problem:
                _build(celeba, config, folder, fingerprint, workers)
    damaged = json.loads((folder / "meta.json").read_text())["damaged"]
    celeba = celeba.only(~np.isin(celeba.names, damaged))
    pixels, person = (_mapped(folder / f"{name}.npy", len(celeba.names)) for name in ("pixels", "masks"))
    return Dataset(celeba, pixels, person)


def _mapped(path: Path, rows: int) -> Tensor | None:
    # Copy-on-write: pages are shared by processes and read when first used.
    return torch.from_numpy(np.load(path, mmap_mode="c")[:rows]) if path.exists() else None


def _fingerprint(celeba: CelebA, config: VAEConfig) -> str:
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, config.crop, config.image_size]).encode())
    digest.update("\n".join(celeba.names).encode())
    for folder in (celeba.images, celeba.masks):
        if folder:
            stats = sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in os.scandir(folder))
            digest.update(repr(stats).encode())
    return digest.hexdigest()


def _problem(folder: Path, fingerprint: str) -> str | None:
    """Why a cache cannot be used, as the end of a sentence; None if it can."""
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


def _build(celeba: CelebA, config: VAEConfig, folder: Path, fingerprint: str, workers: int | None) -> None:
    n, size = len(celeba.names), config.image_size
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    arrays = [np.lib.format.open_memmap(part / "pixels.npy", "w+", np.uint8, (n, size, size, 3))]
    if celeba.masks:
        arrays.append(np.lib.format.open_memmap(part / "masks.npy", "w+", np.uint8, (n, size, size)))
    damaged, row = [], 0
    with ProcessPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        decoded = pool.map(partial(_decode, celeba.images, celeba.masks, config), celeba.names, chunksize=64)
        for name, pictures in zip(celeba.names, tqdm(decoded, total=n, desc="decode", unit=" images", smoothing=0.05)):
            if pictures is None:
                damaged.append(str(name))
                continue
            for array, picture in zip(arrays, pictures):
                array[row] = picture
            row += 1
    if damaged:
        tqdm.write(f"{len(damaged)} damaged images are left out: {', '.join(damaged[:20])}"
                   + (" ..." if len(damaged) > 20 else ""))
    if row < MIN_IMAGES:
        shutil.rmtree(part)
        raise DataError(f"{len(damaged)} of {n} images in {str(celeba.images)!r} are damaged; "
                        f"at least {MIN_IMAGES} readable ones are needed.")
    for array in arrays:
        array.flush()  # to the disk itself: a checksum read back from memory would not notice a power failure
    checksums = {path.name: _checksum(path) for path in part.glob("*.npy")}
    (part / "meta.json").write_text(json.dumps({"fingerprint": fingerprint, "damaged": damaged, "checksums": checksums}))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _decode(images: Path, masks: Path | None, config: VAEConfig, name: str) -> tuple[np.ndarray, ...] | None:
    """One image, and its mask if there are masks, in the same crop and size; None where either cannot be read."""
    try:
        image = read(images / name)
        pictures = [image]
        if masks:
            # A mask may be of another size than its image: at the image's, one crop is the same part of both.
            mask = Image.open(masks / Path(name).with_suffix(".png")).convert("L")
            pictures.append(mask.resize(image.size, Image.Resampling.BILINEAR))
        return tuple(np.asarray(preprocess(picture, config)) for picture in pictures)
    except (ValueError, OSError):
        return None


class Batches:
    """Training batches as a pure function of (seed, step): any process can make the batch of any step, in any order.

    Every epoch is a permutation of all images; the stream of epochs is cut into batches without a gap, so one clock,
    images seen, says where a run is. Pixels are moved, mirrored and converted on the device.

    Parameters
    ----------
    pixels : Tensor
        uint8 (n, s, s, 3).
    masks : Tensor, optional
        uint8 (n, s, s), mirrored with their images.
    """

    def __init__(self, pixels: Tensor, batch: int, seed: int, flip: bool, device: torch.device, masks: Tensor | None = None):
        self.sources = [pixels.to(device)] + ([] if masks is None else [masks[..., None].to(device)])
        self.batch, self.seed, self.flip, self.device = batch, seed, flip, device
        self._epoch, self._order = -1, None

    def order(self, epoch: int) -> np.ndarray:
        """The permutation of an epoch."""
        if epoch != self._epoch:
            n = len(self.sources[0])
            self._epoch, self._order = epoch, np.random.default_rng((self.seed, epoch)).permutation(n)
        return self._order

    def rows(self, step: int) -> Tensor:
        """Which images a step's batch is made of: (batch,) positions in ``pixels``, on the device."""
        n = len(self.sources[0])
        positions = np.arange(step * self.batch, (step + 1) * self.batch)
        index = np.concatenate([self.order(epoch)[positions[positions // n == epoch] % n]
                                for epoch in np.unique(positions // n)])
        return torch.from_numpy(index).to(self.device)

    def __call__(self, step: int) -> Tensor | tuple[Tensor, Tensor]:
        """The batch of a step: x float32 (batch, 3, s, s) in [0, 1]; with masks (x, mask (batch, 1, s, s) in [0, 1])."""
        rows = self.rows(step)
        batch = [from_uint8(source[rows]) for source in self.sources]
        if self.flip:
            mirrored = np.random.default_rng((self.seed, 1, step)).random(self.batch) < 0.5
            mirrored = torch.from_numpy(mirrored).to(self.device)[:, None, None, None]
            batch = [torch.where(mirrored, x.flip(3), x) for x in batch]
        return batch[0] if len(batch) == 1 else tuple(batch)
