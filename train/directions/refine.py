"""Directions refined on pictures: the same effect as the simple direction with fewer side effects, by gradient descent."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from betavae.directions import Direction, Directions
from train.directions import simple
from train.directions.evaluator import (
    NONE,
    Effects,
    Evaluator,
    Observation,
    both_ways,
    effects,
    half_range,
    of_background,
    pixel_changes,
    sides,
    strength_for,
)


@dataclass(frozen=True)
class RefineConfig:
    """Settings of ``refine`` and of the choice between its direction and the simple one. docs/directions.md has the ablation.

    Parameters
    ----------
    effect_weight : float
        Of (effect / wanted - 1)^2, which holds the effect where the simple direction has it.
    mean_weight : float
        Of squared mean side effects, against squared side effects face by face.
    beyond_weight : float
        Of side effects when a face is pushed further the way it already is, against those on the way to its other side.
    pixel_weight, background_pixel_weight : float
        Of the change of the picture; for a quantity of the background, of the person's part.
    outlier_weight : float
        Of the outlier score.
    length_weight : float
        Of the squared Mahalanobis length of the step.
    protected : dict
        Name -> outputs that its edit must leave alone, with ``protected_weight`` where others count 1: a brighter
        background must not be a brighter picture.
    steps, learning_rate, batch, beyond_batch : int, float, int, int
        Of Adam, and the faces a step.
    average : float
        The share of last steps whose mean is the result (Polyak & Juditsky 1992).
    faces, choosing_faces : int
        Training faces to refine on, and val faces to choose on.
    min_effect : float
        Logits or deviations to ask for where the simple direction has less.
    resamples : int
        Of the bootstrap over faces.
    """

    effect_weight: float = 15.0
    mean_weight: float = 4.0
    beyond_weight: float = 0.5
    pixel_weight: float = 0.5
    background_pixel_weight: float = 5.0
    outlier_weight: float = 1.0
    length_weight: float = 0.4
    protected: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: {
        "background_brightness": ("face_brightness",), "background_warmth": ("face_brightness", "Pale_Skin"),
        "background_tint": ("face_brightness", "Pale_Skin"), "face_brightness": ("background_brightness",)})
    protected_weight: float = 10.0
    steps: int = 100
    learning_rate: float = 0.06
    batch: int = 64
    beyond_batch: int = 32
    average: float = 0.4
    faces: int = 1200
    choosing_faces: int = 400
    min_effect: float = 0.5
    resamples: int = 1000


SETTINGS = RefineConfig()


def refine(
    start: Tensor,
    forward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]],
    faces: int,
    target: int,
    others: Tensor,
    precision: Tensor,
    effect: float,
    pixel_weight: float,
    config: RefineConfig,
    seed: int = 0,
) -> Tensor:
    """The vector with the wanted effect and the least side effects, by Adam from ``start``.

    Minimises, over batches of faces,

        sum_j others_j (mean_weight E[c_j]^2 + E[c_j^2]) / S + pixel_weight p / P + outlier_weight o
        + length_weight v' precision v / L + effect_weight (E[c_target] / effect - 1)^2,

    c the changes of the outputs, p of the pixels, o the outlier score; S = sum_j others_j E[c_j^2], P and L = v' precision v
    are those of ``start``. E[c_j]^2 is the product of the means of two halves of the batch, which has no bias. The first
    terms count ``beyond_weight`` times for the step -v of further faces.

    Parameters
    ----------
    start : Tensor
        (d,), a step of about the wanted effect.
    forward : function
        (steps (b, d), rows (b,) of the faces) -> changes (b, k), pixel changes (b,) and outlier scores (b,), differentiable.
    faces : int
        How many faces there are.
    others : Tensor
        (k,) how much each output counts as a side effect; 0 for the target.
    precision : Tensor
        (d, d), the inverse covariance of the latents.
    """
    random = np.random.default_rng(seed)
    rows = torch.arange(min(faces, 4 * config.batch))
    with torch.no_grad():
        changes, pixels, _ = forward(start.expand(len(rows), -1), rows)
    scale, pixels, length = changes.square().mean(0) @ others, pixels.mean(), start @ precision @ start

    def side_effects(step: Tensor, rows: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        changes, changed, outlier_scores = forward(step.expand(len(rows), -1), rows)
        one, other = (half.mean(0) for half in changes.chunk(2))
        terms = (config.mean_weight * one * other + changes.square().mean(0)) @ others / scale
        return weight * (
            terms + pixel_weight * changed.mean() / pixels
        ) + config.outlier_weight * outlier_scores.mean(), changes

    vector, total, count = start.clone().requires_grad_(), torch.zeros_like(start), 0
    optimizer = torch.optim.Adam([vector], config.learning_rate, betas=(0.9, 0.98))
    for step in range(config.steps):
        optimizer.param_groups[0]["lr"] = config.learning_rate * (1 - step / config.steps)
        rows = torch.from_numpy(random.permutation(faces)[:config.batch + config.beyond_batch])
        there, back = rows[:config.batch], rows[config.batch:]
        loss, changes = side_effects(vector, there, 1.0)
        if len(back) > 1 and config.beyond_weight:
            loss = loss + side_effects(-vector, back, config.beyond_weight)[0]
        loss = loss + config.length_weight * (vector @ precision @ vector) / length
        loss = loss + config.effect_weight * (changes[:, target].mean() / effect - 1).square()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= (1 - config.average) * config.steps:
            total, count = total + vector.detach(), count + 1
    return total / count


@dataclass(frozen=True)
class Faces:
    """The faces to refine directions on.

    All training faces ``mu`` (n, d) with their ``columns``, name -> (n,); and ``some`` (m, d) of them with their ``unedited``
    observation and ``masks`` (m, s, s) or None.
    """

    mu: Tensor
    columns: dict[str, np.ndarray]
    some: Tensor
    unedited: Observation
    masks: Tensor | None = None


def refined(evaluator: Evaluator, faces: Faces, direction: Direction, precision: Tensor, effect: float, strength: float,
            config: RefineConfig) -> Direction:
    """``refine`` from a simple direction at the ``strength`` where it has the ``effect``, in the project's unit."""
    name, some, unedited = direction.name, faces.some, faces.unedited
    side = sides(evaluator, unedited, name)[:, None]

    def forward(steps: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        edited = Observation(
            *(part.cpu() for part in evaluator.forward((some[rows] + side[rows] * steps).to(evaluator.device)))
        )
        return (
            side[rows] * (edited.outputs - unedited.outputs[rows]),
            pixel_changes(unedited.pictures[rows], edited.pictures, name, None if faces.masks is None else faces.masks[rows]),
            edited.outlier_scores,
        )

    others = (torch.arange(len(evaluator.names)) < evaluator.attributes).float()
    others[[evaluator.index(other) for other in config.protected.get(name, ()) if other in evaluator.names]] = (
        config.protected_weight
    )
    others[evaluator.index(name)] = 0
    vector = refine(strength * direction.vector, forward, len(some), evaluator.index(name), others, precision, effect,
                    config.background_pixel_weight if of_background(name) else config.pixel_weight, config)
    known = np.isfinite(faces.columns[name])
    unit, _ = simple.in_unit(vector, faces.mu[torch.from_numpy(known)], faces.columns[name][known])
    return dataclasses.replace(direction, vector=unit, method="refined")


def figures(there: Effects, back: Effects, weights: Tensor | None = None) -> dict[str, Tensor]:
    """The figures of a step and the step back, name -> (b,).

    Those of ``Effects.means`` for the step, but the outlier score is the mean of both ways; "beyond" is the absolute side
    effect of the step back.
    """
    one, other = there.means(weights), back.means(weights)
    return one | {"outlier_score": (one["outlier_score"] + other["outlier_score"]) / 2, "beyond": other["side_effect_absolute"]}


def merit(there: Effects, back: Effects, beyond_weight: float, weights: Tensor | None = None) -> Tensor:
    """Effect per unit of side effect, (b,): the geometric mean over absolute and mean side effects, pixels, outlier score.

    Of the first three, the step back counts ``beyond_weight`` times. The pixels and the outlier score detect what the
    classifier's outputs miss.
    """
    one, other = there.means(weights), back.means(weights)
    side_effects = [one[key] + beyond_weight * other[key] for key in ("side_effect_absolute", "side_effect_mean", "pixels")]
    side_effects.append((one["outlier_score"] + other["outlier_score"]) / 2)
    return one["effect"].clamp_min(0) / torch.stack(side_effects).clamp_min(NONE).prod(0) ** (1 / len(side_effects))


def bootstrap(faces: int, resamples: int, seed: int = 0) -> Tensor:
    """Weights (resamples, faces) of a bootstrap over faces (Efron 1979): rows sum to 1."""
    counts = np.random.default_rng(seed).multinomial(faces, np.full(faces, 1 / faces), size=resamples)
    return torch.from_numpy(counts / faces).float()


def interval(values: Tensor) -> tuple[float, float]:
    """The middle 95 % of bootstrap values (b,)."""
    low, high = values.double().quantile(torch.tensor([0.025, 0.975], dtype=torch.double)).tolist()
    return low, high


def refined_directions(evaluator: Evaluator, faces: Faces, val: Tensor, masks: Tensor | None, space: Directions, out: Path,
                       config: RefineConfig = SETTINGS, progress: Callable[[Iterable[str]], Iterable[str]] = iter
                       ) -> tuple[Directions, dict[str, dict]]:
    """Refine every direction, and keep the refined one if it is significantly better on val faces.

    Both are compared at the same effect: the simple direction's at the end of the data (``half_range``). The refined one is
    kept if the bootstrap interval of the ratio of their ``merit`` is above 1, else the simple one. A name that the
    classifier does not know (a joined condition) keeps its simple direction.

    Every name is saved in ``out`` as soon as it is done, so the same command resumes an interrupted one.

    Parameters
    ----------
    val : Tensor
        (n, d) val faces: the first ``choosing_faces`` choose, the others measure what is stored with the direction.
    masks : Tensor or None
        uint8 (n, s, s), theirs, 255 is person.
    space : Directions
        The simple directions.
    out : Path
        A folder for unfinished work.

    Returns
    -------
    directions : Directions
    table : dict
        name -> the figures of both on the choosing faces, the ratio of merits with its interval, and the method kept.
    """
    folder = out / f"refined-{_key(evaluator, space, config)}"
    folder.mkdir(parents=True, exist_ok=True)
    choosing, measuring = _split(evaluator, val, masks, config.choosing_faces)
    kept, table = [], {}
    for name in progress(space.names):
        if name not in evaluator.names:
            kept.append(space[name])
            continue
        path = folder / f"{name}.json"
        if not path.exists():
            found = _refine_one(evaluator, faces, choosing, measuring, space, name, config)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(found))
            part.replace(path)
        found = json.loads(path.read_text())
        kept.append(dataclasses.replace(space[name], vector=torch.tensor(found["vector"]), method=found["row"]["method"],
                                        measured=found["measured"], per_strength=found["per_strength"]))
        table[name] = found["row"]
    return space.having(kept), table


