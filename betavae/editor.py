"""The editor: a model and its directions, from photo to latent to picture. Holds nothing of any user."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from betavae import face, hub, latent
from betavae.directions import Directions
from betavae.image import preprocess, read, to_pil, to_tensor
from betavae.model import VAE


class Editor:
    """Encode a face once, then every edit is one decode.

    An edit is a pure function of (model, z, strengths); the editor holds the first, callers hold the rest, so one
    editor serves any number of people.

    Examples
    --------
    >>> editor = Editor.from_pretrained()
    >>> z = editor.encode("photo.jpg")
    >>> editor.edit(z, {"Smiling": 1.5, "yaw": -1})[0].save("edited.png")
    """

    def __init__(self, model: VAE, directions: Directions, metrics: dict | None = None,
                 device: str | torch.device | None = None, name: str = ""):
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        self.config = model.config
        self.directions = directions
        self.metrics = metrics or {}
        self.name = name

    @classmethod
    def from_pretrained(cls, name: str | Path | None = None, device: str | torch.device | None = None) -> "Editor":
        """The shipped model, a model folder, or a Hub repository "user/repo".

        ``device`` is CUDA if present, else MPS, else the CPU, unless given.

        Raises
        ------
        ModelError, DirectionsError
            See ``betavae.hub.resolve`` and ``betavae.hub.load``.
        """
        folder = hub.resolve(name)
        return cls(*hub.load(folder), device=device, name=str(name or folder.name))

    @torch.inference_mode()
    def encode(self, image, crop: str = "auto") -> Tensor:
        """Posterior means of one or more photos.

        Parameters
        ----------
        image : PIL image, path, bytes, or a list of these
        crop : "auto" | "aligned"
            How a photo is framed: see ``betavae.face.frame``.

        Returns
        -------
        Tensor
            (n, d), on the CPU.

        Raises
        ------
        ImageError, ValueError
            A picture that cannot be used, or a ``crop`` that does not exist or fit.
        """
        images = image if isinstance(image, (list, tuple)) else [image]
        mu, _ = self.model.encode(to_tensor([self.input(photo, crop) for photo in images]).to(self.device))
        return mu.cpu()

    def input(self, image, crop: str = "auto") -> Image.Image:
        """What the model is shown of a photo: RGB, ``config.image_size`` square."""
        return preprocess(face.frame(read(image), crop), self.config)

    @torch.inference_mode()
    def decode(self, z: Tensor) -> list[Image.Image]:
        """Latents (n, d) or (d,) -> n RGB images, ``config.image_size`` square.

        Raises
        ------
        ValueError
            ``z`` has another shape, or a value that is not finite.
        """
        return to_pil(self.model.decode(self._latents(z).to(self.device)))

    def edit(self, z: Tensor, strengths: Mapping[str, float], locks: Iterable[str] = ()) -> list[Image.Image]:
        """``decode(shift(z, strengths, locks))``: the faces z (n, d) with directions added, {"Smiling": 1.5, "yaw": -1}."""
        return self.decode(self.shift(z, strengths, locks))

    def shift(self, z: Tensor, strengths: Mapping[str, float], locks: Iterable[str] = ()) -> Tensor:
        """z + sum of strength * direction, (n, d): the latents that ``edit`` decodes.

        ``locks`` names directions that keep their place: see ``Directions.shift``.

        Raises
        ------
        DirectionsError
            A name is unknown, or a strength is no finite number.
        """
        return self._latents(z) + self.directions.shift(strengths, locks)

    def interpolate(self, a: Tensor, b: Tensor, steps: int | list[float] = 8, method: str = "slerp") -> list[Image.Image]:
        """Pictures on the way from latent a (d,) to b (d,): ``steps`` evenly spaced ones, or one at each position 0..1.

        Raises
        ------
        ValueError
            ``method`` is neither "lerp" nor "slerp", or a latent has the wrong shape.
        """
        if method not in latent.INTERPOLATIONS:
            raise ValueError(f"method is {method!r}; choose from {', '.join(latent.INTERPOLATIONS)}.")
        t = torch.linspace(0, 1, steps) if isinstance(steps, int) else torch.tensor(steps, dtype=torch.float32)
        (a,), (b,) = self._latents(a), self._latents(b)
        return self.decode(latent.INTERPOLATIONS[method](a, b, t))

    def sample(self, n: int, seed: int, temperature: float = 1.0) -> Tensor:
        """``n`` random faces from N(0, temperature^2 I): (n, d), the same on every machine for one seed."""
        return latent.sample(n, self.config.latents, seed, temperature)

    def _latents(self, z) -> Tensor:
        z = torch.as_tensor(z, dtype=torch.float32)
        z = z[None] if z.ndim == 1 else z
        if z.ndim != 2 or z.shape[1] != self.config.latents:
            raise ValueError(f"The latent has the shape {tuple(z.shape)}; this model needs (n, {self.config.latents}).")
        if not torch.isfinite(z).all():
            raise ValueError("The latent has a value that is not a finite number.")
        return z


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else CUDA if present, else MPS, else the CPU.

    Raises
    ------
    ValueError
        The device asked for does not exist here.
    """
    found = ["cpu"]
    if torch.backends.mps.is_available():
        found.insert(0, "mps")
    if torch.cuda.is_available():
        found.insert(0, "cuda")
    if device is None:
        return torch.device(found[0])
    kind, _, index = str(device).partition(":")
    if kind not in found or (index and not (index.isdigit() and int(index) < max(1, torch.cuda.device_count()))):
        raise ValueError(f"There is no device {str(device)!r} here; choose from {', '.join(found)}.")
    return torch.device(device)
