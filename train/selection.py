"""Which direction serves an attribute best, measured on pictures: what an edit does, and what else it does.

The judge is a classifier of pixels (``train/classifier.py``). A probe on the latents would flatter every edit of the
latents: it sees the step that was taken, not the picture that came of it.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from betavae.classifier import Classifier
from betavae.directions import Direction, Directions
from betavae.model import VAE
from train import probes
from train.classifier import MIRRORED

BATCH = 250
DOSES = (-1.0, -2 / 3, -1 / 3, 0.0, 1 / 3, 2 / 3, 1.0)  # shares of the largest dose
MAX_DISTANCE = 1.2    # edited faces may be this much further from the mean than unedited ones, by Mahalanobis distance
MAX_DOSE = 50.0       # strengths; of a direction along which the classes hardly differ, and which yet moves pictures
MIN_EFFECT = 0.5      # logits, or deviations: where the simple direction hardly works, the others are asked for this much
OPTIMISED_WEIGHTS = (0.5, 2.0, 8.0)
SHARED = (0.0, 0.8)
ALIKE = 0.95          # of two methods as good as that, the one that stays nearer to the data is better
BETTER = 1.1          # the simple direction, which anybody can check, stays where no other is better by a tenth
NUISANCES = 6
UNTOUCHED = {"background_brightness": ("face_brightness",), "background_warmth": ("face_brightness", "Pale_Skin"),
             "background_tint": ("face_brightness", "Pale_Skin"), "face_brightness": ("background_brightness",)}
UNTOUCHED_WEIGHT = 10.0
NO_LEAK = 1e-4        # logits; less than any picture's rounding
JACOBIAN_FACES = 400
QUICK_FACES, VAL_FACES = 48, 128
REPORTED = ("Smiling", "Eyeglasses", "Male", "Young", "Blond_Hair", "Black_Hair", "Bangs", "Bald", "Heavy_Makeup",
            "Pale_Skin", "Mustache", "Mouth_Slightly_Open", "yaw", "background_brightness")
SIMPLE = {True: "mean difference", False: "regression"}


class Judge:
    """A decoder and a classifier behind it: latents in, what the picture shows out.

    ``read`` gives attributes in logits and quantities in deviations of the training faces, so that changes of
    different columns can be compared.
    """

    def __init__(self, model: VAE, classifier: Classifier, device: torch.device):
        self.model, self.classifier, self.device = model.to(device), classifier.to(device), device
        self.names = classifier.names
        self.count = len(classifier.attributes)

    @torch.inference_mode()
    def read(self, z: Tensor) -> Tensor:
        """(n, d) -> (n, k), on the CPU."""
        out = torch.cat([self.classifier(self.model.decode(part.to(self.device))) for part in z.split(BATCH)])
        return ((out - self.classifier.mean) / self.classifier.deviation).cpu()

    @torch.inference_mode()
    def features(self, z: Tensor) -> Tensor:
        """(n, d) -> (n, 192), unit length: what the classifier tells faces apart by."""
        parts = [self.classifier.features(self.model.decode(part.to(self.device))) for part in z.split(BATCH)]
        return torch.nn.functional.normalize(torch.cat(parts).cpu(), dim=1)

    @torch.inference_mode()
    def encoded(self, z: Tensor) -> Tensor:
        """The posterior means of the faces' own pictures: (n, d) -> (n, d)."""
        return torch.cat([self.model.encode(self.model.decode(part.to(self.device)))[0].cpu() for part in z.split(BATCH)])

    def jacobians(self, z: Tensor, step: float = 0.5) -> Tensor:
        """Slopes of every output by every latent at faces z: (n, d) -> (n, k, d), by central differences.

        Over half a prior deviation, not at a point: an edit is a large step, and the slope that matters is the one
        over such a distance.
        """
        slopes = []
        for latent in range(z.shape[1]):
            offset = step * torch.nn.functional.one_hot(torch.tensor(latent), z.shape[1])
            slopes.append((self.read(z + offset) - self.read(z - offset)) / (2 * step))
        return torch.stack(slopes, 2)


@dataclass(frozen=True)
class Intervention:
    """What moving faces along a direction, up and down by ``dose``, does to their pictures.

    effect : mean change of the target's output (logits, or deviations of a quantity)
    leak : mean absolute change of the other attributes' logits, face by face
    bias : absolute value of their mean change over the faces, up and down apart: what is left of the leak where
        faces differ in its sign
    selectivity : effect / leak
    monotonicity : share of steps between 7 doses, and of faces, in which the target's output rises
    drift : share of the step that is lost when the edited picture is encoded again, by Mahalanobis distance
    identity : cosine distance from the unedited face in the classifier's features, as a share of that between two people
    distance : mean Mahalanobis distance of the edited latents over that of the unedited
    """

    dose: float
    effect: float
    leak: float
    bias: float
    selectivity: float
    monotonicity: float
    drift: float
    identity: float
    distance: float