class _Examined(NamedTuple):
    """Faces to measure edits on: latents (n, d), their unedited observation, and masks (n, s, s) or None."""

    z: Tensor
    unedited: Observation
    masks: Tensor | None


def parts(count: int, faces: int) -> tuple[slice, slice]:
    """The val faces to choose on, ``faces`` or every other one of too few, and the others, to measure what was chosen."""
    return (slice(faces), slice(faces, None)) if count >= 2 * faces else (slice(0, None, 2), slice(1, None, 2))


def _split(evaluator: Evaluator, val: Tensor, masks: Tensor | None, faces: int) -> tuple[_Examined, _Examined]:
    """The faces to choose on and those to measure on: the first ``faces`` and the next; of too few every other one."""
    one, other = (
        _Examined(val[part][:faces], evaluator.observe(val[part][:faces]), None if masks is None else masks[part][:faces])
        for part in parts(len(val), faces)
    )
    return one, other


def _refine_one(evaluator: Evaluator, faces: Faces, choosing: _Examined, measuring: _Examined, space: Directions, name: str,
                config: RefineConfig) -> dict:
    old, (z, unedited, masks) = space[name], choosing
    strength = half_range(old)
    effect = max(effects(evaluator, z, strength * old.vector, name, unedited).effect, config.min_effect)
    strength = strength_for(evaluator, z, old, effect, unedited, start=strength)
    new = refined(evaluator, faces, old, torch.linalg.inv(space.covariance), effect, strength, config)
    weights = bootstrap(len(z), config.resamples)
    row: dict = {}
    merits: dict[str, list[Tensor]] = {}
    for kind, direction in (("simple", old), ("refined", new)):
        if kind == "refined":
            strength = strength_for(evaluator, z, new, effect, unedited, start=strength)
        there, back = both_ways(evaluator, z, strength * direction.vector, name, unedited, masks)
        row[kind] = {"strength": strength} | {key: float(value) for key, value in figures(there, back).items()}
        merits[kind] = [merit(there, back, config.beyond_weight, draws) for draws in (None, weights)]
    ratio = merits["refined"][0] / merits["simple"][0].clamp_min(1e-9)
    low, high = interval(merits["refined"][1] / merits["simple"][1].clamp_min(1e-9))
    better = low > 1 and row["refined"]["effect"] > 0.9 * effect
    chosen = new if better else old
    row |= {"ratio": float(ratio), "interval": [low, high], "faces": len(z), "method": chosen.method}
    strength = row["refined" if better else "simple"]["strength"]
    there, back = both_ways(evaluator, measuring.z, strength * chosen.vector, name, measuring.unedited, measuring.masks)
    measured = {"strength": strength, "faces": len(measuring.z)}
    measured |= {key: float(value) for key, value in figures(there, back).items()}
    per_strength = chosen.per_strength
    if chosen.unit != "strength":
        # per_strength is measured on decoded pictures, not from the gap between the classes.
        per_strength = float(evaluator.classifier.deviation[evaluator.index(name)]) * measured["effect"] / strength
    return {"vector": chosen.vector.tolist(), "row": row, "measured": measured, "per_strength": per_strength}


def _key(evaluator: Evaluator, space: Directions, config: RefineConfig) -> str:
    """A key of the inputs of a refinement, so that unfinished work with other inputs is not resumed."""
    digest = hashlib.sha256(repr(config).encode())
    for value in (space.matrix, space.covariance, *evaluator.classifier.state_dict().values()):
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]
