"""CelebA on disk -> a uint8 cache -> batches on the device; with attributes, face geometry and masks."""

import csv
import dataclasses
import fcntl
import hashlib
import io
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
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
KAGGLE = "jessicali9530/celeba-dataset"
# Fewer than this and a "run on CelebA" would be a run on something else.
MIN_IMAGES = 1000
CACHE_VERSION = 2
PREFETCH = 4  # batches made ahead of the step that wants them, where pixels are not on the device already


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
    def download(cls) -> "CelebA":
        """Kaggle's copy, downloaded with kagglehub on the first call and kept in its cache (1.4 GB).

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

    def stamp(self) -> str:
        """What changes when a source of pixels or masks does: names, sizes and times of all files."""
        folders = [folder for folder in (self.images, self.masks) if folder]
        return repr([sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in os.scandir(f)) for f in folders])

    def decode(self, config: VAEConfig, pool: Executor) -> Iterator[tuple[np.ndarray, ...] | None]:
        """``framed`` of every image and its mask, in the order of ``names``."""
        return pool.map(partial(_framed, self.images, self.masks, config), self.names, chunksize=64)

    def stream(self, config: VAEConfig, subset: int) -> "Pictures | None":
        """The training images, where they are too many to be in a ``Dataset``; None: it has them all."""
        return None

    def __str__(self) -> str:
        text = f"{len(self.names):,} images ({', '.join(f'{(self.split == split).sum():,} {split}' for split in SPLITS)})"
        if self.missing:
            text += f"; {self.missing:,} more are in the lists and not on disk"
        if 0 < self.unmasked < len(self.names):
            text += f"; {self.unmasked:,} have no mask, so none is used ({ANNOTATE} makes them)"
        return text


def open_data(path: str | Path | None) -> CelebA:
    """CelebA's folder, a folder of shards, or, without a path, Kaggle's copy (errors as of each)."""
    if path is None:
        return CelebA.download()
    if any(Path(path).expanduser().glob("*.tar")):
        from train.shards import Shards  # here, since shards are made of what this module owns
        return Shards.open(path)
    return CelebA.open(path)


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

    def training(self, config: VAEConfig, subset: int = 0) -> "Pictures":
        """What ``Batches`` draws from: the (first ``subset``) training images, with masks for a model that draws them.

        Raises
        ------
        DataError
            The model draws masks, and not every image has one.
        """
        masks = self.masks("train")[:subset or None] if config.mask else None
        return self.celeba.stream(config, subset) or Pictures(self.images("train")[:subset or None], masks)

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


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


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
    names = "\n".join(celeba.names)
    fingerprint = hashlib.sha256(f"{CACHE_VERSION} {names} {celeba.stamp()}".encode()).hexdigest()
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
    with ProcessPoolExecutor(workers or cores()) as pool:
        decoded = tqdm(celeba.decode(config, pool), total=n, desc="decode", unit=" images", smoothing=0.05)
        for name, pictures in zip(celeba.names, decoded):
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


def framed(image: Path | bytes, mask: Path | bytes | None, config: VAEConfig) -> tuple[np.ndarray, ...] | None:
    """An image (s, s, 3), and its mask (s, s) if there is one, in the model's crop and size; None where either is damaged."""
    try:
        pictures = [read(image)]
        if mask is not None:
            # A mask may be of another size than its image: at the image's, one crop is the same part of both.
            mask = Image.open(io.BytesIO(mask) if isinstance(mask, bytes) else mask).convert("L")
            pictures.append(mask.resize(pictures[0].size, Image.Resampling.BILINEAR))
        return tuple(np.asarray(preprocess(picture, config)) for picture in pictures)
    except (ValueError, OSError):
        return None


def _framed(images: Path, masks: Path | None, config: VAEConfig, name: str) -> tuple[np.ndarray, ...] | None:
    return framed(images / name, masks / Path(name).with_suffix(".png") if masks else None, config)


