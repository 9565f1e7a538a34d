"""The VAE: ``encode`` an image to a Gaussian over z, ``decode`` z to an image."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from betavae.config import VAEConfig


@dataclass
class VAEOutput:
    """One pass through the VAE: ``logits`` (n, 3, s, s); ``mu``, ``logvar`` and the sampled ``z``, each (n, d)."""

    logits: Tensor
    mu: Tensor
    logvar: Tensor
    z: Tensor


class VAE(nn.Module):
    """Variational autoencoder (Kingma & Welling 2014) with a residual, group-normalised network on each side."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n, 3, s, s) in [0, 1] -> ``mu``, ``logvar``, each (n, d): q(z|x) = N(mu, diag(exp(logvar)))."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Latents (n, d) -> images (n, 3, s, s) in [0, 1]."""
        return torch.sigmoid(self.decoder(z))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> VAEOutput:
        """Encode, draw z = mu + exp(logvar / 2) * noise, decode to logits.

        ``noise`` (n, d) is standard normal and drawn here when absent; a caller that must be reproducible passes it.
        """
        mu, logvar = self.encode(x)
        noise = torch.randn_like(mu) if noise is None else noise
        z = mu + torch.exp(0.5 * logvar) * noise
        return VAEOutput(self.decoder(z), mu, logvar, z)


class Encoder(nn.Module):
    """(n, 3, s, s) -> mu, logvar."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        stem, *stages = config.encoder
        self.preactivation = config.block == "preactivation"
        # (n, 3, s, s) -> (n, stem, s/2, s/2)
        self.stem = conv(config, 3, stem, kernel=4, stride=2)
        self.norm = nn.GroupNorm(config.groups, stem if config.block == "residual" else config.encoder[-1])
        blocks, channels = [], stem
        for width in stages:
            for i in range(config.depth):
                blocks.append(BLOCKS[config.block](config, channels, width, stride=2 if i == 0 else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        features = channels * config.encoder_base ** 2
        self.mu = nn.Linear(features, config.latents)
        self.logvar = nn.Linear(features, config.latents)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # Pixels arrive in [0, 1]; the network sees them centred.
        if self.preactivation:
            h = F.silu(self.norm(self.blocks(self.stem(2 * x - 1))))
        else:
            h = self.blocks(F.leaky_relu(self.norm(self.stem(x)), 0.2))
        h = h.flatten(1)
        # Float32 from here on, also under autocast: the KL is a sum of small differences.
        return self.mu(h).float(), self.logvar(h).float()


class Decoder(nn.Module):
    """(n, d) -> logits (n, 3, s, s)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        base, *stages = config.decoder
        self.base = (base, config.decoder_base, config.decoder_base)
        self.linear = nn.Linear(config.latents, base * config.decoder_base ** 2)
        blocks, channels = [], base
        for width in stages:
            for i in range(config.depth):
                blocks.append(BLOCKS[config.block](config, channels, width, upsample=i == 0))
                channels = width
        if config.block == "preactivation":
            blocks += [nn.GroupNorm(config.groups, channels), nn.SiLU()]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(conv(config, channels, 3, bias=True)) if config.head == "conv" else nn.Sequential(
            conv(config, channels, 12, bias=True), nn.PixelShuffle(2))

    def forward(self, z: Tensor) -> Tensor:
        h = self.linear(z).unflatten(1, self.base)  # (n, d) -> (n, c, 4, 4)
        # What is unflattened is laid out channels first, whatever the weights are: convolutions want them alike.
        h = h.contiguous(memory_format=torch.channels_last)
        return self.head(self.blocks(h)).float()


class ResidualBlock(nn.Module):
    """conv, norm, LeakyReLU, conv, norm, plus shortcut, LeakyReLU; the shortcut is 1x1 where the shape changes."""

    def __init__(self, config: VAEConfig, channels: int, width: int, stride: int = 1, upsample: bool = False):
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=2) if upsample else nn.Identity()
        self.conv1 = conv(config, channels, width, stride=stride)
        self.norm1 = nn.GroupNorm(config.groups, width)
        self.conv2 = conv(config, width, width)
        self.norm2 = nn.GroupNorm(config.groups, width)
        self.shortcut = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(conv(config, channels, width, kernel=1, stride=stride),
                                          nn.GroupNorm(config.groups, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.upsample(x)
        h = F.leaky_relu(self.norm1(self.conv1(x)), 0.2)
        return F.leaky_relu(self.norm2(self.conv2(h)) + self.shortcut(x), 0.2)


class PreactivationBlock(nn.Module):
    """norm, SiLU, conv, norm, SiLU, conv, plus shortcut. The last convolution starts at zero: a new block is its shortcut.

    Where it upsamples, it does so between the convolutions and after the shortcut's: half of the work is then done at
    a quarter of the pixels, which is most of what makes this decoder lean.
    """

    def __init__(self, config: VAEConfig, channels: int, width: int, stride: int = 1, upsample: bool = False):
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=2) if upsample else nn.Identity()
        self.norm1 = nn.GroupNorm(config.groups, channels)
        self.conv1 = conv(config, channels, width, stride=stride)
        self.norm2 = nn.GroupNorm(config.groups, width)
        self.conv2 = conv(config, width, width)
        nn.init.zeros_(self.conv2.weight)
        self.shortcut = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.AvgPool2d(stride) if stride != 1 else nn.Identity(),
                                          conv(config, channels, width, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(self.upsample(F.silu(self.norm2(h)))) + self.upsample(self.shortcut(x))


BLOCKS = {"residual": ResidualBlock, "preactivation": PreactivationBlock}


def conv(config: VAEConfig, channels: int, width: int, kernel: int = 3, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """A convolution that keeps (or, with stride 2, halves) the resolution, with Kaiming initialisation."""
    layer = nn.Conv2d(channels, width, kernel, stride, padding=(kernel - 1) // 2, bias=bias,
                      padding_mode=config.padding if kernel > 1 else "zeros")
    nn.init.kaiming_normal_(layer.weight, a=0.2, nonlinearity="leaky_relu")
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
