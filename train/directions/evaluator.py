"""The effects and side effects of an edit on pictures.

A classifier of pixels reads the attributes (``train/classifier.py``). A probe on the latents would favour every edit: it sees
the step, not the resulting picture.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from betavae.classifier import Classifier
from betavae.directions import Direction
from betavae.image import from_uint8
from betavae.model import VAE
from train.directions.simple import covariance

BATCH = 250
REFERENCE_FACES = 4000  # training faces, the reference of outlier scores
MAX_STRENGTH = 50.0     # if classes hardly differ along a direction that still changes pictures
SEARCH_STEPS = 8        # of ``strength_for``
NONE = 1e-4             # logits; less than any picture's rounding


def of_background(name: str) -> bool:
    """True if an edit of ``name`` should change the background and leave the person alone."""
    return name.startswith("background")


class Observation(NamedTuple):
    """Decoded pictures and the classifier's outputs for them.

    ``pictures`` (n, 3, s, s); ``outputs`` (n, k), logits of attributes and deviations of quantities
    (``Classifier.standard``); ``outlier_scores`` (n,).
    """

    pictures: Tensor
    outputs: Tensor
    outlier_scores: Tensor


class Evaluator:
    """A decoder and a classifier of its pictures: latents in, ``Observation`` out.

    The outlier score of a picture is the squared Mahalanobis distance of its features from those of the decoded ``reference``
    faces (m, d), over its mean there (Lee et al. 2018): 1 is usual. It detects pictures with the right attributes and no face.
    """

    def __init__(self, model: VAE, classifier: Classifier, device: torch.device, reference: Tensor):
        self.model, self.classifier, self.device = model.to(device), classifier.to(device), device
        self.model.requires_grad_(False), self.classifier.requires_grad_(False)
        self.names = classifier.names
        self.attributes = len(classifier.attributes)  # the first outputs; quantities follow
        with torch.no_grad():
            features = torch.cat([self.classifier.features(self.model.decode(z.to(device))) for z in reference.split(BATCH)])
        self._mean = features.mean(0)
        # The inverse root of the covariance: whitened features have unit variance.
        self._whitening = torch.linalg.inv(torch.linalg.cholesky(covariance(features.cpu()))).T.to(device)
        self._scale = self._distance(features).mean()

    def forward(self, z: Tensor) -> Observation:
        """Decode and classify z (n, d) in one batch on the device; gradients flow back to z."""
        pictures = self.model.decode(z)
        features = self.classifier.features(pictures)
        return Observation(pictures, self.classifier.head(features), self._distance(features) / self._scale)

    @torch.no_grad()
    def observe(self, z: Tensor) -> Observation:
        """``forward`` without gradients, of any number of faces z (n, d); the results are on the CPU."""
        parts = [[part.cpu() for part in self.forward(faces.to(self.device))] for faces in z.split(BATCH)]
        return Observation(*map(torch.cat, zip(*parts, strict=True)))

    @torch.no_grad()
    def classify(self, pixels: Tensor) -> Tensor:
        """The classifier's outputs (n, k) for photographs, uint8 (n, s, s, 3); on the CPU."""
        return torch.cat([self.classifier.standard(from_uint8(part).to(self.device)).cpu() for part in pixels.split(BATCH)])

    def index(self, name: str) -> int:
        """The output that stands for ``name``."""
        return self.names.index(name)

    def _distance(self, features: Tensor) -> Tensor:
        return ((features - self._mean) @ self._whitening).square().sum(1)


