"""Geometry of the latent space: pure functions of tensors, shared by the library, the app and the command line."""

import torch
from torch import Tensor

MAX_SEED = 2**63 - 1


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Straight line: (d,), (d,), (n,) -> (n, d), a at t = 0 and b at t = 1."""
    t = t[:, None]
    return (1 - t) * a + t * b


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Great arc (Shoemake 1985) with the length interpolated linearly: (d,), (d,), (n,) -> (n, d).

    Samples of N(0, I) lie near a sphere. The straight line between two of them crosses a region that the decoder has seldom
    seen; the arc does not. Parallel or opposite vectors define no arc: for them it is ``lerp``.
    """
    t = t[:, None]
    length_a, length_b = a.norm(), b.norm()
    angle = torch.arccos((a @ b / (length_a * length_b)).clamp(-1, 1))
    # Written so that the NaN angle of a zero vector takes this branch as well.
    if not torch.sin(angle) > 1e-4:
        return lerp(a, b, t[:, 0])
    unit = (torch.sin((1 - t) * angle) * a / length_a + torch.sin(t * angle) * b / length_b) / torch.sin(angle)
    return unit * ((1 - t) * length_a + t * length_b)


INTERPOLATIONS = {"lerp": lerp, "slerp": slerp}
# The timing of a leg of a path: t from 0 to 1 -> the share of the leg that is done.
EASINGS = {
    "linear": lambda t: t,
    "ease in-out": lambda t: t * t * (3 - 2 * t),
    "ease in": lambda t: t * t,
    "ease out": lambda t: t * (2 - t),
}


def along(faces: Tensor, t: Tensor, method: str = "slerp", easing: str = "linear", closed: bool = False) -> Tensor:
    """Points of the path through faces (m, d), in their order: t (n,) -> (n, d), the first at t = 0, the last at t = 1.

    Every leg takes the same time. A ``closed`` path returns from the last face to the first, which it reaches at t = 1:
    t = 0, 1/n, ... (n - 1)/n make a loop without a seam.

    Parameters
    ----------
    method : "slerp" | "lerp"
        The form of a leg.
    easing : "linear" | "ease in-out" | "ease in" | "ease out"
        The speed on a leg; with "ease in-out" it is 0 at every face.

    Raises
    ------
    ValueError
        Fewer than two faces, or a ``method`` or ``easing`` that does not exist.
    """
    for name, value, known in (("method", method, INTERPOLATIONS), ("easing", easing, EASINGS)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; choose from {', '.join(known)}.")
    if len(faces) < 2:
        raise ValueError(f"A path has at least 2 faces; there {'is 1' if len(faces) == 1 else 'is none'}.")
    if closed:
        faces = torch.cat([faces, faces[:1]])
    legs = len(faces) - 1
    place = t.clamp(0, 1) * legs
    leg = place.floor().clamp(max=legs - 1).long()
    share = EASINGS[easing](place - leg)
    path = faces.new_empty(len(t), faces.shape[1])
    for i in leg.unique().tolist():
        path[leg == i] = INTERPOLATIONS[method](faces[i], faces[i + 1], share[leg == i])
    return path


def evenly(n: int, closed: bool = False) -> Tensor:
    """N positions on a path, (n,): from 0 to 1; on a ``closed`` path up to one step before 1, where the first face is."""
    return torch.arange(n) / (n if closed else max(1, n - 1))


def neighbours(z: Tensor, n: int, seed: int, radius: float) -> Tensor:
    """``n`` latents at the distance ``radius`` from z (d,), in random directions: (n, d), the same everywhere for one seed.

    Two draws from N(0, I) are about sqrt(2 d) apart.
    """
    return z + radius * torch.nn.functional.normalize(noise(n, len(z), seed), dim=1)


def traverse(z: Tensor, latent: int, values: Tensor) -> Tensor:
    """Copies of z (d,) in which one latent takes each of ``values`` (n,): (n, d)."""
    z = z.repeat(len(values), 1)
    z[:, latent] = values.to(z)
    return z


def noise(n: int, latents: int, seed: int, truncation: float | None = None) -> Tensor:
    """``n`` draws from N(0, I): (n, d), the same on every machine for one seed (drawn on the CPU).

    With ``truncation`` t every number is from N(0, 1) truncated to [-t, t]. Each draw is mapped to the same quantile of the
    truncated distribution, so a seed gives similar faces for every t.

    Raises
    ------
    ValueError
        ``truncation`` is not above 0, or ``seed`` is not from 0 to 2^63 - 1.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"The seed is {seed}; it must be from 0 to {MAX_SEED}.")
    e = torch.randn(n, latents, generator=torch.Generator().manual_seed(seed))
    if truncation is None:
        return e
    if not truncation > 0:
        raise ValueError(f"The truncation is {truncation!r}; it must be above 0.")
    # In double precision: in single precision values far out become infinite.
    tail = torch.special.ndtr(torch.tensor(-truncation, dtype=torch.float64))
    quantile = tail + torch.special.ndtr(e.double()) * (1 - 2 * tail)
    return torch.special.ndtri(quantile).clamp(-truncation, truncation).float()


def sample(n: int, latents: int, seed: int, temperature: float = 1.0, truncation: float | None = None) -> Tensor:
    """``n`` draws from N(0, temperature^2 I), made of ``noise``: (n, d), the same on every machine for one seed."""
    return temperature * noise(n, latents, seed, truncation)
