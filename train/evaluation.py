"""The figures of a run, each stamped with its protocol.

A protocol names the split, the number of its images, crop and size, and which z the figure is of: "mu", the posterior
mean, or "sample", one draw from q(z|x).
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from betavae.image import from_uint8
from betavae.latent import sample
from betavae.mixture import Mixture
from betavae.model import VAE
from train import metrics
from train.losses import bce_floor, kl
from train.mixture import posterior_samples

BATCH = 250
FRECHET_IMAGES = 10_000  # of each set: a Fréchet distance depends on their number, so all sets have the same
TREE_IMAGES = 10_000
TREE_LATENTS = 256
TRAVERSED = 1280         # pictures at each end of the traversals, for at most 5 faces
REACH = 3.0

Features = Callable[[Tensor], Tensor]             # pictures (n, 3, s, s) in [0, 1] -> (n, f)
Similarity = Callable[[Tensor, Tensor], Tensor]   # pictures and images -> (n,)
Posterior = tuple[Tensor, Tensor]                 # mu, logvar, each (n, d)


class Unavailable(Exception):
    """A figure cannot be computed, for lack of a published network's weights or of labels. The message is one sentence."""


# ---- networks that others published -------------------------------------------------------------------------------


def inception(device: torch.device) -> Features:
    """The Inception network of the published FIDs, TensorFlow's weights and resizing: (n, 2048) of 8-bit pictures.

    Raises
    ------
    Unavailable
        Its weights (95 MB) are not in the cache and cannot be downloaded.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).to(device)
    except (OSError, RuntimeError) as error:
        raise Unavailable(f"The weights of Inception cannot be downloaded ({error}).") from error
    return lambda pictures: network((pictures * 255).round().to(torch.uint8))[0]


def lpips(device: torch.device) -> Similarity:
    """Learned perceptual distance (Zhang et al. 2018) with AlexNet.

    Raises
    ------
    Unavailable
        AlexNet's weights (233 MB) are not in the cache and cannot be downloaded.
    """
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    try:
        return LearnedPerceptualImagePatchSimilarity(net_type="alex", reduction="none", normalize=True).to(device)
    except (OSError, RuntimeError) as error:
        raise Unavailable(f"The weights of AlexNet cannot be downloaded ({error}).") from error


# ---- reconstruction and posterior ---------------------------------------------------------------------------------


@torch.inference_mode()
def encode_all(model: VAE, pixels: Tensor, device: torch.device) -> Posterior:
    """uint8 (n, s, s, 3) -> mu, logvar, each (n, d), on the CPU."""
    parts = [model.encode(from_uint8(pixels[i:i + BATCH]).to(device)) for i in range(0, len(pixels), BATCH)]
    mu, logvar = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    return mu, logvar


@torch.inference_mode()
def reconstruction(model: VAE, pixels: Tensor, z: Tensor, device: torch.device,
                   similarities: Mapping[str, Similarity] | None = None) -> dict[str, float]:
    """Mean errors of the pictures decoded from z (n, d) against uint8 images (n, s, s, 3); masked faces lie over the images.

    BCE, its floor (the images with themselves) and the gap between them in nats per image, MSE per value, PSNR in dB, and
    ``similarities`` under their names.
    """
    sums: dict[str, float] = {}
    for start in range(0, len(pixels), BATCH):
        x = from_uint8(pixels[start:start + BATCH]).to(device)
        made = model.decode(z[start:start + BATCH].to(device), x)
        mse = (made - x).square().mean((1, 2, 3))
        figures = {"bce": metrics.bce(made, x), "bce_floor": bce_floor(x), "mse": mse, "psnr": metrics.psnr(mse)}
        for name, similarity in (similarities or {}).items():
            figures[name] = similarity(made, x)
        for name, values in figures.items():
            sums[name] = sums.get(name, 0.0) + metrics.float64(values).sum().item()
    means = {name: total / len(pixels) for name, total in sums.items()}
    return means | {"bce_gap": means["bce"] - means["bce_floor"]}


def divergence(mu: Tensor, logvar: Tensor) -> dict:
    """KL in nats, total and of each latent, and the numbers of active latents, by KL and by the variance of the means."""
    per_latent = kl(mu, logvar).double().mean(0)
    return {"kl": per_latent.sum().item(), "active_0.1": metrics.active_latents(per_latent, 0.1),
            "active_1": metrics.active_latents(per_latent, 1.0), "active_units": metrics.active_units(mu),
            "kl_per_latent": [round(value, 4) for value in per_latent.tolist()]}


def reconstruction_and_kl(model: VAE, pixels: Tensor, device: torch.device) -> dict:
    """``reconstruction`` from the posterior mean and ``divergence``, over all of ``pixels``."""
    mu, logvar = encode_all(model, pixels, device)
    return reconstruction(model, pixels, mu, device) | divergence(mu, logvar)


def aggregate(mu: Tensor, logvar: Tensor) -> dict[str, float]:
    """The distance of q(z) over the images from the prior N(0, I): moments, and the KL of the Gaussian with these moments."""
    mean, covariance = metrics.aggregate_posterior(mu, logvar)
    variances = covariance.diag()
    correlation = (covariance / (variances[:, None] * variances).sqrt()).fill_diagonal_(0).abs()
    pairs = len(mean) * (len(mean) - 1)
    return {"mean_norm": float(mean.norm()), "variance_min": float(variances.min()), "variance_max": float(variances.max()),
            "correlation_mean": float(correlation.sum() / max(pairs, 1)), "correlation_max": float(correlation.max()),
            "gaussian_kl": metrics.gaussian_kl(mean, covariance), "total_correlation": metrics.total_correlation(covariance)}


def evaluate(model: VAE, pixels: Tensor, split: str, device: torch.device, posterior: Posterior | None = None,
             similarities: Mapping[str, Similarity] | None = None, seed: int = 0) -> dict:
    """A model's figures on the uint8 images (n, s, s, 3) of a split.

    Reconstruction from the posterior mean and KL; under ``sampled`` the reconstruction from one z drawn for each image;
    under ``posterior`` the statistics of q(z) over the images.

    Parameters
    ----------
    posterior : pair of Tensors, optional
        mu and logvar of the images if at hand (``encode_all``).
    similarities : mapping, optional
        Further figures of the reconstructions; in a run SSIM and, if its weights are available, LPIPS.
    """
    mu, logvar = posterior or encode_all(model, pixels, device)
    z = posterior_samples(mu, logvar, seed)
    stamp = protocol(model, split, len(pixels))
    return {"protocol": stamp, **reconstruction(model, pixels, mu, device, similarities), **divergence(mu, logvar),
            "sampled": {"protocol": stamp | {"z": "sample", "seed": seed}, **reconstruction(model, pixels, z, device)},
            "posterior": {"protocol": stamp | {"z": "sample, in expectation"}, **aggregate(mu, logvar)}}


def protocol(model: VAE, split: str, images: int) -> dict:
    """The protocol of a figure of the posterior mean on that many images of a split."""
    config = model.config
    return {"split": split, "images": images, "crop": [round(edge, 6) for edge in config.crop],
            "image_size": config.image_size, "z": "mu", "weights": "float32",
            "arithmetic": arithmetic(next(model.parameters(), torch.empty(0)).device)}


def arithmetic(device: torch.device) -> str:
    """The arithmetic of a device's float32 convolutions: "float32", or "tf32" with 10 bits of mantissa."""
    tf32 = device.type == "cuda" and torch.backends.cudnn.allow_tf32 and torch.cuda.get_device_capability(device) >= (8, 0)
    return "tf32" if tf32 else "float32"


