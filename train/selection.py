"""Which direction serves an attribute best, measured on pictures: what an edit does, and what else it does.

The judge is a classifier of pixels (``train/classifier.py``). A probe on the latents would flatter every edit of the
latents: it sees the step that was taken, not the picture that came of it.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from betavae.classifier import Classifier
from betavae.directions import Direction, Directions
from betavae.image import from_uint8
from betavae.model import VAE
from train import probes
from train.classifier import MIRRORED

BATCH = 250
DOSE_LOOKS = 8        # at pictures, in search of the dose that has an effect
DOSES = (-1.0, -2 / 3, -1 / 3, 0.0, 1 / 3, 2 / 3, 1.0)  # shares of the largest dose
MAX_DISTANCE = 1.25   # edited faces may be this much further from the mean than unedited ones, by Mahalanobis distance
MAX_DOSE = 50.0       # strengths; of a direction along which the classes hardly differ, and which yet moves pictures
MIN_EFFECT = 0.5      # logits, or deviations: where the simple direction hardly works, the others are asked for this much
OPTIMISED = ((8.0, 1.0), (8.0, 3.0))  # weights of length and of the picture
TURNING = ((2.0, 1.0), (2.0, 3.0))    # the same of directions that turn with the face
REFINED = {False: 0.5, True: 5.0}     # weight of the picture; of the person's part where the background is to change
TURNING_LATENTS = 64  # with more the closed form of what turns has more unknowns than a machine has room for
ALIKE = 0.98          # of two methods as good as that, the one that stays nearer to the data is better
BETTER = 1.1          # the simple direction, which anybody can check, stays where no other is better by a tenth
NUISANCES = 6
UNTOUCHED = {"background_brightness": ("face_brightness",), "background_warmth": ("face_brightness", "Pale_Skin"),
             "background_tint": ("face_brightness", "Pale_Skin"), "face_brightness": ("background_brightness",)}
UNTOUCHED_WEIGHT = 10.0
NO_LEAK = 1e-4        # logits; less than any picture's rounding
SLOPE_FACES = 1200
SLOPE_BATCH = 50       # faces whose pictures' slopes are held at a time
USUAL_FACES = 4000     # training faces that say what pictures are usual
QUICK_FACES, VAL_FACES = 48, 128
REPORTED = ("Smiling", "Eyeglasses", "Male", "Young", "Blond_Hair", "Black_Hair", "Bangs", "Bald", "Heavy_Makeup",
            "Pale_Skin", "Mustache", "Mouth_Slightly_Open", "yaw", "background_brightness")
GAINS = {harm: f"gain_{harm}" for harm in ("leak", "bias", "pixels", "strange", "beyond")}
SIMPLE = {True: "mean difference", False: "regression"}


def of_background(name: str) -> bool:
    """Whether an edit of ``name`` is to leave the person alone, not the whole picture."""
    return name.startswith("background")


class Look(NamedTuple):
    """Pictures (n, 3, s, s), what they show (n, k) in the units of ``Classifier.standard``, and how strange they are (n,)."""

    pictures: Tensor
    outputs: Tensor
    strangeness: Tensor


class Judge:
    """A decoder and a classifier behind it: latents in, what the picture shows out.

    A picture is as strange as its features are far from those of the pictures of the faces ``usual`` (m, d), by squared
    Mahalanobis distance (Lee et al. 2018), whose mean over those is 1. A picture may show every attribute that it should and
    yet be of no face: eyes as dark as sunglasses, for one.
    """

    def __init__(self, model: VAE, classifier: Classifier, device: torch.device, usual: Tensor):
        self.model, self.classifier, self.device = model.to(device), classifier.to(device), device
        self.model.requires_grad_(False), self.classifier.requires_grad_(False)
        self.names = classifier.names
        self.count = len(classifier.attributes)
        with torch.no_grad():
            features = torch.cat([self.classifier.features(self.model.decode(part.to(device))) for part in usual.split(BATCH)])
        self._usual = features.mean(0)
        # The inverse root of the covariance: a feature's coordinates in it have unit variance.
        self._whitening = torch.linalg.inv(torch.linalg.cholesky(probes.covariance(features.cpu()))).T.to(device)
        self._scale = self._distance(features).mean()

    @torch.no_grad()
    def look(self, z: Tensor) -> Look:
        """What latents (n, d) show, on the CPU."""
        looks = [[part.cpu() for part in self.show(faces.to(self.device))] for faces in z.split(BATCH)]
        return Look(*map(torch.cat, zip(*looks)))

    def show(self, z: Tensor) -> Look:
        """As ``look``, on the device and in one batch, through which gradients flow back to z."""
        pictures = self.model.decode(z)
        features = self.classifier.features(pictures)
        return Look(pictures, self.classifier.head(features), self._distance(features) / self._scale)

    def _distance(self, features: Tensor) -> Tensor:
        return ((features - self._usual) @ self._whitening).square().sum(1)

    def read(self, z: Tensor) -> Tensor:
        """(n, d) -> (n, k), on the CPU."""
        return self.look(z).outputs

    @torch.no_grad()
    def see(self, pixels: Tensor) -> Tensor:
        """What photographs, uint8 (n, s, s, 3), show: (n, k), on the CPU."""
        return torch.cat([self.classifier.standard(from_uint8(part).to(self.device)).cpu() for part in pixels.split(BATCH)])

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
        outputs, picture, person = [], [], []
        for start in range(0, len(z), SLOPE_BATCH):
            faces = z[start:start + SLOPE_BATCH]
            up, down = zip(*((self.look(faces + offset), self.look(faces - offset)) for offset in step * torch.eye(latents)))
            pixels, shown = (torch.stack([(high[i] - low[i]) / (2 * step) for high, low in zip(up, down)], 1) for i in (0, 1))
            outputs.append(shown.transpose(1, 2))
            flat = pixels.flatten(2)
            picture.append(flat @ flat.transpose(1, 2) / flat.shape[2])
            if masks is not None:
                inside = (pixels * (masks[start:start + SLOPE_BATCH, None, None] > 127)).flatten(2)
                person.append(inside @ inside.transpose(1, 2) / flat.shape[2])
        return Slopes(torch.cat(outputs), torch.cat(picture), torch.cat(person) if person else None)


@dataclass(frozen=True)
class Slopes:
    """How pictures change with each latent: what the classifier reads, and the pixels themselves.

    ``outputs`` (n, k, d) and ``picture`` (n, d, d), face by face; of the picture the mean over pixels of the products of two
    slopes, so that v' picture v is the mean square by which a step v changes a pixel; ``person`` the same of the person's
    pixels alone, where masks tell them.
    """

    outputs: Tensor
    picture: Tensor
    person: Tensor | None

    def elsewhere(self, name: str) -> Tensor:
        """(n, d, d) of the pixels that an edit of ``name`` should leave as they are, as far as it can."""
        return self.person if of_background(name) else self.picture


class Change(NamedTuple):
    """What moving faces by a step, each to its other side, does: see ``Intervention``."""

    effect: float
    leak: float
    bias: float
    pixels: float
    strange: float


@dataclass(frozen=True)
class Intervention:
    """What moving faces along a direction by ``dose`` does to their pictures, each face to its other side (``sides``).

    effect : mean change of the target's output (logits, or deviations of a quantity) towards that side
    leak : mean absolute change of the other attributes' logits, face by face
    bias : absolute value of their mean change over the faces: what is left of the leak where faces differ in its sign
    pixels : mean absolute change of the pixels that could stay (of all; for a quantity of the background, the person's)
    strange : how strange the pictures are (``Judge``), mean of the step and the step back; 1 is usual
    beyond : the leak of the step back: of faces moved on beyond their own side, who gain nothing by it
    selectivity : effect / leak
    monotonicity : share of steps between 7 doses, and of faces, in which the target's output rises
    drift : share of the step that is lost when the edited picture is encoded again, by Mahalanobis distance
    identity : cosine distance from the unedited face in the classifier's features, as a share of that between two people
    distance : mean Mahalanobis distance of the edited latents, up and down, over that of the unedited
    """

    dose: float
    effect: float
    leak: float
    bias: float
    pixels: float
    strange: float
    beyond: float
    selectivity: float
    monotonicity: float
    drift: float
    identity: float
    distance: float


def measure(judge: Judge, z: Tensor, direction: Direction, dose: float, space: Directions,
            masks: Tensor | None = None) -> Intervention:
    """``Intervention`` of a direction over faces z (n, d), whose masks (n, s, s) a quantity of the background needs."""
    name, steps = direction.name, direction.at(z)
    target = judge.names.index(name)
    looks = [judge.look(z + share * dose * steps) for share in DOSES]
    side = sides(judge, looks[3], name)

    def mixed(ahead: Look, behind: Look) -> Look:
        return Look(*(torch.where((side > 0).reshape(-1, *[1] * (one.ndim - 1)), one, other)
                      for one, other in zip(ahead, behind)))

    found = _both(*(_change(judge, looks[3], mixed(looks[end], looks[6 - end]), side, name, masks) for end in (6, 0)))
    outputs = torch.stack([look.outputs[:, target] for look in looks])  # (7, n)
    rises = (outputs[1:] > outputs[:-1]).float().mean()
    pictures = [looks[i].pictures for i in (3, 6, 0)]  # unedited, up and down
    still, up, down = map(judge.features, pictures)
    apart = 1 - (still * still.roll(1, 0)).sum(1).mean()
    turned = 1 - (torch.cat([up, down]) * torch.cat([still, still])).sum(1).mean()
    return Intervention(dose, **found, selectivity=found["effect"] / max(found["leak"], NO_LEAK), monotonicity=float(rises),
                        drift=_drift(judge, space, pictures, dose * steps), identity=float(turned / apart),
                        distance=_further(space, z, dose * steps))


def _both(done: Change, back: Change) -> dict[str, float]:
    """The figures of a step, and those that a step back has a part in, as in ``Intervention``."""
    return done._asdict() | {"strange": (done.strange + back.strange) / 2, "beyond": back.leak}


def dose_for(judge: Judge, z: Tensor, direction: Direction, effect: float, still: Look | None = None,
             limit: float = MAX_DOSE) -> float:
    """The strength at which the mean effect is ``effect``, to a hundredth, by false position; at most ``limit``."""
    still, steps = still or judge.look(z), direction.at(z)
    low, high, dose = (0.0, 0.0), None, 1.0
    for _ in range(DOSE_LOOKS):
        now = change(judge, z, dose * steps, direction.name, still).effect
        if abs(now - effect) < 0.01 * effect or (now < effect and dose == limit):
            break
        if now > effect:
            high = dose, now
        else:
            low = dose, now
        if high:
            dose = low[0] + (high[0] - low[0]) * (effect - low[1]) / (high[1] - low[1])
        else:
            # What grows faster the further it goes must not be taken far beyond on the first steps' word.
            dose = min(limit, dose * min(3.0, effect / max(now, 0.02 * effect)))
    return dose


def far(direction: Direction) -> float:
    """The strength that takes a face from the middle of the data to its end along a direction."""
    return (direction.high - direction.low) / 2


def _drift(judge: Judge, space: Directions, pictures: list[Tensor], shift: Tensor) -> float:
    """How far the pictures of moved faces are, for the encoder, from where they were moved to, over the step's length;
    ``pictures`` of the faces unedited, up and down."""
    still, up, down = map(judge.encoded, pictures)
    missed = torch.cat([up - still - shift, down - still + shift])
    return float(space.distance(space.mean + missed).mean() / space.distance(space.mean + shift).mean())


def _further(space: Directions, z: Tensor, shift: Tensor) -> float:
    """Mean Mahalanobis distance of faces moved by ``shift``, up and down, over that of the faces."""
    return float(space.distance(torch.cat([z + shift, z - shift])).mean() / space.distance(z).mean())


@dataclass(frozen=True)
class Faces:
    """Training faces from which candidates are made.

    ``mu`` (n, d), ``mirrored`` (n, d) of the mirrored pictures, ``columns`` name -> (n,) of 0 / 1 or of numbers with
    NaN where unknown; ``few`` (m, d) of them, whose ``slopes`` (``Judge.slopes``), pictures (``still``, ``Judge.look``) and
    ``masks`` (m, s, s) are at hand.
    """

    mu: Tensor
    mirrored: Tensor
    columns: dict[str, np.ndarray]
    few: Tensor
    slopes: Slopes
    still: Look
    masks: Tensor | None = None


def candidates(judge: Judge, faces: Faces, sigma: Tensor, direction: Direction, partial: Tensor, effect: float
               ) -> dict[str, Direction]:
    """Every method's direction for what ``direction``, the simple one, is of, in the project's unit, by method.

    ``effect`` is the one at which they will be compared.
    """
    name = direction.name
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
    slopes = faces.slopes.outputs, target, _others(judge, name, quantities=1.0), faces.slopes.elsewhere(name), sigma
    made |= {f"optimised ({length:g}, {picture:g})": probes.optimised(*slopes, length, picture) for length, picture in OPTIMISED}
    made = {method: (vector, None) for method, vector in made.items()}
    if len(sigma) <= TURNING_LATENTS:
        turning = {f"turning ({length:g}, {picture:g})": probes.turning(faces.few, *slopes, length, picture)
                   for length, picture in TURNING}
        made |= turning
        start = next(iter(turning.values()))
    else:
        start = made[f"optimised ({OPTIMISED[0][0]:g}, {OPTIMISED[0][1]:g})"]
    made["refined"] = refined(judge, faces, sigma, direction, start, effect)
    return {method: _in_unit(direction, method, *parts, mu, y, sigma) for method, parts in made.items()}


def _in_unit(direction: Direction, method: str, vector: Tensor, turn: Tensor | None, mu: Tensor, y: np.ndarray, sigma: Tensor
             ) -> Direction:
    unit, _ = probes.in_unit(vector, mu, y)
    if turn is not None:
        turn = probes.upright(turn * (unit @ vector) / (vector @ vector), unit, torch.linalg.inv(sigma))
    return dataclasses.replace(direction, vector=unit, turn=turn, method=method)


def refined(judge: Judge, faces: Faces, sigma: Tensor, simple: Direction, start: tuple[Tensor, Tensor | None], effect: float
            ) -> tuple[Tensor, Tensor | None]:
    """``probes.refined`` from a direction and its turn, taken as far as its slope says that it has to be for the effect."""
    name = simple.name
    target = judge.names.index(name)
    side = sides(judge, faces.still, name)

    def moved(steps: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shown = judge.show((faces.few[rows] + side[rows, None] * steps).to(judge.device))
        pictures, outputs, strangeness = (part.to(side.device) for part in shown)
        return (side[rows, None] * (outputs - faces.still.outputs[rows]),
                _repainted(faces.still.pictures[rows], pictures, name, None if faces.masks is None else faces.masks[rows]),
                strangeness.mean())

    dose = effect / (faces.slopes.outputs[:, target].mean(0) @ start[0])
    start = tuple(None if part is None else dose * part for part in start)
    return probes.refined(start, far(simple) * simple.vector, moved, faces.few, target,
                          _others(judge, name, quantities=0.0), sigma, effect, REFINED[of_background(name)])


def _others(judge: Judge, name: str, quantities: float) -> Tensor:
    """How much each output counts as a side effect of an edit of ``name``: the attributes 1, the quantities as given: (k,).

    A brighter background must not come with a brighter face, or it is a brighter picture.
    """
    others = (torch.arange(len(judge.names)) < judge.count).float().clamp(min=quantities)
    others[[judge.names.index(other) for other in UNTOUCHED.get(name, ())]] = UNTOUCHED_WEIGHT
    others[judge.names.index(name)] = 0
    return others


def choose(judge: Judge, faces: Faces, val: Tensor, masks: Tensor | None, space: Directions, progress: Callable = iter
           ) -> tuple[Directions, dict[str, dict[str, dict]]]:
    """For every name the direction whose pictures change most in it for what else changes, among all methods.

    Methods are compared on val faces at one dose each: that at which the effect is what the simple direction (mean
    difference, or regression) has where it leads to the end of the data (``far``), for there glasses are glasses. The
    measure is the geometric mean of effect over leak, over bias, over pixels and over strange (``Intervention``), for the
    classifier does not see all that changes; of the first three what the step back changes, of faces moved on beyond their own
    side, is a part (``probes.BEYOND``), and strange is the mean of both ways. Of methods that do about equally well, the one
    that stays nearest to the data is taken. One that needs to take faces further from the data than MAX_DISTANCE, or does not
    have that effect at any dose, is out, unless that goes for all, and the simple direction stays unless another is better by
    a tenth.

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
        name -> method -> dose, effect, leak, bias, pixels, strange, beyond, distance, merit.
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
        effect = max(change(judge, quick, far(space[name]) * space[name].vector, name, still).effect, MIN_EFFECT)
        made = candidates(judge, faces, sigma, space[name], partial[list(faces.columns).index(name)], effect)
        simple = next(iter(made))
        table[name] = {}
        for method, direction in made.items():
            dose = dose_for(judge, quick, direction, effect, still)
            steps = dose * direction.at(quick)
            done, back = (change(judge, quick, step, name, still, masks) for step in (steps, -steps))
            found = _both(done, back)
            harms = [part + probes.BEYOND * other for part, other in
                     ((done.leak, back.leak), (done.bias, back.bias), (done.pixels, back.pixels))] + [found["strange"]]
            merit = max(done.effect, 0.0) / float(np.prod([max(harm, NO_LEAK) for harm in harms])) ** (1 / len(harms))
            table[name][method] = {"dose": dose, **found, "distance": _further(space, quick, steps), "merit": merit}
        # A timid edit leaks little, and must not win by that.
        equal = {m: row for m, row in table[name].items() if row["effect"] > 0.9 * effect} or table[name]
        near = {m: row for m, row in equal.items() if row["distance"] <= MAX_DISTANCE} or equal
        enough = ALIKE * max(row["merit"] for row in near.values())
        best = min((m for m, row in near.items() if row["merit"] >= enough), key=lambda method: near[method]["distance"])
        if near[best]["merit"] < BETTER * table[name][simple]["merit"]:
            best = simple
        measured = measure(judge, val, made[best], table[name][best]["dose"], space, masks)
        direction = dataclasses.replace(made[best], measured=asdict(measured))
        if direction.unit != "strength":
            # Faces that differ by strength 1 in the data differ by the gap of the classes; that the picture turns as far
            # is another matter, and what a slider's degrees are taken for.
            deviation = judge.classifier.deviation[judge.names.index(name)].item()
            direction = dataclasses.replace(direction, per_strength=deviation * measured.effect / measured.dose)
        chosen.append(direction)
    return space.having(chosen), table


def sides(judge: Judge, still: Look, name: str) -> Tensor:
    """Which way each face has to go to the other side: -1 for those that show ``name`` already, +1 for the others: (n,).

    A quantity is shown by what is above its mean. Glasses are put on faces that have none, and taken from those that wear
    them: the opposite is no edit, and all that it changes is something else.
    """
    return torch.where(still.outputs[:, judge.names.index(name)] > 0, -1.0, 1.0)


def change(judge: Judge, z: Tensor, shift: Tensor, name: str, still: Look | None = None,
           masks: Tensor | None = None) -> Change:
    """What moving faces z (n, d) by ``shift`` (d,) or (n, d), each to its other side, does.

    ``still`` is ``judge.look(z)``, where it is at hand; ``masks`` (at least n, s, s) tell the person for a quantity of the
    background, without which all pixels count.
    """
    still = still or judge.look(z)
    side = sides(judge, still, name)
    return _change(judge, still, judge.look(z + side[:, None] * shift), side, name, masks)


def _change(judge: Judge, still: Look, moved: Look, side: Tensor, name: str, masks: Tensor | None) -> Change:
    target = judge.names.index(name)
    steps = side[:, None] * (moved.outputs - still.outputs)  # (n, k), towards the other side
    others = [i for i in range(judge.count) if i != target]
    repainted = _repainted(still.pictures, moved.pictures, name, masks)
    return Change(float(steps[:, target].mean()), float(steps[:, others].abs().mean()),
                  float(steps[:, others].mean(0).abs().mean()), float(repainted), float(moved.strangeness.mean()))


def _repainted(still: Tensor, moved: Tensor, name: str, masks: Tensor | None) -> Tensor:
    """Mean absolute change of the pixels that could stay."""
    changes = (moved - still).abs().mean(1)  # (n, s, s)
    if of_background(name) and masks is not None:
        changes = changes[masks[:len(changes)] > 127]
    return changes.mean()


def reach(judge: Judge, z: Tensor, directions: Directions, name: str) -> dict[str, float]:
    """How far an edit gets inside the range in which each face stays among the data (``Directions.safe``).

    Over faces z (n, d): the mean probability of an attribute, or mean of a quantity in its own unit, unedited ("still") and
    at the lower and upper end of each face's range ("low", "high").
    """
    column, steps = judge.names.index(name), directions[name].at(z)
    ends = torch.tensor([directions.safe(face, name) for face in z])  # (n, 2)
    figures = {}
    for key, strengths in (("low", ends[:, :1]), ("still", torch.zeros(len(z), 1)), ("high", ends[:, 1:])):
        outputs = judge.read(z + strengths * steps)[:, column]
        figures[key] = float(torch.sigmoid(outputs).mean() if column < judge.count else
                             (outputs * judge.classifier.deviation[column].cpu() + judge.classifier.mean[column].cpu()).mean())
    return figures


def outside(judge: Judge, z: Tensor, shift: Tensor, masks: Tensor) -> float:
    """How much more an edit changes the background than the person: mean absolute change of the pixels outside of the
    masks over that inside, of faces z (n, d) moved up and down by ``shift`` (d,) or (n, d); masks uint8 (n, s, s), 255 is person."""
    still, up, down = (judge.look(z + sign * shift).pictures for sign in (0, 1, -1))
    repainted = ((up - still).abs() + (down - still).abs()).mean(1)
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
        shift = direction.measured.get("dose", 1.0) * direction.at(z)
        up, down = judge.read(torch.cat([z + shift, z - shift])).chunk(2)
        rows.append((up - down).mean(0) / 2)
    return torch.stack(rows)


def compare(judge: Judge, z: Tensor, masks: Tensor | None, simple: Directions, chosen: Directions, names: Iterable[str]
            ) -> dict[str, dict]:
    """The chosen directions against the simple ones at equal effect, over faces z (n, d): name -> figures.

    The effect is the simple direction's at the end of the data (``far``), or MIN_EFFECT where that is more.
    """
    few, still, table = z[:4 * QUICK_FACES], judge.look(z), {}
    first = Look(*(part[:len(few)] for part in still))
    for name in names:
        effect = max(change(judge, few, far(simple[name]) * simple[name].vector, name, first).effect, MIN_EFFECT)
        row = {"method": chosen[name].method}
        for kind, directions in (("simple", simple), ("chosen", chosen)):
            direction = directions[name]
            dose = dose_for(judge, few, direction, effect, first)
            steps = dose * direction.at(z)
            row[kind] = {"dose": dose, **_both(*(change(judge, z, step, name, still, masks) for step in (steps, -steps)))}
        for harm, gain in GAINS.items():
            selectivity = {kind: row[kind]["effect"] / max(row[kind][harm], NO_LEAK) for kind in ("simple", "chosen")}
            row[gain] = selectivity["chosen"] / selectivity["simple"]
        table[name] = row
    return table


def photographs(outputs: Tensor, columns: Mapping[str, np.ndarray], names: list[str], count: int) -> dict[str, float]:
    """What to compare an edit's ``gain_bias`` with: that of photographs whose faces differ in one column alone.

    The classifier's ``outputs`` (n, k) of photographs, whose true ``columns`` (n,) are in the order of ``names``, the first
    ``count`` attributes: by least squares over all columns, against the difference between faces with and without one.
    """
    y = np.stack([columns[name] for name in names], 1).astype(np.float64)
    partial, gains = probes.partial(outputs, y), {}
    for target, name in enumerate(names):
        known = np.isfinite(y[:, target])
        plain = probes.regression(outputs[torch.from_numpy(known)], y[known, target])
        others = [i for i in range(count) if i != target]
        alone, along = (float(slopes[target] / slopes[others].abs().mean()) for slopes in (partial[target], plain))
        gains[name] = alone / along
    return gains


def table(report: Mapping) -> str:
    """A run's ``compare.json`` for a person."""
    rows, judge = report["directions"], report["judge"]
    lines = [f"{report['images']:,} test faces, at equal effect; in brackets the simple direction's",
             f"{'':22}{'effect':>7}" + "".join(f"{harm:>16}{'gain':>6}" for harm in GAINS)
             + f"{'photos':>8}   still, from ... to   method"]
    for name, row in rows.items():
        chosen, simple, ends = row["chosen"], row["simple"], row["reach"]
        lines.append(f"{name:22}{chosen['effect']:7.2f}"
                     + "".join(f"{chosen[harm]:8.3f} ({simple[harm]:.3f}){row[gain]:6.2f}" for harm, gain in GAINS.items())
                     + f"{row['photos']:8.2f}   {ends['still']:.2f}, {ends['low']:.2f} ... {ends['high']:.2f}   {row['method']}"
                     + (f"; changes the background {row['outside']:.1f} times as much as the person" if "outside" in row else ""))
    means = (np.mean([row[gain] for row in rows.values()]) for gain in GAINS.values())
    told = [f"mean AUROC {np.nanmean(list(judge['auroc'].values())):.3f} of {len(judge['auroc'])} attributes"]
    told += [f"{name} {judge['auroc'][name]:.3f}" for name in ("Smiling", "Male") if name in judge["auroc"]]
    told += [f"{name} r = {figure:.3f}" for name, figure in judge["correlation"].items() if name == "yaw"]
    photos = np.mean([row["photos"] for row in rows.values()])
    return "\n".join([*lines, f"{'mean':29}" + "".join(f"{mean:22.2f}" for mean in means) + f"{photos:8.2f}",
                      f"the judge, on {judge['split']}: {', '.join(told)}"])
