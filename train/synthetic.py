"""Drawn faces in CelebA's official layout, with the factors that they were drawn from: data to try a training with.

    python -m train.synthetic OUT                 1,200 faces, in seconds
    python train/run.py --data OUT --images 20000 --preset celeba64

Pose, expression, glasses, hair, skin, light and background vary independently, so that metrics of disentanglement can be
tested against what is true: ``factors.csv`` has them all. CelebA's 40 labels follow from the factors. Nothing is drawn for
Attractive, a judgement: it is a fair coin.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike

Colour = Sequence[float] | np.ndarray
WIDTH, HEIGHT = 178, 218  # CelebA's aligned frame
EYES = np.array([88.5, 112.0])  # where it has the middle of the eyes
HAIR = {"Black_Hair": (25, 20, 20), "Brown_Hair": (105, 65, 35), "Blond_Hair": (225, 190, 110), "Gray_Hair": (165, 165, 165)}
HAIRS = (*HAIR, "Bald")
SKIN = np.array([(245, 215, 195), (205, 160, 130), (120, 80, 60)], float)  # tone 0, 0.5 and 1
RANGES = {
    "yaw": (-40, 40),
    "pitch": (-15, 15),
    "roll": (-5, 5),
    "smile": (0, 1),
    "mouth_open": (0, 1),
    "eye_open": (0.3, 1),
    "skin": (0, 1),
    "face_width": (0, 1),
    "nose": (0, 1),
    "lips": (0, 1),
    "brows": (0, 1),
    "arch": (0, 1),
    "light": (-1, 1),
    "background_red": (0, 1),
    "background_green": (0, 1),
    "background_blue": (0, 1),
}
SWITCHES = {"glasses": 0.25, "bangs": 0.3, "long_hair": 0.5, "wavy": 0.4, "hat": 0.1, "lipstick": 0.4, "rouge": 0.2,
            "moustache": 0.15, "goatee": 0.15, "stubble": 0.15, "sideburns": 0.15, "earrings": 0.2, "necklace": 0.2,
            "necktie": 0.15, "bags": 0.25, "wrinkles": 0.25, "receding": 0.15, "blurry": 0.08, "attractive": 0.5}
GEOMETRY = ("yaw_deg", "pitch_deg", "roll_deg", "mouth_open", "mouth_width", "eye_open")
POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")


def draw_factors(count: int, seed: int) -> dict[str, np.ndarray]:
    """Independent factors, name -> (count,): uniform in ``RANGES``, 0 or 1 for ``SWITCHES``, ``hair`` an index of ``HAIRS``."""
    random = np.random.default_rng(seed)
    factors = {name: random.uniform(*bounds, count) for name, bounds in RANGES.items()}
    factors |= {name: (random.random(count) < share).astype(float) for name, share in SWITCHES.items()}
    return factors | {"hair": random.choice(len(HAIRS), count, p=(0.3, 0.25, 0.25, 0.1, 0.1)).astype(float)}


def labels(factors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """CelebA's 40 labels of faces drawn from these factors, name -> (n,) bool, in CelebA's order."""
    f = factors
    on = {name: f[name] > 0.5 for name in (*RANGES, *SWITCHES)}
    hair = {name: f["hair"] == index for index, name in enumerate(HAIRS)}
    found = {
        "5_o_Clock_Shadow": on["stubble"], "Arched_Eyebrows": on["arch"], "Attractive": on["attractive"],
        "Bags_Under_Eyes": on["bags"], "Bald": hair["Bald"], "Bangs": on["bangs"] & ~hair["Bald"], "Big_Lips": f["lips"] > 0.6,
        "Big_Nose": f["nose"] > 0.7, "Black_Hair": hair["Black_Hair"], "Blond_Hair": hair["Blond_Hair"], "Blurry": on["blurry"],
        "Brown_Hair": hair["Brown_Hair"], "Bushy_Eyebrows": f["brows"] > 0.7, "Chubby": f["face_width"] > 0.8,
        "Double_Chin": f["face_width"] > 0.9, "Eyeglasses": on["glasses"], "Goatee": on["goatee"],
        "Gray_Hair": hair["Gray_Hair"], "Heavy_Makeup": on["lipstick"] & on["rouge"], "High_Cheekbones": f["smile"] > 0.6,
        "Male": ~on["long_hair"], "Mouth_Slightly_Open": f["mouth_open"] > 0.4, "Mustache": on["moustache"],
        "Narrow_Eyes": f["eye_open"] < 0.5, "No_Beard": ~(on["goatee"] | on["stubble"] | on["moustache"]),
        "Oval_Face": f["face_width"] < 0.4, "Pale_Skin": f["skin"] < 0.2, "Pointy_Nose": f["nose"] < 0.3,
        "Receding_Hairline": on["receding"] & ~hair["Bald"], "Rosy_Cheeks": on["rouge"], "Sideburns": on["sideburns"],
        "Smiling": on["smile"], "Straight_Hair": ~on["wavy"], "Wavy_Hair": on["wavy"], "Wearing_Earrings": on["earrings"],
        "Wearing_Hat": on["hat"], "Wearing_Lipstick": on["lipstick"], "Wearing_Necklace": on["necklace"],
        "Wearing_Necktie": on["necktie"], "Young": ~on["wrinkles"] & ~hair["Gray_Hair"]}
    return found


class _Canvas:
    """A picture that is drawn on in floating coordinates, and the mask of the person in it."""

    def __init__(self, background: np.ndarray):
        self.pixels = np.ascontiguousarray(np.broadcast_to(background, (HEIGHT, WIDTH, 3)).astype(np.uint8))
        self.person = np.zeros((HEIGHT, WIDTH), np.uint8)

    def fill(self, points: ArrayLike, colour: Colour) -> None:
        """Fill the polygon through points (n, 2)."""
        fixed = np.round(np.asarray(points) * 16).astype(np.int32)
        cv2.fillPoly(self.pixels, [fixed], tuple(map(float, colour)), cv2.LINE_AA, 4)
        cv2.fillPoly(self.person, [fixed], 255, cv2.LINE_8, 4)

    def line(self, points: ArrayLike, colour: Colour, width: float) -> None:
        """Draw a line through points (n, 2)."""
        fixed = np.round(np.asarray(points) * 16).astype(np.int32)
        cv2.polylines(self.pixels, [fixed], False, tuple(map(float, colour)), max(1, round(width)), cv2.LINE_AA, 4)


def _ellipse(x: float, y: float, a: float, b: float, start: float = 0, end: float = 360) -> np.ndarray:
    angle = np.radians(np.linspace(start, end, 40))
    return np.stack([x + a * np.cos(angle), y + b * np.sin(angle)], 1)


def draw(f: dict[str, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, float]]:
    """One face.

    Parameters
    ----------
    f : dict of float
        A value for each factor of ``draw_factors``.

    Returns
    -------
    pixels : uint8 (218, 178, 3)
    person : uint8 (218, 178)
        255 where the person is.
    landmarks : (5, 2)
        Both eyes, nose, corners of the mouth, in pixels.
    geometry : dict of float
        The columns of ``list_face_geometry.csv``.
    """
    yaw, pitch, roll = np.radians([f["yaw"], f["pitch"], f["roll"]])
    wide = 50 + 14 * f["face_width"]

    def place(points: ArrayLike, depth: float) -> np.ndarray:
        """Points of the head (n, 2), the middle of the eyes being the origin, so far in front of its axis -> pixels."""
        head = np.asarray(points, float)
        # A positive yaw turns the face towards the left edge; the eyes stay in their place, as alignment has it.
        x = head[:, 0] * np.cos(yaw) - (depth - 45) * np.sin(yaw)
        y = head[:, 1] * np.cos(pitch) + (depth - 45) * np.sin(pitch)
        turned = np.stack([x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)], 1)
        return turned + EYES

    tone = (
        SKIN[1] + (SKIN[0] - SKIN[1]) * (1 - 2 * f["skin"])
        if f["skin"] < 0.5
        else SKIN[1] + (SKIN[2] - SKIN[1]) * (2 * f["skin"] - 1)
    )
    bald = HAIRS[int(f["hair"])] == "Bald"
    hair = tone * 0.9 if bald else np.array(HAIR[HAIRS[int(f["hair"])]], float)
    canvas = _Canvas(40 + 190 * np.array([f["background_red"], f["background_green"], f["background_blue"]]))

    # Behind the face: long hair, shoulders and neck.
    if f["long_hair"] and not bald:
        mane = _ellipse(0, 30, wide + 18, 95)
        if f["wavy"]:
            mane = mane * (1 + 0.05 * np.sin(np.linspace(0, 24 * np.pi, len(mane))))[:, None]
        canvas.fill(place(mane, 10), hair)
    shirt = np.array([70, 80, 110]) if not f["long_hair"] else np.array([140, 60, 80])
    canvas.fill(_ellipse(88.5, 235, 85, 42), shirt)
    canvas.fill(place([(-22, 55), (22, 55), (24, 100), (-24, 100)], 25), tone * 0.8)
    if f["necktie"]:
        canvas.fill(np.array([(82, 197), (95, 197), (99, 218), (78, 218)]), (150, 20, 30))
    if f["necklace"]:
        canvas.line(_ellipse(88.5, 190, 26, 12, 0, 180), (240, 210, 90), 2)

    # The head, lighter on one side.
    if not bald:
        canvas.fill(place(_ellipse(0, -18, wide + 8, 62), 15), hair)
    outline = place(
        np.concatenate([_ellipse(0, -12, wide, 52, 180, 360), _ellipse(0, -12, wide, 88 - 6 * f["face_width"], 0, 180)]), 25
    )
    canvas.fill(outline, tone)
    inside = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(inside, [np.round(outline).astype(np.int32)], 1)
    ramp = 1 + 0.25 * f["light"] * (EYES[0] - np.arange(WIDTH)) / wide
    canvas.pixels = np.where(inside[..., None] > 0, np.clip(canvas.pixels * ramp[None, :, None], 0, 255), canvas.pixels).astype(
        np.uint8
    )
    if not bald:
        line = -46 if f["receding"] else -34
        canvas.fill(
            place(np.concatenate([_ellipse(0, -12, wide + 2, 56, 180, 360), [(wide - 6, line), (-wide + 6, line)]]), 30), hair
        )
        if f["bangs"]:
            canvas.fill(place([(-wide + 4, -40), (wide - 4, -40), (wide - 12, -16), (0, -20), (-wide + 12, -16)], 42), hair)
        if f["sideburns"]:
            for side in (-1, 1):
                canvas.fill(
                    place(
                        [(side * (wide - 1), -15), (side * (wide - 8), -15), (side * (wide - 8), 28), (side * (wide - 2), 28)],
                        25,
                    ),
                    hair,
                )
    if f["hat"]:
        canvas.fill(
            place(
                [(-wide - 16, -40), (wide + 16, -40), (wide + 2, -52), (wide - 6, -90), (-wide + 6, -90), (-wide - 2, -52)], 25
            ),
            (50, 60, 120),
        )
    if f["earrings"]:
        for side in (-1, 1):
            canvas.fill(place(_ellipse(side * wide, 32, 4, 6), 10), (240, 210, 90))
    if f["rouge"]:
        for side in (-1, 1):
            canvas.fill(place(_ellipse(side * 27, 26, 11, 8), 38), tone * 0.6 + np.array([230, 90, 100]) * 0.4)

    # Eyes, brows, glasses. The distance of the eyes is 38 pixels.
    opening = 1.5 + 5.5 * f["eye_open"]
    eyes = [place([(side * 19, 0)], 45)[0] for side in (-1, 1)]
    narrow = np.cos(yaw)
    brow = hair * 0.7 if not bald else tone * 0.5
    for side, (x, y) in zip((-1, 1), eyes, strict=True):
        canvas.fill(_ellipse(x, y, 9 * narrow, opening), (245, 245, 245))
        canvas.fill(_ellipse(x, y, min(4.5, opening) * narrow, min(4.5, opening)), (60, 45, 35))
        if f["bags"]:
            canvas.line(_ellipse(x, y + 5, 9 * narrow, 6, 20, 160), tone * 0.65, 2)
        canvas.line(
            place([(side * 9, -15), (side * 20, -16 - 7 * f["arch"]), (side * 30, -12)], 45), brow, 1.5 + 5 * f["brows"]
        )
        if f["glasses"]:
            canvas.line(_ellipse(x, y, 15 * narrow, 12), (20, 20, 20), 3)
    if f["glasses"]:
        canvas.line(place([(-5, 0), (5, 0)], 50), (20, 20, 20), 3)
    if f["wrinkles"]:
        for height in (-30, -25):
            canvas.line(place([(-20, height), (0, height - 2), (20, height)], 42), tone * 0.75, 1)

    # Nose and mouth.
    nose = place([(0, 25)], 62)[0]
    half = 5 + 7 * f["nose"]
    canvas.line(np.concatenate([place([(0, 4)], 48), place([(-half, 26)], 56), place([(half, 26)], 56)]), tone * 0.65, 2)
    if f["stubble"]:
        canvas.fill(place(_ellipse(0, 50, 34, 22), 40), tone * 0.75)
    if f["goatee"]:
        canvas.fill(place(_ellipse(0, 64, 14, 11), 42), brow)
    if f["moustache"]:
        canvas.fill(place([(-20, 37), (0, 31), (20, 37), (0, 38)], 52), brow)
    reach = 14 + 7 * f["smile"]
    gap = 10 * f["mouth_open"]
    lift = 7 * (f["smile"] - 0.35)
    thickness = np.array([0, 2 + 4 * f["lips"]])
    t = np.linspace(-1, 1, 21)
    bow = 43 - lift * t**2 + lift / 2
    upper, lower = (np.stack([reach * t, bow + sign * gap / 2 * (1 - t**2)], 1) for sign in (-1, 1))
    lip = np.array([190, 30, 50]) if f["lipstick"] else tone * 0.7
    canvas.fill(place(np.concatenate([upper - thickness, lower[::-1] + thickness]), 48), lip)
    canvas.fill(place(np.concatenate([upper, lower[::-1]]), 48), (245, 240, 235) if f["smile"] > 0.5 else (70, 20, 25))
    corners = place([(-reach, bow[0]), (reach, bow[-1])], 48)
    if f["face_width"] > 0.9:
        canvas.line(place(_ellipse(0, 60, 26, 18, 30, 150), 30), tone * 0.7, 2)
    if f["blurry"]:
        canvas.pixels[:] = cv2.GaussianBlur(canvas.pixels, (0, 0), 3)

    width = float(np.linalg.norm(corners[1] - corners[0]) / np.linalg.norm(eyes[1] - eyes[0]))
    measured = (f["yaw"], f["pitch"], f["roll"], gap / (2 * reach), width, 2 * opening / 18)
    geometry = dict(zip(GEOMETRY, measured, strict=True))
    return canvas.pixels, canvas.person, np.array([*eyes, nose, *corners]), geometry


def write(out: str | Path, counts: tuple[int, int, int] = (1000, 100, 100), seed: int = 0) -> Path:
    """A data set of drawn faces in the official layout, with masks, landmarks, geometry and ``factors.csv``; its folder.

    The same ``counts`` (train, val, test) and ``seed`` make the same files.

    Raises
    ------
    ValueError
        The folder has something in it already.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{str(out)!r} is there already; give a folder that is new or empty.")
    for part in ("img_align_celeba", "masks"):
        (out / part).mkdir(parents=True)
    factors = draw_factors(sum(counts), seed)
    names = [f"{number:06}" for number in range(1, sum(counts) + 1)]
    landmarks, geometry = [], []
    for row, name in enumerate(names):
        pixels, person, points, measured = draw({factor: float(values[row]) for factor, values in factors.items()})
        cv2.imwrite(str(out / "img_align_celeba" / f"{name}.jpg"), pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        mask = cv2.resize(person, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
        cv2.imwrite(
            str(out / "masks" / f"{name}.png"), np.where(mask > 127, 255, 0).astype(np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1]
        )
        landmarks.append(np.round(points).astype(int).ravel())
        geometry.append(measured)
    images = [f"{name}.jpg" for name in names]
    said = labels(factors)
    values = np.where(np.stack(list(said.values()), 1), 1, -1)
    _list(out / "list_attr_celeba.txt", images, values, said)
    _list(out / "list_landmarks_align_celeba.txt", images, landmarks, [f"{point}_{axis}" for point in POINTS for axis in "xy"])
    _list(out / "list_eval_partition.txt", images, np.repeat((0, 1, 2), counts)[:, None])
    _list(out / "identity_CelebA.txt", images, np.arange(1, len(images) + 1)[:, None])
    for file, columns, rows in (("list_face_geometry.csv", GEOMETRY, [list(row.values()) for row in geometry]),
                                ("factors.csv", tuple(factors), np.stack(list(factors.values()), 1))):
        with open(out / file, "w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(("image_id", *columns))
            table.writerows((name, *(f"{value:.4f}" for value in row)) for name, row in zip(images, rows, strict=True))
    return out


def _list(path: Path, names: Sequence[str], rows, columns: Sequence[str] | dict = ()) -> None:
    """Write one of CelebA's lists: with columns, a count and a header come first."""
    head = [str(len(names)), " ".join(columns)] if columns else []
    path.write_text(
        "\n".join([*head, *(f"{name} {' '.join(map(str, row))}" for name, row in zip(names, rows, strict=True))]) + "\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m train.synthetic", description="Draw faces in CelebA's layout.")
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--counts", type=int, nargs=3, default=(1000, 100, 100), metavar=("TRAIN", "VAL", "TEST"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        if min(options.counts) < 0 or options.seed < 0:
            raise ValueError("--counts and --seed must be 0 or more.")
        print(f"{sum(options.counts):,} faces in {write(options.out, tuple(options.counts), options.seed)}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
