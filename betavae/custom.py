"""Directions of your own: made from a few faces or from two, or read from a file.

A report says how far such a direction can be trusted: how well it recognises an unseen face, how much it would change with
other faces, and which known directions it resembles.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from betavae.directions import Direction, Directions, DirectionsError
from betavae.displacement import estimate
from betavae.latent import noise

ENOUGH_FACES = 10      # on each side; with fewer, one face weighs a tenth of the direction or more
STABLE = 0.8           # cosine between the direction and those of resampled faces
BOOTSTRAPS = 200
FLOW_FACES = 32        # faces that a displacement field is estimated from


@dataclass(frozen=True)
class Report:
    """How far a direction made of a few faces can be trusted.

    leave_one_out : share of the faces that the direction made of the others puts on the right side; None if a side has a
        single face
    stability : mean cosine, in the metric of the population, between the direction and those of 200 bootstrap samples
        of the faces; None if a side has a single face
    nearest : the three most similar known directions, with their cosines
    warning : one sentence if there is reason to doubt the direction, else None
    """

    leave_one_out: float | None
    stability: float | None
    nearest: list[tuple[str, float]]
    warning: str | None


def from_faces(name: str, positives: Tensor, negatives: Tensor, space: Directions) -> tuple[Direction, Report]:
    """The mean of some faces minus the mean of others, as a direction of ``space``.

    Parameters
    ----------
    positives, negatives : Tensor
        (n, d) and (m, d) latents; one of each is "this face minus that one".
    space : Directions
        Its mean and covariance are the metric; its names are taken.

    Raises
    ------
    DirectionsError
        ``name`` is taken or empty, a side has no face, a latent has the wrong size, or both means are the same.
    """
    _free(name, space)
    for side, faces in (("positive", positives), ("negative", negatives)):
        if faces.ndim != 2 or faces.shape[1] != space.latents or not len(faces):
            raise DirectionsError(f"The {side} faces have the shape {tuple(faces.shape)}; "
                                  f"at least one is needed, as (n, {space.latents}).")
    vector = positives.mean(0) - negatives.mean(0)
    direction = _direction(name, vector, "mean difference of chosen faces", len(positives), len(negatives), space)
    few = min(len(positives), len(negatives))
    score = _leave_one_out(positives, negatives, space) if few > 1 else None
    stability = _stability(vector, positives, negatives, space) if few > 1 else None
    nearest = sorted(space.cosine(vector).items(), key=lambda item: -abs(item[1]))[:3]
    return direction, Report(score, stability, nearest, _warning(few, score, stability))


def with_displacement(direction: Direction, decode: Callable[[Tensor], Tensor], space: Directions) -> Direction:
    """The direction with its displacement field, estimated on a few random faces if it has none yet.

    ``decode`` maps latents (m, d) to pictures (m, 3, s, s): see ``betavae.displacement.estimate``.
    """
    if direction.displacement is not None:
        return direction
    factor = torch.linalg.cholesky(space.covariance.double())
    faces = space.mean + (noise(FLOW_FACES, space.latents, seed=0).double() @ factor.T).float()
    return dataclasses.replace(direction, displacement=estimate(decode, direction, faces))


def read(path: str | Path, space: Directions) -> Directions:
    """Directions from a file: a pack that ``Directions.save`` wrote, or one vector (d,) as .pt or .npy.

    Strength 1 of a bare vector is its own length, as for the published ones; its name is the file's. Only tensors are
    unpickled.

    Raises
    ------
    DirectionsError
        The file is missing, damaged, of another kind, or of another size.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return Directions.load(path, space.latents)
    if not path.is_file():
        raise DirectionsError(f"There is no file {str(path)!r} with directions.")
    try:
        if path.suffix == ".pt":
            vector = torch.load(path, map_location="cpu", weights_only=True)
        elif path.suffix == ".npy":
            vector = torch.from_numpy(np.load(path, allow_pickle=False))
        else:
            raise DirectionsError(f"{str(path)!r} is of no kind that is read; use .safetensors, .pt or .npy.")
    except DirectionsError:
        raise
    except (OSError, ValueError, EOFError, RuntimeError, LookupError, TypeError, UnpicklingError) as error:
        raise DirectionsError(f"The directions file {str(path)!r} is damaged, or holds more than a tensor.") from error
    if not isinstance(vector, Tensor) or vector.squeeze().shape != (space.latents,):
        found = tuple(vector.shape) if isinstance(vector, Tensor) else type(vector).__name__
        raise DirectionsError(f"{str(path)!r} holds {found}; this model's directions have the shape ({space.latents},).")
    return from_vectors({path.stem: vector.squeeze().float()}, space)


