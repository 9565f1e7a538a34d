"""Find the faces in a photo, and the similarity that frames each as in the training data.

The models were trained on CelebA's aligned frame, 178 x 218 pixels with the eyes, nose and mouth near ``TEMPLATE``. A photo's
face is mapped there by the similarity (turn, scale, shift) that fits its five points best.

Coordinates are pixels, (x, y); the first pixel's centre is at (0.5, 0.5). The five points are the eyes, the nose and the
corners of the mouth, left to right in an upright picture.
"""

import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from betavae.config import FRAME_HEIGHT, FRAME_WIDTH
from betavae.image import cut

CROPS = ("auto", "aligned", "centre")
MODELS = Path(__file__).resolve().parent / "models"

# Mean landmarks of CelebA's aligned frame, and the mean error of the refiner's points, over 2,000 training images:
# python -m benchmarks.framing --fit.
TEMPLATE = np.array([[70.23, 113.20], [108.36, 113.29], [88.97, 134.69], [72.73, 153.20], [106.12, 153.31]])
BIAS = np.array([[-0.57, 0.48], [-0.01, 0.44], [-0.21, 3.12], [-0.84, 1.57], [0.03, 1.48]])

LEVELS = (640, 1280, 2560)  # longest sides of the copies to search; YuNet misses faces that fill a larger picture
TURNS = (45, -45, 90, -90, 180)  # degrees to turn the copies by if no upright face is found
SCORE = 0.8                 # least score of a face, by the detector and by the refiner
MIRRORED = [1, 0, 2, 4, 3]  # the five points of a mirrored picture, in their order
PATCH, PATCH_SIDE = 48, 96  # the refiner's input: pixels, and side in the aligned frame, around PATCH_CENTRE
PATCH_CENTRE = (89.3, 125.5)
LARGE = 1 / 8               # of the photo's longest side: beside a face of that size, smaller ones are not searched for


@dataclass(frozen=True)
class Face:
    """A face in a photo: ``landmarks`` (5, 2) in the photo's pixels, and the detector's ``score`` in [0, 1]."""

    landmarks: np.ndarray
    score: float

    @property
    def frame(self) -> np.ndarray:
        """The similarity that maps the aligned frame to the photo: (2, 3)."""
        return similarity(TEMPLATE, self.landmarks)

    @property
    def size(self) -> float:
        """Width of the face in the photo's pixels: half of the aligned frame's."""
        return float(np.hypot(*self.frame[:, 0]) * FRAME_WIDTH / 2)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom around forehead and chin, in the photo's pixels."""
        corners = apply(self.frame, np.array([[45, 75], [134, 75], [45, 185], [134, 185]], dtype=float))
        return (*corners.min(0).tolist(), *corners.max(0).tolist())


