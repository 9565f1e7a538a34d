"""Figures of merit as pure functions of arrays."""

import math

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.stats import entropy, rankdata
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from train import losses

FOLDS = 5
BINS = 20                  # of a discretised latent, as in disentanglement_lib
CAPTURED, SHARED = 0.75, 0.2  # TAD: least AUROC of an attribute that counts, most entropy that another may explain
COLLAPSED_NATS, COLLAPSED_SHARE = 0.1, 0.99
FLAT_LEVELS = 1.0          # of 255; a smaller change of the picture cannot be seen


# ---- pictures -----------------------------------------------------------------------------------------------------


def float64(tensor: Tensor) -> Tensor:
    """The tensor in double precision: on the CPU if its device, such as Apple's GPUs, has none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def bce(made: Tensor, x: Tensor) -> Tensor:
    """Binary cross-entropy of pictures (n, 3, s, s) in [0, 1] with images x, summed over pixels: (n,) nats.

    For pictures of any model, while ``losses.bce`` needs logits. In float64, with each logarithm at least -100.
    """
    made, x = float64(made), float64(x)
    # PyTorch's own function refuses NaN. A diverged model is for its run to notice.
    return -(x * made.log().clamp(min=-100) + (1 - x) * (-made).log1p().clamp(min=-100)).sum((1, 2, 3))


def psnr(mse: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1], from the mean squared error per value."""
    return -10 * torch.log10(mse)


