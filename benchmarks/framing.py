"""How well faces are found and framed: CelebA's faces at random turn, scale and place in larger pictures.

    python -m benchmarks.framing --data DIR                    on the validation split
    python -m benchmarks.framing --data DIR --split test       on the test split
    python -m benchmarks.framing --data DIR --fit              TEMPLATE and BIAS of betavae/face.py, from training images

Prints the share of faces found, the mean error of the eyes as a share of the distance between them, and what the shipped
model's reconstruction costs in nats (BCE above the pixels' floor, in CelebA's own frame) when the face is framed by CelebA, by
us, and by the centre crop.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from betavae import Editor, face
from betavae.config import FRAME_HEIGHT, FRAME_WIDTH
from betavae.image import preprocess, read, square, to_tensor
from train.celeba import CelebA
from train.losses import bce, bce_floor

CANVAS = (900, 1100)       # width, height
SCALES = (0.6, 2.0)        # of the aligned image, whose eyes are 38 pixels apart
TURN = 45                  # degrees, either way
FITTED = 2000              # training images


def landmarks(data: Path) -> dict[str, np.ndarray]:
    """Image -> (5, 2), with the first pixel's centre at (0.5, 0.5)."""
    rows = (line.split() for line in (data / "list_landmarks_align_celeba.txt").read_text().splitlines()[2:])
    return {row[0]: np.array(row[1:], dtype=float).reshape(5, 2) + 0.5 for row in rows}


def names(data: Path, split: str) -> list[str]:
    """The names of a split's images."""
    lists = CelebA.open(data).lists
    return lists.names[lists.split == split].tolist()


def scene(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An aligned image turned, scaled and placed in a larger picture, and the map (2, 3) that took it there.

    The rest of the picture has the colour of the image's upper rim.
    """
    width, height = CANVAS
    scale, angle = random.uniform(*SCALES), np.deg2rad(random.uniform(-TURN, TURN))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[0, 0], [FRAME_WIDTH, 0], [0, FRAME_HEIGHT], [FRAME_WIDTH, FRAME_HEIGHT]]) @ turn.T
    low, high = corners.min(0), corners.max(0)
    place = np.array([random.uniform(-a, max(-a, side - b)) for a, b, side in zip(low, high, CANVAS, strict=True)])
    matrix = np.column_stack([turn, place])
    colour = image[:40].reshape(-1, 3).mean(0)
    backdrop = np.broadcast_to(colour, (height, width, 3)).astype(np.uint8).copy()
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    flags = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    picture = cv2.warpAffine(image, moved, CANVAS, backdrop, flags=flags, borderMode=cv2.BORDER_TRANSPARENT)
    return picture, matrix


def fit(data: Path) -> None:
    """Print what betavae/face.py has as constants."""
    known, random = landmarks(data), np.random.default_rng(0)
    chosen = [name for name in random.permutation(names(data, "train")) if name in known][:FITTED]
    template = np.mean([known[name] for name in chosen], 0)
    print("TEMPLATE", template.round(2).tolist())
    off = []
    for name in tqdm(chosen):
        pixels = np.asarray(read(data / "img_align_celeba" / name))
        found = face.find(pixels)
        if found:
            inverse = cv2.invertAffineTransform(found[0].frame)
            # In the aligned frame, and with the correction that is in force taken out.
            off.append(face.apply(inverse, found[0].landmarks) + face.BIAS - face.apply(inverse, known[name]))
    print("BIAS", np.mean(off, 0).round(2).tolist(), f"from {len(off)} of {len(chosen)} images")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--count", type=int, help="the first so many images (default: all)")
    parser.add_argument("--fit", action="store_true")
    options = parser.parse_args()
    if options.fit:
        return fit(options.data)
    editor, known, random = Editor.from_pretrained(device="cpu"), landmarks(options.data), np.random.default_rng(0)
    chosen = names(options.data, options.split)[:options.count]
    found, errors, costs = 0, [], {"CelebA's frame": [], "ours": [], "centre crop": []}

    def gap(picture: np.ndarray, frame: np.ndarray, official: np.ndarray) -> float:
        """What the reconstruction of the face that ``frame`` cuts out costs in CelebA's own frame, above the pixels' floor."""
        side = editor.config.image_size
        shown = to_tensor([preprocess(face.align(picture, official), editor.config)])
        with torch.inference_mode():
            z, _ = editor.model.encode(to_tensor([preprocess(face.align(picture, frame), editor.config)]))
            made = editor.model.decode(z)[0].permute(1, 2, 0).numpy()
        there, here = square(frame, editor.config, side), square(official, editor.config, side)
        move = (np.linalg.inv(np.vstack([there, [0, 0, 1]])) @ np.vstack([here, [0, 0, 1]]))[:2]
        move[:, 2] += move[:, :2] @ (0.5, 0.5) - 0.5
        made = cv2.warpAffine(
            made, move, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
        )
        logits = torch.logit(torch.from_numpy(made).permute(2, 0, 1)[None].clamp(1e-4, 1 - 1e-4))
        return (bce(logits, shown) - bce_floor(shown)).item()

    for name in tqdm(chosen):
        image = read(options.data / "img_align_celeba" / name)
        picture, matrix = scene(np.asarray(image), random)
        faces = face.find(picture)
        truth = face.apply(matrix, known[name]) if name in known else None
        middle = face.apply(matrix, face.TEMPLATE).mean(0)
        near = [one for one in faces if np.hypot(*(one.landmarks.mean(0) - middle)) < 0.5 * one.size]
        if not near:
            continue
        found += 1
        if truth is not None:
            errors.append(np.hypot(*(near[0].landmarks[:2] - truth[:2]).T).mean() / np.hypot(*(truth[1] - truth[0])))
        # Every frame is cut out of the same resampled picture, so that they differ in the framing alone.
        frames = {"CelebA's frame": matrix, "ours": near[0].frame, "centre crop": face.centre(*CANVAS)}
        for kind, frame in frames.items():
            costs[kind].append(gap(picture, frame, matrix))
    print(f"{options.split}, {len(chosen)} images, turned by up to {TURN} degrees, scaled by {SCALES[0]} to {SCALES[1]}, "
          f"in {CANVAS[0]} x {CANVAS[1]} pixels")
    print(
        f"found {found / len(chosen):.2%}; mean error of the eyes {np.mean(errors):.2%} of their distance "
        f"({len(errors)} with known eyes)"
    )
    for kind, values in costs.items():
        print(f"{kind:16} {np.mean(values):7.1f} nats above the pixels' floor")


if __name__ == "__main__":
    main()
