"""Put an edit back into the photo: the photo's own pixels are moved and shaded, never redrawn.

Every direction has a displacement field, the same for every face: a grid of displacements per unit of strength, estimated
once by optical flow between the model's own pictures (``estimate``). An edit moves the photo by the sum of its directions'
fields times their strengths, and then adds the remaining difference of the two decodes (``put_back``).

Coordinates are continuous: the first pixel of a picture has its centre at (0.5, 0.5), as in OpenGL and CSS. In the
*model's square*, the part of the aligned frame that the model sees, u = (x, y) goes from (0, 0) to (1, 1).
"""

import base64
from collections.abc import Callable, Mapping

import cv2
import numpy as np
import torch
from torch import Tensor

from betavae.config import VAEConfig
from betavae.directions import GRID, Direction, Directions
from betavae.image import square

FLOW_SIDE = 128      # side in pixels of the pictures for optical flow
FACES = 200          # the field is the median over so many
SHARE = 0.75         # strength of the edit, as a share of the way to the nearer end of the data
SMOOTH = 2.0         # deviation of the Gaussian over the field, in pixels of FLOW_SIDE
EXPLAINED = 0.03     # least share of the pictures' mean square change that a field must explain
GAIN = 1.4           # factor on the field, since flow between blurred pictures underestimates motion
STEPS = 4            # integration steps of the field
FINE = 256           # side of the grid of integrated points; linear in between
BORDER = 0.12        # width of the rim of the square in which an edit fades to nothing, in sides of the square
LOW_PASS = 0.75 / 64  # deviation of the Gaussian over the residual, in sides of the square
SHARPEN = 0.2        # of the photo's finest detail, added where a pixel is halfway between two of the photo's
TILE = 1 << 20       # pixels of the photo that are worked on at a time


# Edits of things that are not in the photo or reach beyond the model's square: only the model's own picture shows them.
NOT_IN_THE_PHOTO = ("Eyeglasses", "Wearing_Hat", "Wearing_Earrings", "Wearing_Necklace", "Wearing_Necktie", "Bald",
                    "background_brightness", "background_warmth", "background_tint")


# ---- a direction's field ------------------------------------------------------------------------------------------


