"""Directions from labelled faces: where in the latent space an attribute, or a measured quantity, lies."""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from betavae.directions import Direction, Directions

UNITS = {"yaw": "degrees", "pitch": "degrees", "mouth_open": "gap / width", "eye_open": "aspect ratio",
         "background_brightness": "luma", "background_warmth": "red - blue"}
MIN_FACES = 30  # on either side; the mean of fewer says more about those faces than about the attribute


def mean_difference(mu: Tensor, present: np.ndarray) -> Tensor:
    """mean(mu | present) - mean(mu | absent): (n, d), (n,) of 0 / 1 -> (d,).

    Every face counts, as in the published directions, which take 10,000 of each.
    """
    present = torch.from_numpy(np.asarray(present, dtype=bool))
    return mu[present].mean(0) - mu[~present].mean(0)


def regression(mu: Tensor, y: np.ndarray) -> tuple[Tensor, float]:
    """How mu moves with a number y, for the gap between the faces above the median of y and those below.

    Least squares of every latent on y: cov(mu, y) / var(y), times that gap. For y of 0 and 1 the same formula gives
    ``mean_difference``, so both kinds have one unit. It is the pattern of y in the latents, not the filter that reads
    y from them (Haufe et al. 2014): an edit has to follow the pattern.

    Parameters
    ----------
    mu : Tensor
        (n, d).
    y : ndarray
        (n,), finite.

    Returns
    -------
    direction : Tensor
        (d,).
    gap : float
        Mean of y above its median minus mean below: what strength 1 changes, in y's unit.
    """
    above = y > np.median(y)
    gap = float(y[above].mean() - y[~above].mean())
    centred = torch.from_numpy(np.asarray(y - y.mean(), dtype=np.float64))
    slope = (mu.double() * centred[:, None]).sum(0) / centred.square().sum()  # centring y alone centres the product
    return (slope * gap).float(), gap


def fit_directions(mu: Tensor, attributes: dict[str, np.ndarray], numeric: dict[str, np.ndarray]) -> Directions:
    """Directions of every attribute (``mean_difference``) and every measured quantity (``regression``).

    Parameters
    ----------
    mu : Tensor
        (n, d), the training faces' posterior means.
    attributes : dict
        Name -> (n,) of 0 / 1. An attribute with fewer than 30 faces on a side is left out.
    numeric : dict
        Name -> (n,) of numbers, NaN where unknown.
    """
    mean, covariance = mu.mean(0), torch.cov(mu.T) + 1e-6 * torch.eye(mu.shape[1])
    directions = []
    for name, present in attributes.items():
        positives = int(present.sum())
        if min(positives, len(present) - positives) >= MIN_FACES:
            directions.append(Direction(name, mean_difference(mu, present), "mean difference", positives,
                                        len(present) - positives, "strength", 1.0, 0.0, ()))
    for name, y in numeric.items():
        known = np.isfinite(y)
        if known.sum() >= 2 * MIN_FACES:
            vector, gap = regression(mu[torch.from_numpy(known)], y[known])
            above = int((y[known] > np.median(y[known])).sum())
            directions.append(Direction(name, vector, "regression", above, int(known.sum()) - above, UNITS[name], gap,
                                        0.0, ()))
    # Scores are read in the metric of all latents, so their spread can be measured once the vectors are together.
    scores = Directions(directions, mu.shape[1], mean, covariance).scores(mu).double().numpy()
    measured = [dataclasses.replace(direction, spread=float(column.std()),
                                    quantiles=tuple(np.quantile(column, np.linspace(0, 1, 101)).tolist()))
                for direction, column in zip(directions, scores.T)]
    return Directions(measured, mu.shape[1], mean, covariance)
