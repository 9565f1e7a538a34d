"""Compare directions with the simple ones at equal effect, with intervals, on faces not used for any choice."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from betavae.directions import Directions
from train.directions.evaluator import NONE, Evaluator, Observation, both_ways, effects, half_range, strength_for
from train.directions.refine import SETTINGS, RefineConfig, bootstrap, figures, interval
from train.directions.simple import partial, regression

REPORTED = ("Smiling", "Eyeglasses", "Male", "Young", "Blond_Hair", "Black_Hair", "Bangs", "Bald", "Heavy_Makeup",
            "Pale_Skin", "Mustache", "Mouth_Slightly_Open", "yaw", "background_brightness")
SIDE_EFFECTS = ("side_effect_absolute", "side_effect_mean", "pixels", "outlier_score", "beyond")
TUNING_SHARE = 4         # the first quarter of the test faces is left out: settings were compared on them
SEARCH_FACES = 200       # on which strengths of equal effect are sought
DEPENDENCY_FACES = 500   # on which attribute dependency is measured
DEGREES = (1, 2, 3)      # target changes, in standard deviations of the target's output


def reported(faces: int) -> slice:
    """The test faces of the report: all but the first quarter, on which settings were compared."""
    return slice(faces // TUNING_SHARE, None)


def compare(evaluator: Evaluator, z: Tensor, masks: Tensor | None, simple: Directions, chosen: Directions, names: Iterable[str],
            config: RefineConfig = SETTINGS, progress: Callable[[Iterable[str]], Iterable[str]] = iter
            ) -> tuple[dict[str, dict], dict[str, dict]]:
    """Figures of chosen and simple directions on faces z (n, d), at the effect of the simple one at the end of the data.

    Returns
    -------
    rows : dict
        name -> "method"; "simple" and "chosen", each with strength, effect, ``SIDE_EFFECTS`` and attribute dependency; and
        "gains", side effect -> value and 95 % bootstrap interval of effect per side effect, chosen over simple.
    means : dict
        side effect -> value and interval of the mean gain over the names.
    """
    few, unedited = z[:SEARCH_FACES], evaluator.observe(z)
    first = Observation(*(part[:len(few)] for part in unedited))
    weights = torch.cat([torch.full((1, len(z)), 1 / len(z)), bootstrap(len(z), config.resamples)])  # row 0: the value itself
    rows: dict[str, dict] = {}
    draws: dict[str, list[Tensor]] = {key: [] for key in SIDE_EFFECTS}
    for name in progress(list(names)):
        end = half_range(simple[name])
        effect = max(effects(evaluator, few, end * simple[name].vector, name, first).effect, config.min_effect)
        row: dict = {"method": chosen[name].method, "gains": {}}
        per_side_effect: dict[str, dict[str, Tensor]] = {}
        for kind, directions in (("simple", simple), ("chosen", chosen)):
            direction = directions[name]
            if kind == "chosen" and direction.method == simple[name].method:
                row[kind], per_side_effect[kind] = row["simple"], per_side_effect["simple"]
                continue
            strength = strength_for(evaluator, few, direction, effect, first, end)
            there, back = both_ways(evaluator, z, strength * direction.vector, name, unedited, masks)
            found = figures(there, back, weights)
            per_side_effect[kind] = {key: found["effect"] / found[key].clamp_min(NONE) for key in SIDE_EFFECTS}
            row[kind] = {"strength": strength} | {key: float(value[0]) for key, value in found.items()}
            row[kind]["attribute_dependency"] = attribute_dependency(evaluator, z[:DEPENDENCY_FACES], directions, name)
        for key in SIDE_EFFECTS:
            ratio = per_side_effect["chosen"][key] / per_side_effect["simple"][key]
            draws[key].append(ratio)
            row["gains"][key] = _with_interval(ratio)
        rows[name] = row
    return rows, {key: _with_interval(torch.stack(ratios).mean(0)) for key, ratios in draws.items() if ratios}


def _with_interval(values: Tensor) -> dict:
    return {"value": float(values[0]), "interval": list(interval(values[1:]))}


def attribute_dependency(evaluator: Evaluator, z: Tensor, directions: Directions, name: str) -> dict[str, dict[str, float]]:
    """Attribute dependency (Wu et al. 2021, StyleSpace, section 5): how much other attributes change with the target.

    For target changes of 1, 2 and 3 standard deviations of its output over the unedited faces z (n, d), the mean over faces
    of the "mean" and the "max" over the other attributes of |change| in their standard deviations. A change that no strength
    reaches is left out.
    """
    unedited = evaluator.observe(z)
    few = z[:SEARCH_FACES]
    first = Observation(*(part[:len(few)] for part in unedited))
    deviations, target, found = unedited.outputs.std(0, correction=0).clamp_min(NONE), evaluator.index(name), {}
    kept = [i for i in range(evaluator.attributes) if i != target]
    for degree in DEGREES:
        wanted = degree * float(deviations[target])
        strength = strength_for(evaluator, few, directions[name], wanted, first)
        done = effects(evaluator, z, strength * directions[name].vector, name, unedited)
        if done.effect > 0.9 * wanted:
            others = done.others.abs() / deviations[kept]
            found[str(degree)] = {"mean": float(others.mean()), "max": float(others.amax(1).mean()), "strength": strength}
    return found


def safe_range_ends(evaluator: Evaluator, z: Tensor, directions: Directions, name: str) -> dict[str, float]:
    """The classifier's readings of faces z (n, d) at the ends of their safe ranges (``Directions.safe``).

    Their mean probability of an attribute, or mean of a quantity in its own unit, "unedited" and at the "low" and "high" ends.
    """
    column = evaluator.index(name)
    ends = torch.tensor([directions.safe(face, name) for face in z])  # (n, 2)
    found = {}
    for key, strengths in (("low", ends[:, :1]), ("unedited", torch.zeros(len(z), 1)), ("high", ends[:, 1:])):
        outputs = evaluator.observe(z + strengths * directions[name].vector).outputs[:, column]
        classifier = evaluator.classifier
        found[key] = float(torch.sigmoid(outputs).mean() if column < evaluator.attributes else
                           (outputs * classifier.deviation[column].cpu() + classifier.mean[column].cpu()).mean())
    return found


def background_ratio(evaluator: Evaluator, z: Tensor, step: Tensor, masks: Tensor) -> float:
    """Mean absolute change of the background over that of the person, of faces z (n, d) moved up and down by ``step`` (d,).

    ``masks`` are uint8 (n, s, s), 255 is person.
    """
    unedited, up, down = (evaluator.observe(z + sign * step).pictures for sign in (0, 1, -1))
    changes = ((up - unedited).abs() + (down - unedited).abs()).mean(1)
    person = masks > 127
    return float(changes[~person].mean(dtype=torch.double) / changes[person].mean(dtype=torch.double))


def photograph_gains(outputs: Tensor, columns: Mapping[str, np.ndarray], names: list[str], attributes: int) -> dict[str, float]:
    """The gain in mean side effect of photographs that differ in one column alone: a reference for directions.

    The classifier's ``outputs`` (n, k) for photographs whose true ``columns``, name -> (n,), are in the order of ``names``,
    ``attributes`` of them attributes: least squares over all columns, against the difference between faces with and without.
    """
    y = np.stack([columns[name] for name in names], 1).astype(np.float64)
    alone, gains = partial(outputs, y), {}
    for target, name in enumerate(names):
        known = np.isfinite(y[:, target])
        plain = regression(outputs[torch.from_numpy(known)], y[known, target])
        others = [i for i in range(attributes) if i != target]
        one, all_ = (float(slopes[target] / slopes[others].abs().mean()) for slopes in (alone[target], plain))
        gains[name] = one / all_
    return gains


def with_held_out_scores(directions: Directions, mu: Tensor, columns: Mapping[str, np.ndarray]) -> Directions:
    """The same directions with the accuracy of their scores on the labels of held-out faces mu (n, d).

    ``measured`` gets "auroc" for an attribute, "correlation" for a quantity.
    """
    told = []
    for direction, scores in zip(directions.values(), directions.scores(mu).T.numpy(), strict=True):
        y = columns.get(direction.name)
        figure = {}
        if y is not None and direction.unit == "strength" and 0 < y.sum() < len(y):
            figure = {"auroc": float(roc_auc_score(y, scores))}
        elif y is not None and direction.unit != "strength":
            known = np.isfinite(y)
            figure = {"correlation": float(np.corrcoef(y[known], scores[known])[0, 1])}
        told.append(dataclasses.replace(direction, measured=direction.measured | figure))
    return directions.having(told)


def effect_matrix(evaluator: Evaluator, z: Tensor, directions: Directions) -> Tensor:
    """Mean change (directions, outputs) of every output by every direction, at the strength it was measured at or 1."""
    rows = []
    for direction in directions.values():
        step = direction.measured.get("strength", 1.0) * direction.vector
        up, down = evaluator.observe(torch.cat([z + step, z - step])).outputs.chunk(2)
        rows.append((up - down).mean(0) / 2)
    return torch.stack(rows)


def table(report: Mapping) -> str:
    """A run's ``compare.json`` as text."""
    rows, judge = report["directions"], report["evaluator"]
    lines = [f"{report['images']:,} test faces at equal effect; gains over the simple direction with 95 % bootstrap intervals",
             f"{'':22}{'effect':>7}" + "".join(f"{key:>28}" for key in SIDE_EFFECTS)
             + f"{'photos':>8}   unedited, low ... high   AD mean (max) at 1, 2, 3"]
    for name, row in rows.items():
        chosen, ends = row["chosen"], row["safe_range"]
        degrees = chosen["attribute_dependency"].values()
        dependency = ", ".join(f"{found['mean']:.2f} ({found['max']:.2f})" for found in degrees)
        outside = f"; background {row['background_ratio']:.1f} times as much as person" if "background_ratio" in row else ""
        lines.append(
            f"{name:22}{chosen['effect']:7.2f}"
            + "".join(f"{chosen[key]:8.3f} {_gain(row['gains'][key]):>19}" for key in SIDE_EFFECTS)
            + f"{row['photographs']:8.2f}   {ends['unedited']:.2f}, {ends['low']:.2f} ... {ends['high']:.2f}   {dependency}"
            + f"   {row['method']}{outside}"
        )
    told = [f"mean AUROC {np.nanmean(list(judge['auroc'].values())):.3f} of {len(judge['auroc'])} attributes"]
    told += [f"{name} {judge['auroc'][name]:.3f}" for name in ("Smiling", "Male") if name in judge["auroc"]]
    told += [f"{name} r = {figure:.3f}" for name, figure in judge["correlation"].items() if name == "yaw"]
    photographs = np.mean([row["photographs"] for row in rows.values()])
    means = "".join(f"{_gain(report['means'][key]):>28}" for key in SIDE_EFFECTS)
    return "\n".join([*lines, f"{'mean':29}{means}{photographs:8.2f}",
                      f"the evaluator, on {judge['split']}: {', '.join(told)}"])


def _gain(gain: Mapping) -> str:
    low, high = gain["interval"]
    return f"{gain['value']:.2f} [{low:.2f}, {high:.2f}]"
