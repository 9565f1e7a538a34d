"""CelebA on disk -> a uint8 cache -> batches on the device; with attributes, face geometry and background."""

import csv
import hashlib
import json
import os
import shutil
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
# Fewer than this and a "run on CelebA" would be a run on something else.
MIN_IMAGES = 1000
CACHE_VERSION = 1


class DataError(ValueError):
    """The data folder cannot be used. The message is one sentence that names what is missing."""


@dataclass(frozen=True)
class CelebA:
    """The lists of a CelebA folder: what is known of each image, in one order, without a pixel read.

    ``names`` (n,), ``split`` (n,) with values of SPLITS, ``attributes`` name -> (n,) of 0 / 1, ``geometry`` column ->
    (n,) float with NaN where no face was found, ``images`` and ``masks`` folders (``masks`` None where there are none).
    """

    images: Path
    masks: Path | None
    names: np.ndarray
    split: np.ndarray
    attributes: dict[str, np.ndarray]
    geometry: dict[str, np.ndarray]
    missing: int

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
        rows = sorted(name for name in partition.rows if name in attributes.rows and name in on_disk)
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
        return cls(images, masks if masks.is_dir() else None, names, split,
                   dict(zip(attributes.columns, (labels > 0).astype(np.int8).T)), geometry,
                   missing=len(partition.rows) - len(rows))


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

    ``pixels`` uint8 (n, s, s, 3); ``masks`` uint8 (n, s, s), 255 = person, or None.
    """

    celeba: CelebA
    pixels: Tensor
    masks: Tensor | None

    def indices(self, split: str) -> np.ndarray:
        """Positions of a split's images, in the order of their names."""
        return np.flatnonzero(self.celeba.split == split)

    def images(self, split: str) -> Tensor:
        """uint8 (n, s, s, 3) of one split."""
        return self.pixels[torch.from_numpy(self.indices(split))]

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
        if self.masks is not None:
            background = {"background_brightness": [], "background_warmth": [], "background_tint": []}
            share = []
            for start in range(0, len(self.pixels), 2048):
                pixels = self.pixels[start:start + 2048].float() / 255
                outside = (self.masks[start:start + 2048] < 128).float()
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

    The cache's name is a fingerprint of the sources (names, sizes, times) and of crop and size, so a changed source or
    crop builds a new one. It is written aside and renamed when complete. Damaged images are named and left out.
    """
    folder = Path(cache) / _fingerprint(celeba, config)
    if not (folder / "meta.json").exists():
        _build(celeba, config, folder, workers)
    meta = json.loads((folder / "meta.json").read_text())
    keep = np.ones(len(celeba.names), dtype=bool)
    keep[meta["damaged"]] = False
    # Copy-on-write maps: pages are shared by processes and read when first used.
    pixels = torch.from_numpy(np.load(folder / "pixels.npy", mmap_mode="c"))
    masks = torch.from_numpy(np.load(folder / "masks.npy", mmap_mode="c")) if celeba.masks else None
    if not keep.all():
        pixels, masks = pixels[keep], masks[keep] if masks is not None else None
        celeba = CelebA(celeba.images, celeba.masks, celeba.names[keep], celeba.split[keep],
                        {k: v[keep] for k, v in celeba.attributes.items()},
                        {k: v[keep] for k, v in celeba.geometry.items()}, celeba.missing)
    return Dataset(celeba, pixels, masks)


def _fingerprint(celeba: CelebA, config: VAEConfig) -> str:
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, config.crop, config.image_size]).encode())
    digest.update("\n".join(celeba.names).encode())
    for folder in (celeba.images, celeba.masks):
        if folder:
            stats = sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in os.scandir(folder))
            digest.update(repr(stats).encode())
    return digest.hexdigest()[:16]


def _build(celeba: CelebA, config: VAEConfig, folder: Path, workers: int | None) -> None:
    n, size = len(celeba.names), config.image_size
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    pixels = np.lib.format.open_memmap(part / "pixels.npy", "w+", np.uint8, (n, size, size, 3))
    masks = np.lib.format.open_memmap(part / "masks.npy", "w+", np.uint8, (n, size, size)) if celeba.masks else None
    damaged = []
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        decoded = pool.map(partial(_decode, celeba.images, celeba.masks, config), celeba.names, chunksize=64)
        for i, (image, mask) in enumerate(tqdm(decoded, total=n, desc="decode", unit=" images", smoothing=0.05)):
            if image is None:
                damaged.append(i)
                continue
            pixels[i] = image
            if masks is not None:
                masks[i] = mask
    if damaged:
        tqdm.write(f"{len(damaged)} damaged images are left out: {', '.join(celeba.names[damaged][:20])}"
                   + (" ..." if len(damaged) > 20 else ""))
    if n - len(damaged) < MIN_IMAGES:
        raise DataError(f"{len(damaged)} of {n} images in {str(celeba.images)!r} are damaged; "
                        f"at least {MIN_IMAGES} readable ones are needed.")
    pixels.flush()
    (part / "meta.json").write_text(json.dumps({"images": n, "damaged": damaged}))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _decode(images: Path, masks: Path | None, config: VAEConfig, name: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """One image, and its mask in the same crop and size (None where the image or its mask cannot be read)."""
    try:
        image = np.asarray(preprocess(read(images / name), config))
        if masks is None:
            return image, None
        mask = Image.open(masks / Path(name).with_suffix(".png")).convert("L")
        return image, np.asarray(preprocess(mask, config))
    except (ValueError, OSError):
        return None, None


class Batches:
    """Training batches as a pure function of (seed, step): any process can make the batch of any step, in any order.

    Every epoch is a permutation of all images; the stream of epochs is cut into batches without a gap, so one clock,
    images seen, says where a run is. Pixels are moved, mirrored and converted on the device.
    """

    def __init__(self, pixels: Tensor, batch: int, seed: int, flip: bool, device: torch.device):
        self.pixels = pixels.to(device)
        self.batch, self.seed, self.flip, self.device = batch, seed, flip, device
        self._epoch, self._order = -1, None

    def order(self, epoch: int) -> np.ndarray:
        """The permutation of an epoch."""
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng((self.seed, epoch)).permutation(len(self.pixels))
        return self._order

    def rows(self, step: int) -> Tensor:
        """Which images a step's batch is made of: (batch,) positions in ``pixels``, on the device."""
        n = len(self.pixels)
        positions = np.arange(step * self.batch, (step + 1) * self.batch)
        index = np.concatenate([self.order(epoch)[positions[positions // n == epoch] % n]
                                for epoch in np.unique(positions // n)])
        return torch.from_numpy(index).to(self.device)

    def __call__(self, step: int) -> Tensor:
        """The batch of a step: float32 (batch, 3, s, s) in [0, 1]."""
        x = from_uint8(self.pixels[self.rows(step)])
        if self.flip:
            mirrored = np.random.default_rng((self.seed, 1, step)).random(self.batch) < 0.5
            x = torch.where(torch.from_numpy(mirrored).to(self.device)[:, None, None, None], x.flip(3), x)
        return x