def from_vectors(vectors: Mapping[str, Tensor], space: Directions) -> Directions:
    """Bare vectors (d,) as directions of ``space``; strength 1 is the length of each.

    Raises
    ------
    DirectionsError
        A vector has another size, or no length.
    """
    return space.having([_direction(name, vector, "given as a vector", 0, 0, space) for name, vector in vectors.items()])


def _direction(name: str, vector: Tensor, method: str, positives: int, negatives: int, space: Directions) -> Direction:
    if vector.shape != (space.latents,):
        raise DirectionsError(f"The direction {name} has the shape {tuple(vector.shape)}; this model needs ({space.latents},).")
    length = float(vector.double() @ torch.linalg.solve(space.covariance.double(), vector.double()))
    if not np.isfinite(length) or length < 1e-9:
        raise DirectionsError(f"The direction {name} has no length: both sides have the same mean, or a value is not finite.")
    # Its score, v . inverse(S) (z - m) / length, has the variance 1 / length. The training faces are not at hand, so the
    # scores are taken as normally distributed.
    normal = NormalDist(0, length ** -0.5)
    quantiles = tuple(normal.inv_cdf(min(max(q / 100, 0.001), 0.999)) for q in range(101))
    return Direction(name, vector, method, positives, negatives, "strength", 1.0, quantiles)


def _free(name: str, space: Directions) -> None:
    if not name.strip():
        raise DirectionsError("The direction has no name.")
    if name in space:
        raise DirectionsError(f"There is a direction {name!r} already; choose another name.")


def _leave_one_out(positives: Tensor, negatives: Tensor, space: Directions) -> float:
    """Fisher's discriminant of the other faces, with the population's covariance, applied to each face in turn."""
    right = []
    for faces, others, sign in ((positives, negatives, 1), (negatives, positives, -1)):
        for i in range(len(faces)):
            here, there = torch.cat([faces[:i], faces[i + 1:]]).mean(0), others.mean(0)
            weights = torch.linalg.solve(space.covariance, (here - there) * sign)
            right.append(float((faces[i] - (here + there) / 2) @ weights) * sign > 0)
    return float(np.mean(right))


def _stability(vector: Tensor, positives: Tensor, negatives: Tensor, space: Directions) -> float:
    generator = torch.Generator().manual_seed(0)

    def resampled(faces: Tensor) -> Tensor:
        index = torch.randint(len(faces), (BOOTSTRAPS, len(faces)), generator=generator)
        return faces[index].mean(1)

    vectors = resampled(positives) - resampled(negatives)  # (BOOTSTRAPS, d)
    whitened = torch.linalg.solve(space.covariance, torch.cat([vector[None], vectors]).T)  # (d, 1 + BOOTSTRAPS)
    lengths = (torch.cat([vector[None], vectors]) * whitened.T).sum(1).sqrt()
    return float((vectors @ whitened[:, 0] / (lengths[0] * lengths[1:].clamp_min(1e-9))).mean())


def _warning(few: int, score: float | None, stability: float | None) -> str | None:
    if score is None or stability is None:
        return "One face on a side: the direction is everything in which the faces differ, not one attribute."
    if stability < STABLE or score < 0.75:
        return (f"Not to be trusted yet: with other faces it would point elsewhere (stability {stability:.2f}), and it puts "
                f"{score:.0%} of unseen faces on the right side; add faces that differ in this one thing.")
    if few < ENOUGH_FACES:
        return f"Made of {few} faces on a side; {ENOUGH_FACES} or more make it less of those faces and more of what they share."
    return None