def measure(judge: Judge, z: Tensor, vector: Tensor, name: str, dose: float, space: Directions) -> Intervention:
    """``Intervention`` of a direction over faces z (n, d)."""
    target = judge.names.index(name)
    outputs = torch.stack([judge.read(z + share * dose * vector) for share in DOSES])  # (7, n, k)
    effect, leak, bias = _change(judge, outputs[3], outputs[6], outputs[0], target)
    rises = (outputs[1:, :, target] > outputs[:-1, :, target]).float().mean()
    still, up, down = (judge.features(z + sign * dose * vector) for sign in (0, 1, -1))
    apart = 1 - (still * still.roll(1, 0)).sum(1).mean()
    turned = 1 - (torch.cat([up, down]) * torch.cat([still, still])).sum(1).mean()
    return Intervention(dose, effect, leak, bias, effect / max(leak, NO_LEAK), float(rises),
                        _drift(judge, space, z, dose * vector), float(turned / apart), _further(space, z, dose * vector))


def dose_for(judge: Judge, z: Tensor, vector: Tensor, name: str, effect: float, still: Tensor | None = None,
             limit: float = MAX_DOSE) -> float:
    """The strength at which the mean effect, up and down, is ``effect``, by secant steps from strength 1."""
    still = judge.read(z) if still is None else still
    before, reached, dose = 0.0, 0.0, 1.0
    for _ in range(2):
        # Effects are nearly proportional to the dose, so a few steps suffice.
        now = change(judge, z, dose * vector, name, still)[0]
        slope = (now - reached) / (dose - before) if dose != before else 0.0
        before, reached, dose = dose, now, min(limit, max(0.05, dose + (effect - now) / max(slope, 0.02 * effect)))
    return dose


def far(direction: Direction) -> float:
    """The strength that takes a face from the middle of the data to its end along a direction."""
    return (direction.high - direction.low) / 2


def _drift(judge: Judge, space: Directions, z: Tensor, shift: Tensor) -> float:
    """How far the pictures of moved faces are, for the encoder, from where they were moved to, over the step's length."""
    still, up, down = (judge.encoded(z + sign * shift) for sign in (0, 1, -1))
    missed = torch.cat([up - still - shift, down - still + shift])
    return float(space.distance(space.mean + missed).mean() / space.distance(space.mean + shift[None])[0])


def _further(space: Directions, z: Tensor, shift: Tensor) -> float:
    """Mean Mahalanobis distance of faces moved by ``shift``, up and down, over that of the faces."""
    return float(space.distance(torch.cat([z + shift, z - shift])).mean() / space.distance(z).mean())


@dataclass(frozen=True)
class Faces:
    """Training faces from which candidates are made.

    ``mu`` (n, d), ``mirrored`` (n, d) of the mirrored pictures, ``columns`` name -> (n,) of 0 / 1 or of numbers with
    NaN where unknown, ``jacobians`` (m, k, d) at some of them (``Judge.jacobians``).
    """

    mu: Tensor
    mirrored: Tensor
    columns: dict[str, np.ndarray]
    jacobians: Tensor


def candidates(judge: Judge, faces: Faces, sigma: Tensor, name: str, partial: Tensor) -> dict[str, Tensor]:
    """Every method's direction for one attribute or quantity, in the project's unit: method -> (d,)."""
    y = faces.columns[name]
    known = np.isfinite(y)
    mu, y = faces.mu[torch.from_numpy(known)], y[known]
    binary = name in judge.classifier.attributes
    target = judge.names.index(name)
    simple = probes.mean_difference(mu, y) if binary else probes.regression(mu, y)
    filters = {"ridge": probes.ridge(mu, y)} | ({"logistic": probes.logistic(mu, y)} if binary else {})
    made = {SIMPLE[binary]: simple, **filters}
    made["pattern"] = probes.pattern(filters["logistic" if binary else "ridge"], sigma)
    made["partial"] = partial
    # Orthogonal to the attributes that the simple direction moves most besides its own.
    moved = (faces.jacobians[:, :judge.count] @ simple).abs().mean(0)
    if binary:
        moved[target] = 0
    nuisances = [judge.names[i] for i in moved.argsort(descending=True)[:NUISANCES].tolist()]
    vectors = torch.stack([probes.mean_difference(faces.mu, faces.columns[other]) for other in nuisances])
    made["conditional"] = probes.conditional(simple, vectors, sigma)
    if name in MIRRORED:
        made["antisymmetric"] = probes.antisymmetric(mu, faces.mirrored[torch.from_numpy(known)], y)
    # A brighter background must not come with a brighter face, or it is a brighter picture.
    others = torch.ones(len(judge.names))
    others[[judge.names.index(other) for other in UNTOUCHED.get(name, ())]] = UNTOUCHED_WEIGHT
    others[target] = 0
    for weight, shared in itertools.product(OPTIMISED_WEIGHTS, SHARED):
        made[f"optimised ({weight:g}, {shared:g})"] = probes.optimised(faces.jacobians, target, others, sigma, weight, shared)
    return {method: probes.in_unit(vector, mu, y)[0] for method, vector in made.items()}


