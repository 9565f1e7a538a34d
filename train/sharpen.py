"""Train the second decoder: sharp pictures from the latents of a frozen VAE.

    python train/run.py --data DIR --preset NAME --stages sharpen --out FOLDER

A patch discriminator that is shown the honest decode beside each picture judges the detail (hinge loss, spectral norm: Miyato
et al. 2018; pix2pix: Isola et al. 2017), and its features are matched (pix2pixHD: Wang et al. 2018). What keeps the detail true
to the face: the picture's low frequencies must be the decode's, L1, and the distance in the features of the run's classifier.
The adversarial weight follows the ratio of the gradients at the last layer (VQGAN: Esser et al. 2021, equation 7), after a
start without it; DiffAugment (Zhao et al. 2020) keeps the discriminator from learning the faces by heart.
"""

import copy
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from tqdm import tqdm

from betavae.classifier import Classifier
from betavae.image import from_uint8
from betavae.model import VAE
from betavae.sharp import SharpConfig, Sharpener, upsampled
from train import metrics
from train.batches import Batches
from train.checkpoint import Averaged, Checkpoint
from train.loop import autocast, keep_memory
from train.ranks import ALONE

GRID = 16  # pixels of the sharp picture between two places that the classifier's last map sees
LOG_EVERY = 50
SAVE_SECONDS = 120.0


@dataclass(frozen=True)
class SharpenConfig:
    """Settings of one training of a sharpener. Every schedule is a function of images seen.

    Parameters
    ----------
    images, batch, lr, ema : int, int, float, float
        Images seen in all, a step; Adam's learning rate of both networks; half-life of the averaged weights as a share of
        the run.
    warmup : float
        Share of the run before the discriminator has a say; its say then grows over as much again.
    adversarial : float
        Of the gradient of the other terms at the last layer, how much the discriminator's may be.
    matching, lowpass, features : float
        Weights, beside an L1 of weight 1, of the discriminator's features, of the low frequencies, of the classifier's
        features.
    radius : int
        Pixels of the sharp picture over which "low frequencies" are averaged.
    seed : int
        Of weights, data order and augmentation.
    """

    images: int = 400_000
    batch: int = 16
    lr: float = 2e-4
    ema: float = 0.02
    warmup: float = 0.05
    adversarial: float = 0.5
    matching: float = 5.0
    lowpass: float = 10.0
    features: float = 0.5
    radius: int = 8
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of the training."""
        return -(-self.images // self.batch)


class Discriminator(nn.Module):
    """Pictures (n, 3, s, s) and the decodes they belong to, the same size -> feature maps.

    The last map, (n, 1, s/8, s/8), is the realness by patch.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        sizes = (6, width, 2 * width, 4 * width)
        self.layers = nn.ModuleList(spectral_norm(nn.Conv2d(a, b, 4, 2, 1)) for a, b in pairwise(sizes))
        self.last = spectral_norm(nn.Conv2d(sizes[-1], 1, 3, padding=1))

    def forward(self, picture: Tensor, decode: Tensor) -> list[Tensor]:
        """The feature maps, the last of them the realness by patch."""
        h, maps = 2 * torch.cat([picture, decode], 1) - 1, []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            maps.append(h)
        return [*maps, self.last(h)]


def augment(pictures: list[Tensor], random: np.random.Generator) -> list[Tensor]:
    """DiffAugment of pictures (n, 3, s, s) that belong together: one colour and translation for all, another in each row."""
    n, _, side, _ = pictures[0].shape
    device = pictures[0].device

    def draw(low: float, high: float) -> Tensor:
        return torch.from_numpy(random.uniform(low, high, (n, 1, 1, 1)).astype(np.float32)).to(device)

    brightness, saturation, contrast = draw(-0.5, 0.5), draw(0, 2), draw(0.5, 1.5)
    reach = side // 8
    rows, columns = random.integers(-reach, reach + 1, (2, n))
    out = []
    for x in pictures:
        x = x + brightness
        grey = x.mean(1, keepdim=True)
        x = (x - grey) * saturation + grey
        mean = x.mean((1, 2, 3), keepdim=True)
        x = (x - mean) * contrast + mean
        # Unbound, not indexed: the gradient of an index is as large as the whole batch.
        padded = F.pad(x, (reach,) * 4).unbind()
        out.append(torch.stack([one[:, reach + r:reach + r + side, reach + c:reach + c + side]
                                for one, r, c in zip(padded, rows, columns, strict=True)]))
    return out


