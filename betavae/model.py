"""The VAE: ``encode`` an image to a Gaussian over z, ``decode`` z to an image."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from betavae.config import VAEConfig

FLOW_CONTEXT, FLOW_WIDTH = 64, 128
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "residual": partial(nn.LeakyReLU, 0.2), "preactivation": nn.SiLU, "strided": nn.ReLU, "pooled": nn.ELU,
}
# The config's padding -> what PyTorch fills a border with. "valid" has no border.
FILLS: dict[str, Literal["reflect", "zeros"]] = {"reflect": "reflect", "zeros": "zeros", "valid": "zeros"}


@dataclass
class VAEOutput:
    """One pass through the VAE.

    ``logits`` (n, 3, s, s) of the picture; ``mu`` and ``logvar`` of the Gaussian, the ``noise`` drawn and the sampled
    ``z``, each (n, d). Where the model has a flow, ``log_scale`` (n, d), by how much it stretched each latent; where it
    has a decoder of masks, ``mask`` (n, 1, s, s), the logits of where the face is.
    """

    logits: Tensor
    mu: Tensor
    logvar: Tensor
    noise: Tensor
    z: Tensor
    log_scale: Tensor | None = None
    mask: Tensor | None = None


class VAE(nn.Module):
    """Variational autoencoder (Kingma & Welling 2014) with the networks that a ``VAEConfig`` describes."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.flow = Flow(config) if config.flow else None
        self.decoder = Decoder(config)
        self.mask_decoder = Decoder(config, channels=1) if config.mask else None

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n, 3, s, s) in [0, 1] -> ``mu``, ``logvar``, each (n, d): q(z|x) = N(mu, diag(exp(logvar))).

        For a model with a flow: the flow's image of the Gaussian's mean, and the log-variance scaled by the flow there. That is
        the posterior to first order, without covariances.
        """
        mu, logvar, context = self.encoder(x)
        if self.flow is None:
            return mu, logvar
        z, log_scale = self.flow(mu, context)
        return z, logvar + 2 * log_scale

    def decode(self, z: Tensor, background: Tensor | None = None, placed: Tensor | None = None) -> Tensor:
        """Latents (n, d) -> images (n, 3, s, s) in [0, 1], for every config.

        A model with masks draws the face alone. It is laid over ``background``, images (n, 3, s, s) or (1, 3, s, s) in [0, 1],
        or else over mid grey, by the mask of z, or of the unedited faces ``placed`` (n, d) if given. Other models draw the
        background themselves.
        """
        if self.mask_decoder is None:
            return torch.sigmoid(self.decoder(z))
        picture, mask = self.cutout(z).split([3, 1], 1)
        if placed is not None:
            mask = torch.sigmoid(self.mask_decoder(placed))
        return mask * picture + (1 - mask) * (0.5 if background is None else background)

    def cutout(self, z: Tensor, placed: Tensor | None = None) -> Tensor:
        """Latents (n, d) -> (n, 4, s, s) in [0, 1]: the face and its mask, for models with ``config.mask``.

        The mask is that of the latents ``placed`` (n, d), if given.

        Raises
        ------
        ValueError
            The model has no decoder of masks.
        """
        if self.mask_decoder is None:
            raise ValueError("This model has no decoder of masks; one trained with the preset 'masked' has.")
        return torch.sigmoid(torch.cat([self.decoder(z), self.mask_decoder(z if placed is None else placed)], 1))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> VAEOutput:
        """Encode, draw z = mu + exp(logvar / 2) * noise, apply the flow, decode to logits.

        ``noise`` (n, d) is standard normal; it is drawn here unless given, which makes the pass reproducible.
        """
        mu, logvar, context = self.encoder(x)
        noise = torch.randn_like(mu) if noise is None else noise
        z = mu + torch.exp(0.5 * logvar) * noise
        z, log_scale = (z, None) if self.flow is None else self.flow(z, context)
        mask = None if self.mask_decoder is None else self.mask_decoder(z)
        return VAEOutput(self.decoder(z), mu, logvar, noise, z, log_scale, mask)


class Encoder(nn.Module):
    """(n, 3, s, s) -> mu, logvar, and the flow's context (n, FLOW_CONTEXT), None without a flow."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.block = config.block
        # True if inputs are rescaled from [0, 1] to [-1, 1].
        self.centred = config.block == "preactivation" or config.output == "tanh"
        channels, stages = 3, list(zip(config.encoder, config.depths, strict=True))
        if config.block in ("residual", "preactivation"):
            channels, _ = stages.pop(0)
            # (n, 3, s, s) -> (n, channels, s/2, s/2)
            self.stem = conv(config, 3, channels, kernel=config.kernel, stride=2)
            self.norm = norm(config, channels if config.block == "residual" else config.encoder[-1])
            self.activation = ACTIVATIONS[config.block]()
        blocks: list[nn.Module] = []
        for width, depth in stages:
            for i in range(depth):
                blocks.append(BLOCKS[config.block](config, channels, width, stride=2 if i == 0 else 1))
                channels = width
            if config.block == "pooled":
                blocks.append(nn.MaxPool2d(2))
        self.blocks = nn.Sequential(*blocks)
        features = channels * config.encoder_base ** 2
        self.hidden = nn.Sequential()
        if config.hidden:
            self.hidden = nn.Sequential(nn.Linear(features, config.hidden), norm(config, config.hidden, nn.BatchNorm1d),
                                        ACTIVATIONS[config.block]())
            features = config.hidden
        self.mu = nn.Linear(features, config.latents)
        self.logvar = nn.Linear(features, config.latents)
        self.mu_norm, self.logvar_norm = (
            norm(config, config.latents, nn.BatchNorm1d) if config.latent_norm else nn.Identity() for _ in range(2))
        self.context = nn.Linear(features, FLOW_CONTEXT) if config.flow else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Pictures (n, 3, s, s) in [0, 1] -> mu and logvar, each (n, d), and the flow's context, or None."""
        h = 2 * x - 1 if self.centred else x
        if self.block == "residual":
            h = self.blocks(self.activation(self.norm(self.stem(h))))
        elif self.block == "preactivation":
            h = self.activation(self.norm(self.blocks(self.stem(h))))
        else:
            h = self.blocks(h)
        h = self.hidden(h.flatten(1))
        # Float32 from here on, also under autocast: the KL is a sum of small differences.
        return (
            self.mu_norm(self.mu(h).float()),
            self.logvar_norm(self.logvar(h).float()),
            None if self.context is None else self.context(h).float(),
        )


