"""CelebA as WebDataset shards, for a training split larger than memory: it is streamed, and never cached whole.

    python -m train.shards --data DIR --out SHARDS    write them from CelebA's folder
    python train/run.py --data SHARDS                 train from them; all other flags as with the folder

For every image, ``train-NNNNNN.tar``, ``val-NNNNNN.tar`` or ``test-NNNNNN.tar`` holds ``NNNNNN.jpg``, ``NNNNNN.json`` with
``{"attributes": {name: 0 or 1}, "geometry": {column: number}}``, and if there are masks ``NNNNNN.png``, its mask.
``index.json`` is WebDataset's index of shards with the number of images in each; without it, they are counted.
"""

import argparse
import json
import sys
import tarfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import webdataset as wds
from torch import Tensor
from tqdm import tqdm

from betavae.config import VAEConfig
from betavae.files import sentence
from train.batches import Pictures
from train.cache import cores, framed
from train.celeba import CelebA
from train.lists import SPLITS, DataError, Lists, require

SHARD_IMAGES = 1000
# Training images in the cache, as val and test are: directions are measured on them.
RESIDENT = 20_000
# An image is shown at most this many shards after its own began to be read: the size of the shuffle buffer.
WINDOW = 16


def write(celeba: CelebA, out: str | Path, shard_images: int = SHARD_IMAGES) -> list[Path]:
    """Write shards of an open CelebA folder. Training images are shuffled, so that the first shards are a fair sample.

    Returns
    -------
    list of Path
        The shards; ``index.json`` lies beside them.

    Raises
    ------
    DataError
        The folder holds shards already, which would be read together with the new ones.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    there = next(out.glob("*.tar"), None)
    if there:
        raise DataError(f"{str(out)!r} holds {there.name} already; remove its shards, or give another folder.")
    paths, index = [], []
    for split in SPLITS:
        rows = np.flatnonzero(celeba.lists.split == split)
        if split == "train":
            rows = np.random.default_rng(0).permutation(rows)
        for number, start in enumerate(tqdm(range(0, len(rows), shard_images), desc=split, unit=" shards")):
            path, part = out / f"{split}-{number:06}.tar", rows[start:start + shard_images]
            whole = path.with_name(path.name + ".part")
            with wds.TarWriter(str(whole), mtime=0) as tar:
                for row in part:
                    tar.write(_sample(celeba, row))
            whole.replace(path)
            paths.append(path)
            index.append({"url": path.name, "nsamples": len(part), "filesize": path.stat().st_size})
    (out / "index.json").write_text(json.dumps({"__kind__": "wids-shard-index-v1", "wids_version": 1,
                                                "shardlist": index}, indent=1))
    return paths


def _sample(celeba: CelebA, row: int) -> dict:
    name, lists = Path(celeba.lists.names[row]), celeba.lists
    known = {column: float(values[row]) for column, values in lists.geometry.items() if np.isfinite(values[row])}
    sample = {"__key__": name.stem, "jpg": (celeba.images / name).read_bytes(),
              "json": {"attributes": {attribute: int(values[row]) for attribute, values in lists.attributes.items()},
                       "geometry": known}}
    if celeba.masks:
        sample["png"] = (celeba.masks / name).with_suffix(".png").read_bytes()
    return sample


@dataclass(frozen=True)
class Shards:
    """A folder of shards, a ``Source`` of pictures whose training images are streamed.

    ``lists`` are those of the cached images: all of val and test, and the training images of the first shards; their names are
    the shards' keys. ``resident`` are the shards with these images. ``train`` has every training shard with its number of
    images, for the ``Stream`` that training reads.
    """

    lists: Lists
    place: Path
    resident: tuple[Path, ...]
    train: tuple[tuple[Path, int], ...]
    unusable: ClassVar[str] = "damaged"
    title: ClassVar[str] = "CelebA"

    @classmethod
    def open(cls, folder: str | Path) -> "Shards":
        """Read the attributes of the images that are kept, and count the others.

        Raises
        ------
        DataError
            A split has no shard, one cannot be read, or there are too few images.
        """
        folder = Path(folder).expanduser()
        paths = {split: sorted(folder.glob(f"{split}-*.tar")) for split in SPLITS}
        absent = [f"{split}-*.tar" for split, found in paths.items() if not found]
        if absent:
            raise DataError(f"{str(folder)!r} has no {' and no '.join(absent)}; shards are named by their split.")
        sizes = _index(folder)
        train = [(path, sizes.get((path.name, path.stat().st_size)) or _count(path)) for path in paths["train"]]
        before = np.cumsum([0] + [count for _, count in train])
        require(before[-1], f"The training shards in {str(folder)!r} hold {before[-1]} images")
        first = [path for (path, _), start in zip(train, before[:-1], strict=True) if start < RESIDENT]
        resident = [(path, split) for split in SPLITS for path in (first if split == "train" else paths[split])]
        names, splits, attributes, geometry, unmasked = [], [], [], [], 0
        for path, split in tqdm(resident, desc="read", unit=" shards"):
            for sample in samples(path):
                try:
                    known = json.loads(sample["json"])
                    attributes.append(known["attributes"])
                except (ValueError, LookupError, TypeError) as error:
                    raise DataError(f"{sample['__key__']} in {str(path)!r} has no attributes (a .json with "
                                    '{"attributes": {name: 0 or 1}}).') from error
                geometry.append(known.get("geometry", {}))
                names.append(sample["__key__"])
                splits.append(split)
                unmasked += "png" not in sample
        columns = list(dict.fromkeys(column for row in geometry for column in row))
        lists = Lists(np.array(names), np.array(splits),
                      {name: np.array([row.get(name, 0) for row in attributes], np.int8) for name in attributes[0]},
                      {name: np.array([row.get(name, np.nan) for row in geometry], np.float32) for name in columns},
                      unmasked=unmasked)
        return cls(lists, folder, tuple(path for path, _ in resident), tuple(train))

    def stamp(self) -> str:
        """Names, sizes and times of the resident shards."""
        return repr([(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self.resident])

    def decode(self, config: VAEConfig, pool: Executor) -> Iterator[tuple[np.ndarray, ...] | None]:
        """``framed`` of every image that is kept, in the order of the names."""
        for shard in pool.map(partial(_decode, config, self.lists.masked), self.resident):
            yield from shard

    def stream(self, config: VAEConfig, subset: int) -> "Stream":
        """Of a subset, the shards that its images are in, whole."""
        before = np.cumsum([0] + [count for _, count in self.train])
        starts = zip(self.train, before[:-1], strict=True)
        return Stream([shard for shard, start in starts if not subset or start < subset], config)

    def __str__(self) -> str:
        streamed = sum(count for _, count in self.train)
        return f"{streamed:,} training images are streamed from {len(self.train):,} shards; kept: {self.lists}"


def samples(path: Path) -> list[dict]:
    """All samples of a shard, as they are: ``__key__`` and bytes by extension.

    Raises
    ------
    DataError
        The shard cannot be read.
    """
    try:
        return list(wds.DataPipeline(wds.SimpleShardList([str(path)]), wds.tarfile_to_samples()))
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"The shard {str(path)!r} is damaged ({type(error).__name__}); write it again.") from error


def _index(folder: Path) -> dict[tuple[str, int], int]:
    try:
        shards = json.loads((folder / "index.json").read_text())["shardlist"]
        return {(shard["url"], shard["filesize"]): shard["nsamples"] for shard in shards}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _count(path: Path) -> int:
    try:
        with tarfile.open(path, "r:") as tar:
            return sum(member.name.endswith(".jpg") for member in tar)
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"The shard {str(path)!r} is damaged ({type(error).__name__}); write it again.") from error


def _decode(config: VAEConfig, masked: bool, path: Path) -> list[tuple[np.ndarray, ...] | None]:
    return [framed(sample["jpg"], sample["png"] if masked else None, config) for sample in samples(path)]


class Stream(Pictures):
    """Training images read shard by shard and shuffled with a buffer; a source for ``Batches``.

    The order of an epoch depends only on the epoch's random numbers and the shards' sizes: shards are permuted, and every image
    is delayed by a random part of WINDOW shards. So every image comes once an epoch, each shard is read once, about WINDOW + 1
    shards are in memory (compressed), and a run resumes in the middle of an epoch by reading these again: no state is saved.
    """

    def __init__(self, shards: Sequence[tuple[Path, int]], config: VAEConfig):
        self.paths, counts = zip(*shards, strict=True)
        self.config = config
        self.starts = np.cumsum((0, *counts))
        self._held: OrderedDict[int, list[dict]] = OrderedDict()
        self._threads = ThreadPoolExecutor(cores())
        self._named: set[str] = set()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def order(self, random: np.random.Generator) -> np.ndarray:
        """The rows of an epoch in random order, near ones from the same shards."""
        place = random.permutation(len(self.paths))
        return np.argsort(np.repeat(place, np.diff(self.starts)) + WINDOW * random.random(len(self)), kind="stable")

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, ...]:
        places = rows.numpy()
        shards = np.searchsorted(self.starts, places, "right") - 1
        # Read before the threads start, which would read one shard several times.
        held = {shard: self._shard(shard) for shard in dict.fromkeys(shards.tolist())}
        inside = (places - self.starts[shards]).tolist()
        pictures = self._threads.map(self._picture, [held[shard] for shard in shards.tolist()], inside)
        return tuple(torch.from_numpy(np.stack(part)) for part in zip(*pictures, strict=True))

    def to(self, device: torch.device) -> None:
        """None: a stream has no pictures to move to a device."""
        return None

    def _shard(self, number: int) -> list[dict]:
        if number not in self._held:
            self._held[number] = samples(self.paths[number])
            expected = self.starts[number + 1] - self.starts[number]
            if len(self._held[number]) != expected:
                raise DataError(f"The shard {str(self.paths[number])!r} has {len(self._held[number])} images and had "
                                f"{expected} when the run began.")
            # The end of one epoch and the beginning of the next may lie in one batch.
            while len(self._held) > 2 * (WINDOW + 1):
                self._held.popitem(last=False)
        self._held.move_to_end(number)
        return self._held[number]

    def _picture(self, shard: list[dict], position: int) -> tuple[np.ndarray, ...]:
        """The image at a position of a shard; if it is damaged, the next one."""
        for sample in shard[position:] + shard[:position]:
            pictures = framed(sample["jpg"], sample.get("png", b"") if self.config.mask else None, self.config)
            if pictures:
                return pictures
            if sample["__key__"] not in self._named:
                self._named.add(sample["__key__"])
                tqdm.write(f"The image {sample['__key__']} is damaged or has no mask; the next is shown in its place.")
        raise DataError(f"No image of the shard with {shard[0]['__key__']} can be read.")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m train.shards", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", required=True, help="CelebA in the official layout or Kaggle's")
    parser.add_argument("--out", metavar="SHARDS", required=True, help="the folder that they are written into")
    parser.add_argument("--shard-images", metavar="N", type=int, default=SHARD_IMAGES,
                        help=f"images in a shard (default: {SHARD_IMAGES})")
    options = parser.parse_args(arguments)
    try:
        if options.shard_images < 1:
            raise ValueError(f"--shard-images is {options.shard_images}; it must be at least 1.")
        celeba = CelebA.open(options.data)
        print(celeba)
        print(f"{len(write(celeba, options.out, options.shard_images)):,} shards in {options.out}")
    except KeyboardInterrupt:
        print(f"Stopped; remove {options.out!r} and start again.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