def low(picture: Tensor, radius: int) -> Tensor:
    """The low frequencies of pictures (n, 3, s, s): means over ``radius`` x ``radius`` pixels, every half of that."""
    return F.avg_pool2d(picture, radius, radius // 2)


def resized(picture: Tensor, side: int) -> Tensor:
    """Pictures at the size that the classifier sees."""
    return F.interpolate(picture, (side, side), mode="area")


class Sharpening:
    """A training's networks and the step that moves them; a step is a function of the seed and its number alone.

    Parameters
    ----------
    model : VAE
        Frozen; ``classifier`` too, which sees pictures of ``model.config.image_size``.
    pixels : Tensor
        uint8 (n, 2s, 2s, 3), the training faces at the sharp picture's size; ``mu`` (n, d) are their latents.
    """

    def __init__(
        self, config: SharpenConfig, model: VAE, classifier: Classifier, pixels: Tensor, mu: Tensor, device: torch.device,
        bf16: bool = False,
    ):
        self.config, self.device = config, device
        # The discriminator moves within a step: a cast of its weights that is kept would be old.
        self.autocast = autocast(device, bf16, cache=False)
        if device.type == "cpu":
            keep_memory()
        self.model = model.to(device).eval().requires_grad_(False)
        self.classifier = classifier.to(device).eval().requires_grad_(False)
        self.mu = mu
        torch.manual_seed(config.seed)
        size = SharpConfig(model.config.latents, model.config.image_size)
        self.network = Sharpener(size).to(device).to(memory_format=torch.channels_last)
        self.critic = Discriminator().to(device).to(memory_format=torch.channels_last)
        self.optimizer, self.critic_optimizer = (torch.optim.Adam(part.parameters(), config.lr, (0.5, 0.99))
                                                 for part in (self.network, self.critic))
        self.average = Averaged(self.network, config.ema * config.images)
        self.batches = Batches(pixels, config.batch, config.seed, False, device)

    def step(self, step: int) -> dict[str, Tensor]:
        """Make step number ``step``; returns the terms of the losses, shape () each."""
        config = self.config
        (real, _), z = self.batches(step), self.mu[self.batches.rows(step)].to(self.device)
        with torch.no_grad():
            honest = self.model.decode(z)
            behind = upsampled(honest)
        with self.autocast:
            fake = self.network(honest, z)
            gradient, terms = self._gradient(step, fake, real, behind)
        self.optimizer.zero_grad(set_to_none=True)
        fake.backward(gradient)
        self.optimizer.step()
        self.average.update((step + 1) * config.batch, config.batch)
        return {name: value.detach() for name, value in terms.items()}

    def _gradient(self, step: int, fake: Tensor, real: Tensor, behind: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss's gradient with respect to the pictures drawn, and the loss's terms; a step of the discriminator.

        With respect to the pictures: what weighs the adversarial term needs the terms' gradients one by one, and the way back
        through the classifier and the discriminator is long.
        """
        config, random = self.config, np.random.default_rng((self.config.seed, 1, step))
        terms = {
            "l1": (fake - real).abs().mean(),
            "lowpass": (low(fake, config.radius) - low(behind, config.radius)).abs().mean(),
            "features": self._features(fake, real, random),
        }
        loss = terms["l1"] + config.lowpass * terms["lowpass"] + config.features * terms["features"]
        gradient, = torch.autograd.grad(loss, fake)
        begun = step * config.batch - config.warmup * config.images
        if begun < 0:
            return gradient, terms
        terms |= self._judge(real, fake.detach(), behind, random)
        seen, decode = augment([fake, behind], random)
        with torch.no_grad():
            wanted = self.critic(*augment([real, behind], random))
        made = self.critic(seen, decode)
        terms["matching"] = torch.stack([(a - b).abs().mean() for a, b in zip(made[:-1], wanted[:-1], strict=True)]).mean()
        terms["adversarial"] = -made[-1].mean()
        adversarial, = torch.autograd.grad(terms["adversarial"], fake, retain_graph=True)
        matching, = torch.autograd.grad(terms["matching"], fake)
        terms["weight"] = self._weight(fake, gradient, adversarial)
        # The features of a discriminator that has just begun say nothing: both of its terms come in slowly.
        ramp = min(1.0, (begun + config.batch) / (config.warmup * config.images + config.batch))
        return gradient + ramp * terms["weight"] * (adversarial + config.matching * matching), terms

    def _features(self, fake: Tensor, real: Tensor, random: np.random.Generator) -> Tensor:
        """Distance in the classifier's feature maps, each over its own size (Johnson et al. 2016).

        Every step moves the pictures elsewhere: the classifier's strides see some pixels more than others, and would draw a
        grid of them.
        """
        side, large = self.model.config.image_size, fake.shape[-1]
        row, column = random.integers(0, GRID + 1, 2)
        moved = (F.pad(x, (GRID // 2,) * 4, "reflect")[:, :, row:row + large, column:column + large] for x in (fake, real))
        ours, theirs = (_maps(self.classifier, resized(x, side)) for x in moved)
        return torch.stack([(a - b).abs().mean() / b.abs().mean() for a, b in zip(ours, theirs, strict=True)]).mean()

    def _judge(self, real: Tensor, fake: Tensor, behind: Tensor, random: np.random.Generator) -> dict[str, Tensor]:
        """A step of the discriminator, hinge loss."""
        right = self.critic(*augment([real, behind], random))[-1]
        wrong = self.critic(*augment([fake, behind], random))[-1]
        loss = F.relu(1 - right).mean() + F.relu(1 + wrong).mean()
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()
        return {"critic": loss, "margin": right.mean() - wrong.mean()}

    def _weight(self, fake: Tensor, rest: Tensor, adversarial: Tensor) -> Tensor:
        """VQGAN's weight of the adversarial term, from both gradients with respect to the pictures."""
        last = self.network.last.weight
        ours, theirs = (torch.autograd.grad(fake, last, way, retain_graph=True)[0].norm() for way in (rest, adversarial))
        return (self.config.adversarial * ours / (theirs + 1e-6)).clamp(max=10.0)


def _maps(classifier: Classifier, x: Tensor) -> list[Tensor]:
    h, maps = classifier.stem(2 * x - 1), []
    for block in classifier.blocks:
        h = block(h)
        maps.append(h)
    return maps


def fit_sharpener(config: SharpenConfig, model: VAE, classifier: Classifier, pixels: Tensor, mu: Tensor, out: Path,
                  device: torch.device, save_seconds: float = SAVE_SECONDS, bf16: bool = False) -> Sharpener:
    """Train to ``config.images`` and return the sharpener with its averaged weights, in eval mode.

    Goes on from the checkpoint in ``out / "sharpen"``. Logs there, ``log.jsonl``. ``bf16`` as for ``train.loop.fit``.

    Raises
    ------
    CheckpointError
        The checkpoint is of other settings, or cannot be read.
    """
    folder = Path(out) / "sharpen"
    folder.mkdir(parents=True, exist_ok=True)
    training = Sharpening(config, model, classifier, pixels, mu, device, bf16)
    checkpoint = Checkpoint(
        folder,
        repr(config),
        network=training.network,
        critic=training.critic,
        optimizer=training.optimizer,
        critic_optimizer=training.critic_optimizer,
        average=training.average,
    )
    checkpoint.load(ALONE)
    path = folder / "log.jsonl"
    if path.exists():  # what was logged after the checkpoint comes again
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:checkpoint.step // LOG_EVERY]), encoding="utf-8")
    saved = time.monotonic()
    with open(path, "a", encoding="utf-8") as log, tqdm(
            total=config.images, initial=checkpoint.step * config.batch, desc="sharpen", unit=" images", smoothing=0.05) as bar:
        while checkpoint.step < config.steps:
            terms = training.step(checkpoint.step)
            checkpoint.step += 1
            bar.update(config.batch)
            if checkpoint.step % LOG_EVERY == 0:
                log.write(
                    json.dumps({"images": checkpoint.step * config.batch, **{k: round(float(v), 5) for k, v in terms.items()}})
                    + "\n"
                )
                log.flush()
            if time.monotonic() - saved > save_seconds or checkpoint.step == config.steps:
                checkpoint.save()
                saved = time.monotonic()
    network = copy.deepcopy(training.network)
    network.load_state_dict(training.average.weights)
    return network.eval()


# ---- what it is worth -----------------------------------------------------------------------------------------------

FACES_A_CHUNK = 50
STEPS_ALONG = 9  # pictures along a slider, for its steadiness


def laplacian_energy(pictures: Tensor) -> Tensor:
    """Mean square of the Laplacian of the luma of pictures (n, 3, s, s) in [0, 1]: (n,). It falls with blur."""
    luma = (pictures * torch.tensor([0.299, 0.587, 0.114], device=pictures.device)[:, None, None]).sum(1, keepdim=True)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], device=pictures.device)[None, None]
    return F.conv2d(luma, kernel).square().mean((1, 2, 3))


