"""An edit as a small JSON, to keep, send and resume: in a file, in the address bar, inside a saved PNG."""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image, PngImagePlugin

from betavae.latent import MAX_SEED

KEYWORD = "betavae.recipe"  # of the PNG's text chunk; in other formats it begins a comment
CHARSET = b"ASCII\0\0\0"   # EXIF 2.3, UserComment


class RecipeError(ValueError):
    """The recipe cannot be used. The message is one sentence that names the bad value and the valid ones."""


@dataclass(frozen=True)
class Recipe:
    """An edit without its pictures, which ``Editor.apply`` makes.

    The face is given by a seed or by a latent. A recipe with neither applies to any face.

    Parameters
    ----------
    model : str
        ``Editor.hash`` of the model whose latents and directions these are.
    strengths : mapping of str to float
        By direction, in the directions' unit.
    locks : sequence of str
        Directions that must not change: see ``Editor.shift``.
    seed : int, optional
        The face is ``Editor.sample(1, seed, temperature)``.
    temperature : float
        That of the seed's face.
    latent : sequence of d floats, optional
        The face before the edit.
    sharp : bool
        Whether the second decoder makes the pictures: see ``Editor.decode``.

    Raises
    ------
    RecipeError
        A field has a value of the wrong kind, or the recipe has both a seed and a latent.
    """

    model: str
    strengths: Mapping[str, float] = field(default_factory=dict)
    locks: tuple[str, ...] = ()
    seed: int | None = None
    temperature: float = 1.0
    latent: tuple[float, ...] | None = None
    sharp: bool = False

    def __post_init__(self):
        if not isinstance(self.model, str) or not re.fullmatch("[0-9a-f]{12}", self.model):
            raise RecipeError(f"The recipe's model is {self.model!r}; it must be 12 hexadecimal digits.")
        if not isinstance(self.strengths, Mapping):
            raise RecipeError(f"The recipe's strengths are {self.strengths!r}; they must be numbers by name.")
        for name, strength in self.strengths.items():
            if not isinstance(name, str) or not _is_number(strength):
                raise RecipeError(f"The recipe's strength of {name} is {strength!r}; it must be a finite number.")
        if not isinstance(self.locks, (list, tuple)) or not all(isinstance(name, str) for name in self.locks):
            raise RecipeError(f"The recipe's locks are {self.locks!r}; they must be a list of names.")
        if self.seed is not None and (type(self.seed) is not int or not 0 <= self.seed <= MAX_SEED):
            raise RecipeError(f"The recipe's seed is {self.seed!r}; it must be a whole number from 0 to {MAX_SEED}.")
        if not _is_number(self.temperature) or self.temperature < 0:
            raise RecipeError(f"The recipe's temperature is {self.temperature!r}; it must be a number from 0 up.")
        if not isinstance(self.sharp, bool):
            raise RecipeError(f"The recipe's sharp is {self.sharp!r}; it must be true or false.")
        if self.latent is not None:
            if not isinstance(self.latent, (list, tuple)) or not all(_is_number(value) for value in self.latent):
                raise RecipeError("The recipe's latent is not a list of finite numbers.")
            if self.seed is not None:
                raise RecipeError("The recipe has both a seed and a latent; a face has one or the other.")
            object.__setattr__(self, "latent", tuple(map(float, self.latent)))
        object.__setattr__(self, "strengths", {name: float(value) for name, value in self.strengths.items()})
        object.__setattr__(self, "locks", tuple(self.locks))

    def to_json(self) -> str:
        """The recipe as one line of JSON, without fields that have their default."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if self.seed is None:
            del fields["temperature"]
        if not self.sharp:
            del fields["sharp"]
        return json.dumps({name: value for name, value in fields.items() if value not in (None, {}, ())})

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read what ``to_json`` wrote, or a recipe written by hand.

        Raises
        ------
        RecipeError
            It is not JSON, has an unknown field, lacks the model, or a field has a value of the wrong kind.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"The recipe is not JSON: {error}.") from error
        if not isinstance(fields, dict):
            raise RecipeError("The recipe is not a JSON object.")
        known = [f.name for f in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                raise RecipeError(f"The recipe has an unknown field {name!r}; the fields are {', '.join(known)}.")
        if "model" not in fields:
            raise RecipeError("The recipe does not say of which model it is: it has no field 'model'.")
        return cls(**fields)

    def png_info(self) -> PngImagePlugin.PngInfo:
        """For Pillow: ``image.save("edited.png", pnginfo=recipe.png_info())`` puts the recipe inside the picture."""
        info = PngImagePlugin.PngInfo()
        info.add_text(KEYWORD, self.to_json())
        return info

    def comment(self) -> str:
        """For formats whose only place for it is a comment: EXIF's, a GIF's, an MP4's."""
        return f"{KEYWORD} {self.to_json()}"

    def into(self, exif: Image.Exif) -> None:
        """Put the recipe into a picture's EXIF, as its user comment, for formats other than PNG."""
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = CHARSET + self.comment().encode("ascii")

    @classmethod
    def in_picture(cls, path: str | Path | IO[bytes]) -> "Recipe | None":
        """The recipe inside a picture; None if there is none, and for any other file.

        Raises
        ------
        RecipeError
            There is one, and it cannot be used.
        """
        try:
            with Image.open(path) as image:
                text = image.info.get(KEYWORD)  # from the chunks before the pixels, so nothing is decoded
                if text is None and image.format != "PNG":
                    exif = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
                    comment = image.info.get("comment", b"") if image.format == "GIF" else exif
                    start = (b"" if image.format == "GIF" else CHARSET) + f"{KEYWORD} ".encode()
                    text = (
                        comment[len(start) :].decode("ascii")
                        if isinstance(comment, bytes) and comment.startswith(start)
                        else None
                    )
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return None  # whether it is a picture at all is betavae.image.read's to say
        return None if text is None else cls.from_json(text)

    @classmethod
    def read(cls, path: str | Path) -> "Recipe":
        """The recipe in a JSON file or inside a picture.

        Raises
        ------
        RecipeError
            There is no such file, there is no recipe in it, or it cannot be used.
        """
        path = Path(path)
        if not path.is_file():
            raise RecipeError(f"There is no file {path.name!r} with a recipe.")
        recipe = cls.in_picture(path)
        if recipe is not None:
            return recipe
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RecipeError(f"There is no recipe in {path.name!r}; give a JSON file, or a picture that was saved with "
                              "its recipe.") from error
        return cls.from_json(text)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