@dataclass(frozen=True)
class Effects:
    """The changes of each face by one step, from which all figures are computed.

    ``changes`` (n, k) of the outputs, positive in the direction in which the face was moved; ``pixels`` (n,) mean absolute
    change of the pixels that could stay; ``outlier_scores`` (n,) of the edited pictures; ``target`` the output that should
    change; ``attributes`` how many of the outputs are attributes.
    """

    changes: Tensor
    pixels: Tensor
    outlier_scores: Tensor
    target: int
    attributes: int

    @property
    def others(self) -> Tensor:
        """(n, m) changes of the attributes that should stay."""
        kept = [i for i in range(self.attributes) if i != self.target]
        return self.changes[:, kept]

    def means(self, weights: Tensor | None = None) -> dict[str, Tensor]:
        """Every figure as a weighted mean over faces: weights (b, n), rows summing to 1, -> name -> (b,).

        effect : change of the target's output, in logits or deviations
        side_effect_absolute : mean |change| of the other attributes' logits, face by face
        side_effect_mean : |mean change over the faces| of the other attributes' logits
        pixels, outlier_score : see above
        """
        weights = torch.full((1, len(self.changes)), 1 / len(self.changes)) if weights is None else weights
        return {"effect": weights @ self.changes[:, self.target], "side_effect_absolute": weights @ self.others.abs().mean(1),
                "side_effect_mean": (weights @ self.others).abs().mean(1), "pixels": weights @ self.pixels,
                "outlier_score": weights @ self.outlier_scores}

    @property
    def effect(self) -> float:
        """Mean change of the target's output over the faces."""
        return float(self.changes[:, self.target].mean())


def sides(evaluator: Evaluator, unedited: Observation, name: str) -> Tensor:
    """The sign to move each face by: -1 if ``name`` is present (a quantity: above its mean), else +1: (n,).

    Glasses are put on faces without them and taken off faces with them; the opposite is not an edit.
    """
    return torch.where(unedited.outputs[:, evaluator.index(name)] > 0, -1.0, 1.0)


def effects(evaluator: Evaluator, z: Tensor, step: Tensor, name: str, unedited: Observation | None = None,
            masks: Tensor | None = None, back: bool = False) -> Effects:
    """``Effects`` of moving faces z (n, d) by ``step``, (d,) or (n, d), each to its other side.

    Parameters
    ----------
    unedited : Observation
        ``evaluator.observe(z)``, if at hand.
    masks : Tensor
        uint8 (n, s, s), 255 is person: with them an edit of the background counts the person's pixels alone.
    back : bool
        True to push every face further the way it already is.
    """
    unedited = unedited or evaluator.observe(z)
    side = sides(evaluator, unedited, name) * (-1 if back else 1)
    edited = evaluator.observe(z + side[:, None] * step)
    return Effects(side[:, None] * (edited.outputs - unedited.outputs),
                   pixel_changes(unedited.pictures, edited.pictures, name, masks), edited.outlier_scores, evaluator.index(name),
                   evaluator.attributes)


def both_ways(evaluator: Evaluator, z: Tensor, step: Tensor, name: str, unedited: Observation,
              masks: Tensor | None = None) -> tuple[Effects, Effects]:
    """``effects`` of a step, and of the step back: every face pushed further the way it already is."""
    there, back = (effects(evaluator, z, step, name, unedited, masks, back) for back in (False, True))
    return there, back


def pixel_changes(before: Tensor, after: Tensor, name: str, masks: Tensor | None) -> Tensor:
    """Mean absolute change of each picture's pixels that an edit of ``name`` could leave alone: (n,)."""
    changes = (after - before).abs().mean(1)  # (n, s, s)
    if of_background(name) and masks is not None:
        person = (masks > 127).float()
        return (changes * person).sum((1, 2)) / person.sum((1, 2)).clamp_min(1)
    return changes.mean((1, 2))


def strength_for(evaluator: Evaluator, z: Tensor, direction: Direction, effect: float, unedited: Observation | None = None,
                 start: float = 1.0, limit: float = MAX_STRENGTH) -> float:
    """The strength with the mean ``effect`` on faces z (n, d), to a hundredth, by false position; at most ``limit``.

    A ``start`` near the answer saves evaluations.
    """
    unedited = unedited or evaluator.observe(z)
    low, high, strength = (0.0, 0.0), None, min(start, limit)
    for _ in range(SEARCH_STEPS):
        now = effects(evaluator, z, strength * direction.vector, direction.name, unedited).effect
        if abs(now - effect) < 0.01 * effect or (now < effect and strength == limit):
            break
        if now > effect:
            high = strength, now
        else:
            low = strength, now
        if high:
            strength = low[0] + (high[0] - low[0]) * (effect - low[1]) / (high[1] - low[1])
        else:
            # Effects may grow faster than the strength: do not overshoot by extrapolating from the first steps.
            strength = min(limit, strength * min(3.0, effect / max(now, 0.02 * effect)))
    return strength


def half_range(direction: Direction) -> float:
    """The strength from the middle of the data to its end along a direction."""
    return (direction.high - direction.low) / 2
