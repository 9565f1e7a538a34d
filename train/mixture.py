"""Fit a Gaussian mixture to the aggregate posterior, the density of z over real faces (Hoffman & Johnson 2016).

Decoded draws from it are nearer to the data than draws from N(0, I): training only pulls the posterior towards that prior
(Ghosh et al. 2020, "From Variational to Deterministic Autoencoders", section 4).
"""

import math

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from betavae.mixture import Mixture

COMPONENTS = (1, 2, 4, 8, 16, 32)
FACES_PER_LATENT = 10  # that a component must have, on average, for its full covariance to be worth estimating
FLOOR = 1e-3           # added to every variance; N(0, I) has 1


def posterior_samples(mu: Tensor, logvar: Tensor, seed: int = 0) -> Tensor:
    """One draw from q(z | x) of every face: (n, d), (n, d) -> (n, d)."""
    return mu + (0.5 * logvar).exp() * torch.randn(mu.shape, generator=torch.Generator().manual_seed(seed))


def fit_mixture(z: Tensor, held_out: Tensor, seed: int = 0) -> tuple[Mixture, dict]:
    """The mixture of latents z (n, d) by expectation maximisation.

    It has the number of components under which ``held_out`` (m, d) is likeliest.

    Returns
    -------
    mixture : Mixture
    report : dict
        ``components``, and in nats per face on ``held_out``: ``log_likelihood`` of the chosen mixture, ``prior`` of
        N(0, I), and ``candidates``, the log-likelihood by number of components.
    """
    most = max(1, len(z) // (FACES_PER_LATENT * z.shape[1]))
    best: Mixture | None = None
    candidates: dict[int, float] = {}
    for components in (k for k in COMPONENTS if k <= most):
        model = GaussianMixture(components, reg_covar=FLOOR, random_state=seed).fit(z.double().numpy())
        parts = (model.weights_ / model.weights_.sum(), model.means_, model.covariances_)
        mixture = Mixture(*(torch.from_numpy(part).float() for part in parts))
        candidates[components] = float(mixture.log_prob(held_out.double()).mean())
        if best is not None and candidates[components] <= candidates[len(best.weights)]:
            # More components would fit these faces better and others worse.
            break
        best = mixture
    assert best is not None  # COMPONENTS begin with 1
    count = len(best.weights)
    return best, {"components": count, "log_likelihood": candidates[count], "prior": prior(held_out), "candidates": candidates}


def prior(z: Tensor) -> float:
    """The mean log-likelihood of latents z (n, d) under N(0, I), in nats a face."""
    return float(-0.5 * (z.double().square().sum(1) + z.shape[1] * math.log(2 * math.pi)).mean())
