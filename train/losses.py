"""The training objective: a reconstruction term and a penalty on the KL. All in float32."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from betavae.model import VAEOutput
from train.presets import TrainConfig

SSIM_WINDOW, SSIM_SIGMA = 9, 1.5
MIN_LOG_SIGMA = -6.0  # Rybkin et al. 2021: the likelihood must stay bounded if the data is reproduced exactly


def bce(logits: Tensor, x: Tensor) -> Tensor:
    """Binary cross-entropy of images (n, 3, s, s) in [0, 1], summed over pixels and channels: (n,) nats."""
    return F.binary_cross_entropy_with_logits(logits.float(), x.float(), reduction="none").sum((1, 2, 3))


def bce_floor(x: Tensor) -> Tensor:
    """``bce`` of images with themselves, the lower bound for any model: their entropy as Bernoulli means, (n,) nats."""
    x = (x.cpu() if x.device.type == "mps" else x).double()  # Apple's GPUs have no float64
    return -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x)).sum((1, 2, 3))


def squared_error(logits: Tensor, x: Tensor) -> Tensor:
    """Squared error of images (n, 3, s, s) in [0, 1], summed over pixels and channels: (n,)."""
    return (torch.sigmoid(logits.float()) - x).square().sum((1, 2, 3))


def gaussian_nll(error: Tensor, log_sigma: Tensor, values: int) -> Tensor:
    """-log N(x; picture, sigma^2 I) of images with ``error`` (n,), the squared error over ``values`` numbers: (n,) nats.

    The most likely sigma^2 is error / values, the mean squared error (Rybkin et al. 2021, equation 5).
    """
    return 0.5 * error * torch.exp(-2 * log_sigma) + values * (log_sigma + 0.5 * math.log(2 * math.pi))


def feature_error(features: Callable[[Tensor], Tensor], logits: Tensor, x: Tensor) -> Tensor:
    """-log N(features of x; those of the picture, v I) up to a constant, with v their variance over the batch: shape (), nats.

    A pixel loss gives a smile no more weight than a lock of hair; features of a classifier of faces do (Hou et al. 2017, "Deep
    Feature Consistent Variational Autoencoder").
    """
    with torch.no_grad():
        wanted = features(x)
        variance = wanted.var(0).clamp(min=1e-4)
    made = features(torch.sigmoid(logits.float()))
    return 0.5 * ((made - wanted).square() / variance).sum(1).mean()


def ssim(a: Tensor, b: Tensor, window: int = SSIM_WINDOW) -> Tensor:
    """Structural similarity of images (n, c, h, w) in [0, 1], from Gaussian windows inside the image: (n,).

    Wang et al. 2004, equation 13, with its K1 = 0.01, K2 = 0.03 and sigma = 1.5. Its windows have a side of 11 pixels.
    """
    a, b = a.float(), b.float()
    # A window's weighted means along rows and columns, as products with a band matrix: (h - 8, h) each.
    down, across = (_windows(side, window, a.device) for side in a.shape[2:])
    maps = down @ torch.stack([a, b, a * a, b * b, a * b]) @ across.T
    mean_a, mean_b, square_a, square_b, product = maps
    var_a, var_b = square_a - mean_a.square(), square_b - mean_b.square()
    covariance = product - mean_a * mean_b
    c1, c2 = 0.01 ** 2, 0.03 ** 2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)
                  / ((mean_a.square() + mean_b.square() + c1) * (var_a + var_b + c2)))
    return similarity.mean((1, 2, 3))


def _windows(side: int, window: int, device: torch.device) -> Tensor:
    offset = torch.arange(side, device=device) - torch.arange(side - window + 1, device=device)[:, None] - window // 2
    weight = -offset.square() / (2 * SSIM_SIGMA ** 2)
    return torch.softmax(weight.masked_fill(offset.abs() > window // 2, -math.inf), 1)


def dice(logits: Tensor, mask: Tensor, mean: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """1 - Dice coefficient of a batch of predicted masks (n, 1, s, s) with true ones in [0, 1]: shape ().

    Areas are squared sums over the whole batch (Milletari et al. 2016, section 3), with one pixel an image added to both sides
    of the fraction, so that correctly predicted empty masks cost nothing. ``mean`` averages a number over the processes that
    share a batch: the fraction is then that of the whole batch, and the mean of the processes' gradients is its gradient.
    """
    predicted = torch.sigmoid(logits.float())
    shared = (predicted * mask).sum((1, 2, 3)).mean()
    areas = (predicted.square() + mask.square()).sum((1, 2, 3)).mean()
    if mean is not None:
        # The value is the whole batch's, the gradient this process's part of it.
        shared, areas = (mean(part.detach()) + part - part.detach() for part in (shared, areas))
    return 1 - (2 * shared + 1) / (areas + 1)


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) of each latent (Kingma & Welling 2014, appendix B): (n, d) nats."""
    mu, logvar = mu.float(), logvar.float()
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def divergence(output: VAEOutput) -> Tensor:
    """KL of the posterior to N(0, I), split over latents: (n, d) nats.

    ``kl`` of the Gaussian. With a flow, log q(z|x) - log p(z) of the drawn z, whose mean is the KL (Rezende & Mohamed 2015,
    equation 15); if the posterior equals the prior, every draw gives 0.
    """
    if output.log_scale is None:
        return kl(output.mu, output.logvar)
    return 0.5 * (output.z.square() - output.noise.square() - output.logvar) - output.log_scale


def _alone(value: Tensor) -> Tensor:
    return value


class Beta(nn.Module):
    """beta * KL (Higgins et al. 2017), KL the batch's mean; ``level`` is beta. Has no state."""

    def forward(self, kl: Tensor, level: Tensor | float, mean: Callable[[Tensor], Tensor] = _alone) -> Tensor:
        """KL (), level -> the term of the loss."""
        return level * kl


class Capacity(nn.Module):
    """gamma * |KL - C| (Burgess et al. 2018, equation 8), KL the mean of the whole batch; ``level`` is C. Has no state.

    When several processes share a batch, the sign is that of the whole batch's KL, so that the mean of the processes'
    gradients is the gradient of the whole. ``mean`` averages a number over the processes.
    """

    def __init__(self, gamma: float):
        super().__init__()
        self.gamma = gamma

    def forward(self, kl: Tensor, level: Tensor | float, mean: Callable[[Tensor], Tensor] = _alone) -> Tensor:
        """KL (), level -> the term of the loss; ``mean`` averages over processes."""
        return self.gamma * torch.sign(mean(kl.detach()) - level) * (kl - level)


class Controller(nn.Module):
    """beta * KL with beta steered so that KL follows C: an integral controller (ControlVAE, Shao et al. 2020, I term).

    gamma * |KL - C| reacts with full force to the noise of each batch. Here a batch moves log beta by ``gain`` times its
    error relative to C (or to one nat if C is less), so noise averages out and the reconstruction's gradient is not disturbed.
    ``level`` is C; ``mean`` as in ``Capacity``.
    """

    log_beta: Tensor

    def __init__(self, gain: float):
        super().__init__()
        self.gain = gain
        self.register_buffer("log_beta", torch.zeros(()))

    def forward(self, kl: Tensor, level: Tensor | float, mean: Callable[[Tensor], Tensor] = _alone) -> Tensor:
        """KL (), level -> the term of the loss; moves beta. ``mean`` averages over processes."""
        loss = self.log_beta.exp() * kl
        error = self.gain * (mean(kl.detach()) - level) / torch.as_tensor(level).clamp(min=1.0)
        # A batch whose KL is not finite is skipped; beta must not remember it.
        self.log_beta.add_(error.nan_to_num(0.0, 0.0, 0.0))
        return loss


class Objective(nn.Module):
    """Reconstruction + penalty of the KL, as a ``TrainConfig`` says. Its state belongs in a run's checkpoint.

    ``features``, pictures (n, 3, s, s) -> (n, k), are those of the feature error, which ``config.perceptual`` weighs.

    Examples
    --------
    >>> objective = Objective(config).to(device)
    >>> loss, terms = objective(model(x), x, mask, config.level(progress))
    """

    def __init__(self, config: TrainConfig, features: Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        self.reconstruction, self.reduction = config.reconstruction, config.reduction
        self.perceptual, self.features = config.perceptual, features
        # A tanh network's pictures live in [-1, 1], where a squared error is four times that in [0, 1].
        self.scale = 4.0 if config.model.output == "tanh" else 1.0
        penalties: dict[str, Callable[[], nn.Module]] = {
            "beta": Beta, "capacity": lambda: Capacity(config.gamma), "controller": lambda: Controller(config.gain)}
        self.penalty = penalties[config.objective]()

    def forward(self, output: VAEOutput, x: Tensor, mask: Tensor | None, level: Tensor | float,
                mean: Callable[[Tensor], Tensor] = _alone) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and its terms.

        Parameters
        ----------
        output : VAEOutput
            Of the images ``x`` (n, 3, s, s) in [0, 1].
        mask : Tensor, optional
            (n, 1, s, s) in [0, 1], 1 where the face is; needed by reconstruction "masked".
        level : float or Tensor of shape ()
            ``TrainConfig.level``: C in nats, or beta.
        mean : callable
            The mean of a number over the processes that share a batch (there is one, unless given).

        Returns
        -------
        loss : Tensor
            Shape (), the mean over the batch.
        terms : dict of Tensor
            Shape () each, detached, always the same names for one config: "loss", the parts of the reconstruction,
            "kl" in nats (a sum over latents, whatever the reduction), and "beta" or "sigma" if training adapts it.
        """
        reconstruction, terms = getattr(self, f"_{self.reconstruction}")(output, x, mask, mean)
        if self.perceptual and self.features is not None:
            terms["features"] = feature_error(self.features, output.logits, x)
            reconstruction = reconstruction + self.perceptual * terms["features"] / self._per(x)
        held = divergence(output).sum(1).mean()
        # Record beta before the penalty updates it.
        if isinstance(self.penalty, Controller):
            terms["beta"] = self.penalty.log_beta.exp()
        penalty = self.penalty(held, level, mean)
        if self.reduction == "mean":
            penalty = penalty / output.mu.shape[1]
        loss = reconstruction + penalty
        return loss, {name: value.detach() for name, value in {"loss": loss, **terms, "kl": held}.items()}

    def _per(self, x: Tensor) -> int:
        """The divisor of a sum over the values of an image."""
        return x[0].numel() if self.reduction == "mean" else 1

    def _bce(self, output: VAEOutput, x: Tensor, mask: Tensor | None, mean) -> tuple[Tensor, dict[str, Tensor]]:
        error = bce(output.logits, x).mean() / self._per(x)
        return error, {"bce": error}

    def _mse(self, output: VAEOutput, x: Tensor, mask: Tensor | None, mean) -> tuple[Tensor, dict[str, Tensor]]:
        error = self.scale * squared_error(output.logits, x).mean() / self._per(x)
        return error, {"mse": error}

    def _gaussian(self, output: VAEOutput, x: Tensor, mask: Tensor | None, mean) -> tuple[Tensor, dict[str, Tensor]]:
        error, values = self.scale * squared_error(output.logits, x), x[0].numel()
        # The variance that makes the batch most likely (Rybkin et al. 2021, "optimal sigma"): at the optimum the likelihood
        # does not depend on it to first order, so no gradient goes through it.
        log_sigma = (0.5 * torch.log(mean(error.detach().mean()) / values)).clamp(min=MIN_LOG_SIGMA)
        nll = gaussian_nll(error, log_sigma, values).mean() / self._per(x)
        return nll, {"nll": nll, "sigma": log_sigma.exp()}

    def _masked(self, output: VAEOutput, x: Tensor, mask: Tensor | None, mean) -> tuple[Tensor, dict[str, Tensor]]:
        assert mask is not None and output.mask is not None  # a model with masks is given and draws them
        # Outside of the face the picture is the photo itself, so that only the face is learned.
        picture = mask * torch.sigmoid(output.logits) + (1 - mask) * x
        terms = {"ssim": ssim(picture, x).mean(), "mae": (picture - x).abs().mean(),
                 "mask_bce": F.binary_cross_entropy_with_logits(output.mask, mask), "dice": dice(output.mask, mask, mean)}
        return 2 - terms["ssim"] + 4 * terms["mae"] + terms["mask_bce"] + terms["dice"], terms
