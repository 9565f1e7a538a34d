"""Which direction serves an attribute best, measured on pictures: what an edit does, and what else it does.

The judge is a classifier of pixels (``train/classifier.py``). A probe on the latents would flatter every edit of the
latents: it sees the step that was taken, not the picture that came of it.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

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
OPTIMISED_LENGTHS = (2.0, 8.0)
OPTIMISED_PICTURES = (1.0, 3.0)
ALIKE = 0.95          # of two methods as good as that, the one that stays nearer to the data is better
BETTER = 1.1          # the simple direction, which anybody can check, stays where no other is better by a tenth
NUISANCES = 6
UNTOUCHED = {"background_brightness": ("face_brightness",), "background_warmth": ("face_brightness", "Pale_Skin"),
             "background_tint": ("face_brightness", "Pale_Skin"), "face_brightness": ("background_brightness",)}
UNTOUCHED_WEIGHT = 10.0
NO_LEAK = 1e-4        # logits; less than any picture's rounding
SLOPE_FACES = 400
SLOPE_BATCH = 50       # faces whose pictures' slopes are held at a time
QUICK_FACES, VAL_FACES = 48, 128
REPORTED = ("Smiling", "Eyeglasses", "Male", "Young", "Blond_Hair", "Black_Hair", "Bangs", "Bald", "Heavy_Makeup",
            "Pale_Skin", "Mustache", "Mouth_Slightly_Open", "yaw", "background_brightness")
GAINS = {"leak": "gain", "bias": "gain_bias", "pixels": "gain_pixels"}
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
    def look(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (n, 3, s, s) and what they show (n, k) of latents (n, d), on the CPU."""
        pictures, outputs = [], []
        for part in z.split(BATCH):
            picture = self.model.decode(part.to(self.device))
            pictures.append(picture.cpu())
            outputs.append(((self.classifier(picture) - self.classifier.mean) / self.classifier.deviation).cpu())
        return torch.cat(pictures), torch.cat(outputs)

    def read(self, z: Tensor) -> Tensor:
        """(n, d) -> (n, k), on the CPU."""
        return self.look(z)[1]

    @torch.inference_mode()
    def features(self, pictures: Tensor) -> Tensor:
        """(n, 3, s, s) -> (n, 192), unit length: what the classifier tells faces apart by."""
        parts = [self.classifier.features(part.to(self.device)) for part in pictures.split(BATCH)]
        return torch.nn.functional.normalize(torch.cat(parts).cpu(), dim=1)

    @torch.inference_mode()
    def encoded(self, pictures: Tensor) -> Tensor:
        """Posterior means: (n, 3, s, s) -> (n, d)."""
        return torch.cat([self.model.encode(part.to(self.device))[0].cpu() for part in pictures.split(BATCH)])

    def slopes(self, z: Tensor, masks: Tensor | None = None, step: float = 0.5) -> "Slopes":
        """``Slopes`` at faces z (n, d), by central differences; masks uint8 (n, s, s), 255 is person.

        Over half a prior deviation, not at a point: an edit is a large step, and the slope that matters is the one
        over such a distance.
        """
        latents = z.shape[1]
        outputs, picture, person = [], torch.zeros(latents, latents), None if masks is None else torch.zeros(latents, latents)
        for start in range(0, len(z), SLOPE_BATCH):
            faces = z[start:start + SLOPE_BATCH]
            up, down = zip(*((self.look(faces + offset), self.look(faces - offset)) for offset in step * torch.eye(latents)))
            pixels, shown = (torch.stack([(high[i] - low[i]) / (2 * step) for high, low in zip(up, down)], 1) for i in (0, 1))
            outputs.append(shown.transpose(1, 2))
            flat = pixels.flatten(2)
            picture += torch.einsum("nap,nbp->ab", flat, flat) / flat.shape[2]
            if masks is not None:
                inside = (pixels * (masks[start:start + SLOPE_BATCH, None, None] > 127)).flatten(2)
                person += torch.einsum("nap,nbp->ab", inside, inside) / flat.shape[2]
        return Slopes(torch.cat(outputs), picture / len(z), None if person is None else person / len(z))