def ssim(made: Tensor, x: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of pictures (n, 3, s, s) in [0, 1], from windows of 11 pixels: (n,).

    The mean over all windows inside the picture, as in the source.
    """
    return losses.ssim(made, x, window=11)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of Gaussians fitted to two sets of features (Heusel et al. 2017): (n, f), (m, f).

    |mean a - mean b|^2 + tr(A + B - 2 (A B)^(1/2)) with the covariances A and B. The trace of the root is the sum of the
    singular values of R_a R_b', where R'R is a covariance. This avoids the root of a square, and singular covariances
    (fewer pictures than features) need no special case.

    Raises
    ------
    ValueError
        A set has fewer than 2 rows.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"The sets have {len(a)} and {len(b)} rows; a covariance needs at least 2.")
    roots, means = [], []
    for features in (a.double(), b.double()):
        means.append(features.mean(0))
        roots.append(torch.linalg.qr((features - means[-1]) / math.sqrt(len(features) - 1)).R)
    spread = sum(root.square().sum() for root in roots)
    overlap = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    return float((means[0] - means[1]).square().sum() + spread - 2 * overlap)


# ---- posterior ----------------------------------------------------------------------------------------------------


def active_latents(kl_per_latent: Tensor, threshold: float) -> int:
    """Number of latents with more than ``threshold`` nats, from their mean KL (d,)."""
    return int((kl_per_latent > threshold).sum())


def active_units(mu: Tensor, threshold: float = 0.01) -> int:
    """Number of latents whose means (n, d) have a variance above ``threshold`` (Burda et al. 2016, section 5.2)."""
    return int((mu.var(0) > threshold).sum())


def aggregate_posterior(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of q(z), the mean over images of N(mu, diag(exp(logvar))), from (n, d) each."""
    mu = mu.double()
    return mu.mean(0), torch.cov(mu.T, correction=0).reshape(mu.shape[1], -1) + logvar.double().exp().mean(0).diag()


def gaussian_kl(mean: Tensor, covariance: Tensor) -> float:
    """KL(N(mean, covariance) || N(0, I)) in nats."""
    return float(0.5 * (covariance.trace() + mean.square().sum() - len(mean) - torch.logdet(covariance)))


def total_correlation(covariance: Tensor) -> float:
    """KL of a Gaussian from the product of its marginals, in nats: zero if no two latents are correlated."""
    return float(0.5 * (covariance.diag().log().sum() - torch.logdet(covariance)))


def collapse(kl: Tensor, change: Tensor) -> dict:
    """The verdict on posterior collapse.

    A latent is collapsed if its KL is below 0.1 nat for 99 % of the images (the (epsilon, delta) collapse of Lucas et al.
    2019) and traversing it changes the picture by less than one grey level. A latent with a higher KL and a flat traversal is
    ignored by the decoder.

    Parameters
    ----------
    kl : Tensor
        (n, d) nats of each image and latent.
    change : Tensor
        (d,) mean absolute change of the picture over a traversal from -3 to 3, in grey levels of 255.

    Returns
    -------
    dict
        ``verdict`` is "none", "partial" or "full"; ``latents`` are the collapsed ones, ``ignored`` those that the decoder
        ignores.
    """
    silent = (kl < COLLAPSED_NATS).double().mean(0) >= COLLAPSED_SHARE
    flat = change < FLAT_LEVELS
    collapsed, ignored = silent & flat, flat & ~silent
    verdict = "full" if bool(flat.all()) or bool(silent.all()) else "partial" if bool(collapsed.any()) else "none"
    return {"verdict": verdict, "latents": collapsed.nonzero()[:, 0].tolist(), "ignored": ignored.nonzero()[:, 0].tolist()}


# ---- latents and attributes ---------------------------------------------------------------------------------------


def probe_auroc(mu: np.ndarray, present: np.ndarray, seed: int = 0) -> float:
    """AUROC of an attribute (n,) of 0 / 1 read linearly from mu (n, d): logistic regression, the mean of 5 folds."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return float(cross_val_score(probe, mu, present, cv=folds, scoring="roc_auc").mean())


def latent_aurocs(mu: np.ndarray, present: np.ndarray) -> np.ndarray:
    """AUROC of every attribute by every single latent, of either sign: (n, d), (n, k) of 0 / 1 -> (d, k).

    From the rank sums (Mann & Whitney 1947), all at once.
    """
    present = np.asarray(present, dtype=np.float64)
    positives = present.sum(0)
    sums = rankdata(mu, axis=0).T @ present
    aurocs = (sums - positives * (positives + 1) / 2) / (positives * (len(present) - positives))
    return np.maximum(aurocs, 1 - aurocs)


def mutual_information(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Mutual information of discrete codes (n, d) and factors (n, k), whole numbers: (d, k) nats."""
    information = np.zeros((codes.shape[1], factors.shape[1]))
    masks = [codes == code for code in np.unique(codes)]
    for k, factor in enumerate(factors.T):
        values = (factor[:, None] == np.unique(factor)).astype(np.float64)  # (n, v)
        joint = np.stack([mask.T @ values for mask in masks]) / len(factor)  # (c, d, v)
        independent = joint.sum(2, keepdims=True) * joint.sum(0)
        terms = np.zeros_like(joint)
        np.divide(joint, independent, out=terms, where=joint > 0)
        information[:, k] = (joint * np.log(terms, out=np.zeros_like(terms), where=joint > 0)).sum((0, 2))
    return information


def tad(mu: np.ndarray, present: np.ndarray) -> tuple[float, int]:
    """Total AUROC difference (Yeats et al. 2022) and the number of attributes that it sums over: (n, d), (n, k) of 0 / 1.

    An attribute counts if its best single latent has an AUROC of at least 0.75 and no other attribute explains more than 0.2
    of its entropy. It adds the best latent's AUROC minus the second best's.
    """
    second, best = np.sort(latent_aurocs(mu, present), axis=0)[-2:]
    shared = mutual_information(present, present)
    entropies = np.diag(shared).copy()
    np.fill_diagonal(shared, 0.0)
    counted = (best >= CAPTURED) & (shared.max(0) <= SHARED * entropies)
    return float((best - second)[counted].sum()), int(counted.sum())


def discretise(mu: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Every latent in ``bins`` equal steps over its range: (n, d) -> (n, d) of 0 .. bins - 1."""
    low, high = mu.min(0), mu.max(0)
    return np.minimum(((mu - low) / np.where(high > low, high - low, 1) * bins).astype(int), bins - 1)


def mig(codes: np.ndarray, factors: np.ndarray) -> float:
    """Mutual information gap (Chen et al. 2018) of discrete codes (n, d) for factors (n, k), from 0 to 1.

    For every factor the mutual information with the most informative code minus that with the second, over the entropy of the
    factor; the mean over factors.
    """
    second, best = np.sort(mutual_information(codes, factors), axis=0)[-2:]
    entropies = [entropy(np.unique(factor, return_counts=True)[1]) for factor in factors.T]
    return float(((best - second) / entropies).mean())


def importances(mu: np.ndarray, factors: np.ndarray, test_mu: np.ndarray, test_factors: np.ndarray, seed: int = 0
                ) -> tuple[np.ndarray, float, float]:
    """The importance of each latent in gradient-boosted trees that predict each factor, as in disentanglement_lib.

    Returns
    -------
    importances : np.ndarray
        (d, k), every column summing to 1 (to 0 if a tree has no split).
    train, test : float
        Accuracy of the predictions, the mean over factors (DCI's informativeness).
    """
    def one(k: int) -> tuple[np.ndarray, float, float]:
        trees = GradientBoostingClassifier(random_state=seed).fit(mu, factors[:, k])
        return trees.feature_importances_, trees.score(mu, factors[:, k]), trees.score(test_mu, test_factors[:, k])

    # Threads suffice: growing a tree releases the GIL.
    fitted = Parallel(n_jobs=-1, prefer="threads")(delayed(one)(k) for k in range(factors.shape[1]))
    columns, train, test = zip(*fitted, strict=True)
    return np.stack(columns, 1), float(np.mean(train)), float(np.mean(test))


def disentanglement(importances: np.ndarray) -> float:
    """DCI disentanglement (Eastwood & Williams 2018) of importances (d, k): 1 where each latent serves one factor."""
    return _concentration(importances)


def completeness(importances: np.ndarray) -> float:
    """DCI completeness of importances (d, k): 1 where each factor is served by one latent."""
    return _concentration(importances.T)


def _concentration(rows: np.ndarray) -> float:
    """1 - entropy of each row over its maximum, averaged with the rows' sums as weights; 0 if all weights are 0."""
    if not rows.sum():
        return 0.0
    weights = rows.sum(1) / rows.sum()
    used = weights > 0
    return float((1 - entropy(rows[used], axis=1, base=rows.shape[1])) @ weights[used])


def factor_vae_score(mu: np.ndarray, factors: np.ndarray, batch: int = 64, train: int = 10_000, test: int = 5_000,
                     seed: int = 0) -> float:
    """FactorVAE score (Kim & Mnih 2018, algorithm 2), from 0 to 1.

    How often the latent that varies least in a batch with one factor fixed identifies that factor. Chance is 1 / k. The images
    are given, not generated: a batch is drawn, with replacement, from the images that share the factor's value with a random
    image, so factors that correlate with it are partly fixed as well.

    Parameters
    ----------
    mu : np.ndarray
        (n, d).
    factors : np.ndarray
        (n, k) discrete.
    batch : int
        Images in one batch.
    train, test : int
        Batches to make the majority vote from, and to score it on.
    """
    rng = np.random.default_rng(seed)
    variances = mu.var(0, ddof=1)
    if not (variances > 0).any():
        return 0.0
    mu = mu[:, variances > 0] / np.sqrt(variances[variances > 0])

    def votes(count: int) -> np.ndarray:
        table = np.zeros((factors.shape[1], mu.shape[1]), dtype=int)
        for k, batches in enumerate(rng.multinomial(count, np.full(factors.shape[1], 1 / factors.shape[1]))):
            for value, times in zip(*np.unique(rng.choice(factors[:, k], batches), return_counts=True), strict=True):
                alike = np.flatnonzero(factors[:, k] == value)
                least = mu[rng.choice(alike, (times, batch))].var(1).argmin(1)  # (times, batch, d) -> (times,)
                table[k] += np.bincount(least, minlength=mu.shape[1])
        return table

    winners = votes(train).argmax(0)  # (d,): the factor each latent stands for
    scored = votes(test)
    return float(scored[winners, np.arange(len(winners))].sum() / scored.sum())