class Flow(nn.Module):
    """A normalising flow (Rezende & Mohamed 2015) of affine couplings (Dinh et al. 2017), conditioned on the image's context.

    In every layer the odd latents transform the even ones, or the other way round: z_i <- z_i * exp(s_i) + t_i, where s and t
    depend on the others and on the context, so the Jacobian is triangular and its log-determinant is the sum of the s_i. The
    last linear layers start at zero: a new flow is the identity.
    """

    def __init__(self, config: VAEConfig):
        super().__init__()
        layers = []
        for i in range(config.flow):
            moved = len(range(i % 2, config.latents, 2))
            last = nn.Linear(FLOW_WIDTH, 2 * moved)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            layers.append(nn.Sequential(nn.Linear(config.latents - moved + FLOW_CONTEXT, FLOW_WIDTH), nn.SiLU(), last))
        self.layers = nn.ModuleList(layers)

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Z (n, d) and context (n, FLOW_CONTEXT) -> moved z and the log of each latent's scale, (n, d) each."""
        log_scale = torch.zeros_like(z)
        for i, layer in enumerate(self.layers):
            s, t = layer(torch.cat([z[:, (i + 1) % 2::2], context], 1)).float().chunk(2, 1)
            s = 2 * torch.tanh(s / 2)  # at most e^2 a layer
            moved = torch.zeros_like(z)
            moved[:, i % 2::2] = s
            log_scale = log_scale + moved
            shift = torch.zeros_like(z)
            shift[:, i % 2::2] = t
            z = z * moved.exp() + shift
        return z, log_scale


class Decoder(nn.Module):
    """(n, d) -> logits (n, ``channels``, s, s): the picture is their sigmoid."""

    def __init__(self, config: VAEConfig, channels: int = 3):
        super().__init__()
        # A tanh network's picture in [0, 1] is (tanh(h) + 1) / 2 = sigmoid(2 h): as logits, its outputs count double.
        self.scale = 2.0 if config.output == "tanh" else 1.0
        side, *sides = config.decoder_sides
        width, *stages = config.decoder
        self.base = (width, side, side)
        # Pooled decoders reshape z itself. Strided ones go from the linear layer straight into the convolutions; BatchNorm
        # there is over every unit.
        self.linear = nn.Identity() if config.block == "pooled" else nn.Linear(config.latents, width * side ** 2)
        self.norm = norm(config, width * side ** 2, nn.BatchNorm1d) if config.block == "strided" else nn.Identity()
        blocks: list[nn.Module] = []
        before = side
        depths = config.decoder_depth or (config.depth if isinstance(config.depth, int) else 1,) * len(stages)
        for stage, side, depth in zip(stages, sides, depths, strict=False):  # the last side may be the head's
            if config.block == "pooled":
                blocks.append(widening(config, width, before, side))
                width, before = config.narrow, side
            for i in range(depth):
                upsample = side if i == 0 and config.block != "pooled" else None
                blocks.append(BLOCKS[config.block](config, width, stage, upsample=upsample))
                width = stage
        if config.block == "preactivation":
            blocks += [norm(config, width), nn.SiLU()]
        self.blocks = nn.Sequential(*blocks)
        if config.head == "conv":
            self.head = nn.Sequential(last(config, width, channels))
        elif config.head == "pixelshuffle":
            self.head = nn.Sequential(last(config, width, 4 * channels), nn.PixelShuffle(2))
        else:
            self.head = nn.Sequential(doubling(config, width, channels))

    def forward(self, z: Tensor) -> Tensor:
        """Latents (n, d) -> logits (n, channels, s, s)."""
        h = self.norm(self.linear(z)).unflatten(1, self.base)  # (n, d) -> (n, c, 4, 4)
        # ``unflatten`` gives channels first; convolutions are fastest if picture and weights have the same layout.
        h = h.contiguous(memory_format=torch.channels_last)
        return self.scale * self.head(self.blocks(h)).float()