@torch.inference_mode()
def measure(model: VAE, sharpener: Sharpener, pixels: Tensor, mu: Tensor, steps: dict[str, Tensor], judge: Classifier,
            device: torch.device, radius: int = SharpenConfig.radius) -> dict:
    """What the sharp pictures of faces are worth beside the honest ones.

    Parameters
    ----------
    pixels : Tensor
        uint8 (n, 2s, 2s, 3), real faces; ``mu`` (n, d) are their latents.
    steps : dict of Tensor
        Name -> (d,), what an edit of that name adds to z; names are the ``judge``'s columns, for the edits that are read.
    judge : Classifier
        One that neither the model nor the sharpener was trained with.

    Returns
    -------
    dict
        ``laplacian`` and ``laplacian_honest``: mean Laplacian energy over real photos'. ``frechet``, ``frechet_honest``:
        Fréchet distance from the real faces in the judge's features. ``lowpass``: mean absolute difference of the low
        frequencies from the honest decode's, in grey levels of 255. ``spearman``: by name, the rank correlation over faces
        of how far the judge sees the edit go in sharp and in honest pictures. ``steadiness``: how much the added detail
        changes between neighbouring pictures along an edit, over how much it changes between faces.
    """
    side = model.config.image_size
    model, sharpener, judge = model.to(device).eval(), sharpener.to(device).eval(), judge.to(device).eval()

    def pictures(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = z.to(device)
        honest = model.decode(z)
        return honest, upsampled(honest), sharpener(honest, z)

    def features(x: Tensor) -> Tensor:
        return judge.features(resized(x, side)).cpu()

    kept: dict[str, list[Tensor]] = defaultdict(list)
    for part, z in zip(pixels.split(FACES_A_CHUNK), mu.split(FACES_A_CHUNK), strict=True):
        real = from_uint8(part).to(device)
        _, behind, sharp = pictures(z)
        for key, x in (("real", real), ("honest", behind), ("sharp", sharp)):
            kept[key].append(features(x))
            kept[f"energy_{key}"].append(laplacian_energy(x).cpu())
        kept["lowpass"].append((low(sharp, radius) - low(behind, radius)).abs().mean((1, 2, 3)).cpu())
        kept["detail"].append((sharp - behind)[:8].cpu())
    rows = {key: torch.cat(value) for key, value in kept.items()}
    between = (rows["detail"][1:] - rows["detail"][:-1]).abs().mean()
    spearman, along = {}, []
    for name, step in steps.items():
        column = judge.names.index(name)
        changes = []
        for z in mu.split(FACES_A_CHUNK):
            shown = [pictures(latents) for latents in (z, z + step)]
            changes.append([(judge.standard(resized(after, side)) - judge.standard(resized(before, side)))[:, column].cpu()
                            for before, after in zip(shown[0][1:], shown[1][1:], strict=True)])
        ours, theirs = (torch.cat(column).numpy() for column in zip(*changes, strict=True))
        spearman[name] = float(spearmanr(ours, theirs).statistic)
        for z in mu[:4]:
            _, behind, sharp = pictures(z + torch.linspace(-1, 1, STEPS_ALONG)[:, None] * step)
            detail = sharp - behind
            along.append((detail[1:] - detail[:-1]).abs().mean().cpu())
    return {
        "faces": len(mu),
        "laplacian": float(rows["energy_sharp"].mean() / rows["energy_real"].mean()),
        "laplacian_honest": float(rows["energy_honest"].mean() / rows["energy_real"].mean()),
        "frechet": metrics.frechet_distance(rows["sharp"], rows["real"]),
        "frechet_honest": metrics.frechet_distance(rows["honest"], rows["real"]),
        "lowpass": float(255 * rows["lowpass"].mean()),
        "spearman": spearman,
        "steadiness": float(torch.stack(along).mean() / between) if along else None,
    }