def find(pixels: np.ndarray) -> list[Face]:
    """The faces of an upright RGB photo, uint8 (h, w, 3), largest first.

    YuNet (Wu et al. 2023) searches smaller copies of the photo, and turned copies if it finds nothing. The output network of
    MTCNN (Zhang et al. 2016) then finds the five points again on each face's upright crop, and rejects what is no face. It
    finds faces from 40 pixels on in photos up to 2,560 pixels a side, and from 1/64 of the longer side on in larger ones.
    """
    height, width = pixels.shape[:2]
    faces: list[Face] = []
    for side in LEVELS:
        scale = min(1.0, side / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        copy = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
        back = np.array([width / copy.shape[1], height / copy.shape[0]])
        found = _confirmed(pixels, _search(copy), back)
        if not found and side == LEVELS[0]:
            # A face on its side is often found at several turns, with lower scores at the wrong ones: take the best.
            turns = (_confirmed(pixels, _turned(copy, angle), back) for angle in TURNS)
            found = max(turns, key=lambda turn: max((face.score for face in turn), default=0.0))
        for face in found:
            _add(faces, face)
        if scale == 1 or any(face.size > LARGE * max(width, height) for face in faces):
            break
    return sorted(faces, key=lambda face: -face.size)


def _confirmed(pixels: np.ndarray, found: list[Face], back: np.ndarray) -> list[Face]:
    """The faces found in a copy ``back`` times smaller, with points refined in the photo; false finds are left out."""
    refined = (_refined(pixels, Face(face.landmarks * back, face.score)) for face in found)
    return [face for face in refined if face]


def _add(faces: list[Face], face: Face) -> None:
    """Add a face unless it was already found at another size."""
    middle = face.landmarks.mean(0)
    if all(np.hypot(*(middle - other.landmarks.mean(0))) > 0.3 * max(face.size, other.size) for other in faces):
        faces.append(face)


def _search(copy: np.ndarray) -> list[Face]:
    """The faces that YuNet finds in uint8 (h, w, 3)."""
    height, width = copy.shape[:2]
    detector = _yunet()
    detector.setInputSize((width, height))
    _, rows = detector.detect(np.ascontiguousarray(copy[..., ::-1]))
    # A row: box (4), the five points (10), score. YuNet's pixel centres are whole numbers.
    return [Face(row[4:14].reshape(5, 2).astype(float) + 0.5, float(row[14])) for row in (() if rows is None else rows)]


def _turned(copy: np.ndarray, angle: float) -> list[Face]:
    """The faces that YuNet finds in the copy turned by ``angle`` degrees counter-clockwise, in the copy's coordinates."""
    height, width = copy.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    w, h = (np.abs(turn[:, :2]) @ (width, height)).round().astype(int)
    turn[:, 2] += (w / 2 - width / 2, h / 2 - height / 2)
    found = _search(cv2.warpAffine(copy, _centred(turn), (int(w), int(h)), borderMode=cv2.BORDER_REPLICATE))
    back = cv2.invertAffineTransform(turn)
    return [Face(apply(back, face.landmarks), face.score) for face in found]


def _refined(pixels: np.ndarray, face: Face) -> Face | None:
    """The face with its points found again on its upright crop; None if the crop shows no face."""
    points, score = face.landmarks, 0.0
    for _ in range(2):  # the second time on the crop that the first made upright
        frame = similarity(TEMPLATE, points)
        corner = np.array(PATCH_CENTRE) - PATCH_SIDE / 2
        place = frame @ np.array([[PATCH_SIDE / PATCH, 0, corner[0]], [0, PATCH_SIDE / PATCH, corner[1]], [0, 0, 1]])
        patch = cut(pixels, place, PATCH, PATCH)
        seen, score = _onet(patch)
        aligned = seen * PATCH_SIDE + corner - BIAS
        points = apply(frame, aligned)
    return Face(points, min(face.score, score)) if score > SCORE else None


def _onet(patch: np.ndarray) -> tuple[np.ndarray, float]:
    """uint8 (48, 48, 3) -> the five points (5, 2) in its sides, and the score of the face, averaged with its mirror."""
    network, points, scores = _output_network(), [], []
    for mirrored in (False, True):
        x = (patch[:, ::-1] if mirrored else patch).astype(np.float32)
        # The network was trained in MATLAB, column by column: (1, width, height, 3).
        network.setInput(np.ascontiguousarray(((x - 127.5) / 128).transpose(1, 0, 2)[None]))
        _, marks, face = network.forward(["dense_5", "dense_6", "softmax_2"])
        marks = marks.reshape(2, 5).T
        points.append((marks * (-1, 1) + (1, 0))[MIRRORED] if mirrored else marks)
        scores.append(float(face[0, 1]))
    return np.mean(points, 0), float(np.mean(scores))


# OpenCV's networks keep their current picture, so each thread has its own.
_here = threading.local()


def _yunet() -> "cv2.FaceDetectorYN":
    if not hasattr(_here, "yunet"):
        # OpenCV 5 warns of a target that it sets itself.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        _here.yunet = cv2.FaceDetectorYN.create(str(MODELS / "yunet.onnx"), "", (320, 320), SCORE, 0.3, 5000)
    return _here.yunet


def _output_network() -> "cv2.dnn.Net":
    if not hasattr(_here, "onet"):
        _here.onet = cv2.dnn.readNetFromONNX(str(MODELS / "onet.onnx"))
    return _here.onet


# ---- similarities -------------------------------------------------------------------------------------------------


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity (2, 3), without mirroring, that maps points (n, 2) nearest to others (Umeyama 1991, in closed form)."""
    source, target = (
        np.asarray(points, dtype=float)[:, 0] + 1j * np.asarray(points, dtype=float)[:, 1] for points in (source, target)
    )
    a, b = source - source.mean(), target - target.mean()
    # In the plane a similarity is a complex factor and a shift: least squares has the solution <a, b> / <a, a>.
    factor = np.vdot(a, b) / np.vdot(a, a)
    shift = target.mean() - factor * source.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def by_eyes(left: tuple[float, float], right: tuple[float, float]) -> np.ndarray:
    """The frame (2, 3) of a face with its eyes at these places of the photo, left and right as in the picture.

    Raises
    ------
    ValueError
        The eyes are at one place.
    """
    eyes = np.array([left, right], dtype=float)
    if eyes.shape != (2, 2) or not np.isfinite(eyes).all() or np.hypot(*(eyes[1] - eyes[0])) < 1:
        raise ValueError(f"The eyes are at {left} and {right}; they must be two places at least a pixel apart.")
    return similarity(TEMPLATE[:2], eyes)


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (n, 2) mapped by an affine map (2, 3)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def _centred(matrix: np.ndarray) -> np.ndarray:
    """A map of continuous coordinates in OpenCV's coordinates, whose pixel centres are whole numbers."""
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return moved


# ---- frames -------------------------------------------------------------------------------------------------------


def align(pixels: np.ndarray, frame: np.ndarray) -> Image.Image:
    """The aligned frame, RGB 178 x 218, that a frame (2, 3) cuts out of a photo, uint8 (h, w, 3)."""
    return Image.fromarray(cut(pixels, frame, FRAME_WIDTH, FRAME_HEIGHT))


def centre(width: int, height: int) -> np.ndarray:
    """The largest centred frame that fits into a photo, upright: (2, 3)."""
    scale = min(width / FRAME_WIDTH, height / FRAME_HEIGHT)
    return np.array([[scale, 0, (width - scale * FRAME_WIDTH) / 2], [0, scale, (height - scale * FRAME_HEIGHT) / 2]])


def whole(width: int, height: int) -> np.ndarray:
    """The frame (2, 3) that covers a whole image, for images that are aligned already.

    Raises
    ------
    ValueError
        The photo is more than 2 % off the shape 178 x 218.
    """
    if abs(width * FRAME_HEIGHT / (height * FRAME_WIDTH) - 1) > 0.02:
        raise ValueError(f'The image is {width} x {height}; crop="aligned" needs the shape of {FRAME_WIDTH} x {FRAME_HEIGHT}; '
                         'use crop="auto" for other photos.')
    return np.array([[width / FRAME_WIDTH, 0, 0], [0, height / FRAME_HEIGHT, 0]])