class ResidualBlock(nn.Module):
    """conv, norm, LeakyReLU, conv, norm, plus shortcut, LeakyReLU; the shortcut is 1x1 where the shape changes."""

    def __init__(self, config: VAEConfig, channels: int, width: int, stride: int = 1, upsample: int | None = None):
        super().__init__()
        self.upsample = nn.Upsample(size=upsample) if upsample else nn.Identity()
        self.conv1 = conv(config, channels, width, stride=stride, double=bool(upsample))
        self.norm1 = norm(config, width)
        self.conv2 = conv(config, width, width)
        self.norm2 = norm(config, width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(conv(config, channels, width, kernel=1, stride=stride),
                                          norm(config, width))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, width, ...)."""
        h = F.leaky_relu(self.norm1(self.conv1(x)), 0.2)
        # The shortcut commutes with upsampling, so it runs at the low resolution.
        return F.leaky_relu(self.norm2(self.conv2(h)) + self.upsample(self.shortcut(x)), 0.2)


class PreactivationBlock(nn.Module):
    """norm, SiLU, conv, norm, SiLU, conv, plus shortcut. The last convolution starts at zero: a new block is its shortcut.

    It upsamples between the convolutions and after the shortcut, so half of the work is done at a quarter of the pixels. Most
    of the decoder's speed comes from that.
    """

    def __init__(self, config: VAEConfig, channels: int, width: int, stride: int = 1, upsample: int | None = None):
        super().__init__()
        self.upsample = nn.Upsample(size=upsample) if upsample else nn.Identity()
        self.norm1 = norm(config, channels)
        self.conv1 = conv(config, channels, width, stride=stride)
        self.norm2 = norm(config, width)
        self.conv2 = conv(config, width, width, double=bool(upsample))
        nn.init.zeros_(self.conv2.weight)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.AvgPool2d(stride) if stride != 1 else nn.Identity(),
                                          conv(config, channels, width, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, width, ...)."""
        h = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(F.silu(self.norm2(h))) + self.upsample(self.shortcut(x))


class StridedBlock(nn.Sequential):
    """One convolution, norm, ReLU: with stride 2 to halve, transposed to double, else 3x3. Initialised as PyTorch does."""

    def __init__(self, config: VAEConfig, channels: int, width: int, stride: int = 1, upsample: int | None = None):
        kernel = config.kernel if stride == 2 else 3
        border = 0 if config.padding == "valid" else (kernel - 1) // 2
        layer = doubling(config, channels, width) if upsample else Conv2d(
            channels, width, kernel, stride, border, padding_mode=FILLS[config.padding])
        super().__init__(layer, norm(config, width), ACTIVATIONS[config.block]())


class PooledBlock(nn.Sequential):
    """A 3x3 convolution, norm, ELU. Pooling and ``widening``, between blocks, change the resolution."""

    def __init__(self, config: VAEConfig, channels: int, width: int, stride: int = 1, upsample: int | None = None):
        super().__init__(Conv2d(channels, width, 3, 1, 1, padding_mode=FILLS[config.padding]), norm(config, width),
                         ACTIVATIONS[config.block]())


BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "residual": ResidualBlock, "preactivation": PreactivationBlock, "strided": StridedBlock, "pooled": PooledBlock,
}