class Pictures:
    """Training images and their masks in memory, or mapped from disk.

    Parameters
    ----------
    pixels : Tensor
        uint8 (n, s, s, 3).
    masks : Tensor, optional
        uint8 (n, s, s).
    """

    def __init__(self, pixels: Tensor, masks: Tensor | None = None):
        self.tensors = (pixels,) if masks is None else (pixels, masks)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def order(self, random: np.random.Generator) -> np.ndarray:
        """The order of an epoch: (n,) positions, each once."""
        return random.permutation(len(self))

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, ...]:
        """uint8 (b, s, s, 3), and (b, s, s) with masks, of positions (b,) on the pictures' device."""
        return tuple(tensor[rows] for tensor in self.tensors)

    def to(self, device: torch.device) -> "Pictures | None":
        """The same on the device; None where they would take more than half of a GPU's free memory, or are not in memory."""
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if sum(tensor.nbytes for tensor in self.tensors) > free / 2:
                return None
        return Pictures(*(tensor.to(device) for tensor in self.tensors))


class Batches:
    """Training batches as a pure function of (seed, step): any process can make the batch of any step, in any order.

    Every epoch shows all images once; the stream of epochs is cut into batches without a gap, so one clock, images seen,
    says where a run is, and that clock is all that resuming needs. Bytes are mirrored and converted on the device. They
    are there from the start where they fit; otherwise a thread reads the next batches ahead, and on CUDA copies them
    from pinned memory on a stream of its own.

    Parameters
    ----------
    source : Tensor or Pictures
        Images, with masks or without; a tensor is uint8 (n, s, s, 3).
    share : slice
        The part of every batch that this process takes.
    """

    def __init__(self, source: Tensor | Pictures, batch: int, seed: int, flip: bool, device: torch.device,
                 share: slice = slice(None)):
        source = Pictures(source) if isinstance(source, Tensor) else source
        resident = source.to(device)
        self.source = resident or source
        self.batch, self.seed, self.flip, self.device, self.share = batch, seed, flip, device, share
        self._order = (-1, np.empty(0, int))
        self._thread = None if resident else ThreadPoolExecutor(1, "batches")
        self._pending = {}
        self._stream = torch.cuda.Stream(device) if self._thread and device.type == "cuda" else None

    def order(self, epoch: int) -> np.ndarray:
        """The positions of an epoch's images, in the order in which they are shown."""
        if epoch != self._order[0]:
            self._order = epoch, self.source.order(np.random.default_rng((self.seed, epoch)))
        return self._order[1]

    def rows(self, step: int) -> Tensor:
        """Which images a step's batch (this process's share) is made of: (b,) positions in the source."""
        n = len(self.source)
        positions = np.arange(step * self.batch, (step + 1) * self.batch)
        index = np.concatenate([self.order(epoch)[positions[positions // n == epoch] % n]
                                for epoch in np.unique(positions // n)])
        return torch.from_numpy(index[self.share])

    def __call__(self, step: int) -> tuple[Tensor, Tensor | None]:
        """The batch of a step: x float32 (b, 3, s, s), and with masks (b, 1, s, s) or else None; both in [0, 1]."""
        if self._thread is None:
            parts = self.source[self._send(self.rows(step))]
        else:
            wanted = range(step, step + 1 + PREFETCH)
            self._pending = {ahead: self._pending.get(ahead) or self._thread.submit(self._read, ahead) for ahead in wanted}
            parts, copied = self._pending.pop(step).result()
            if copied:
                torch.cuda.current_stream(self.device).wait_event(copied)
                for part in parts:
                    part.record_stream(torch.cuda.current_stream(self.device))
        batch = [from_uint8(part if part.ndim == 4 else part[..., None]) for part in parts]
        if self.flip:
            mirrored = np.random.default_rng((self.seed, 1, step)).random(self.batch)[self.share] < 0.5
            mirrored = self._send(torch.from_numpy(mirrored))[:, None, None, None]
            batch = [torch.where(mirrored, x.flip(3), x) for x in batch]
        return batch[0], batch[1] if len(batch) > 1 else None

    def _read(self, step: int) -> tuple[tuple[Tensor, ...], "torch.cuda.Event | None"]:
        parts = self.source[self.rows(step)]
        if self._stream is None:
            return tuple(part.to(self.device) for part in parts), None
        with torch.cuda.stream(self._stream):
            return tuple(self._send(part) for part in parts), self._stream.record_event()

    def _send(self, tensor: Tensor) -> Tensor:
        # Only a copy from pinned memory lets the host go on; any other waits for all that the GPU has still to do.
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor.to(self.device)
