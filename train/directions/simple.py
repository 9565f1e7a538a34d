"""Directions from labelled faces by the published methods, in one unit.

``in_unit`` scales a method's vector so that strength 1 is the gap between the class means along it.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from betavae.directions import TAIL, Direction, Directions

UNITS = {"yaw": "degrees", "pitch": "degrees", "mouth_open": "gap / width", "eye_open": "aspect ratio",
         "background_brightness": "luma", "background_warmth": "red - blue", "background_tint": "green - magenta",
         "face_brightness": "luma", "light_side": "luma"}
MIN_FACES = 30  # on either side of an attribute; the mean of fewer is a portrait of them
METHODS = ("mean", "ridge", "logistic", "refined")  # of ``--method``


def mean_difference(mu: Tensor, present: np.ndarray) -> Tensor:
    """mean(mu | present) - mean(mu | absent): (n, d), (n,) of 0 / 1 -> (d,)."""
    index = torch.from_numpy(np.asarray(present) > 0.5)
    mu = mu.double()
    return (mu[index].mean(0) - mu[~index].mean(0)).float()


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


def simple_directions(mu: Tensor, attributes: Mapping[str, np.ndarray], numeric: Mapping[str, np.ndarray],
                      method: str = "mean") -> Directions:
    """A direction for every attribute and measured quantity, in the project's unit.

    Parameters
    ----------
    mu : Tensor
        (n, d), the training faces' posterior means.
    attributes : mapping
        Name -> (n,) of 0 / 1. An attribute with fewer than 30 faces on a side is left out.
    numeric : mapping
        Name -> (n,) of numbers, NaN where unknown.
    method : str
        "mean": the mean difference of attributes and the regression on quantities. "ridge": ridge regression of both.
        "logistic": logistic regression of attributes, and ridge regression of quantities, which have no classes.
        What was done is in each ``Direction.method``.
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
        how, fit = _FITS[method][not binary]
        vector, gap = in_unit(fit(faces, y), faces, y)
        directions.append(Direction(name, vector, how, positives, len(y) - positives, UNITS.get(name, "strength"), gap, ()))
    return with_quantiles(space.having(directions), mu)


# Method -> (name, function) for attributes and for quantities.
_Fit = tuple[str, Callable[[Tensor, np.ndarray], Tensor]]
_FITS: dict[str, tuple[_Fit, _Fit]] = {"mean": (("mean difference", mean_difference), ("regression", regression)),
         "ridge": (("ridge", ridge), ("ridge", ridge)),
         "logistic": (("logistic", logistic), ("ridge", ridge))}


def with_quantiles(directions: Directions, mu: Tensor) -> Directions:
    """The same directions with the quantiles of their scores over the faces mu (n, d)."""
    quantiles = np.quantile(directions.scores(mu).double().numpy(), np.linspace(0, 1, 101), axis=0).T
    return directions.having([dataclasses.replace(direction, quantiles=tuple(row.tolist()))
                              for direction, row in zip(directions.values(), quantiles, strict=True)])