@dataclass(frozen=True)
class Slopes:
    """How pictures change with each latent: what the classifier reads, and the pixels themselves.

    ``outputs`` (n, k, d), face by face; ``picture`` (d, d), mean over faces and pixels of the products of two slopes, so that
    v' picture v is the mean square by which a step v changes a pixel; ``person`` the same of the person's pixels alone,
    where masks tell them.
    """

    outputs: Tensor
    picture: Tensor
    person: Tensor | None

    def elsewhere(self, name: str) -> Tensor:
        """(d, d) of the pixels that an edit of ``name`` should leave as they are, as far as it can."""
        return self.person if name.startswith("background") else self.picture


class Change(NamedTuple):
    """What moving faces by a step, up and down, does: see ``Intervention``."""

    effect: float
    leak: float
    bias: float
    pixels: float


@dataclass(frozen=True)
class Intervention:
    """What moving faces along a direction, up and down by ``dose``, does to their pictures.

    effect : mean change of the target's output (logits, or deviations of a quantity)
    leak : mean absolute change of the other attributes' logits, face by face
    bias : absolute value of their mean change over the faces, up and down apart: what is left of the leak where
        faces differ in its sign
    pixels : mean absolute change of the pixels that could stay (of all; for a quantity of the background, the person's)
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
    pixels: float
    selectivity: float
    monotonicity: float
    drift: float
    identity: float
    distance: float


def measure(judge: Judge, z: Tensor, vector: Tensor, name: str, dose: float, space: Directions,
            masks: Tensor | None = None) -> Intervention:
    """``Intervention`` of a direction over faces z (n, d), whose masks (n, s, s) a quantity of the background needs."""
    target = judge.names.index(name)
    looks = [judge.look(z + share * dose * vector) for share in DOSES]
    found = _change(judge, looks[3], looks[6], looks[0], name, masks)
    outputs = torch.stack([shown[:, target] for _, shown in looks])  # (7, n)
    rises = (outputs[1:] > outputs[:-1]).float().mean()
    pictures = [looks[i][0] for i in (3, 6, 0)]  # unedited, up and down
    still, up, down = map(judge.features, pictures)
    apart = 1 - (still * still.roll(1, 0)).sum(1).mean()
    turned = 1 - (torch.cat([up, down]) * torch.cat([still, still])).sum(1).mean()
    return Intervention(dose, *found, found.effect / max(found.leak, NO_LEAK), float(rises),
                        _drift(judge, space, pictures, dose * vector), float(turned / apart), _further(space, z, dose * vector))


def dose_for(judge: Judge, z: Tensor, vector: Tensor, name: str, effect: float,
             still: tuple[Tensor, Tensor] | None = None, limit: float = MAX_DOSE) -> float:
    """The strength at which the mean effect, up and down, is ``effect``, by secant steps from strength 1."""
    still = still or judge.look(z)
    before, reached, dose = 0.0, 0.0, 1.0
    for _ in range(2):
        # Effects are nearly proportional to the dose, so a few steps suffice.
        now = change(judge, z, dose * vector, name, still).effect
        slope = (now - reached) / (dose - before) if dose != before else 0.0
        before, reached, dose = dose, now, min(limit, max(0.05, dose + (effect - now) / max(slope, 0.02 * effect)))
    return dose


def far(direction: Direction) -> float:
    """The strength that takes a face from the middle of the data to its end along a direction."""
    return (direction.high - direction.low) / 2


def _drift(judge: Judge, space: Directions, pictures: list[Tensor], shift: Tensor) -> float:
    """How far the pictures of moved faces are, for the encoder, from where they were moved to, over the step's length;
    ``pictures`` of the faces unedited, up and down."""
    still, up, down = map(judge.encoded, pictures)
    missed = torch.cat([up - still - shift, down - still + shift])
    return float(space.distance(space.mean + missed).mean() / space.distance(space.mean + shift[None])[0])


def _further(space: Directions, z: Tensor, shift: Tensor) -> float:
    """Mean Mahalanobis distance of faces moved by ``shift``, up and down, over that of the faces."""
    return float(space.distance(torch.cat([z + shift, z - shift])).mean() / space.distance(z).mean())


@dataclass(frozen=True)
class Faces:
    """Training faces from which candidates are made.

    ``mu`` (n, d), ``mirrored`` (n, d) of the mirrored pictures, ``columns`` name -> (n,) of 0 / 1 or of numbers with
    NaN where unknown, ``slopes`` at some of them (``Judge.slopes``).
    """

    mu: Tensor
    mirrored: Tensor
    columns: dict[str, np.ndarray]
    slopes: Slopes


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
    moved = (faces.slopes.outputs[:, :judge.count] @ simple).abs().mean(0)
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
    for length, picture in itertools.product(OPTIMISED_LENGTHS, OPTIMISED_PICTURES):
        made[f"optimised ({length:g}, {picture:g})"] = probes.optimised(
            faces.slopes.outputs, target, others, faces.slopes.elsewhere(name), sigma, length, picture)
    return {method: probes.in_unit(vector, mu, y)[0] for method, vector in made.items()}


def choose(judge: Judge, faces: Faces, val: Tensor, masks: Tensor | None, space: Directions, progress: Callable = iter
           ) -> tuple[Directions, dict[str, dict[str, dict]]]:
    """For every name the direction whose pictures change most in it for what else changes, among all methods.

    Methods are compared on val faces at one dose each: that at which the effect is what the simple direction (mean
    difference, or regression) has where it leads to the end of the data (``far``), for there glasses are glasses. The
    measure is the geometric mean of effect over leak, over bias and over pixels (``Intervention``): the classifier does not
    see all that changes. Of methods that do about equally well, the one that stays nearest to the data is taken. One that needs to take faces further from the data than MAX_DISTANCE, or does not have that effect at any dose, is out,
    unless that goes for all, and the simple direction stays unless another is better by a tenth.

    Parameters
    ----------
    val : Tensor
        (n, d) latents of val faces.
    masks : Tensor or None
        uint8 (n, s, s), theirs, 255 is person; needed where there is a quantity of the background.
    space : Directions
        The simple directions (``probes.simple_directions``).

    Returns
    -------
    directions : Directions
        The chosen ones, with what was measured of each in ``Direction.measured``.
    table : dict
        name -> method -> dose, effect, leak, bias, pixels, distance, merit.
    """
    sigma = space.covariance
    partial = probes.partial(faces.mu, np.stack(list(faces.columns.values()), 1))
    quick = val[:QUICK_FACES]
    still, chosen, table = judge.look(quick), [], {}
    for name in progress(space.names):
        if name not in judge.names:
            # A joined condition: no output of the classifier stands for it.
            chosen.append(space[name])
            continue
        vectors = candidates(judge, faces, sigma, name, partial[list(faces.columns).index(name)])
        simple = next(iter(vectors))
        effect = max(change(judge, quick, far(space[name]) * vectors[simple], name, still).effect, MIN_EFFECT)
        table[name] = {}
        for method, vector in vectors.items():
            dose = dose_for(judge, quick, vector, name, effect, still)
            done = change(judge, quick, dose * vector, name, still, masks)
            harm = np.prod([max(part, NO_LEAK) for part in done[1:]]) ** (1 / 3)
            table[name][method] = {"dose": dose, **done._asdict(), "distance": _further(space, quick, dose * vector),
                                   "merit": max(done.effect, 0.0) / float(harm)}
        # A timid edit leaks little, and must not win by that.
        equal = {m: row for m, row in table[name].items() if row["effect"] > 0.9 * effect} or table[name]
        near = {m: row for m, row in equal.items() if row["distance"] <= MAX_DISTANCE} or equal
        enough = ALIKE * max(row["merit"] for row in near.values())
        best = min((m for m, row in near.items() if row["merit"] >= enough), key=lambda method: near[method]["distance"])
        if near[best]["merit"] < BETTER * table[name][simple]["merit"]:
            best = simple
        measured = measure(judge, val, vectors[best], name, table[name][best]["dose"], space, masks)
        direction = dataclasses.replace(space[name], vector=vectors[best], method=best, measured=asdict(measured))
        if direction.unit != "strength":
            # Faces that differ by strength 1 in the data differ by the gap of the classes; that the picture turns as far
            # is another matter, and what a slider's degrees are taken for.
            deviation = judge.classifier.deviation[judge.names.index(name)].item()
            direction = dataclasses.replace(direction, per_strength=deviation * measured.effect / measured.dose)
        chosen.append(direction)
    return space.having(chosen), table


def change(judge: Judge, z: Tensor, shift: Tensor, name: str, still: tuple[Tensor, Tensor] | None = None,
           masks: Tensor | None = None) -> Change:
    """What moving faces z (n, d) by ``shift`` (d,), up and down, does.

    ``still`` is ``judge.look(z)``, where it is at hand; ``masks`` (at least n, s, s) tell the person for a quantity of the
    background, without which all pixels count.
    """
    return _change(judge, still or judge.look(z), judge.look(z + shift), judge.look(z - shift), name, masks)


def _change(judge: Judge, still: tuple, up: tuple, down: tuple, name: str, masks: Tensor | None) -> Change:
    target = judge.names.index(name)
    steps = torch.stack([up[1] - still[1], still[1] - down[1]])  # (2, n, k): both towards more
    others = [i for i in range(judge.count) if i != target]
    repainted = _repainted(still, up, down)
    if name.startswith("background") and masks is not None:
        repainted = repainted[masks[:len(repainted)] > 127]
    return Change(float(steps[:, :, target].mean()), float(steps[:, :, others].abs().mean()),
                  float(steps[:, :, others].mean(1).abs().mean()), float(repainted.mean()))


def _repainted(still: tuple, up: tuple, down: tuple) -> Tensor:
    """Mean absolute change of every pixel: (n, s, s)."""
    return ((up[0] - still[0]).abs() + (down[0] - still[0]).abs()).mean(1) / 2


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


def outside(judge: Judge, z: Tensor, shift: Tensor, masks: Tensor) -> float:
    """How much more an edit changes the background than the person: mean absolute change of the pixels outside of the
    masks over that inside, of faces z (n, d) moved up and down by ``shift``; masks uint8 (n, s, s), 255 is person."""
    repainted = _repainted(*(judge.look(z + sign * shift) for sign in (0, 1, -1)))
    person = masks > 127
    return float(repainted[~person].mean(dtype=torch.double) / repainted[person].mean(dtype=torch.double))


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


def compare(judge: Judge, z: Tensor, masks: Tensor | None, simple: Directions, chosen: Directions, names: Iterable[str]
            ) -> dict[str, dict]:
    """The chosen directions against the simple ones at equal effect, over faces z (n, d): name -> figures.

    The effect is the simple direction's at the end of the data (``far``), or MIN_EFFECT where that is more.
    """
    few, still, table = z[:4 * QUICK_FACES], judge.look(z), {}
    first = still[0][:len(few)], still[1][:len(few)]
    for name in names:
        effect = max(change(judge, few, far(simple[name]) * simple[name].vector, name, first).effect, MIN_EFFECT)
        row = {"method": chosen[name].method}
        for kind, directions in (("simple", simple), ("chosen", chosen)):
            vector = directions[name].vector
            dose = dose_for(judge, few, vector, name, effect, first)
            row[kind] = {"dose": dose, **change(judge, z, dose * vector, name, still, masks)._asdict()}
        for harm, gain in GAINS.items():
            selectivity = {kind: row[kind]["effect"] / max(row[kind][harm], NO_LEAK) for kind in ("simple", "chosen")}
            row[gain] = selectivity["chosen"] / selectivity["simple"]
        table[name] = row
    return table


def table(report: Mapping) -> str:
    """A run's ``compare.json`` for a person."""
    rows, judge = report["directions"], report["judge"]
    lines = [f"{report['images']:,} test faces, at equal effect; in brackets the simple direction's",
             f"{'':22}{'effect':>7}" + "".join(f"{harm:>16}{'gain':>6}" for harm in GAINS) + "   still, from ... to   method"]
    for name, row in rows.items():
        chosen, simple, ends = row["chosen"], row["simple"], row["reach"]
        lines.append(f"{name:22}{chosen['effect']:7.2f}"
                     + "".join(f"{chosen[harm]:8.3f} ({simple[harm]:.3f}){row[gain]:6.2f}" for harm, gain in GAINS.items())
                     + f"   {ends['still']:.2f}, {ends['low']:.2f} ... {ends['high']:.2f}   {row['method']}"
                     + (f"; changes the background {row['outside']:.1f} times as much as the person" if "outside" in row else ""))
    means = (np.mean([row[gain] for row in rows.values()]) for gain in GAINS.values())
    told = [f"mean AUROC {np.nanmean(list(judge['auroc'].values())):.3f} of {len(judge['auroc'])} attributes"]
    told += [f"{name} {judge['auroc'][name]:.3f}" for name in ("Smiling", "Male") if name in judge["auroc"]]
    told += [f"{name} r = {figure:.3f}" for name, figure in judge["correlation"].items() if name == "yaw"]
    return "\n".join([*lines, f"{'mean':29}" + "".join(f"{mean:22.2f}" for mean in means),
                      f"the judge, on {judge['split']}: {', '.join(told)}"])
