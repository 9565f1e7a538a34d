"""Directions from labelled faces, by the methods that the field uses, all in one unit.

A method gives a vector (d,) whose sign and length mean nothing yet; ``in_unit`` gives it the project's unit, in which
strength 1 is the gap between the class means along it. Which method serves an attribute best is not decided here but
measured on pictures, in ``train/selection.py``.
"""

import ast
import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping

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
TURNING, HELD = 3.0, 1e4  # of ``turning``: weights of the turn's length, and of what it must not have
# Of ``refined``: weights of the terms, and its descent.
BIAS, STRANGE, LENGTH, TURN, EFFECT, BEYOND = 4.0, 1.0, 0.4, 0.3, 15.0, 0.5
STEPS, RATES, REFINING_BATCH, BEYOND_BATCH, REFERENCE_FACES = 100, (0.06, 0.02), 64, 32, 256


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


def optimised(slopes: Tensor, target: int, others: Tensor, pictures: Tensor, sigma: Tensor, length: float, still: float
              ) -> Tensor:
    """The direction that moves one of the classifier's outputs most for what else it moves.

    Maximises the mean slope of the target, E[g] . v, over E[v' H v] + ``length`` times the squared Mahalanobis length, with
    H = sum_j others_j g_j g_j' + ``still`` * c * G: the squared slopes of the other outputs, and the squared change of the picture
    itself, which c has weigh as much as they do in a random direction. Without G the classifier is satisfied by changes that it
    does not see. v = inverse(E[H] + length * inverse(sigma)) E[g].

    Parameters
    ----------
    slopes : Tensor
        (n, k, d): slopes of the k outputs for decoded faces, by latent (``selection.Slopes``).
    others : Tensor
        (k,) how much each output counts as a side effect; 0 for the target.
    pictures : Tensor
        (n, d, d): mean products of the slopes of pixels (``selection.Slopes``).
    """
    inner = _harm(slopes, others, pictures, still).mean(0) + length * torch.linalg.inv(sigma)
    return torch.linalg.solve(inner, slopes[:, target].mean(0))


def turning(z: Tensor, slopes: Tensor, target: int, others: Tensor, pictures: Tensor, sigma: Tensor, length: float, still: float
            ) -> tuple[Tensor, Tensor]:
    """``optimised``, but of the directions v(z) = vector + turn z that turn with the face: what opens one mouth shuts no other.

    The same quotient, now of E[g . v(z)] and E[v(z)' H v(z)], plus TURNING * length times the squared Mahalanobis length of every
    column of the turn. The turn is held orthogonal to the direction of ``optimised`` in the metric of inverse(sigma), for what a
    strength means is not to depend on the face.

    Parameters
    ----------
    z : Tensor
        (n, d): the faces.

    Returns
    -------
    vector, turn : Tensor
        (d,), (d, d).
    """
    n, d = z.shape
    features = torch.cat([torch.ones(n, 1), z], 1)  # (n, 1 + d)
    squares = (features[:, :, None] * features[:, None]).flatten(1).T @ _harm(slopes, others, pictures, still).flatten(1) / n
    inner = squares.reshape(1 + d, 1 + d, d, d).transpose(1, 2).contiguous()  # (1 + d, d, 1 + d, d)
    inverse = torch.linalg.inv(sigma)
    reading = torch.nn.functional.normalize(inverse @ optimised(slopes, target, others, pictures, sigma, length, still), dim=0)
    inner[0, :, 0] += length * inverse
    for i in range(1, 1 + d):
        inner[i, :, i] += TURNING * length * inverse + HELD * torch.outer(reading, reading)
    gain = features.T @ slopes[:, target] / n
    found = torch.linalg.solve(inner.reshape(d * (1 + d), -1), gain.flatten()).reshape(1 + d, d)
    return found[0], found[1:].T


def _harm(slopes: Tensor, others: Tensor, pictures: Tensor, still: float) -> Tensor:
    """H of ``optimised``, face by face: (n, d, d)."""
    leak = torch.einsum("nkd,k,nke->nde", slopes, others, slopes)
    trace = torch.einsum("nkd,k->", slopes.square(), others) / torch.einsum("ndd->", pictures)
    return leak + still * trace * pictures


