"""The atlas of a run: correlations of each latent with labelled attributes and measured columns."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def correlations(mu: Tensor, columns: Mapping[str, np.ndarray]) -> tuple[Tensor, Tensor]:
    """Pearson correlation of each latent with each column, and the number of faces with a known value.

    (n, d), name -> (n,) with NaN if unknown -> (d, k), (k,). The correlation with a constant is 0.
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
    """For each latent the columns that correlate most with it, best first.

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