def norm(config: VAEConfig, width: int, batch: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    """The config's normalisation of ``width`` channels. BatchNorm's running mean decays by 0.99 a step."""
    if config.norm == "group":
        return nn.GroupNorm(config.groups, width, eps=config.norm_eps)
    return batch(width, eps=config.norm_eps, momentum=0.01) if config.norm == "batch" else nn.Identity()


def doubling(config: VAEConfig, channels: int, width: int) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles the resolution exactly."""
    return nn.ConvTranspose2d(channels, width, config.kernel, 2, (config.kernel - 1) // 2, output_padding=config.kernel % 2)


def widening(config: VAEConfig, channels: int, before: int, side: int) -> nn.Sequential:
    """A transposed 3x3 convolution to ``config.narrow`` channels, to twice as many pixels a side or one more."""
    odd = side % 2
    return nn.Sequential(nn.ConvTranspose2d(channels, config.narrow, 3, 2, 1 - odd, output_padding=1 - odd),
                         norm(config, config.narrow), ACTIVATIONS[config.block]())


class Conv2d(nn.Conv2d):
    """A convolution of a picture padded by ``bordered``."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, a, h, w) -> (n, b, ...), as ``nn.Conv2d``."""
        if self.padding_mode != "reflect":
            return super().forward(x)
        return F.conv2d(bordered(x, int(self.padding[0]), "reflect"), self.weight, self.bias, self.stride)


def bordered(x: Tensor, width: int, mode: str) -> Tensor:
    """Pictures (n, c, h, w) with a border of ``width`` pixels, "reflect" or "replicate", as ``F.pad`` makes it.

    On other devices than CPUs it is made of slices: there PyTorch's own kernels lose channels_last, add gradients in no fixed
    order, and cannot always be compiled.
    """
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        return F.pad(x, (width,) * 4, mode=mode)
    for dim in (2, 3):
        side = x.shape[dim]
        if mode == "reflect":
            before, after = x.narrow(dim, 1, width).flip(dim), x.narrow(dim, side - 1 - width, width).flip(dim)
        else:
            before, after = (torch.cat([x.narrow(dim, at, 1)] * width, dim) for at in (0, side - 1))
        x = torch.cat([before, x, after], dim)
    return x.contiguous(memory_format=torch.channels_last)


class DoublingConv2d(nn.Conv2d):
    """A 3x3 convolution of the nearest-upsampled picture, (n, c, s, s) -> (n, w, 2s, 2s), at 4/9 of its arithmetic.

    Upsampled pixels come in pairs, so a 3x3 window sees 2x2 different ones. A transposed convolution with stride 2 and a 4x4
    kernel of sums of the weights computes the same.
    """

    _known: tuple[Tensor, int, Tensor] | None = None  # weights, their version, and their sums

    def forward(self, x: Tensor) -> Tensor:
        """(n, a, h, w) -> (n, b, 2 h, 2 w)."""
        weight, padding = self._summed(), 1
        if self.padding_mode == "reflect":
            # The reflection of an upsampled picture is the repetition of its edge.
            x, padding = bordered(x, 1, "replicate"), 3
        return F.conv_transpose2d(x, weight, self.bias, 2, padding)

    def _summed(self) -> Tensor:
        """(w, c, 3, 3) -> (c, w, 4, 4). Kept between passes for inference: for one picture, summing takes longer than the rest.

        A training step always begins with a pass for gradients, which drops the sums. Fused optimisers change the weights
        without a new ``_version``, so comparing versions is not enough.
        """
        inference = not (torch.is_grad_enabled() or self.training)
        if self._known is not None:
            weight, version, sums = self._known
            if inference and weight.data_ptr() == self.weight.data_ptr() and version == self.weight._version:
                return sums
            self._known = None
        sums = _paired(_paired(self.weight, 2), 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        if inference:
            self._known = self.weight.detach(), self.weight._version, sums
        return sums

    def train(self, mode: bool = True) -> "DoublingConv2d":
        """Set the mode, and drop the cached sums: the weights may change or have changed."""
        self._known = None
        return super().train(mode)

    def _load_from_state_dict(self, *arguments, **options) -> None:
        self._known = None
        super()._load_from_state_dict(*arguments, **options)


def _paired(weight: Tensor, dim: int) -> Tensor:
    """A kernel of 3 along ``dim`` -> the kernel of 4 of the equivalent transposed convolution."""
    before, at, after = weight.unbind(dim)
    return torch.stack([after, at + after, before + at, before], dim)


def last(config: VAEConfig, channels: int, width: int) -> nn.Conv2d:
    """The head's convolution, with ``config.head_padding``."""
    return conv(config, channels, width, kernel=config.head_kernel, bias=True,
                padding=config.padding if config.head_padding == "same" else config.head_padding)


def conv(config: VAEConfig, channels: int, width: int, kernel: int = 3, stride: int = 1, bias: bool = False,
         double: bool = False, padding: str | None = None) -> nn.Conv2d:
    """A convolution that keeps (or, with stride 2, halves) the resolution, with Kaiming initialisation.

    With ``double`` it convolves the picture upsampled to twice the resolution. ``padding`` is the config's unless given.
    """
    kind: type[nn.Conv2d] = DoublingConv2d if double else Conv2d
    layer = kind(channels, width, kernel, stride, padding=(kernel - 1) // 2, bias=bias,
                 padding_mode=FILLS[padding or config.padding] if kernel > 1 else "zeros")
    nn.init.kaiming_normal_(layer.weight, a=0.2, nonlinearity="leaky_relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