def refined(start: tuple[Tensor, Tensor | None], simple: Tensor, moved: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
            z: Tensor, target: int, others: Tensor, sigma: Tensor, effect: float, still: float, seed: int = 0
            ) -> tuple[Tensor, Tensor | None]:
    """The step that has an ``effect`` on the target and the least side effects, by gradient descent from the step ``start``.

    ``optimised`` and ``turning`` go by the pictures' slopes, which no longer hold where an edit ends: half a prior deviation of
    glasses is no half of a pair of glasses. Here the pictures of the whole step are looked at. Minimised is

        sum_j others_j (BIAS E[c_j]^2 + E[c_j^2]) / L + ``still`` p / P + STRANGE s + LENGTH E[v' inverse(sigma) v] / S
        + TURN |turn|^2 / S + EFFECT (E[c_target] / effect - 1)^2,

    with c the changes of the outputs, p that of the picture and s the strangeness it then has under the step v = vector + turn
    z, |turn| of its columns in the metric of inverse(sigma), and L = sum_j others_j E[c_j^2], P and S = v' inverse(sigma) v what
    the step ``simple`` has of each; E over faces drawn anew for every step of Adam, E[c_j]^2 from two halves of them, whose
    product has no bias. The first two terms count BEYOND times more for the step -v of further faces, who are moved on beyond
    their own side and gain nothing that could pay for side effects; s counts as much there, for a picture is as strange whoever
    it was. The result is the mean of the last steps (Polyak & Juditsky 1992).

    Parameters
    ----------
    start : (vector, turn)
        (d,), and (d, d) or None for one that does not turn.
    simple : Tensor
        (d,).
    moved : function
        Of steps (b, d) and the rows (b,) of z that take them: changes of the outputs (b, k), the mean absolute change of the
        picture, and its mean strangeness (``selection.Judge``), all differentiable by the steps.
    z : Tensor
        (n, d): the faces.
    target, others
        As in ``optimised``.
    """
    random, inverse = np.random.default_rng(seed), torch.linalg.inv(sigma)
    rows = torch.arange(min(len(z), REFERENCE_FACES))
    with torch.no_grad():
        changes, pixels, _ = moved(simple.expand(len(rows), -1), rows)
    leak, length = changes.square().mean(0) @ others, simple @ inverse @ simple
    # What hardly moves the target at first would have to start far beyond the data.
    scale = min(1.0, 1.5 * float((length / (start[0] @ inverse @ start[0])).sqrt()))
    turns = start[1] is not None
    vector = (scale * start[0]).requires_grad_()
    turn = (scale * start[1]).requires_grad_() if turns else torch.zeros_like(sigma)
    sums, count = [torch.zeros_like(vector), torch.zeros_like(turn)], 0
    optimizer = torch.optim.Adam([{"params": [part], "rate": rate} for part, rate in zip((vector, turn), RATES)], betas=(0.9, 0.98))
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * (1 - step / STEPS)
        rows = torch.from_numpy(random.permutation(len(z))[:REFINING_BATCH + BEYOND_BATCH])
        there, back = rows[:REFINING_BATCH], rows[REFINING_BATCH:]
        steps = vector + z[rows] @ turn.T
        changes, repainted, strangeness = moved(steps[:len(there)], there)
        harm = _harm_seen(changes, repainted, strangeness, others / leak, still / pixels)
        if len(back) > 1:
            harm = harm + _harm_seen(*moved(-steps[len(there):], back), BEYOND * others / leak, BEYOND * still / pixels)
        lengths = (LENGTH * (steps @ inverse * steps).sum(1).mean() + TURN * (inverse @ turn * turn).sum()) / length
        loss = harm + lengths + EFFECT * (changes[:, target].mean() / effect - 1).square()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            turn.copy_(upright(turn, vector, inverse))
        if step >= 0.6 * STEPS:
            sums, count = [total + part.detach() for total, part in zip(sums, (vector, turn))], count + 1
    vector, turn = (total / count for total in sums)
    return vector, upright(turn, vector, inverse) if turns else None


def _harm_seen(changes: Tensor, repainted: Tensor, strangeness: Tensor, others: Tensor, still: Tensor) -> Tensor:
    """The terms of ``refined`` for side effects: of changes (b, k), of the picture's and of its strangeness."""
    one, other = (half.mean(0) for half in changes.chunk(2))
    return (BIAS * one * other + changes.square().mean(0)) @ others + still * repainted + STRANGE * strangeness


def upright(turn: Tensor, vector: Tensor, inverse: Tensor) -> Tensor:
    """A turn (d, d) without what it has of the vector (d,) itself, in the metric of inverse(sigma) (``Direction.turn``)."""
    reading = inverse @ vector
    return turn - torch.outer(vector, reading @ turn) / (reading @ vector)


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
    met = _met(text, columns)
    for count, verb in ((int(met.sum()), "meet"), (int((~met).sum()), "do not meet")):
        if count < MIN_FACES:
            raise ConditionError(f"{count} of {len(met):,} faces {verb} the condition {text!r}; {MIN_FACES} are needed.")
    return met


def condition_names(text: str, columns: Mapping[str, np.ndarray]) -> set[str]:
    """The columns that a condition names.

    Raises
    ------
    ConditionError
        It cannot be read, or names an unknown column.
    """
    _met(text, columns)
    return set(re.findall(r"[A-Za-z0-9_.]+", text)) & columns.keys()


def _met(text: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
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

    return met_by(tree)
