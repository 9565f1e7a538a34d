"""``evaluate``: a model's figures on one split, each stamped with its protocol."""

import torch
from torch import Tensor

from betavae.image import from_uint8
from betavae.model import VAE
from train import metrics
from train.losses import bce, bce_floor, kl

BATCH = 250


@torch.inference_mode()
def encode_all(model: VAE, pixels: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """uint8 (n, s, s, 3) -> mu, logvar, each (n, d), on the CPU."""
    parts = [model.encode(from_uint8(pixels[i:i + BATCH]).to(device)) for i in range(0, len(pixels), BATCH)]
    mu, logvar = (torch.cat(part).cpu() for part in zip(*parts))
    return mu, logvar


@torch.inference_mode()
def reconstruction_and_kl(model: VAE, pixels: Tensor, device: torch.device) -> dict[str, float]:
    """Reconstruction from the posterior mean and KL over all of ``pixels``, in float32.

    BCE, its floor (the images with themselves) and the gap between them in nats per image, MSE per value, PSNR in dB
    (mean over images), KL in nats, KL of each latent, and the latents above 0.1 and 1 nat.
    """
    floors, crosses, errors, divergences = [], [], [], []
    for start in range(0, len(pixels), BATCH):
        x = from_uint8(pixels[start:start + BATCH]).to(device)
        mu, logvar = model.encode(x)
        logits = model.decoder(mu)
        crosses.append(bce(logits, x).double())
        floors.append(bce_floor(x))
        errors.append((torch.sigmoid(logits) - x).square().mean((1, 2, 3)))
        divergences.append(kl(mu, logvar))
    cross, floor = torch.cat(crosses).mean().item(), torch.cat(floors).mean().item()
    mse, per_latent = torch.cat(errors), torch.cat(divergences).mean(0)
    return {
        "bce": cross, "bce_floor": floor, "bce_gap": cross - floor, "mse": mse.mean().item(),
        "psnr": metrics.psnr(mse).mean().item(), "kl": per_latent.sum().item(),
        "active_0.1": metrics.active_latents(per_latent, 0.1), "active_1": metrics.active_latents(per_latent, 1.0),
        "kl_per_latent": [round(value, 4) for value in per_latent.tolist()],
    }


def evaluate(model: VAE, pixels: Tensor, split: str, device: torch.device) -> dict:
    """``reconstruction_and_kl`` with its protocol: split, number of images, crop, size and which z was decoded."""
    config = model.config
    protocol = {"split": split, "images": len(pixels), "crop": [round(edge, 6) for edge in config.crop],
                "image_size": config.image_size, "z": "mu", "weights": "float32"}
    return {"protocol": protocol, **reconstruction_and_kl(model, pixels, device)}