def choose(judge: Judge, faces: Faces, val: Tensor, space: Directions, progress: Callable = iter
           ) -> tuple[Directions, dict[str, dict[str, dict]]]:
    """For every name the direction whose pictures change most in it for what else changes, among all methods.

    Methods are compared on val faces at one dose each: that at which the effect is what the simple direction (mean
    difference, or regression) has where it leads to the end of the data (``far``), for there glasses are glasses. The measure is the geometric mean of effect over leak and effect over
    bias (``Intervention``); of methods that do about equally well, the one that stays nearest to the data is taken. One
    that needs to take faces further from the data than MAX_DISTANCE, or does not have that effect at any dose, is out,
    unless that goes for all, and the simple direction stays unless another is better by a tenth.

    Parameters
    ----------
    val : Tensor
        (n, d) latents of val faces.
    space : Directions
        The simple directions (``probes.simple_directions``).

    Returns
    -------
    directions : Directions
        The chosen ones, with what was measured of each in ``Direction.measured``.
    table : dict
        name -> method -> dose, effect, leak, bias, distance, merit.
    """
    sigma = space.covariance
    partial = probes.partial(faces.mu, np.stack(list(faces.columns.values()), 1))
    quick = val[:QUICK_FACES]
    still, chosen, table = judge.read(quick), [], {}
    for name in progress(space.names):
        if name not in judge.names:
            # A joined condition: no output of the classifier stands for it.
            chosen.append(space[name])
            continue
        vectors = candidates(judge, faces, sigma, name, partial[list(faces.columns).index(name)])
        simple = next(iter(vectors))
        effect = max(change(judge, quick, far(space[name]) * vectors[simple], name, still)[0], MIN_EFFECT)
        table[name] = {}
        for method, vector in vectors.items():
            dose = dose_for(judge, quick, vector, name, effect, still)
            reached, leak, bias = change(judge, quick, dose * vector, name, still)
            table[name][method] = {"dose": dose, "effect": reached, "leak": leak, "bias": bias,
                                   "distance": _further(space, quick, dose * vector),
                                   "merit": max(reached, 0.0) / max(leak * bias, NO_LEAK ** 2) ** 0.5}
        # A timid edit leaks little, and must not win by that.
        equal = {m: row for m, row in table[name].items() if row["effect"] > 0.9 * effect} or table[name]
        near = {m: row for m, row in equal.items() if row["distance"] <= MAX_DISTANCE} or equal
        enough = ALIKE * max(row["merit"] for row in near.values())
        best = min((m for m, row in near.items() if row["merit"] >= enough), key=lambda method: near[method]["distance"])
        if near[best]["merit"] < BETTER * table[name][simple]["merit"]:
            best = simple
        measured = asdict(measure(judge, val, vectors[best], name, table[name][best]["dose"], space))
        chosen.append(dataclasses.replace(space[name], vector=vectors[best], method=best, measured=measured))
    return space.having(chosen), table


def change(judge: Judge, z: Tensor, shift: Tensor, name: str, still: Tensor | None = None) -> tuple[float, float, float]:
    """Effect, leak and bias of moving faces by ``shift``, up and down: see ``Intervention``.

    ``still`` is ``judge.read(z)``, where it is at hand.
    """
    still = judge.read(z) if still is None else still
    up, down = judge.read(torch.cat([z + shift, z - shift])).chunk(2)
    return _change(judge, still, up, down, judge.names.index(name))


def _change(judge: Judge, still: Tensor, up: Tensor, down: Tensor, target: int) -> tuple[float, float, float]:
    steps = torch.stack([up - still, still - down])  # (2, n, k): both towards more
    others = [i for i in range(judge.count) if i != target]
    return (float(steps[:, :, target].mean()), float(steps[:, :, others].abs().mean()),
            float(steps[:, :, others].mean(1).abs().mean()))