@torch.inference_mode()
def estimate(decode: Callable[[Tensor], Tensor], direction: Direction, z: Tensor) -> Tensor | None:
    """The displacement field of a direction, from the pictures of faces z (n, d): float16 (2, GRID, GRID), or None.

    Optical flow (DIS; Kroeger et al. 2016) from every face's picture with the direction added, and taken away, to its plain
    picture: the median over the faces, half the difference of both ways, smoothed. Content found at u after strength s was at
    u - s d(u) before.

    Parameters
    ----------
    decode : callable
        Latents (m, d) -> pictures (m, 3, s, s) in [0, 1], such as ``VAE.decode``.

    Returns
    -------
    Tensor or None
        Displacement in x and in y for strength 1, in sides of the model's square; None if nothing moves.
    """
    dose = SHARE * max(1e-3, min(-direction.low, direction.high))
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    plain = _grey(decode(z))
    ways = {sign * dose: _grey(decode(z + sign * dose * direction.vector.to(z))) for sign in (1, -1)}
    # OpenCV: first(x) = second(x + flow(x)); what is at x in the edited picture was at x + flow(x) in the plain one.
    forth, back = (
        np.median([flow.calc(after, before, None)  # type: ignore[call-overload]  # OpenCV makes the field where it gets None
                   for after, before in zip(edited, plain, strict=True)], 0)
        for edited in ways.values())  # (FLOW_SIDE, FLOW_SIDE, 2)
    field = cv2.GaussianBlur((back - forth) / (2 * dose), (0, 0), SMOOTH)  # in pixels
    if _explained(field, plain, ways) < EXPLAINED:
        return None
    field = cv2.resize(field / FLOW_SIDE, (GRID, GRID), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(field.transpose(2, 0, 1).copy()).half()


def _explained(field: np.ndarray, plain: list[np.ndarray], ways: dict[float, list[np.ndarray]]) -> float:
    """The share of the mean square change between pictures that moving them by ``field`` times a strength explains."""
    x, y = np.meshgrid(*[np.arange(FLOW_SIDE, dtype=np.float32)] * 2)
    changed = left = 0.0
    for strength, edited in ways.items():
        maps = (x - strength * field[..., 0]).astype(np.float32), (y - strength * field[..., 1]).astype(np.float32)
        for before, after in zip(plain, edited, strict=True):
            moved = cv2.remap(before, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            changed += np.square(after.astype(np.float32) - before).mean()
            left += np.square(after.astype(np.float32) - moved).mean()
    return 1 - left / changed if changed else 0.0


def _grey(pictures: Tensor) -> list[np.ndarray]:
    """(n, 3, s, s) in [0, 1] -> n uint8 (FLOW_SIDE, FLOW_SIDE)."""
    pixels = (pictures.detach().float().cpu().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [
        cv2.resize(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), (FLOW_SIDE, FLOW_SIDE), interpolation=cv2.INTER_CUBIC) for p in pixels
    ]


def total(directions: Directions, strengths: Mapping[str, float]) -> np.ndarray | None:
    """The displacement field of an edit: float32 (2, GRID, GRID) in sides of the model's square, or None if nothing moves.

    The sum of the directions' fields times their strengths, times GAIN.

    Raises
    ------
    DirectionsError
        A name is unknown, or a strength is no finite number.
    """
    directions.strengths(strengths)
    fields = ((s, directions[name].displacement) for name, s in strengths.items() if s)
    moves = [s * field.float().numpy() for s, field in fields if field is not None]
    return GAIN * np.sum(moves, 0) if moves else None


def can_put_back(name: str) -> bool:
    """Whether an edit along a direction can be put back into a photo by moving and shading what is there."""
    return name not in NOT_IN_THE_PHOTO


def on_the_wire(direction: Direction) -> dict | None:
    """A direction's field for the page, {"scale": float, "data": text}, or None: ``total`` at strength 1.

    ``data`` is base64 of 2 x GRID x GRID signed bytes, first all of x, then all of y, row by row from the top; a byte times
    ``scale`` is a displacement in sides of the model's square.
    """
    if direction.displacement is None:
        return None
    field = GAIN * direction.displacement.float().numpy()
    scale = float(np.abs(field).max()) / 127
    return {"scale": scale, "data": base64.b64encode(np.rint(field / scale).astype(np.int8).tobytes()).decode()}


def touch(matte: np.ndarray | None, strengths: Mapping[str, float]) -> np.ndarray | None:
    """The mask of where an edit may add something to a photo, for ``put_back``: person, background, or both (None).

    Parameters
    ----------
    matte : (k, k), optional
        The person's matte (``betavae.person.matte``).
    """
    of_background = {name.startswith("background") for name, strength in strengths.items() if strength}
    if matte is None or len(of_background) != 1:
        return None
    return 1 - matte if of_background.pop() else matte


# ---- into the photo -----------------------------------------------------------------------------------------------


def fade(u: np.ndarray) -> np.ndarray:
    """The weight of an edit along one axis of the model's square: 1 inside, 0 at the border and outside.

    The mask is ``fade(x) * fade(y)``. In GLSL: ``smoothstep(0., BORDER, min(u, 1. - u))``.
    """
    t = np.clip(np.minimum(u, 1 - u) / BORDER, 0, 1)
    return t * t * (3 - 2 * t)


def followed(displacement: np.ndarray) -> np.ndarray:
    """Backward displacements v - u over the model's square, float32 (FINE, FINE, 2) in sides of the square.

    ``displacement`` (2, n, n) is integrated backwards in STEPS equal steps as a stationary velocity field (Arsigny et al.
    2006), so that even large moves neither fold nor tear. It fades to zero at the square's border, so nothing crosses it.
    """
    field = _image(displacement)
    u = np.meshgrid(*[(np.arange(FINE, dtype=np.float32) + 0.5) / FINE] * 2)
    x, y = u
    for _ in range(STEPS):
        move = _sample(field, x, y) * (fade(x) * fade(y) / STEPS)[..., None]
        x, y = x - move[..., 0], y - move[..., 1]
    return np.stack([x - u[0], y - u[1]], 2)


def put_back(pixels: np.ndarray, frame: np.ndarray, config: VAEConfig, before: Tensor, after: Tensor,
             displacement: np.ndarray | None = None, touched: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A photo with an edit of one of its faces put back: (edited pixels uint8 (h, w, 3), mask bool (h, w)).

    Every pixel outside of the mask is bit for bit the photo's. Memory beyond the two arrays is bounded.

    The mathematics, for a photo pixel whose centre p lies at u in the model's square::

        m(u) = fade(u.x) * fade(u.y)
        v    = u, then STEPS times v - m(v) * D(v) / STEPS       D: displacement, sampled linearly, clamped to its edge
        out  = photo(v) + m(u) * t(v) * R(u)             t: touched, R: both sampled linearly, clamped to their edges
        R    = G * (after - before(v))                   on the decodes' own grid; G: a Gaussian of deviation LOW_PASS

    The pixels of D, t and R have their centres at (i + 0.5) / n. Values are those of the file (gamma-encoded sRGB). The photo
    is sampled by Lanczos' kernel of 8 pixels, and SHARPEN of its finest detail, photo - blur(photo), is added in proportion to
    4 f (1 - f), f the place between two pixels: the mean over x and y. That makes up for what sampling between pixels loses;
    where the photo is drawn smaller than it is, as on a page, linear sampling shows the same.

    Parameters
    ----------
    pixels : uint8 (h, w, 3)
        The upright photo; it is not changed.
    frame : (2, 3)
        The similarity that maps aligned-frame coordinates (178 x 218) to the photo's.
    config : VAEConfig
        Whose ``crop`` is the model's square.
    before, after : Tensor
        (1, 3, s, s) in [0, 1]: the model's picture of the face as it is, and edited.
    displacement : (2, GRID, GRID), optional
        What ``total`` gives of the edit: in sides of the model's square.
    touched : (k, k), optional
        Where the residual may be added, from 0 to 1, over the model's square of the unedited photo: the person or the
        background (``touch``). Left out: everywhere.
    """
    out, mask = pixels.copy(), np.zeros(pixels.shape[:2], dtype=bool)
    moves = None if displacement is None else followed(displacement)
    residual = _residual(before, after, moves)
    if displacement is None and not residual.any():
        return out, mask
    height, width = pixels.shape[:2]
    matrix = square(frame, config)  # (2, 3): u -> p
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) @ matrix[:, :2].T + matrix[:, 2]
    left, top = np.clip(np.floor(corners.min(0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(0)), 0, (width, height)).astype(int)
    touched = None if touched is None else np.ascontiguousarray(touched, dtype=np.float32)
    rows = max(1, TILE // max(1, right - left))
    for y0 in range(top, bottom, rows):
        y1 = min(bottom, y0 + rows)
        x, y = np.meshgrid(np.arange(left, right, dtype=np.float32) + 0.5, np.arange(y0, y1, dtype=np.float32) + 0.5)
        across, down = ((row[0] * x + row[1] * y + row[2]).astype(np.float32) for row in inverse)
        m = fade(across) * fade(down)
        inside = m > 0
        if not inside.any():
            continue
        part, v = pixels[y0:y1, left:right], (across, down)
        if moves is not None:
            move = _sample(moves, across, down)  # (rows, columns, 2)
            v = across + move[..., 0], down + move[..., 1]
            part = _moved(pixels, x, y, move @ matrix[:, :2].T.astype(np.float32))
        share = m if touched is None else m * _sample(touched, *v)
        shaded = part + 255 * share[..., None] * _sample(residual, across, down)
        out[y0:y1, left:right][inside] = np.clip(np.rint(shaded), 0, 255).astype(np.uint8)[inside]
        mask[y0:y1, left:right] = inside
    return out, mask


def _residual(before: Tensor, after: Tensor, moves: np.ndarray | None) -> np.ndarray:
    """The difference of the decodes after the first is moved, low-passed: float32 (s, s, 3)."""
    plain, edited = (_image(picture[0].detach().float().cpu().numpy()) for picture in (before, after))
    side = len(plain)
    if moves is not None:
        x, y = np.meshgrid(*[(np.arange(side, dtype=np.float32) + 0.5) / side] * 2)
        move = _sample(moves, x, y)
        plain = _sample(plain, x + move[..., 0], y + move[..., 1])
    return cv2.GaussianBlur(edited - plain, (0, 0), LOW_PASS * side, borderType=cv2.BORDER_REPLICATE)


def _image(field: np.ndarray) -> np.ndarray:
    """(c, n, n) -> float32 (n, n, c), as OpenCV has it."""
    return np.ascontiguousarray(np.asarray(field, dtype=np.float32).transpose(1, 2, 0))


def _sample(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A picture (n, n, c) at coordinates of the square, linearly, clamped to its edge: (..., c)."""
    n = len(image)
    return cv2.remap(image, x * n - 0.5, y * n - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _moved(pixels: np.ndarray, x: np.ndarray, y: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The photo at pixel centres (x, y) plus a shift in pixels, resampled without blur and mirrored beyond its edges."""
    # OpenCV cannot read pictures of more than 32,767 pixels a side, so it gets only the part that is read.
    reach = int(np.ceil(np.abs(shift).max())) + 5
    y0, y1 = max(0, int(y[0, 0]) - reach), int(y[-1, 0]) + reach + 1
    x0, x1 = max(0, int(x[0, 0]) - reach), int(x[0, -1]) + reach + 1
    part = pixels[y0:y1, x0:x1]
    x, y = x + shift[..., 0] - 0.5 - x0, y + shift[..., 1] - 0.5 - y0
    moved = cv2.remap(part, x, y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101)
    finest = part.astype(np.int16) - cv2.GaussianBlur(part, (3, 3), 0.7)
    detail = cv2.remap(finest, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    x, y = x - np.floor(x), y - np.floor(y)
    between = 2 * (x * (1 - x) + y * (1 - y))
    return moved + SHARPEN * between[..., None] * detail
