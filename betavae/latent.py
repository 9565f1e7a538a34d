"""Geometry of the latent space: pure functions of tensors, alike for the library, the app and the command line."""

import torch
from torch import Tensor


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Straight line: (d,), (d,), (n,) -> (n, d), a at t = 0 and b at t = 1."""
    t = t[:, None]
    return (1 - t) * a + t * b


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Great arc (Shoemake 1985) with the length interpolated linearly: (d,), (d,), (n,) -> (n, d).

    Samples of N(0, I) lie near a sphere, so the straight line between two of them cuts through a region the decoder
    has seldom seen; the arc does not. For parallel or opposite vectors, where the arc is not defined, it is ``lerp``.
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


def traverse(z: Tensor, latent: int, values: Tensor) -> Tensor:
    """Copies of z (d,) in which one latent takes each of ``values`` (n,): (n, d)."""
    z = z.repeat(len(values), 1)
    z[:, latent] = values.to(z)
    return z


def sample(n: int, latents: int, seed: int, temperature: float = 1.0) -> Tensor:
    """``n`` draws from N(0, temperature^2 I): (n, d), the same on every machine for one seed (drawn on the CPU)."""
    return temperature * torch.randn(n, latents, generator=torch.Generator().manual_seed(seed))