# ---- collapse, attributes, samples --------------------------------------------------------------------------------


@torch.inference_mode()
def traversal_change(model: VAE, device: torch.device, seed: int = 0) -> tuple[Tensor, int]:
    """The change of the picture when one latent goes from -3 to 3: (d,) mean grey levels of 255, and the number of faces.

    There are 5 random faces, or fewer if there are many latents.
    """
    latents = model.config.latents
    faces = min(5, max(1, TRAVERSED // latents))
    change = torch.zeros(latents)
    for z in sample(faces, latents, seed):
        for part in torch.arange(latents).split(BATCH):
            low, high = z.repeat(len(part), 1), z.repeat(len(part), 1)
            rows = torch.arange(len(part))
            low[rows, part], high[rows, part] = -REACH, REACH
            moved = model.decode(high.to(device)) - model.decode(low.to(device))
            change[part] += 255 * moved.abs().mean((1, 2, 3)).cpu() / faces
    return change, faces


def collapse(model: VAE, split: str, mu: Tensor, logvar: Tensor, device: torch.device, seed: int = 0) -> dict:
    """``metrics.collapse`` of a model, from the KL of a split's images and traversals of random faces."""
    change, faces = traversal_change(model, device, seed)
    stamp = protocol(model, split, len(mu)) | {"traversed_faces": faces, "reach": REACH, "seed": seed}
    return {"protocol": stamp, **metrics.collapse(kl(mu, logvar), change),
            "change_per_latent": [round(value, 3) for value in change.tolist()]}


def attributes(model: VAE, fitted: tuple[Tensor, Mapping[str, np.ndarray]], tested: tuple[Tensor, Mapping[str, np.ndarray]],
               seed: int = 0) -> dict:
    """Scores of the posterior means against labelled attributes: AUROC of linear probes, TAD, MIG, DCI and FactorVAE score.

    CelebA has labels, not factors: they are correlated, most are rare, and pose and background have none. The scores defined
    for generated data take the attributes as factors, so they compare models on CelebA only.

    Parameters
    ----------
    fitted, tested : pairs
        Latents (n, d) and name -> (n,) of 0 / 1, of val and of test. DCI's trees are grown on val; everything is measured on
        test. Attributes with fewer than 5 faces on a side of either are left out, and named.

    Raises
    ------
    Unavailable
        No attribute is left.
    """
    few = {name for _, columns in (fitted, tested) for name, y in columns.items()
           if min(int(y.sum()), len(y) - int(y.sum())) < metrics.FOLDS}
    names = [name for name in tested[1] if name not in few]
    if not names:
        raise Unavailable(f"The data has no labels with {metrics.FOLDS} faces on each side in val and in test.")
    (val, known), (mu, present) = ((z.double().numpy(), np.stack([columns[name] for name in names], 1).astype(int))
                                   for z, columns in (fitted, tested))
    probed = {name: metrics.probe_auroc(mu, present[:, k], seed) for k, name in enumerate(names)}
    difference, counted = metrics.tad(mu, present)
    report = {
        "protocol": protocol(model, "test", len(mu)) | {"attributes": len(names), "left_out": sorted(few),
                                                        "folds": metrics.FOLDS, "bins": metrics.BINS, "seed": seed},
        "auroc": float(np.mean(list(probed.values()))), "tad": difference, "tad_attributes": counted,
        "mig": metrics.mig(metrics.discretise(mu), present),
        "factor_vae_score": metrics.factor_vae_score(mu, present, seed=seed), "factor_vae_chance": 1 / len(names),
        "auroc_per_attribute": {name: round(value, 4) for name, value in probed.items()},
    }
    if mu.shape[1] > TREE_LATENTS:
        return report | {"dci": None, "absent": {"dci": f"More than {TREE_LATENTS} latents: its trees would take hours."}}
    grown = min(len(val), TREE_IMAGES)
    table, train, test = metrics.importances(val[:grown], known[:grown], mu[:TREE_IMAGES], present[:TREE_IMAGES], seed)
    return report | {"dci": {"disentanglement": metrics.disentanglement(table), "completeness": metrics.completeness(table),
                             "informativeness_train": train, "informativeness_test": test,
                             "trees_grown_on": f"val, {grown:,} images"}}


@torch.inference_mode()
def frechet(model: VAE, val: Tensor, test: Tensor, mu: Tensor, mixture: Mixture, features: Features, name: str,
            device: torch.device, seed: int = 0) -> dict:
    """Fréchet distances of ``features`` from the real test images, every set of the same number of pictures.

    The sets are reconstructions from the posterior mean, samples from N(0, I) and from the mixture, and real val images. The
    latter give the floor, the distance of a perfect model.

    Parameters
    ----------
    val, test : Tensor
        uint8 (n, s, s, 3).
    mu : Tensor
        (n, d) of the test images.
    features : callable
        Pictures (n, 3, s, s) in [0, 1] -> (n, f); called ``name`` in the protocol.
    """
    count = min(len(val), len(test), FRECHET_IMAGES)
    # The lists are in the order of the file names, which is arbitrary.
    reals = {kind: torch.cat([features(from_uint8(part).to(device)).cpu() for part in pixels[:count].split(BATCH)])
             for kind, pixels in (("test", test), ("val", val))}

    def distance(z: Tensor) -> float:
        made = [features(model.decode(part.to(device))).cpu() for part in z.split(BATCH)]
        return metrics.frechet_distance(torch.cat(made), reals["test"])

    stamp = protocol(model, "test", count) | {"features": name, "seed": seed}
    return {"protocol": stamp, "floor": metrics.frechet_distance(reals["val"], reals["test"]),
            "reconstructions": distance(mu[:count]), "prior_samples": distance(sample(count, model.config.latents, seed)),
            "mixture_samples": distance(mixture.sample(count, seed)), "mixture_components": len(mixture.weights)}


# ---- in words -----------------------------------------------------------------------------------------------------

_LINES = (("bce", "BCE, nats", ",.1f"), ("bce_floor", "its pixel floor", ",.1f"), ("bce_gap", "above the floor", ",.1f"),
          ("sampled", "above the floor, z sampled", ",.1f"), ("mse", "MSE per value", ".5f"), ("psnr", "PSNR, dB", ".2f"),
          ("ssim", "SSIM", ".4f"), ("lpips", "LPIPS", ".4f"), ("kl", "KL, nats", ".2f"),
          ("active_0.1", "latents > 0.1 nat", "d"), ("active_1", "latents > 1 nat", "d"), ("active_units", "active units", "d"),
          ("gaussian_kl", "KL of q(z)'s Gaussian, nats", ".3f"), ("total_correlation", "its total correlation, nats", ".3f"))


def table(report: Mapping) -> str:
    """A run's ``metrics.json`` as a text table."""
    splits = [split for split in ("val", "test") if split in report]
    counts = (f"{split}, {report[split]['protocol']['images']:,}" for split in splits)
    lines = [f"{'reconstruction from the mean':32}" + "".join(f"{count:>14}" for count in counts)]
    lines += [f"The model was trained on {split}: these are no held-out figures." for split in splits
              if not report[split]["protocol"].get("held_out", True)]
    for key, label, form in _LINES:
        values = []
        for figures in (report[split] for split in splits):
            found = figures["sampled"]["bce_gap"] if key == "sampled" else (figures | figures["posterior"]).get(key)
            values += [] if found is None else [found]
        if values:
            lines.append(f"  {label:30}" + "".join(f"{value:>14{form}}" for value in values))
    if "attributes" in report:
        scores = report["attributes"]
        lines.append(
            f"{scores['protocol']['attributes']} attributes, test: AUROC {scores['auroc']:.3f}, TAD {scores['tad']:.3f} "
            f"of {scores['tad_attributes']}, MIG {scores['mig']:.4f}, FactorVAE score {scores['factor_vae_score']:.3f} "
            f"(chance {scores['factor_vae_chance']:.3f})"
            + (
                ", DCI {disentanglement:.3f}, {completeness:.3f}, {informativeness_test:.3f}".format(**scores["dci"])
                if scores["dci"]
                else ""
            )
        )
    if "frechet" in report:
        distances = report["frechet"]
        stamp = distances["protocol"]
        lines.append(
            f"Fréchet distance ({stamp['features']}; {stamp['images']:,} pictures): real {distances['floor']:.3f}, "
            f"reconstructions {distances['reconstructions']:.3f}, N(0, I) "
            f"{distances['prior_samples']:.3f}, mixture {distances['mixture_samples']:.3f}"
        )
    lines.append(collapse_sentence(report["collapse"], len(report["test"]["kl_per_latent"])))
    lines += [f"{name} is absent: {reason}" for name, reason in report["absent"].items()]
    return "\n".join(lines)


def collapse_sentence(found: Mapping, latents: int) -> str:
    """The verdict of ``collapse`` in a sentence."""
    if found["verdict"] == "full":
        return f"Full posterior collapse: none of the {latents} latents carries anything into the picture."
    parts = [f"{len(found[key])} of {latents} {what} ({_few(found[key])})" for key, what in
             (("latents", "latents are collapsed"), ("ignored", "are ignored by the decoder")) if found[key]]
    if not parts:
        return f"No posterior collapse: all {latents} latents are used."
    return f"Partial posterior collapse: {', '.join(parts)}."


def _few(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:12])) + (" ..." if len(numbers) > 12 else "")