def reach(judge: Judge, z: Tensor, directions: Directions, name: str) -> dict[str, float]:
    """How far an edit gets inside the range in which each face stays among the data (``Directions.safe``).

    Over faces z (n, d): the mean probability of an attribute, or mean of a quantity in its own unit, unedited ("still") and
    at the lower and upper end of each face's range ("low", "high").
    """
    column, vector = judge.names.index(name), directions[name].vector
    ends = torch.tensor([directions.safe(face, name) for face in z])  # (n, 2)
    figures = {}
    for key, strengths in (("low", ends[:, :1]), ("still", torch.zeros(len(z), 1)), ("high", ends[:, 1:])):
        outputs = judge.read(z + strengths * vector)[:, column]
        figures[key] = float(torch.sigmoid(outputs).mean() if column < judge.count else
                             (outputs * judge.classifier.deviation[column].cpu() + judge.classifier.mean[column].cpu()).mean())
    return figures


@torch.inference_mode()
def outside(judge: Judge, z: Tensor, shift: Tensor, masks: Tensor) -> float:
    """How much more an edit changes the background than the person: mean absolute change of the pixels outside of the
    masks over that inside, of faces z (n, d) moved up and down by ``shift``; masks uint8 (n, s, s), 255 is person."""
    person, changed = (masks > 127).double()[:, None], []
    for sign in (1, -1):
        pictures = [torch.cat([judge.model.decode(part.to(judge.device)).cpu() for part in moved.split(BATCH)])
                    for moved in (z, z + sign * shift)]
        changed.append((pictures[1] - pictures[0]).abs().mean(1, keepdim=True).double())
    change = torch.stack(changed).mean(0)
    return float(((change * (1 - person)).sum() / (1 - person).sum()) / ((change * person).sum() / person.sum()))


def held_out(directions: Directions, mu: Tensor, columns: Mapping[str, np.ndarray]) -> Directions:
    """The same directions with how well their scores tell faces mu (n, d) that they were not made from.

    ``measured`` gets "auroc" for an attribute, "correlation" for a quantity.
    """
    told = []
    for direction, scores in zip(directions.values(), directions.scores(mu).T.numpy()):
        y = columns.get(direction.name)
        figure = {}
        if y is not None and direction.unit == "strength" and 0 < y.sum() < len(y):
            figure = {"auroc": float(roc_auc_score(y, scores))}
        elif y is not None and direction.unit != "strength":
            known = np.isfinite(y)
            figure = {"correlation": float(np.corrcoef(y[known], scores[known])[0, 1])}
        told.append(dataclasses.replace(direction, measured=direction.measured | figure))
    return directions.having(told)


def effects(judge: Judge, z: Tensor, directions: Directions) -> Tensor:
    """What each direction changes of every output, on average, at the dose it was measured at or strength 1:
    (directions, outputs)."""
    rows = []
    for direction in directions.values():
        shift = direction.measured.get("dose", 1.0) * direction.vector
        up, down = judge.read(torch.cat([z + shift, z - shift])).chunk(2)
        rows.append((up - down).mean(0) / 2)
    return torch.stack(rows)


def compare(judge: Judge, z: Tensor, simple: Directions, chosen: Directions, names: Iterable[str]) -> dict[str, dict]:
    """The chosen directions against the simple ones at equal effect, over faces z (n, d): name -> figures.

    The effect is the simple direction's at the end of the data (``far``), or MIN_EFFECT where that is more.
    """
    few, still, table = z[:4 * QUICK_FACES], judge.read(z), {}
    for name in names:
        effect = max(change(judge, few, far(simple[name]) * simple[name].vector, name, still[:len(few)])[0], MIN_EFFECT)
        row = {"method": chosen[name].method}
        for kind, directions in (("simple", simple), ("chosen", chosen)):
            vector = directions[name].vector
            dose = dose_for(judge, few, vector, name, effect, still[:len(few)])
            reached, leak, bias = change(judge, z, dose * vector, name, still)
            row[kind] = {"dose": dose, "effect": reached, "leak": leak, "bias": bias}
        for gain, kind in (("gain", "leak"), ("gain_bias", "bias")):
            selectivity = {which: row[which]["effect"] / max(row[which][kind], NO_LEAK) for which in ("simple", "chosen")}
            row[gain] = selectivity["chosen"] / selectivity["simple"]
        table[name] = row
    return table
