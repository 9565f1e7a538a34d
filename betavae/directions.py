"""Named directions in a latent space: vectors, their units, and where the data lies along them."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from betavae.files import load_tensors, save_tensors

# The share of training faces at each end that is left outside of the range of the data.
TAIL = 0.01
# Points on a side of a displacement field (``betavae/displacement.py``).
GRID = 32
# Keys of ``Direction.measured`` in files of earlier versions.
EARLIER_KEYS = {"dose": "strength", "leak": "side_effect_absolute", "bias": "side_effect_mean", "strange": "outlier_score"}


class DirectionsError(ValueError):
    """The directions cannot be used. The message is one sentence that names the bad value and the valid ones."""


@dataclass(frozen=True)
class Direction:
    """One direction and its measurements on the training faces.

    The position of a face along a direction is its score (``Directions.scores``): adding s times the vector adds s to it.

    Parameters
    ----------
    name : str
        A CelebA attribute, or a measured quantity such as ``yaw``.
    vector : Tensor
        (d,). Strength 1 is the gap between the class means: faces with the attribute minus faces without; for a
        measured quantity, faces above its median minus faces below.
    method : str
        How it was made.
    positives, negatives : int
        Training faces on each side.
    unit, per_strength : str, float
        The unit of a measured quantity, and how many units strength 1 is: measured on decoded pictures (the average up to
        ``measured``'s strength) if it was, else the gap between the class means. For attributes "strength" and 1.
    quantiles : tuple of 101 floats
        The score's 0 %, 1 %, ... 100 % quantiles over the training faces.
    measured : dict
        Measurements on pictures at the strength "strength", if there are any (docs/directions.md): "effect",
        "side_effect_absolute", ...
    displacement : Tensor or None
        float16 (2, GRID, GRID): by how much strength 1 moves the content of the picture, in x and y, in sides of the model's
        square (``betavae/displacement.py``). None if nothing moves, or if it was not estimated.
    track : tuple of 3 floats or None
        Lowest and highest strength of its slider, and the step, the same for every face. For directions published without
        the quantiles of the data. None: the slider follows the quantiles.
    """

    name: str
    vector: Tensor
    method: str
    positives: int
    negatives: int
    unit: str
    per_strength: float
    quantiles: tuple[float, ...]
    measured: dict[str, float] = dataclasses.field(default_factory=dict)
    displacement: Tensor | None = None
    track: tuple[float, float, float] | None = None

    @property
    def low(self) -> float:
        """Lower end of the data's range of scores, or of the track if there is one."""
        if self.track:
            return self.track[0]
        return float(np.interp(TAIL, np.linspace(0, 1, len(self.quantiles)), self.quantiles))

    @property
    def high(self) -> float:
        """Upper end of the data's range of scores, or of the track if there is one."""
        if self.track:
            return self.track[1]
        return float(np.interp(1 - TAIL, np.linspace(0, 1, len(self.quantiles)), self.quantiles))

    def percentile(self, score: float) -> float:
        """Percentage of the training faces with a lower score, 0 to 100."""
        return float(np.interp(score, self.quantiles, np.linspace(0, 100, len(self.quantiles))))


class Directions(Mapping[str, Direction]):
    """Directions of one latent space by name, in a fixed order.

    ``matrix`` (k, d) has their vectors as rows. ``mean`` (d,) and ``covariance`` (d, d) of the training faces' latents are the
    metric of the space; those of N(0, I) unless given.
    """

    def __init__(self, directions: list[Direction], latents: int, mean: Tensor | None = None,
                 covariance: Tensor | None = None, radius: float | None = None):
        for direction in directions:
            if direction.vector.shape != (latents,):
                raise DirectionsError(f"The direction {direction.name} has the shape {tuple(direction.vector.shape)}; "
                                      f"this model needs ({latents},).")
            if direction.displacement is not None and direction.displacement.shape != (2, GRID, GRID):
                raise DirectionsError(f"The displacement of {direction.name} has the shape "
                                      f"{tuple(direction.displacement.shape)}; it must be (2, {GRID}, {GRID}).")
        self._directions = {direction.name: direction for direction in directions}
        self.latents = latents
        self.matrix = torch.stack([d.vector for d in directions]) if directions else torch.zeros(0, latents)
        self.mean = torch.zeros(latents) if mean is None else mean
        self.covariance = torch.eye(latents) if covariance is None else covariance
        if self.mean.shape != (latents,) or self.covariance.shape != (latents, latents):
            raise DirectionsError(f"Mean and covariance have the shapes {tuple(self.mean.shape)} and "
                                  f"{tuple(self.covariance.shape)}; this model needs ({latents},) and ({latents}, {latents}).")
        # The edge of the data: 99 % of the training faces are nearer to the mean. For N(0, I) it is a quantile of the chi
        # distribution, here by Wilson and Hilferty's approximation.
        share = 2 / (9 * latents)
        self.radius = (latents * (1 - share + 2.326 * share ** 0.5) ** 3) ** 0.5 if radius is None else radius
        # (k, d): inverse(covariance) v / (v . inverse(covariance) v)
        weights = torch.linalg.solve(self.covariance.double(), self.matrix.double().T).T
        self._readings = (weights / (weights * self.matrix).sum(1, keepdim=True)).float()

    def __getitem__(self, name: str) -> Direction:
        if name not in self._directions:
            raise DirectionsError(f"There is no direction {name!r}; choose from {', '.join(self.names) or 'none'}.")
        return self._directions[name]

    def __contains__(self, name: object) -> bool:
        # Mapping's own method expects a KeyError from __getitem__, which raises a DirectionsError.
        return name in self._directions

    def __iter__(self) -> Iterator[str]:
        return iter(self._directions)

    def __len__(self) -> int:
        return len(self._directions)

    @property
    def names(self) -> list[str]:
        """The names, in order."""
        return list(self._directions)

    def strengths(self, wanted: Mapping[str, float]) -> Tensor:
        """{"Smiling": 1.5, ...} -> (k,), zero where nothing is wanted.

        Raises
        ------
        DirectionsError
            A name is unknown, or a strength is no finite number.
        """
        values = torch.zeros(len(self))
        for name, strength in wanted.items():
            self[name]
            if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not np.isfinite(strength):
                raise DirectionsError(f"The strength of {name} is {strength!r}; it must be a finite number.")
            values[self.names.index(name)] = float(strength)
        return values

    def __or__(self, other: "Directions") -> "Directions":
        """These directions and then the others, with this space's mean and covariance.

        Raises
        ------
        DirectionsError
            The others have another number of latents, or a name is in both.
        """
        twice = [name for name in other if name in self]
        if twice:
            raise DirectionsError(f"There is a direction {twice[0]!r} already; choose another name.")
        return self.having([*self.values(), *other.values()])

    def having(self, directions: list[Direction]) -> "Directions":
        """Other directions in this space: the same mean, covariance and radius."""
        return Directions(directions, self.latents, self.mean, self.covariance, self.radius)

    def scores(self, z: Tensor) -> Tensor:
        """The positions of faces along each direction, in strengths: (n, d) -> (n, k).

        Fisher's linear discriminant, v . inverse(covariance) (z - mean) over v . inverse(covariance) v. When latents are
        correlated it reads the attribute; a plain projection on v would also read what correlates with the attribute.
        """
        return (z - self.mean.to(z)) @ self._readings.to(z).T

    def readings(self, names: Iterable[str]) -> Tensor:
        """The slopes (k, d) of the scores of some directions: a step s changes the scores by ``readings @ s``.

        Raises
        ------
        DirectionsError
            A name is unknown.
        """
        return self._readings[[self.names.index(self[name].name) for name in names]]

    def distance(self, z: Tensor) -> Tensor:
        """Mahalanobis distance of latents (n, d) from the training faces' mean: (n,)."""
        centred = (z - self.mean.to(z)).double()
        return (centred * torch.linalg.solve(self.covariance.double(), centred.T).T).sum(1).sqrt().to(z)

    def safe(self, z: Tensor, name: str) -> tuple[float, float]:
        """The safe range: the strengths that keep a face (d,) within ``radius`` of the mean by Mahalanobis distance.

        (0, 0) for a face that is outside, and that no strength brings inside.
        """
        vector, centred = self[name].vector.double(), (z - self.mean).double()
        whitened = torch.linalg.solve(self.covariance.double(), vector)
        # |z - mean + s v|^2 = radius^2, a quadratic in s.
        a, b = float(vector @ whitened), float(centred @ whitened)
        c = float(centred @ torch.linalg.solve(self.covariance.double(), centred)) - self.radius ** 2
        if b * b < a * c:
            return 0.0, 0.0
        root = (b * b - a * c) ** 0.5
        return (-b - root) / a, (-b + root) / a

    def shift(self, strengths: Mapping[str, float], locks: Iterable[str] = ()) -> Tensor:
        """The step (d,) of an edit: the sum of strength * direction, without the part that moves ``locks``.

        Among the steps that change the score of every locked direction by its own strength (by 0 if it has none), this is the
        nearest to the sum by Mahalanobis distance.

        Raises
        ------
        DirectionsError
            A name is unknown, or a strength is no finite number.
        """
        values = self.strengths(strengths)
        step = values.double() @ self.matrix.double()
        locked = [self.names.index(self[name].name) for name in locks]
        if locked:
            readings = self._readings[locked].double()
            excess = readings @ step - values[locked].double()  # (locked,)
            # Least squares, since two locked directions may be parallel.
            vectors = self.matrix[locked].double()
            step = step - torch.linalg.lstsq(readings @ vectors.T, excess[:, None]).solution[:, 0] @ vectors
        return step.float()

    def reach(self, z: Tensor, name: str, percentile: float) -> float:
        """The strength that brings a face (d,) to a percentile, 0 to 100, of ``name`` among the training faces.

        Raises
        ------
        DirectionsError
            ``name`` is unknown, or ``percentile`` is not from 0 to 100.
        """
        if not 0 <= percentile <= 100:
            raise DirectionsError(f"The percentile of {name} is {percentile!r}; it must be from 0 to 100.")
        quantiles = self[name].quantiles
        return float(np.interp(percentile, np.linspace(0, 100, len(quantiles)), quantiles)) - self._score(z, name)

    def sweep(self, z: Tensor, name: str, steps: int) -> list[float]:
        """The strengths that take a face (d,) through the data's range of scores, from the lowest to the highest.

        If the direction has a track, they go from one end of the track to the other.
        """
        own = 0.0 if self[name].track else self._score(z, name)
        return [score - own for score in np.linspace(self[name].low, self[name].high, steps).tolist()]

    def percentiles(self, z: Tensor) -> dict[str, float]:
        """The percentiles of a face (d,): name -> percentage of the training faces with a lower score, 0 to 100."""
        return {
            name: self[name].percentile(score) for name, score in zip(self.names, self.scores(z[None])[0].tolist(), strict=True)
        }

    def cosine(self, vector: Tensor) -> dict[str, float]:
        """The cosine of a vector (d,) with every direction, -1 to 1, in the metric of the inverse covariance."""
        whitened = torch.linalg.solve(self.covariance.double(), vector.double())
        inner = self.matrix.double() @ whitened
        own = (self.matrix.double() * torch.linalg.solve(self.covariance.double(), self.matrix.double().T).T).sum(1)
        return dict(zip(self.names, (inner / (own * (vector.double() @ whitened)).sqrt()).tolist(), strict=True))

    def _score(self, z: Tensor, name: str) -> float:
        return float(self.scores(z[None])[0, self.names.index(self[name].name)])

    def save(self, path: str | Path) -> None:
        """Write a tensor (d,) for each direction, and ``NAME.displacement`` if it has one.

        The other fields of a direction are JSON in the file's metadata, under its name. The tensors ``latent.mean`` and
        ``latent.covariance`` are those of the space.
        """
        metadata = {}
        for direction in self.values():
            fields = {f.name: getattr(direction, f.name) for f in dataclasses.fields(Direction)}
            del fields["name"], fields["vector"], fields["displacement"]
            fields["quantiles"] = [round(q, 4) for q in direction.quantiles]
            metadata[_key(direction.name)] = json.dumps(fields)
        metadata["order"] = json.dumps(self.names)
        metadata["radius"] = json.dumps(self.radius)
        tensors = {name: d.vector.contiguous() for name, d in self.items()}
        tensors |= {
            f"{name}.displacement": d.displacement.contiguous() for name, d in self.items() if d.displacement is not None
        }
        save_tensors(tensors | {"latent.mean": self.mean, "latent.covariance": self.covariance}, path, metadata=metadata)

    @classmethod
    def load(cls, path: str | Path, latents: int) -> "Directions":
        """Read what ``save`` wrote, for a model with that many latents.

        Raises
        ------
        DirectionsError
            The file is missing, damaged, without metadata, or for another number of latents.
        """
        path = Path(path)
        if not path.is_file():
            raise DirectionsError(f"There is no file {str(path)!r} with directions.")
        try:
            tensors, metadata = load_tensors(path)
            directions = []
            for name in json.loads(metadata["order"]):
                fields = json.loads(metadata.get(_key(name)) or metadata[name])
                fields["quantiles"] = tuple(fields["quantiles"])
                fields["measured"] = {EARLIER_KEYS.get(key, key): value for key, value in fields.get("measured", {}).items()}
                fields.pop("spread", None)  # of an earlier version
                fields["track"] = tuple(fields["track"]) if fields.get("track") else None
                # Earlier versions also kept NAME.turn, by which the step depended on the face. It is left out.
                directions.append(Direction(name=name, vector=tensors[name], displacement=tensors.get(f"{name}.displacement"),
                                            **fields))
            radius = json.loads(metadata["radius"])
            mean, covariance = tensors["latent.mean"], tensors["latent.covariance"]
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DirectionsError(f"The directions file {str(path)!r} is damaged ({error}).") from error
        try:
            return cls(directions, latents, mean, covariance, radius)
        except DirectionsError as error:
            raise DirectionsError(f"The directions file {str(path)!r} is of another model: {error}") from error


def _key(name: str) -> str:
    """The key of a direction's fields in a file's metadata: its name, or a longer one if the name is taken by the format."""
    return f"direction:{name}" if name in ("order", "radius", "weights") else name
