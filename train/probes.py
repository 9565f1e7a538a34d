"""Directions from labelled faces, by the methods that the field uses, all in one unit.

A method gives a vector (d,) whose sign and length mean nothing yet; ``in_unit`` gives it the project's unit, in which
strength 1 is the gap between the class means along it. Which method serves an attribute best is not decided here but
measured on pictures, in ``train/selection.py``.
"""

import ast
import dataclasses
import re
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from betavae.directions import TAIL, Direction, Directions

UNITS = {"yaw": "degrees", "pitch": "degrees", "mouth_open": "gap / width", "eye_open": "aspect ratio",
         "background_brightness": "luma", "background_warmth": "red - blue", "background_tint": "green - magenta",
         "face_brightness": "luma", "light_side": "luma"}
MIN_FACES = 30  # on either side; the mean of fewer says more about those faces than about the attribute


class ConditionError(ValueError):
    """A condition that cannot be read or that too few faces meet. The message is one sentence."""


# ---- vectors ------------------------------------------------------------------------------------------------------


def mean_differences(batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """mean(mu | present) - mean(mu | absent) of k attributes, in one pass over any number of faces.

    Parameters
    ----------
    batches : iterable of (mu, present)
        (b, d) and (b, k) of 0 / 1.

    Returns
    -------
    differences : Tensor
        (k, d).
    positives, negatives : Tensor
        (k,) faces on each side.
    """
    inside = total = positives = count = 0
    for mu, present in batches:
        mu, present = mu.double(), present.double()
        inside = inside + present.T @ mu
        total = total + mu.sum(0)
        positives = positives + present.sum(0)
        count += len(mu)
    negatives = count - positives
    differences = inside / positives[:, None] - (total - inside) / negatives[:, None]
    return differences.float(), positives.long(), negatives.long()


def mean_difference(mu: Tensor, present: np.ndarray) -> Tensor:
    """``mean_differences`` of one attribute: (n, d), (n,) of 0 / 1 -> (d,).

    Every face counts, as in the published directions, which take 10,000 of each.
    """
    return mean_differences([(mu, torch.from_numpy(np.asarray(present, dtype=np.float64))[:, None])])[0][0]


def regression(mu: Tensor, y: np.ndarray) -> Tensor:
    """Slope of every latent on a number y, cov(mu, y) / var(y): (n, d), (n,) -> (d,).

    It is the pattern of y in the latents, not the filter that reads y from them (Haufe et al. 2014): an edit has to
    follow the pattern. For y of 0 and 1 it is ``mean_difference``.
    """
    centred = torch.from_numpy(np.asarray(y - y.mean(), dtype=np.float64))  # centring y alone centres the product
    return ((mu.double() * centred[:, None]).sum(0) / centred.square().sum()).float()


def ridge(mu: Tensor, y: np.ndarray, alpha: float = 1.0) -> Tensor:
    """Weights of ridge regression of y (numbers or 0 / 1) on mu: a filter."""
    return torch.from_numpy(Ridge(alpha=alpha).fit(mu.numpy(), y).coef_).float()


def logistic(mu: Tensor, present: np.ndarray) -> Tensor:
    """Weights of logistic regression of an attribute on mu, the classes balanced: a filter."""
    model = LogisticRegression(class_weight="balanced", max_iter=300).fit(mu.numpy(), np.asarray(present, dtype=int))
    return torch.from_numpy(model.coef_[0]).float()


def covariance(mu: Tensor) -> Tensor:
    """Ledoit-Wolf covariance of the latents (Ledoit & Wolf 2004): (n, d) -> (d, d)."""
    return torch.from_numpy(LedoitWolf().fit(mu.double().numpy()).covariance_).float()


def pattern(weights: Tensor, sigma: Tensor) -> Tensor:
    """What moves with a filter's output: sigma @ w (Haufe et al. 2014, equation 6)."""
    return sigma @ weights


def partial(mu: Tensor, columns: np.ndarray) -> Tensor:
    """How the latents move with each column while all others stay: least squares of mu on all of them.

    (n, d), (n, k) with NaN for unknown values (taken as the column's mean) -> (k, d). The mean difference between faces
    that differ in one label alone, as far as the labels tell.
    """
    y = columns - np.nanmean(columns, 0)
    deviation = np.nanstd(y, 0)
    y = np.nan_to_num(y / deviation)
    # A little ridge: some of CelebA's labels nearly repeat others.
    slopes = np.linalg.solve(y.T @ y + 1e-3 * len(y) * np.eye(y.shape[1]), y.T @ (mu - mu.mean(0)).double().numpy())
    return torch.from_numpy(slopes / deviation[:, None]).float()


def conditional(vector: Tensor, others: Tensor, sigma: Tensor) -> Tensor:
    """``vector`` without its part along ``others`` (m, d), orthogonal to them in the metric of the inverse covariance.

    The best linear reading of an attribute o is o . inverse(sigma) z, so moving along the result changes none of
    theirs.
    """
    others = others.double()
    readings = torch.linalg.solve(sigma.double(), others.T)  # (d, m): inverse(sigma) o
    inner = torch.linalg.pinv(others @ readings, hermitian=True)  # one of the others may be given twice
    return (vector.double() - others.T @ inner @ (readings.T @ vector.double())).float()


def antisymmetric(mu: Tensor, mirrored: Tensor, y: np.ndarray) -> Tensor:
    """``regression`` on y of what mirroring a face reverses, (mu - mirrored) / 2: for yaw, and light from a side.

    What a face and its mirror image share (identity, hair, expression) cancels out of every single pair.
    """
    return regression((mu - mirrored) / 2, y)


def optimised(slopes: Tensor, target: int, others: Tensor, picture: Tensor, sigma: Tensor, length: float, still: float
              ) -> Tensor:
    """The direction that moves one of the classifier's outputs most for what else it moves.

    Maximises the mean slope of the target, g . v, over the squared slopes of the others, plus ``length`` times the squared
    Mahalanobis length, plus ``still`` times the squared change of the picture itself, counted so that in a random
    direction it weighs as much as the others: v = inverse(H + length * inverse(sigma) + still * G) E[g], with
    H = sum_j others_j E[g_j g_j'] and G = picture * tr(H) / tr(picture). Without G the classifier is satisfied by changes
    that it does not see.

    Parameters
    ----------
    slopes : Tensor
        (n, k, d): slopes of the k outputs for decoded faces, by latent (``selection.Slopes``).
    others : Tensor
        (k,) how much each output counts as a side effect; 0 for the target.
    picture : Tensor
        (d, d): mean products of the slopes of pixels (``selection.Slopes``).
    """
    leak = torch.einsum("nkd,k,nke->de", slopes, others, slopes) / len(slopes)
    inner = leak + length * torch.linalg.inv(sigma) + still * picture * leak.trace() / picture.trace()
    return torch.linalg.solve(inner, slopes[:, target].mean(0))


def in_unit(vector: Tensor, mu: Tensor, y: np.ndarray) -> tuple[Tensor, float]:
    """The same direction in the project's unit, pointing to more of y.

    Strength 1 is the gap along the vector between the class means: faces with the attribute and without it, or, for
    numbers, above and below the median.

    Returns
    -------
    vector : Tensor
        (d,).
    gap : float
        The gap in y's own unit (1 for an attribute).
    """
    above = y > (0.5 if set(np.unique(y)) <= {0, 1} else np.median(y))
    unit = vector / vector.norm()
    return (mean_difference(mu, above) @ unit) * unit, float(y[above].mean(dtype=float) - y[~above].mean(dtype=float))


def correlations(mu: Tensor, columns: Mapping[str, np.ndarray]) -> tuple[Tensor, Tensor]:
    """Pearson correlation of each latent with each column, and the faces that a column is known of.

    (n, d), name -> (n,) with NaN where unknown -> (d, k), (k,). What never changes goes along with nothing: 0.
    """
    rows, counts = [], []
    for y in columns.values():
        known = torch.from_numpy(np.isfinite(y))
        values = torch.from_numpy(np.asarray(y, dtype=np.float64))[known]
        values = (values - values.mean()) / values.std(correction=0)
        here = mu[known].double()
        here = (here - here.mean(0)) / here.std(0, correction=0)
        rows.append((here * values[:, None]).mean(0).nan_to_num().clamp(-1, 1))
        counts.append(len(values))
    return torch.stack(rows, 1), torch.tensor(counts)


def atlas(mu: Tensor, columns: Mapping[str, np.ndarray], top: int = 3) -> dict:
    """What each latent means: the columns it is most correlated with, best first.

    Parameters
    ----------
    mu : Tensor
        (n, d).
    columns : mapping
        Name -> (n,), NaN where unknown.

    Returns
    -------
    dict
        ``faces`` n, and ``latents``, for each of the d a list of ``top`` objects: ``name``, its correlation ``r``
        (Pearson), and ``low`` and ``high``, the ends of r's 95 % interval by Fisher's transformation,
        tanh(artanh r -+ 1.96 / sqrt(faces - 3)).
    """
    r, counts = correlations(mu, columns)
    reach = 1.96 / (counts.double() - 3).sqrt()
    low, high = torch.tanh(torch.arctanh(r) - reach), torch.tanh(torch.arctanh(r) + reach)
    names = list(columns)
    return {"faces": len(mu), "latents": [
        [{"name": names[i], **{key: round(float(ends[latent, i]), 4) for key, ends in (("r", r), ("low", low), ("high", high))}}
         for i in r[latent].abs().argsort(descending=True)[:top].tolist()] for latent in range(len(r))]}


# ---- directions ---------------------------------------------------------------------------------------------------


def simple_directions(mu: Tensor, attributes: Mapping[str, np.ndarray], numeric: Mapping[str, np.ndarray]) -> Directions:
    """The mean difference of every attribute and the regression on every measured quantity, in the project's unit.

    Parameters
    ----------
    mu : Tensor
        (n, d), the training faces' posterior means.
    attributes : mapping
        Name -> (n,) of 0 / 1. An attribute with fewer than 30 faces on a side is left out.
    numeric : mapping
        Name -> (n,) of numbers, NaN where unknown.
    """
    space = Directions([], mu.shape[1], mu.mean(0), covariance(mu))
    space.radius = float(space.distance(mu).quantile(1 - TAIL))
    directions = []
    for name, y in {**attributes, **numeric}.items():
        known = np.isfinite(y)
        faces, y, binary = mu[torch.from_numpy(known)], y[known], name in attributes
        positives = int((y > (0.5 if binary else np.median(y))).sum()) if len(y) else 0
        if min(positives, len(y) - positives) < MIN_FACES:
            continue
        vector, gap = in_unit(mean_difference(faces, y) if binary else regression(faces, y), faces, y)
        directions.append(Direction(name, vector, "mean difference" if binary else "regression", positives,
                                    len(y) - positives, UNITS.get(name, "strength"), gap, 0.0, ()))
    return with_quantiles(space.having(directions), mu)


def with_quantiles(directions: Directions, mu: Tensor) -> Directions:
    """The same directions with spread and quantiles of their scores over the faces mu (n, d)."""
    scores = directions.scores(mu).double().numpy()
    measured = [dataclasses.replace(direction, spread=float(column.std()),
                                    quantiles=tuple(np.quantile(column, np.linspace(0, 1, 101)).tolist()))
                for direction, column in zip(directions.values(), scores.T)]
    return directions.having(measured)


# ---- conditions ---------------------------------------------------------------------------------------------------


def condition(text: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which faces meet a condition such as "Male and not No_Beard and (Blond_Hair or yaw > 20)": (n,) bool.

    Raises
    ------
    ConditionError
        It cannot be read, names an unknown column, or fewer than 30 faces meet it or its opposite.
    """
    names = list(columns)
    unreadable = ConditionError(f"The condition {text!r} cannot be read; join names with and, or, not and brackets.")
    # CelebA has a name that starts with a digit, which Python's grammar does not: names are numbered before parsing.
    numbered = re.sub(r"[A-Za-z0-9_.]+", lambda word: f"_{names.index(word[0])}" if word[0] in columns else word[0], text)
    try:
        tree = ast.parse(numbered, mode="eval").body
    except SyntaxError:
        raise unreadable from None

    def column(node: ast.Name) -> np.ndarray:
        if not re.fullmatch(r"_\d+", node.id):
            raise ConditionError(f"The condition {text!r} names {node.id!r}; choose from {', '.join(names)}.")
        return columns[names[int(node.id[1:])]]

    def met_by(node: ast.expr) -> np.ndarray:
        match node:
            case ast.BoolOp(op=operator, values=parts):
                join = np.logical_and if isinstance(operator, ast.And) else np.logical_or
                return join.reduce([met_by(part) for part in parts])
            case ast.UnaryOp(op=ast.Not(), operand=part):
                return ~met_by(part)
            case ast.Compare(left=ast.Name() as left, ops=[ast.Gt() | ast.Lt() as operator], comparators=[bound]):
                try:
                    limit = float(ast.literal_eval(bound))
                except (ValueError, TypeError):
                    raise ConditionError(f"The condition {text!r} compares with something that is no number.") from None
                return column(left) > limit if isinstance(operator, ast.Gt) else column(left) < limit
            case ast.Name():
                return column(node) > 0.5
        raise unreadable

    met = met_by(tree)
    for count, verb in ((int(met.sum()), "meet"), (int((~met).sum()), "do not meet")):
        if count < MIN_FACES:
            raise ConditionError(f"{count} of {len(met):,} faces {verb} the condition {text!r}; {MIN_FACES} are needed.")
    return met
