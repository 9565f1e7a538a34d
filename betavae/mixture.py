"""A Gaussian mixture in the latent space: the distribution of the training faces, where N(0, I) is only the prior."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from betavae.files import save_tensors
from betavae.latent import noise

DRAWS = 4096  # shaped at a time


class MixtureError(ValueError):
    """The mixture cannot be used. The message is one sentence that names what is wrong."""


@dataclass(frozen=True)
class Mixture:
    """A density of latents with k Gaussian components; fitted by ``train/mixture.py`` to the aggregate posterior.

    Parameters
    ----------
    weights : Tensor
        (k,), positive, of sum 1.
    means : Tensor
        (k, d).
    covariances : Tensor
        (k, d, d), positive definite.

    Raises
    ------
    MixtureError
        The shapes do not match, or a value is invalid.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    _factors: Tensor = field(init=False, repr=False)  # (k, d, d), lower triangular: of the covariances, by Cholesky

    def __post_init__(self):
        shapes = tuple(tuple(part.shape) for part in (self.weights, self.means, self.covariances))
        if self.means.ndim != 2 or shapes != ((len(self.means),), shapes[1], (*shapes[1], self.means.shape[-1])):
            raise MixtureError(f"Weights, means and covariances have the shapes {', '.join(map(str, shapes))}; "
                               "they must be (k,), (k, d) and (k, d, d).")
        if not all(torch.isfinite(part).all() for part in (self.weights, self.means, self.covariances)):
            raise MixtureError("The mixture has a value that is not a finite number.")
        if not (self.weights > 0).all() or abs(float(self.weights.sum()) - 1) > 1e-3:
            raise MixtureError("The mixture's weights are not positive numbers of sum 1.")
        factors, failed = torch.linalg.cholesky_ex(self.covariances.double())
        if failed.any():
            raise MixtureError("A covariance of the mixture is not positive definite.")
        object.__setattr__(self, "_factors", factors)

    @property
    def latents(self) -> int:
        """The number of latents, d."""
        return self.means.shape[1]

    def sample(self, n: int, seed: int, temperature: float = 1.0, truncation: float | None = None) -> Tensor:
        """``n`` draws: (n, d), the same on every machine for one seed (drawn on the CPU).

        A draw is the mean of a component plus noise with the component's covariance. As in ``latent.sample``,
        ``temperature`` scales the noise and ``truncation`` bounds it; neither changes a draw's component.

        Raises
        ------
        ValueError
            See ``latent.noise``.
        """
        e = noise(n, self.latents, seed, truncation).double()
        # A separate generator, so that the components of the first faces do not depend on how many are drawn.
        pick = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        edges = self.weights.double().cumsum(0)
        index = torch.searchsorted(edges / edges[-1], pick, right=True).clamp(max=len(edges) - 1)
        # A draw needs its component's factor, d x d: a few draws at a time, or many would fill the memory.
        shaped = [torch.einsum("nij,nj->ni", self._factors[part], e_) for part, e_ in
                  zip(index.split(DRAWS), e.split(DRAWS), strict=True)]
        return (self.means[index] + temperature * torch.cat(shaped)).float()

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of latents in nats: (n, d) -> (n,)."""
        # |inverse(L) (z - mean)|^2 is the squared Mahalanobis distance from a component.
        centred = z.double()[None] - self.means.double()[:, None]  # (k, n, d)
        whitened = torch.linalg.solve_triangular(self._factors, centred.mT, upper=False)  # (k, d, n)
        scale = self._factors.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * self.latents * torch.log(torch.tensor(2 * torch.pi))
        logs = self.weights.double().log()[:, None] - scale[:, None] - 0.5 * whitened.square().sum(1)
        return logs.logsumexp(0).to(z.dtype)

    def save(self, path: str | Path) -> None:
        """The three tensors in float32."""
        parts = {"weights": self.weights, "means": self.means, "covariances": self.covariances}
        save_tensors({name: part.float().contiguous() for name, part in parts.items()}, path)

    @classmethod
    def load(cls, path: str | Path, latents: int) -> "Mixture":
        """Read what ``save`` wrote, for a model with that many latents.

        Raises
        ------
        MixtureError
            The file is missing, damaged, or for another number of latents.
        """
        path = Path(path)
        if not path.is_file():
            raise MixtureError(f"There is no file {str(path)!r} with a mixture.")
        try:
            mixture = cls(**load_file(path))
        except (SafetensorError, OSError, TypeError, MixtureError) as error:
            raise MixtureError(f"The mixture {str(path)!r} is damaged: {str(error).splitlines()[0]}") from error
        if mixture.latents != latents:
            raise MixtureError(f"The mixture {str(path)!r} is of another model: it has {mixture.latents} latents, "
                               f"this model {latents}.")
        return mixture
