"""Locks by the picture: an edit is corrected until the classifier reads the locked attributes as before.

A lock in the latent (``Directions.shift``) keeps a linear score, but the attribute may still change in the decoded picture.
Here the classifier reads the attribute from the picture, and the step follows the local slopes of its reading.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from betavae.directions import Directions

# Tolerances, in logits, of a locked reading and of the wanted effect, against one deviation of the latents: first for damped
# steps on the way, since slopes change along it; then for the steps that close the remaining gap. Chosen on generated faces
# (benchmarks/locks.py --seed 100).
ON_THE_WAY, STEPS, DAMPING = (0.1, 0.5), 8, 0.4
CLOSING, CLOSING_STEPS = (0.25, 1.0), 2

Reader = Callable[[Tensor], Tensor]


def slopes(read: Reader, z: Tensor, columns: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Readings (n, k) of faces z (n, d) in some columns of ``read``, and their slopes (n, k, d) at z.

    ``read`` maps latents (n, d) to readings (n, columns). It is differentiable, and row i depends on face i alone.
    """
    with torch.inference_mode(False), torch.enable_grad():
        z = z.detach().clone().requires_grad_()
        values = read(z)[:, list(columns)]
        rows = [torch.autograd.grad(values[:, i].sum(), z, retain_graph=i + 1 < len(columns))[0] for i in range(len(columns))]
    return values.detach().double().cpu(), torch.stack(rows, 1).double().cpu()


def hold(z: Tensor, strengths: Mapping[str, float], locks: Iterable[str], space: Directions, read: Reader,
         names: Sequence[str]) -> Tensor:
    """The steps (n, d) of an edit of the faces z (n, d) that keep the readings of the locked attributes.

    A locked attribute with a strength is kept at the reading that this strength alone gives. The step is a regularised
    Gauss-Newton solution (Nocedal and Wright 2006, chapter 10): near the unlocked step by Mahalanobis distance, with the locked
    readings at their targets and the wanted ones near those of the unlocked step. Names that ``read`` does not have are held in
    the latent, as ``Directions.shift`` does.

    Parameters
    ----------
    read : callable
        Latents (n, d) to readings (n, len(names)) of their pictures, differentiable: see ``slopes``.
    names : list of str
        The names of the columns.

    Raises
    ------
    DirectionsError
        A name is unknown, or a strength is no finite number.
    """
    locks = list(dict.fromkeys(locks))
    unread = [name for name in locks if name not in names]
    free = space.shift(strengths, unread).double().expand(z.shape)
    held = [name for name in locks if space[name].name in names]
    wanted = [name for name, strength in strengths.items() if strength and name in names and name not in locks]
    if not held or (not wanted and not any(strengths.values())):
        return free.float()
    columns = [names.index(name) for name in held + wanted]
    own = space.shift({name: strengths.get(name, 0) for name in held})
    with torch.no_grad():
        target = (
            torch.cat([read(z + own)[:, columns[: len(held)]], read(z + free.float())[:, columns[len(held) :]]], 1)
            .double()
            .cpu()
        )
    metric = space.covariance.double()
    if unread:  # restrict to steps that keep their scores
        readings = space.readings(unread).double()
        across = metric @ readings.T
        metric = metric - across @ torch.linalg.pinv(readings @ across) @ across.T
    step = free
    for i in range(STEPS + CLOSING_STEPS):
        locked, kept = ON_THE_WAY if i < STEPS else CLOSING
        slack = torch.tensor([locked ** 2] * len(held) + [kept ** 2] * len(wanted), dtype=torch.double).diag()
        values, slope = slopes(read, z + step.float(), columns)
        across = metric @ slope.transpose(1, 2)  # (n, d, k)
        anchor = free if i < STEPS else step  # the solution stays near it
        excess = values - target + (slope @ (anchor - step)[..., None])[..., 0]
        solution = anchor - (across @ torch.linalg.solve(slope @ across + slack, excess[..., None]))[..., 0]
        step = step + (DAMPING if i < STEPS else 1.0) * (solution - step)
    return step.float()
