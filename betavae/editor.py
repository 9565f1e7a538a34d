"""The editor: a model and its directions, from photo to latent to picture. It keeps no state of any user."""

import functools
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from betavae import custom, hub, latent
from betavae.attributes import GROUPS, attribute
from betavae.classifier import SideEffect, side_effects
from betavae.config import choice
from betavae.directions import Direction, Directions
from betavae.displacement import put_back, total, touch
from betavae.image import cut, preprocess, square, to_pil, to_tensor
from betavae.locks import hold
from betavae.model import VAE
from betavae.person import matte, shipped
from betavae.photo import Photo
from betavae.recipe import Recipe, RecipeError
from betavae.release import publish
from betavae.sharp import Sharpener, added

SOURCES = ("prior", "mixture")  # what random faces are drawn from
# The methods that run the networks. ZeroGPU lends its GPU call by call, to these.
COMPUTING = ("_encoded", "decode", "detail", "cutout", "compose", "changes", "with_displacement", "shift", "remaining")
WEAR_RIDGE = 0.1  # ridge penalty on strengths; with less, gaps close further but strengths cancel each other
MASKS = ("unedited", "edited")  # whose outline a model with masks cuts an edit out by


class Editor:
    """Encode a face once, then every edit is one decode.

    An edit is a pure function of (model, z, strengths). The editor holds the model and callers hold the rest, so one editor
    serves any number of people.

    Parameters
    ----------
    model : VAE
    directions : Directions
    folder : betavae.hub.Folder, optional
        The rest of the model folder: figures, classifier, atlas, mixture, log, second decoder, notes.
    device : str or torch.device, optional
        CUDA if present, else MPS, else the CPU, unless given.
    name : str
        The model's name in messages.

    Examples
    --------
    >>> editor = Editor.from_pretrained()
    >>> z = editor.encode("photo.jpg")
    >>> editor.edit(z, {"Smiling": 1.5, "yaw": -1})[0].save("edited.png")
    """

    def __init__(self, model: VAE, directions: Directions, folder: hub.Folder | None = None, *,
                 device: str | torch.device | None = None, name: str = ""):
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        self.config = model.config
        self.directions = directions
        folder = folder or hub.Folder()
        self.metrics, self.atlas, self.log, self.mixture = folder.metrics, folder.atlas, folder.log, folder.mixture
        self.classifier = folder.classifier and folder.classifier.to(self.device).eval()
        self.notes = folder.notes
        self.sharpener = folder.sharpener and folder.sharpener.to(self.device).eval()
        self.name = name

    @classmethod
    def from_pretrained(cls, name: str | Path | None = None, device: str | torch.device | None = None,
                        title: str | None = None, *, revision: str | None = None, token: str | bool | None = None,
                        cache_dir: str | Path | None = None, local_files_only: bool = False,
                        force_download: bool = False) -> "Editor":
        """The shipped model, a model folder, or a Hub repository "user/repo".

        ``device`` is CUDA if present, else MPS, else the CPU, unless given. ``title`` is shown instead of the name. The
        other arguments are huggingface_hub's: ``revision`` is a branch, tag or commit; ``token`` is False for none.

        Raises
        ------
        ModelError, DirectionsError, ClassifierError, MixtureError
            See ``betavae.hub.resolve`` and ``betavae.hub.load``.
        """
        folder = hub.resolve(name, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only,
                             force_download=force_download)
        return cls(*hub.load(folder), device=device, name=title or str(name or folder.name))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a model folder, which ``from_pretrained`` opens as this editor."""
        rest = hub.Folder(self.metrics, self.classifier, self.atlas, self.mixture, self.log, self.sharpener)
        hub.save_all(hub.Loaded(self.model, self.directions, rest), folder)

    def push_to_hub(self, repo_id: str, *, commit_message: str | None = None, private: bool | None = None,
                    token: str | bool | None = None, create_pr: bool = False) -> str:
        """Put the model folder and a card into a Hub repository in one commit; returns its address, or the pull request's.

        Raises
        ------
        PublishError, HubError
            The model has no figures for the card, or the Hub refuses: see ``betavae.release.publish``.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return publish(Path(folder), repo_id, private=private, create_pr=create_pr, token=token, message=commit_message)

    @functools.cached_property
    def hash(self) -> str:
        """Which model this is, in 12 hexadecimal digits: see ``betavae.hub.model_hash``."""
        return hub.model_hash(self.model)

    def open(self, source, crop: str = "auto", name: str | None = None) -> Photo:
        """A photo with its faces, the largest of them framed: see ``betavae.Photo``.

        Parameters
        ----------
        source : path, bytes or PIL image
        crop : "auto" | "aligned" | "centre"
        name : str, optional
            The photo's name in messages; its file's name unless given.

        Raises
        ------
        ImageError, ValueError
            The picture cannot be used, or ``crop`` does not exist or fit. A photo without a face is not an error here.
        """
        return Photo(source, self._encoded, crop, name)

    def encode(self, image, crop: str = "auto") -> Tensor:
        """Posterior means of one or more photos, each of its largest face.

        Parameters
        ----------
        image : path, bytes, PIL image or Photo, or a list of these
        crop : "auto" | "aligned" | "centre"
            How to frame a photo. A ``Photo`` is framed already.

        Returns
        -------
        Tensor
            (n, d), on the CPU.

        Raises
        ------
        NoFaceError
            A photo has no face.
        ImageError, ValueError
            The picture cannot be used, or ``crop`` does not exist or fit.
        """
        images = image if isinstance(image, (list, tuple)) else [image]
        return torch.cat([self._photo(photo, crop).z for photo in images])

    @torch.inference_mode()
    def _encoded(self, frame: Image.Image) -> Tensor:
        """An aligned frame -> z (1, d)."""
        mu, _ = self.model.encode(to_tensor([preprocess(frame, self.config)]).to(self.device))
        return mu.cpu()

    def _photo(self, source, crop: str = "auto") -> Photo:
        return source if isinstance(source, Photo) else self.open(source, crop)

    def input(self, image, crop: str = "auto") -> Image.Image:
        """The model's input for a photo: RGB, ``config.image_size`` square. Arguments and errors are those of ``encode``."""
        return preprocess(self._photo(image, crop).aligned(), self.config)

    def put_back(self, photo, strengths: Mapping[str, float], locks: Iterable[str] = ()) -> Image.Image:
        """A photo with its framed face edited: the photo's own pixels, moved and shaded (``betavae.displacement.put_back``).

        Parameters
        ----------
        photo : Photo, path, bytes or PIL image
        strengths, locks
            As for ``edit``.

        Returns
        -------
        PIL.Image.Image
            It has the photo's size, orientation, mode, ICC profile and EXIF. Pixels outside of the face's square are the
            photo's, bit for bit. ``Photo.save`` keeps profile and EXIF in the file.

        Raises
        ------
        NoFaceError
            The photo has no face.
        DirectionsError
            A name is unknown, or a strength is no finite number.
        """
        photo = self._photo(photo)
        return photo.finished(*self.put_into(photo.pixels, photo.framed, photo.z, strengths, locks))

    def with_displacement(self, direction: Direction) -> Direction:
        """The direction with its displacement field, which moves a photo's pixels: ``custom.with_displacement``."""
        return custom.with_displacement(direction, lambda z: self.model.decode(z.to(self.device)), self.directions)

    @torch.inference_mode()
    def decode(self, z: Tensor, background: Image.Image | None = None, placed: Tensor | None = None,
               sharp: bool = False) -> list[Image.Image]:
        """Latents (n, d) or (d,) -> n RGB images, ``config.image_size`` square.

        With ``sharp`` they are twice that size: a second decoder adds detail that the latent does not hold.

        A model with masks lays the faces over ``background``, which ``input`` makes from a photo. It uses the masks of the
        latents ``placed`` if given: see ``VAE.decode``.

        Raises
        ------
        ValueError
            ``z`` has another shape or a value that is not finite, or ``sharp`` is set and the model has no second decoder.
        """
        behind = None if background is None else to_tensor([background]).to(self.device)
        sharpener = self.second_decoder() if sharp else None
        placed = None if placed is None else self._latents(placed).to(self.device)
        z = self._latents(z).to(self.device)
        honest = self.model.decode(z, behind, placed)
        return to_pil(honest if sharpener is None else sharpener(honest, z))

    @torch.inference_mode()
    def detail(self, z: Tensor) -> list[Image.Image]:
        """What ``decode(z, sharp=True)`` adds to ``decode(z)``, as n pictures of its size: ``betavae.sharp.added``.

        Raises
        ------
        ValueError
            As for ``decode`` with ``sharp``.
        """
        sharpener, z = self.second_decoder(), self._latents(z).to(self.device)
        honest = self.model.decode(z)
        return to_pil(added(honest, sharpener(honest, z)))

    def second_decoder(self) -> Sharpener:
        """What draws sharp pictures.

        Raises
        ------
        ValueError
            The model has none.
        """
        if self.sharpener is None:
            raise ValueError(
                "This model has no second decoder, which draws sharp pictures; python train/run.py --stages sharpen trains one."
            )
        return self.sharpener

    @torch.inference_mode()
    def cutout(self, z: Tensor, placed: Tensor | None = None) -> list[Image.Image]:
        """Latents (n, d) or (d,) -> n RGBA images: faces without a background, of a model with masks.

        The masks are those of the latents ``placed`` (same shape) if given: see ``decode``.

        Raises
        ------
        ValueError
            As for ``decode``, or the model has no masks.
        """
        placed = None if placed is None else self._latents(placed).to(self.device)
        return to_pil(self.model.cutout(self._latents(z).to(self.device), placed))

    def edit(self, z: Tensor, strengths: Mapping[str, float], locks: Iterable[str] = (),
             background: Image.Image | None = None, mask: str = "unedited", sharp: bool = False) -> list[Image.Image]:
        """``decode(shift(z, strengths, locks), background)``: the faces z (n, d) with directions added, {"Smiling": 1.5}.

        ``mask`` chooses the outline that a model with masks uses: that of the "unedited" face, as the published recipe does,
        or of the "edited" one.

        Raises
        ------
        ValueError
            ``mask`` is neither.
        """
        choice("mask", mask, MASKS)
        return self.decode(self.shift(z, strengths, locks), background, z if mask == "unedited" else None, sharp)

    def side_by_side(self, image, strengths: Mapping[str, float], locks: Iterable[str] = (),
                     crop: str = "auto") -> list[Image.Image]:
        """Three pictures of a photo: the model's input, its reconstruction, and the reconstruction with the edit.

        Arguments and errors are those of ``encode`` and ``edit``.
        """
        photo = self._photo(image, crop)
        shown, z = self.input(photo), self.encode(photo)
        return [shown, *self.decode(z, shown), *self.edit(z, strengths, locks, shown)]

    def put_into(self, pixels: np.ndarray, frame: np.ndarray, z: Tensor, strengths: Mapping[str, float],
                 locks: Iterable[str] = ()) -> tuple[np.ndarray, np.ndarray]:
        """A photo with an edit of one of its faces put back: (edited pixels uint8 (h, w, 3), mask bool (h, w)).

        The photo's own pixels are moved and shaded (``displacement.put_back``). Pixels outside of the mask do not change. An
        edit of the person adds nothing to the background, and the other way round.

        Parameters
        ----------
        pixels : uint8 (h, w, 3)
            The upright photo.
        frame : (2, 3)
            The similarity that maps aligned-frame coordinates (178 x 218) to the photo's.
        z : Tensor
            (1, d): the latent of that face.

        Raises
        ------
        DirectionsError
            A name is unknown, or a strength is no finite number.
        """
        z = self._latents(z)
        return self.compose(pixels, frame, z, self.shift(z, strengths, locks), total(self.directions, strengths),
                            lambda person: touch(person, strengths))

    @torch.inference_mode()
    def compose(self, pixels: np.ndarray, frame: np.ndarray, z: Tensor, edited: Tensor, displacement: np.ndarray | None,
                touched: Callable[[np.ndarray], np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
        """``put_into`` for an edit given by its latents, z and ``edited``, each (1, d), and its ``displacement``.

        ``touched`` maps the person's matte (``person.matte``) to where the edit may add something: ``displacement.put_back``.
        """
        side = self.config.image_size
        behind = to_tensor([Image.fromarray(cut(pixels, square(frame, self.config, side), side, side))]).to(self.device)
        pair = torch.cat([self._latents(z), self._latents(edited)]).to(self.device)
        before, after = self.model.decode(pair, behind).split(1)
        return put_back(pixels, frame, self.config, before, after, displacement,
                        touched(matte(shipped(), pixels, frame, self.config)))

    def shift(
        self, z: Tensor, strengths: Mapping[str, float], locks: Iterable[str] = (), own: Directions | None = None
    ) -> Tensor:
        """Z + sum of strength * direction, (n, d): the latents that ``edit`` decodes.

        ``locks`` names directions that must not change. The classifier's reading of the picture is held (``locks.hold``). For a
        model without a classifier, or a name that it does not read, the score in the latent is held (``Directions.shift``).
        ``own`` are further directions that may be named.

        Raises
        ------
        DirectionsError
            A name is unknown, or a strength is no finite number.
        """
        z, locks = self._latents(z), list(locks)
        space = self.directions if own is None else self.directions | own
        if self.classifier is None or not locks:
            return z + space.shift(strengths, locks)
        return z + hold(z, strengths, locks, space, self._reading, self.classifier.names)

    def wear(self, z: Tensor, other: Tensor, groups: Iterable[str], amount: float = 1.0,
             locks: Iterable[str] = ()) -> dict[str, float]:
        """The strengths that bring a face z (d,) to the scores of the face ``other`` (d,), in some groups of directions.

        ``edit`` takes them like any others. Directions overlap, so their strengths are solved for together (ridge regression,
        ``WEAR_RIDGE``): at ``amount`` 1 the percentiles come near the other face's, at 0.5 the scores are half-way there.
        Scores beyond those of the training faces are clipped to them. Directions without a slider on the page
        (``Attribute.listed``) get no strength.

        Parameters
        ----------
        groups : list of str
            Of ``betavae.attributes.GROUPS``.
        amount : float
            From 0 to 1.
        locks : list of str
            Directions that get no strength.

        Raises
        ------
        ValueError
            A group does not exist or has no direction here, ``amount`` is not from 0 to 1, or a latent has the wrong shape.
        DirectionsError
            A lock is unknown.
        """
        if not 0 <= amount <= 1:
            raise ValueError(f"amount is {amount!r}; it must be a number from 0 to 1.")
        space = self.directions
        here = [group for group in GROUPS if any(attribute(name).group == group for name in space)]
        chosen, kept = set(groups), {space[name].name for name in locks}
        for group in sorted(chosen):
            choice("group", group, here)
        names = [name for name in space if attribute(name).group in chosen and attribute(name).listed and name not in kept]
        if not names:
            return {}
        z, other = self._latents(z), self._latents(other)
        percentiles = space.percentiles(other[0])
        gaps = torch.tensor([space.reach(z[0], name, percentiles[name]) for name in names]).double()
        # (k, k): by how much one strength of each direction changes every score.
        effects = space.readings(names).double() @ torch.stack([space[name].vector for name in names]).double().T
        strengths = torch.linalg.solve(effects.T @ effects + WEAR_RIDGE * torch.eye(len(names)), effects.T @ gaps)
        return {name: amount * strength for name, strength in zip(names, strengths.tolist(), strict=True)}

    def remaining(self, z: Tensor, strengths: Mapping[str, float], locks: Iterable[str],
                  own: Directions | None = None) -> dict[str, float]:
        """The share of each wanted effect on a face z (d,) that the locks leave: 1 is all of it.

        It is the change with the locks over the change without them. The change is that of the classifier's reading of the
        picture, or of the score in the latent if the classifier does not read the name. Only names with a strength are in the
        answer; a name that the edit does not change has 0.

        Raises
        ------
        DirectionsError
            See ``shift``.
        """
        z, space = self._latents(z), self.directions if own is None else self.directions | own
        latents = torch.cat([z, self.shift(z, strengths, own=own), self.shift(z, strengths, locks, own)])
        readings = dict(zip(space.names, space.scores(latents).T, strict=True))
        if self.classifier is not None:
            with torch.inference_mode():
                readings |= dict(zip(self.classifier.names, self._reading(latents).cpu().T, strict=True))
        changes = {name: (readings[name][1:] - readings[name][0]).tolist() for name, strength in strengths.items() if strength}
        return {name: held / free if abs(free) > 1e-6 else 0.0 for name, (free, held) in changes.items()}

    def _reading(self, z: Tensor) -> Tensor:
        """The classifier's readings of the pictures of latents (n, d): (n, k), differentiable."""
        assert self.classifier is not None  # callers check it
        return self.classifier.standard(self.model.decode(z.to(self.device)))

    def spectrum(self, z: Tensor, name: str, steps: int = 7, locks: Iterable[str] = ()) -> tuple[Tensor, list[float]]:
        """A face z (d,) at ``steps`` places along one direction, over the range of the data: latents (steps, d), strengths.

        Raises
        ------
        DirectionsError
            A name is unknown.
        """
        locks, strengths = list(locks), self.directions.sweep(z, name, steps)
        return torch.cat([self.shift(z, {name: strength}, locks) for strength in strengths]), strengths

    def apply(self, recipe: Recipe, z: Tensor | None = None, background: Image.Image | None = None) -> list[Image.Image]:
        """The pictures of a recipe, for the faces z (n, d), or for the recipe's own face. ``background``: see ``decode``.

        Raises
        ------
        RecipeError
            The recipe belongs to another model, or has no face and z is not given.
        DirectionsError
            The model does not have a direction of the recipe.
        ValueError
            The recipe asks for sharp pictures, and the model has no second decoder.
        """
        self.check(recipe)
        z = self.face(recipe) if z is None else z
        return self.edit(z, recipe.strengths, recipe.locks, background, sharp=recipe.sharp)

    def face(self, recipe: Recipe) -> Tensor:
        """The face (1, d) of a recipe, before its edit.

        Raises
        ------
        RecipeError
            It has no face, or belongs to another model.
        """
        self.check(recipe)
        if recipe.latent is not None:
            return self._latents(torch.tensor(recipe.latent))
        if recipe.seed is None:
            raise RecipeError("The recipe carries no face of its own; give it one.")
        return self.sample(1, recipe.seed, recipe.temperature)

    def check(self, recipe: Recipe) -> None:
        """Refuse a recipe of another model.

        Raises
        ------
        RecipeError
            The recipe belongs to another model.
        """
        if recipe.model != self.hash:
            raise RecipeError(f"The recipe is of the model {recipe.model} and this is {self.hash}, in which its numbers "
                              "mean something else; open it with its own model.")

    def side_effects(self, z: Tensor, strengths: Mapping[str, float], locks: Iterable[str] = ()) -> list[SideEffect]:
        """The side effects of an edit of a face z (d,), by the classifier's readings of the pictures.

        Returns
        -------
        list of SideEffect
            All readings whose names have no strength, the largest change first.

        Raises
        ------
        ValueError
            The model's folder has no classifier.
        DirectionsError
            See ``shift``.
        """
        wanted = {name for name, strength in strengths.items() if strength}
        changes = self.changes(z, self.shift(z, strengths, locks)[0])
        return [effect for effect in changes if effect.name not in wanted]

    @torch.inference_mode()
    def changes(self, before: Tensor, after: Tensor) -> list[SideEffect]:
        """All changes from the face ``before`` (d,) to ``after`` (d,), by the classifier's readings of their pictures.

        Raises
        ------
        ValueError
            The model's folder has no classifier, or a latent has the wrong shape.
        """
        if self.classifier is None:
            raise ValueError("This model has no classifier, by which side effects are measured.")
        pictures = self.model.decode(torch.cat([self._latents(before), self._latents(after)]).to(self.device))
        return side_effects(self.classifier, *pictures.split(1))

    def interpolate(self, a: Tensor, b: Tensor, steps: int | list[float] = 8, method: str = "slerp") -> list[Image.Image]:
        """Pictures on the way from latent a (d,) to b (d,): ``steps`` evenly spaced ones, or one at each position 0..1.

        Raises
        ------
        ValueError
            ``method`` is neither "lerp" nor "slerp", or a latent has the wrong shape.
        """
        t = torch.linspace(0, 1, steps) if isinstance(steps, int) else torch.tensor(steps, dtype=torch.float32)
        return self.decode(latent.along(torch.cat([self._latents(a), self._latents(b)]), t, method))

    def sample(self, n: int, seed: int, temperature: float = 1.0, truncation: float | None = None,
               source: str = "prior") -> Tensor:
        """``n`` random faces: (n, d), the same on every machine for one seed.

        Parameters
        ----------
        temperature : float
            Scale of the noise; below 1 the faces are nearer to the average.
        truncation : float, optional
            Bound of every number of the noise, in deviations (``latent.noise``).
        source : "prior" | "mixture"
            N(0, I), or the mixture fitted to the latents of the training faces.

        Raises
        ------
        ValueError
            ``truncation`` is not above 0, or ``source`` does not exist or the model has none.
        """
        if source not in SOURCES:
            raise ValueError(f"source is {source!r}; choose from {', '.join(SOURCES)}.")
        if source == "prior":
            return latent.sample(n, self.config.latents, seed, temperature, truncation)
        if self.mixture is None:
            raise ValueError("This model has no mixture; python train/run.py --stages directions fits one.")
        return self.mixture.sample(n, seed, temperature, truncation)

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
