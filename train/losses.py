"""What training minimises: reconstruction, KL, and the objectives that hold KL at a capacity. All in float32, nats."""

import torch
from torch import Tensor
from torch.nn import functional as F


def bce(logits: Tensor, x: Tensor) -> Tensor:
    """Binary cross-entropy of images (n, 3, s, s) in [0, 1], summed over pixels and channels: (n,) nats."""
    return F.binary_cross_entropy_with_logits(logits.float(), x.float(), reduction="none").sum((1, 2, 3))


def bce_floor(x: Tensor) -> Tensor:
    """``bce`` of images with themselves, which no model can go below: their entropy as Bernoulli means, (n,) nats."""
    x = x.double()
    return -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x)).sum((1, 2, 3))


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) of each latent (Kingma & Welling 2014, appendix B): (n, d) nats."""
    mu, logvar = mu.float(), logvar.float()
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


class Capacity:
    """gamma * |KL - C| (Burgess et al. 2018, equation 8), KL the batch's mean. Has no state."""

    def __init__(self, gamma: float):
        self.gamma = gamma

    def __call__(self, kl: Tensor, C: float) -> Tensor:
        return self.gamma * (kl - C).abs()

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        pass


class Controller:
    """beta * KL with beta steered so that KL follows C: an integral controller (ControlVAE, Shao et al. 2020, I term).

    gamma * |KL - C| pushes with full force whatever the sign of a batch's noise; here a batch moves log beta by
    ``gain`` times its relative error, so noise averages out and the gradient of the reconstruction is left alone.
    """

    def __init__(self, gain: float, device: torch.device):
        self.gain = gain
        self.log_beta = torch.zeros((), device=device)

    def __call__(self, kl: Tensor, C: float) -> Tensor:
        loss = self.log_beta.exp() * kl
        self.log_beta = self.log_beta + self.gain * (kl.detach() - C) / C
        return loss

    def state_dict(self) -> dict[str, Tensor]:
        return {"log_beta": self.log_beta}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.log_beta = state["log_beta"].to(self.log_beta)
