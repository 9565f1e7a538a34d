"""Masks, head pose and landmarks of CelebA's images, estimated with MediaPipe.

    python -m venv annotate && annotate/bin/pip install -r requirements-annotate.txt
    annotate/bin/python -m train.annotate --data DIR               all of them, into DIR
    annotate/bin/python -m train.annotate --data DIR --masks       only masks/NNNNNN.png
    annotate/bin/python -m train.annotate --data DIR --geometry    only list_face_geometry.csv and landmarks

Existing results are kept, and the same command resumes an interrupted one. MediaPipe needs an older NumPy than training, hence
the separate environment; this module imports no other module of the project.
"""

import argparse
import csv
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

# MediaPipe's numbering of the face mesh. Left and right are the picture's, as in CelebA's lists.
LEFT_EYE, RIGHT_EYE = (33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380)  # corner, upper lid, corner, lower lid
FOREHEAD, CHIN, NOSE = 10, 152, 4
LIPS, MOUTH = (13, 14), (61, 291)  # inner edges above and below; corners
GEOMETRY = ("yaw_deg", "pitch_deg", "roll_deg", "mouth_open", "mouth_width", "eye_open")
DECIMALS = (2, 2, 2, 4, 4, 4)
LANDMARKS = tuple(f"{point}_{axis}" for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy")


# MediaPipe's models in a process of the pool; MediaPipe comes without types.
segmentation: Any
face_mesh: Any


class AnnotateError(ValueError):
    """Nothing can be annotated. The message is one sentence."""


def pose(mesh: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a face in degrees; all are zero for an upright face that looks into the camera.

    The face's axes are the line through the outer corners of the eyes, the line from the forehead to the chin made orthogonal
    to it, and their cross product. yaw > 0: it turns towards the left edge of the picture;
    pitch > 0: it looks down; roll > 0: its right side, as seen, is lower.

    Parameters
    ----------
    mesh : ndarray
        (468, 3): x to the right, y down, z away from the camera, in one unit.
    """
    across = mesh[RIGHT_EYE[3]] - mesh[LEFT_EYE[0]]
    across = across / np.linalg.norm(across)
    down = mesh[CHIN] - mesh[FOREHEAD]
    down = down - (down @ across) * across
    into = np.cross(across, down / np.linalg.norm(down))
    yaw, pitch = np.arctan2(into[0], into[2]), -np.arcsin(np.clip(into[1], -1, 1))
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(np.arctan2(across[1], across[0])))


def measure(mesh: np.ndarray) -> dict[str, float]:
    """GEOMETRY of a face mesh (468, 3) in pixels, and LANDMARKS, the five points of CelebA's own list.

    ``mouth_open`` is the gap between the lips over the width of the mouth, ``mouth_width`` that width over the distance
    of the eyes' centres, ``eye_open`` the eye aspect ratio (Soukupova & Cech 2016, equation 1), the mean of both eyes.
    Distances are in space, so that a turned head does not change them.
    """
    def distance(a: int, b: int) -> float:
        return float(np.linalg.norm(mesh[a] - mesh[b]))

    eyes = [(mesh[eye[0]] + mesh[eye[3]]) / 2 for eye in (LEFT_EYE, RIGHT_EYE)]
    width = distance(*MOUTH)
    open_ = np.mean([(distance(b, f) + distance(c, e)) / (2 * distance(a, d)) for a, b, c, d, e, f in (LEFT_EYE, RIGHT_EYE)])
    points = np.stack([*eyes, mesh[NOSE], *mesh[list(MOUTH)]])[:, :2]
    apart = float(np.linalg.norm(eyes[1] - eyes[0]))
    values = (*pose(mesh), distance(*LIPS) / width, width / apart, float(open_))
    return dict(zip(GEOMETRY, values, strict=True)) | dict(zip(LANDMARKS, points.ravel().tolist(), strict=True))


class Lists:
    """Writer of ``list_face_geometry.csv`` and ``list_landmarks_align_celeba.txt`` of a folder.

    Every row goes to a journal at once, so that no result is lost; ``close`` merges it into the lists. CelebA's own landmarks
    are not changed.
    """

    def __init__(self, folder: Path):
        self.geometry = folder / "list_face_geometry.csv"
        self.landmarks = folder / "list_landmarks_align_celeba.txt"
        self.journal = folder / "list_face_geometry.part"
        columns = ("image_id", *GEOMETRY, *LANDMARKS)
        rows = csv.reader(self.journal.read_text().splitlines() if self.journal.exists() else [])
        # A run that was killed may have left half a line.
        self.rows = {row[0]: dict(zip(columns[1:], row[1:], strict=True)) for row in rows if len(row) == len(columns)}
        self.old = _rows(self.geometry, ",")
        self.done = self.old.keys() | self.rows.keys()
        with open(self.journal, "w", newline="") as file:
            csv.writer(file).writerows([name, *row.values()] for name, row in self.rows.items())
        self._file = self.journal.open("a", newline="")

    def add(self, name: str, values: dict[str, float] | None) -> None:
        """Add a face, or None if there is none."""
        texts = [""] * (len(GEOMETRY) + len(LANDMARKS))
        if values:
            texts = [f"{values[c]:.{d}f}" for c, d in zip(GEOMETRY, DECIMALS, strict=True)]
            texts += [f"{values[c]:.0f}" for c in LANDMARKS]
        self.rows[name] = dict(zip((*GEOMETRY, *LANDMARKS), texts, strict=True))
        csv.writer(self._file).writerow([name, *texts])
        self._file.flush()

    def close(self) -> None:
        """Merge the journal into the lists, and remove it."""
        self._file.close()
        found = {name: row for name, row in self.rows.items() if row[GEOMETRY[0]]}
        geometry = self.old | {name: [row[column] for column in GEOMETRY] for name, row in found.items()}
        lines = [",".join((name, *geometry[name])) for name in sorted(geometry)]
        _replace(self.geometry, [",".join(("image_id", *GEOMETRY)), *lines])
        if not self.landmarks.with_suffix(".csv").exists():
            points = {name: [row[column] for column in LANDMARKS] for name, row in found.items()} | _rows(self.landmarks, None)
            lines = [" ".join((name, *points[name])) for name in sorted(points)]
            _replace(self.landmarks, [str(len(points)), " ".join(LANDMARKS), *lines])
        self.journal.unlink()


def _rows(path: Path, separator: str | None) -> dict[str, list[str]]:
    lines = [line.split(separator) for line in path.read_text().splitlines()] if path.exists() else []
    return {line[0]: line[1:] for line in lines if line and line[0].endswith(".jpg")}


def _replace(path: Path, lines: Iterable[str]) -> None:
    part = path.with_name(path.name + ".new")
    part.write_text("".join(line + "\n" for line in lines))
    os.replace(part, path)


def annotate(folder: str | Path, masks: bool = True, geometry: bool = True, workers: int | None = None) -> dict[str, int]:
    """Annotate all images of a folder that have no annotation yet.

    ``masks/NNNNNN.png`` are 1 bit, at half the image's size; white is person: face, hair, glasses and hat, and clothes
    as well (MediaPipe's selfie segmentation, the mean of 2 x 2 probabilities above 0.5).

    Returns
    -------
    dict
        Counts of images: "images", "masks" made, "faces" measured, "no face" found, "damaged".

    Raises
    ------
    AnnotateError
        There are no images, or MediaPipe is absent or too new.
    """
    folder = Path(folder).expanduser()
    images = next((path for path in (folder / "img_align_celeba" / "img_align_celeba", folder / "img_align_celeba")
                   if path.is_dir()), None)
    if images is None:
        raise AnnotateError(f"{str(folder)!r} has no folder img_align_celeba, which holds CelebA's aligned images.")
    if find_spec("mediapipe") is None or find_spec("mediapipe.python.solutions") is None:
        raise AnnotateError("MediaPipe 0.10.21 is not here; newer ones lack the models. In an environment of its own: "
                            "pip install -r requirements-annotate.txt.")
    names = sorted(path.name for path in images.glob("*.jpg"))
    counts = {"images": len(names), "masks": 0, "faces": 0, "no face": 0, "damaged": 0}
    lists = Lists(folder) if geometry else None
    masked = {path.stem for path in (folder / "masks").glob("*.png")} if masks else set()
    if masks:
        (folder / "masks").mkdir(exist_ok=True)
    wanted = [(name, masks and Path(name).stem not in masked, lists is not None and name not in lists.done) for name in names]
    wanted = [work for work in wanted if any(work[1:])]
    # macOS has no sched_getaffinity.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pool = ProcessPoolExecutor(workers or cores, initializer=_start)
    try:
        results = pool.map(partial(_annotate, images, folder / "masks"), wanted, chunksize=16)
        results = tqdm(results, total=len(wanted), desc="annotate", unit=" images")
        for (name, mask, face), values in zip(wanted, results, strict=True):
            if values is None:
                counts["damaged"] += 1
                tqdm.write(f"{name} is damaged and left out.")
                continue
            counts["masks"] += mask
            if face and lists:
                counts["faces" if values else "no face"] += 1
                lists.add(name, values)
    finally:
        pool.shutdown(cancel_futures=True)
        if lists:
            lists.close()
    return counts


def _start() -> None:
    """One pair of MediaPipe's models for each process."""
    global segmentation, face_mesh
    os.environ.update(GLOG_minloglevel="3", TF_CPP_MIN_LOG_LEVEL="3")
    from mediapipe.python.solutions.face_mesh import FaceMesh
    from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation
    segmentation = SelfieSegmentation(model_selection=0)
    face_mesh = FaceMesh(static_image_mode=True, max_num_faces=1)


def _annotate(images: Path, masks: Path, work: tuple[str, bool, bool]) -> dict[str, float] | None:
    """The measurements of one face ({} if none was wanted or found); None if the image is damaged."""
    name, mask, face = work
    try:
        pixels = np.asarray(Image.open(images / name).convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        return None
    if mask:
        person = Image.fromarray(segmentation.process(pixels).segmentation_mask).reduce(2)
        part = masks / f"{Path(name).stem}.part"
        Image.fromarray(np.asarray(person) > 0.5).save(part, "PNG", optimize=True)
        os.replace(part, part.with_suffix(".png"))
    found = face_mesh.process(pixels).multi_face_landmarks if face else None
    if not found:
        return {}
    height, width, _ = pixels.shape
    # MediaPipe's x and y are parts of the picture's sides, its z has the scale of x.
    return measure(np.array([(point.x, point.y, point.z) for point in found[0].landmark]) * (width, height, width))


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m train.annotate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", required=True, help="CelebA in the official layout or Kaggle's")
    parser.add_argument("--masks", action="store_true", help="masks/NNNNNN.png, white is person")
    parser.add_argument("--geometry", action="store_true", help="list_face_geometry.csv: head pose, mouth and eyes; landmarks")
    parser.add_argument("--workers", metavar="N", type=int, help="processes (default: one a core)")
    options = parser.parse_args(arguments)
    both = options.masks == options.geometry
    try:
        if options.workers is not None and options.workers < 1:
            raise AnnotateError(f"--workers is {options.workers}; it must be at least 1.")
        counts = annotate(options.data, both or options.masks, both or options.geometry, options.workers)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    except (AnnotateError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{counts['images']:,} images: {counts['masks']:,} masks made, {counts['faces']:,} faces measured, "
          f"{counts['no face']:,} without a face that was found, {counts['damaged']:,} damaged")
    return 0


if __name__ == "__main__":
    sys.exit(main())
