"""Train the network that tells person from background, from aligned faces and their masks.

    python -m train.person --data DIR --out betavae/models/person.safetensors

DIR is a CelebA folder with masks (``train/annotate.py`` makes them). Pictures are augmented at random (mirror, turn, scale,
shift, colours), since other photos are aligned less well than CelebA and have other colours.
"""

import argparse
import math
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from betavae.person import HEIGHT, SHIPPED, WIDTH, Person
from train.celeba import CelebA
from train.lists import ANNOTATE, DataError

IMAGES, BATCH, LEARNING_RATE = 24_000, 32, 3e-3
VAL_IMAGES = 1000  # on which it is measured
TURN, SCALE, MOVE, COLOUR = 15.0, 0.15, 0.06, 0.25  # degrees; shares of the scale, the frame and the values


def read(celeba: CelebA, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Frames uint8 (n, 3, 88, 72) and their masks uint8 (n, 1, 88, 72), 255 is person."""
    frames, masks = [], []
    for name in celeba.lists.names[rows]:
        frame = np.asarray(Image.open(celeba.images / name).convert("RGB"))
        mask = np.asarray(Image.open((celeba.masks / name).with_suffix(".png")).convert("L"))
        frames.append(cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
        masks.append(cv2.resize(mask, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(masks))[:, None]


def vary(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Frames and masks in [0, 1], each pair turned, scaled, moved and mirrored alike, the frames' colours changed too."""
    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator) - 1

    n = len(x)
    angle, scale = math.radians(TURN) * uniform(n), 1 + SCALE * uniform(n)
    mirror, aspect = uniform(n).sign(), HEIGHT / WIDTH
    c, s, move = scale * angle.cos(), scale * angle.sin(), MOVE * 2 * uniform(n, 2)
    # grid_sample's coordinates go from -1 to 1 on both axes, of which one is longer.
    theta = torch.stack([torch.stack([c * mirror, -s * aspect, move[:, 0]], 1),
                         torch.stack([s * mirror / aspect, c, move[:, 1]], 1)], 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    both = F.grid_sample(torch.cat([x, y], 1), grid, padding_mode="reflection", align_corners=False)
    gain, offset = 1 + COLOUR * uniform(n, 3, 1, 1), 0.5 * COLOUR * uniform(n, 1, 1, 1)
    return (both[:, :3] * gain + offset).clamp(0, 1), both[:, 3:]


def fit(frames: Tensor, masks: Tensor, images: int = IMAGES, seed: int = 0) -> Person:
    """Binary cross-entropy on ``images`` varied pictures drawn from frames and masks, as ``read`` gives them."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Person()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.02)
    steps = images // BATCH
    for step in tqdm(range(steps), desc="person", unit=" batches"):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / (0.1 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = torch.randint(len(frames), (BATCH,), generator=generator)
        x, y = vary(frames[rows].float() / 255, masks[rows].float() / 255, generator)
        loss = F.binary_cross_entropy_with_logits(network(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return network.eval()


@torch.inference_mode()
def overlap(network: Person, frames: Tensor, masks: Tensor) -> tuple[float, float]:
    """Mean intersection over union with the masks, of the person and of the background."""
    person = torch.cat([network(part.float() / 255) > 0 for part in frames.split(100)])
    shares = []
    for found, true in ((person, masks > 127), (~person, masks <= 127)):
        shares.append(float(((found & true).sum((1, 2, 3)) / (found | true).sum((1, 2, 3)).clamp_min(1)).mean()))
    return shares[0], shares[1]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a CelebA folder with masks")
    parser.add_argument("--out", default=str(SHIPPED), help="the file that is written")
    parser.add_argument("--images", type=int, default=IMAGES, help="pictures that training sees")
    options = parser.parse_args(arguments)
    try:
        celeba = CelebA.open(options.data)
        if celeba.masks is None:
            raise DataError(f"{options.data!r} has no mask of every image in masks/; {ANNOTATE} makes them.")
        train, val = (np.flatnonzero(celeba.lists.split == split) for split in ("train", "val"))
        if not Path(options.out).parent.is_dir():
            raise ValueError(f"--out is {options.out!r}; there is no such folder to write into.")
        network = fit(*read(celeba, train), options.images)
        person, background = overlap(network, *read(celeba, val[:VAL_IMAGES]))
        network.save(options.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{options.out}: overlap with the masks of {len(val[:VAL_IMAGES]):,} val faces {person:.3f}, "
        f"of their backgrounds {background:.3f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
