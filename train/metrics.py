"""Figures of merit as pure functions of arrays."""

import torch
from torch import Tensor


def active_latents(kl_per_latent: Tensor, threshold: float) -> int:
    """How many latents carry more than ``threshold`` nats, from their mean KL (d,)."""
    return int((kl_per_latent > threshold).sum())


def psnr(mse: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1], from the mean squared error per value."""
    return -10 * torch.log10(mse)
