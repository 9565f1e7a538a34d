"""Measured columns: brightness, light and background from the pixels, pose from the lists."""

import numpy as np
import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
CHUNK = 2048
POSE = {"yaw": "yaw_deg", "pitch": "pitch_deg", "mouth_open": "mouth_open", "eye_open": "eye_open"}  # columns of the lists
BACKGROUND = ("background_brightness", "background_warmth", "background_tint")
MEASURED = (*POSE, *BACKGROUND, "face_brightness", "light_side")


def measure(pixels: Tensor, person: Tensor | None, geometry: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Measured columns, (n,) float each, NaN where unknown.

    ``yaw`` and ``pitch`` in degrees (yaw > 0: the face turns towards the left edge of the image), ``mouth_open`` and
    ``eye_open`` as aspect ratios, if ``geometry`` has them. From the pixels outside the mask, if they are 5 % of the
    picture: ``background_brightness`` (mean luma), ``background_warmth`` (mean red minus mean blue) and ``background_tint``
    (mean green minus the mean of both). From the middle of the face: ``face_brightness`` (mean luma) and ``light_side``
    (that of its left half minus that of its right, as seen).

    Parameters
    ----------
    pixels : Tensor
        uint8 (n, s, s, 3), aligned faces.
    person : Tensor, optional
        uint8 (n, s, s), 255 = person.
    geometry : dict of ndarray
        As in ``train.lists.Lists``.
    """
    numeric = {name: geometry[column] for name, column in POSE.items() if column in geometry}
    if person is not None:
        background: dict[str, list[Tensor]] = {name: [] for name in BACKGROUND}
        share = []
        for start in range(0, len(pixels), CHUNK):
            part = pixels[start:start + CHUNK].float() / 255
            outside = (person[start:start + CHUNK] < 128).float()
            count = outside.sum((1, 2))
            r, g, b = ((part[..., c] * outside).sum((1, 2)) / count.clamp_min(1) for c in range(3))
            for name, values in (("background_brightness", 0.299 * r + 0.587 * g + 0.114 * b),
                                 ("background_warmth", r - b), ("background_tint", g - (r + b) / 2)):
                background[name].append(values)
            share.append(outside.mean((1, 2)))
        unknown = torch.cat(share) < 0.05
        for name, parts in background.items():
            numeric[name] = torch.cat(parts).masked_fill(unknown, float("nan")).numpy()
    luma = torch.tensor(LUMA) / 255
    # In aligned faces, nose, cheeks and mouth are in this part of every picture.
    size = pixels.shape[1]
    rows, left, right = (slice(round(a * size), round(b * size)) for a, b in ((0.45, 0.8), (0.3, 0.5), (0.5, 0.7)))
    sides = []
    for half in (left, right):
        parts = [(part[:, rows, half].float() @ luma).mean((1, 2)) for part in pixels.split(CHUNK)]
        sides.append(torch.cat(parts).numpy())
    numeric["face_brightness"], numeric["light_side"] = (sides[0] + sides[1]) / 2, sides[0] - sides[1]
    return numeric
