# ruff: noqa: D406, D407 -- Gradio reads "Parameters:" and "Returns:" without underlines
"""The API: named endpoints for programs. They are stateless: a call brings all numbers and files that it needs.

Gradio shows them with these signatures and docstrings behind the link below the page, and offers them as tools of an MCP server
(``python app.py --mcp``), so the docstrings here have the form that Gradio reads.
"""

import dataclasses
import functools
import inspect
import json
import re
import reprlib
import tempfile
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import gradio as gr
import torch
from fastapi import Request
from fastapi.responses import JSONResponse
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError, validate_call
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python
from torch import Tensor

from betavae import custom
from betavae import latent as geometry
from betavae.attributes import attribute
from betavae.directions import Directions
from betavae.editor import Editor
from betavae.gallery import Gallery
from betavae.recipe import KEYWORD, Recipe
from betavae.ui import once
from betavae.ui.messages import whole

MAX_PICTURES = 64
MAX_SEED = 2**31 - 1
MAX_FACES, MAX_SIDE = 1000, 100_000  # of a photo; ``Photo.choose`` checks that there is such a face


# ---- what endpoints take -------------------------------------------------------------------------------------------
#
# The description of a type ends the sentence on an invalid argument: "count is 65; it must be ...".


class Mark(BaseModel):
    """The mark that Gradio puts on a file after checking that it is an upload."""

    type_: Literal["gradio.FileData"] = Field(alias="_type")


class Upload(BaseModel):
    """An uploaded file: its path here, and its name on the visitor's machine."""

    path: Path
    meta: Mark
    orig_name: str | None = None


def within(low: float, high: float, what: str = "a number") -> FieldInfo:
    """Bounds, with their description."""
    return Field(ge=low, le=high, description=f"{what} from {low} to {high}")


# JSON has one kind of number: 2.0 is whole.
WHOLE = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
Finite = Annotated[float, Field(gt=-1e6, lt=1e6)]
Place = Annotated[list[Annotated[float, Field(ge=0, le=MAX_SIDE)]], Field(min_length=2, max_length=2)]

Text = Annotated[str, Field(description="a text")]
Flag = Annotated[bool, Field(description="true or false")]
Object = Annotated[dict[str, Any], Field(description="an object")]
Count = Annotated[int, WHOLE, within(1, MAX_PICTURES, "a whole number")]
Steps = Annotated[int, WHOLE, within(2, MAX_PICTURES, "a whole number")]
Seed = Annotated[int, WHOLE, within(0, MAX_SEED, "a whole number")]
FaceNumber = Annotated[int, WHOLE, within(0, MAX_FACES, "a whole number")]
Dimension = Annotated[int, WHOLE, Field(description="a whole number")]  # its upper bound depends on the model
Temperature = Annotated[float, within(0, 2)]
Bound = Annotated[Annotated[float, within(0.1, 10)] | None, Field(description="a number from 0.1 to 10, or null")]
Radius = Annotated[float, within(0, 20)]
Share = Annotated[float, within(0, 1)]
Percentile = Annotated[float, within(0, 100)]
Latent = Annotated[list[Finite], Field(description="a list of numbers")]
OptionalLatent = Annotated[list[Finite] | None, Field(description="a list of numbers, or null")]
Latents = Annotated[list[Latent], Field(max_length=MAX_PICTURES, description=f"a list of 2 to {MAX_PICTURES} latents")]
Values = Annotated[list[Annotated[float, Field(ge=-100, le=100)]],
                   Field(min_length=1, max_length=MAX_PICTURES,
                         description=f"a list of 1 to {MAX_PICTURES} numbers from -100 to 100")]
Strengths = Annotated[dict[str, Finite], Field(description="an object of finite numbers by name")]
OptionalStrengths = Annotated[dict[str, Finite] | None, Field(description="an object of finite numbers by name, or null")]
Names = Annotated[list[str], Field(description="a list of names")]
OptionalNames = Annotated[list[str] | None, Field(description="a list of names, or null")]
Vectors = Annotated[dict[str, list[Finite]] | None, Field(description="an object of lists of numbers by name, or null")]
Eyes = Annotated[Annotated[list[Place], Field(min_length=2, max_length=2)] | None,
                 Field(description=f"a list of 2 places [x, y], in pixels from 0 to {MAX_SIDE}, or null")]
# Gradio documents and checks its own type; the endpoint gets an Upload.
File = Annotated[gr.FileData, PlainValidator(Upload.model_validate),
                 Field(description='an uploaded file: {"path": ..., "meta": {"_type": "gradio.FileData"}}')]
Files = Annotated[list[Annotated[gr.FileData, PlainValidator(Upload.model_validate)]],
                  Field(min_length=1, max_length=MAX_PICTURES, description=f"a list of 1 to {MAX_PICTURES} uploaded files")]


def build(editor: Editor, gallery: Gallery | None = None) -> None:
    """Add the endpoints of one editor, and of a ``gallery`` if there is one, to the current Blocks."""
    for endpoint in Api(editor, gallery).endpoints():
        # The documentation page shows one paragraph, so it gets the whole docstring as one. Without the queue, calls do not
        # wait for each other; MAX_PICTURES bounds the work of each.
        gr.api(answering(endpoint), api_description=" ".join((inspect.getdoc(endpoint) or "").split()), queue=False)


def answering(endpoint: Callable) -> Callable:
    """An endpoint whose ValueErrors reach the caller as one sentence, and which deletes uploaded photos after the call.

    Its arguments are checked strictly against their types: "1" is not a number.
    """
    checked = validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))(endpoint)
    names = list(inspect.signature(endpoint).parameters)

    @functools.wraps(endpoint)
    def answer(*arguments):
        given = dict(zip(names, arguments, strict=False))
        try:
            return to_jsonable_python(checked(**given))
        except ValidationError as error:
            raise gr.Error(mistake(endpoint, given, error), print_exception=False) from error
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        finally:
            for value in arguments:
                for file in value if isinstance(value, list) else [value]:
                    if isinstance(file, dict) and isinstance(file.get("path"), str):
                        once.forget(file["path"])
    return answer


def mistake(endpoint: Callable, given: dict[str, object], error: ValidationError) -> str:
    """A sentence on the first invalid argument."""
    name = str(error.errors()[0]["loc"][0])
    _, *notes = typing.get_args(typing.get_type_hints(endpoint, include_extras=True)[name])
    wanted = next(note.description for note in notes if isinstance(note, FieldInfo) and note.description)
    return f"{name} is {reprlib.repr(given.get(name))}; it must be {wanted}."


class Api:
    """The functions of the API for one editor. An invalid argument raises a ValueError of one sentence."""

    def __init__(self, editor: Editor, gallery: Gallery | None = None):
        self.editor, self.gallery = editor, gallery

    def endpoints(self) -> list[Callable]:
        """The endpoints in the order of the documentation; the last is the gallery's, if there is one."""
        return [self.encode, self.faces, self.edit_photo, self.decode, self.edit, self.apply, self.remaining, self.side_effects,
                self.spectrum, self.traverse, self.interpolate, self.sample, self.neighbours, self.wear, self.percentiles,
                self.reach, self.directions, self.make_direction, self.model, *([self.numbered_face] if self.gallery else [])]

    def _face(self, latent: list[float]) -> Tensor:
        """A latent (d,) of this model's length."""
        return self.editor.shift(torch.tensor(latent), {})[0]

    def numbered_face(self, number: Seed, strengths: OptionalStrengths = None,
                      locks: OptionalNames = None) -> tuple[list[gr.FileData], list[float]]:
        """A face of the data set that the server was started on, beside its reconstruction and its edit.

        Parameters:
            number: which face, as in CelebA's file names
            strengths: how much of each direction
            locks: names of directions that must not change
        Returns:
            three pictures: original, reconstruction, edit
            the latent of the reconstruction
        """
        if self.gallery is None:
            raise ValueError("The server was started without --data, so it has no numbered faces.")
        photo = self.editor.open(self.gallery.path(number), self.gallery.crop)
        shown = self.editor.side_by_side(photo, strengths or {}, locks or [])
        return pictures(shown), photo.z[0].tolist()

    def encode(self, photo: File, crop: Text = "auto") -> list[float]:
        """The latent of the face in a photo.

        Parameters:
            photo: a portrait, as JPEG, PNG, WebP, GIF, BMP or TIFF
            crop: "auto" for the largest centred frame, "aligned" for a face aligned as in CelebA
        Returns:
            the latent, which the other endpoints take
        """
        return self.editor.encode(photo.path, crop)[0].tolist()

    def faces(self, photo: File) -> list[dict]:
        """The faces in a photo, the largest first.

        Parameters:
            photo: a photo, which the server does not keep
        Returns:
            for each face box (left, top, right, bottom), landmarks (eyes, nose, corners of the mouth, left to right), both in \
pixels of the upright photo, and score, how sure the detector is
        """
        return [{"box": list(found.box), "landmarks": found.landmarks.tolist(), "score": float(found.score)}
                for found in self.editor.open(photo.path).faces]

    def edit_photo(self, photo: File, strengths: Strengths, locks: OptionalNames = None, face: FaceNumber = 0,
                   eyes: Eyes = None) -> tuple[gr.FileData, list[float]]:
        """A photo with a face of it edited: its own pixels at its own size, moved and shaded; the rest stays bit for bit.

        Parameters:
            photo: a photo, which the server does not keep
            strengths: how much of each direction, such as {"Smiling": 1.5}
            locks: names of directions that must not change
            face: which of the faces that /faces lists, from 0
            eyes: both eyes as [[x, y], [x, y]] in pixels of the upright photo, instead of face, where none was found
        Returns:
            the photo in its own format, the recipe inside; it can be fetched once and is deleted then
            the face's latent before the edit
        """
        recipe = Recipe(self.editor.hash, strengths, tuple(locks or []))
        opened = self.editor.open(photo.path)
        if eyes is not None:
            (a, b), (c, d) = eyes
            opened.frame_by_eyes((a, b), (c, d))
        elif opened.faces or face != 0:
            opened.choose(face)
        latent = [round(value, 5) for value in opened.z[0].tolist()]
        carried = dataclasses.replace(recipe, latent=tuple(latent))
        name = Path(photo.orig_name or photo.path)
        suffix = name.suffix if Image.registered_extensions().get(name.suffix.lower()) in Image.SAVE else ".png"
        out = once.place(f"{name.stem}-edited{suffix}")
        opened.save(self.editor.put_back(opened, recipe.strengths, recipe.locks), out, carried)
        return gr.FileData(path=str(out), orig_name=out.name), latent

    def decode(self, latent: Latent, sharp: Flag = False) -> gr.FileData:
        """The picture of a latent.

        Parameters:
            latent: a face, from encode or sample
            sharp: whether a second decoder adds detail that the latent does not hold, at twice the size
        Returns:
            a PNG of the model's size, or twice that if it is sharp
        """
        return pictures(self.editor.decode(torch.tensor(latent), sharp=sharp))[0]

    def edit(self, latent: Latent, strengths: Strengths, locks: OptionalNames = None,
             vectors: Vectors = None, sharp: Flag = False) -> tuple[gr.FileData, list[float]]:
        """A face with directions added.

        Parameters:
            latent: a face, from encode or sample
            strengths: how much of each direction, such as {"Smiling": 1.5, "yaw": -1}
            locks: names of directions that must not change
            vectors: directions of your own by name, each as long as a latent, that strengths and locks may name as well
            sharp: whether a second decoder adds detail that the latent does not hold, at twice the size
        Returns:
            the picture
            the edited latent
        """
        given = {name: torch.tensor(vector) for name, vector in (vectors or {}).items()}
        own = custom.from_vectors(given, self.editor.directions)
        z = self.editor.shift(self._face(latent), strengths, locks or [], own)[0]
        return pictures(self.editor.decode(z, sharp=sharp))[0], z.tolist()

    def apply(self, recipe: Object, latent: OptionalLatent = None) -> gr.FileData:
        """The picture of an edit recipe, as the page writes it into its links and its saved pictures.

        Parameters:
            recipe: {"model": ..., "strengths": {...}, "locks": [...], "sharp": ...}, the last two if wanted, and the face as \
"seed" or "latent"; model tells which
            latent: the face to edit instead of the recipe's own
        Returns:
            a PNG with the recipe inside; dropped on the page, it resumes the edit
        """
        read = Recipe.from_json(json.dumps(recipe))
        (image,) = self.editor.apply(read, None if latent is None else torch.tensor(latent))
        if latent is None:
            image.info[KEYWORD] = read.to_json()  # which Gradio writes into the PNG
        return pictures([image])[0]

    def side_effects(self, latent: Latent, strengths: Strengths, locks: OptionalNames = None) -> list[dict]:
        """What an edit changes besides what it is meant to, as a classifier of pixels sees it: the largest change first.

        Parameters:
            latent: a face, from encode or sample
            strengths: how much of each direction
            locks: names of directions that must not change
        Returns:
            name, probability before and after, and the change in logits
        """
        effects = self.editor.side_effects(torch.tensor(latent), strengths, locks or [])
        return [dataclasses.asdict(effect) for effect in effects]

    def remaining(self, strengths: Strengths, locks: Names, latent: OptionalLatent = None) -> dict[str, float]:
        """What share of each wanted effect is left under locks: 1 is all of it.

        Parameters:
            strengths: how much of each direction is wanted
            locks: names of directions that must not change
            latent: the face, from encode or sample; the average face if there is none
        """
        z = self.editor.directions.mean if latent is None else self._face(latent)
        return self.editor.remaining(z, strengths, locks)

    def spectrum(self, latent: Latent, direction: Text, steps: Steps = 7,
                 locks: OptionalNames = None, sharp: Flag = False) -> tuple[list[gr.FileData], list[float]]:
        """A face along one direction, from one end of the data to the other.

        Parameters:
            latent: a face, from encode or sample
            direction: its name
            steps: how many pictures, 2 to 64
            locks: names of directions that must not change
            sharp: whether a second decoder adds detail that the latent does not hold, at twice the size
        Returns:
            the pictures
            the strength of each
        """
        latents, strengths = self.editor.spectrum(self._face(latent), direction, steps, locks or [])
        return pictures(self.editor.decode(latents, sharp=sharp)), strengths

    def traverse(self, latent: Latent, dimension: Dimension, values: Values, sharp: Flag = False) -> list[gr.FileData]:
        """A face in which one number of the latent takes other values.

        Parameters:
            latent: a face, from encode or sample
            dimension: which number, from 0
            values: what it shall be, 1 to 64 numbers
            sharp: whether a second decoder adds detail that the latent does not hold, at twice the size
        """
        z, dimension = self._face(latent), whole(dimension, "dimension", 0, self.editor.config.latents - 1)
        return pictures(self.editor.decode(geometry.traverse(z, dimension, torch.tensor(values)), sharp=sharp))

    def interpolate(self, latents: Latents, steps: Steps = 8, method: Text = "slerp", easing: Text = "linear",
                    closed: Flag = False, sharp: Flag = False) -> tuple[list[gr.FileData], list[list[float]]]:
        """Pictures on the way through two or more faces, in their order.

        Parameters:
            latents: the faces, 2 to 64
            steps: how many pictures, 2 to 64, evenly spaced in time
            method: "slerp" for great arcs, "lerp" for straight lines
            easing: the speed between two faces: "linear", "ease in-out", "ease in" or "ease out"
            closed: whether the way leads back to the first face, as a loop without a seam
            sharp: whether a second decoder adds detail that the latent does not hold, at twice the size
        Returns:
            the pictures
            their latents
        """
        width = self.editor.config.latents
        faces = torch.stack([self._face(latent) for latent in latents]) if latents else torch.zeros(0, width)
        z = geometry.along(faces, geometry.evenly(steps, closed), method, easing, closed)
        return pictures(self.editor.decode(z, sharp=sharp)), z.tolist()

    def sample(self, count: Count = 1, seed: Seed = 0, temperature: Temperature = 1.0,
               truncation: Bound = None, source: Text = "prior",
               sharp: Flag = False) -> tuple[list[gr.FileData], list[list[float]]]:
        """Random faces, the same on every machine for the same seed.

        Parameters:
            count: how many, 1 to 64
            seed: 0 to 2147483647
            temperature: 0 for the average face, 1 for the variety of the prior, at most 2
            truncation: how many deviations each number is at most from the average, 0.1 to 10
            source: "prior" for N(0, I), "mixture" for where the training faces are
            sharp: whether a second decoder adds detail that the latent does not hold, at twice the size
        Returns:
            the pictures
            their latents
        """
        z = self.editor.sample(count, seed, temperature, truncation, source)
        return pictures(self.editor.decode(z, sharp=sharp)), z.tolist()

    def neighbours(self, latent: Latent, count: Count = 8, radius: Radius = 2.0,
                   seed: Seed = 0, sharp: Flag = False) -> tuple[list[gr.FileData], list[list[float]]]:
        """Random faces at one distance from a face, the same on every machine for the same seed.

        Parameters:
            latent: a face, from encode or sample
            count: how many, 1 to 64
            radius: the distance, 0 to 20; two random faces are about 8 apart
            seed: 0 to 2147483647
            sharp: whether a second decoder adds detail that the latent does not hold, at twice the size
        Returns:
            the pictures
            their latents
        """
        z = geometry.neighbours(self._face(latent), count, seed, radius)
        return pictures(self.editor.decode(z, sharp=sharp)), z.tolist()

    def wear(self, latent: Latent, other: Latent, groups: Names, amount: Share = 1.0) -> dict[str, float]:
        """The strengths that bring a face to where another one stands in some groups of directions, such as its expression.

        Parameters:
            latent: a face, from encode or sample
            other: the face that is taken from
            groups: of "Expression", "Pose", "Hair", "Face", "Accessories" and "Light and background"
            amount: 0 for nothing of it, 1 for all
        Returns:
            how much of each direction, which edit and edit_photo take
        """
        return self.editor.wear(self._face(latent), self._face(other), groups, amount)

    def percentiles(self, latent: Latent) -> dict[str, float]:
        """Where a face stands among the training faces: for each direction, the percentage of them below it.

        Parameters:
            latent: a face, from encode or sample
        """
        return self.editor.directions.percentiles(self._face(latent))

    def reach(self, latent: Latent, direction: Text, percentile: Percentile) -> float:
        """The strength that brings a face to a percentile of a direction among the training faces.

        Parameters:
            latent: a face, from encode or sample
            direction: its name
            percentile: 0 to 100
        """
        return self.editor.directions.reach(self._face(latent), direction, percentile)

    def directions(self) -> list[dict]:
        """What can be edited.

        For each direction its name, what a person calls it, its vector, its unit, how many of the unit strength 1 is, the
        scores between which the data lies, how it was made, and what was measured of it.
        """
        return [{"name": name, "label": attribute(name).label, "group": attribute(name).group, "unit": d.unit,
                 "per_strength": d.per_strength, "low": d.low, "high": d.high, "method": d.method,
                 "measured": d.measured, "vector": d.vector.tolist()}
                for name, d in self.editor.directions.items()]

    def make_direction(self, name: Text, positives: Files,
                       negatives: Files) -> tuple[gr.FileData, list[float], dict]:
        """A direction of your own: the mean of faces with something minus the mean of faces without.

        Parameters:
            name: what it shall be called
            positives: 1 to 64 photos of faces with it
            negatives: 1 to 64 photos of faces without it
        Returns:
            a pack that python -m betavae --directions reads
            its vector
            how far it can be trusted: leave-one-out score, stability, the nearest known directions, a warning
        """
        space = self.editor.directions
        having, lacking = (self.editor.encode([file.path for file in files]) for files in (positives, negatives))
        direction, report = custom.from_faces(name, having, lacking, space)
        return pack(space.having([direction]), direction.name), direction.vector.tolist(), dataclasses.asdict(report)

    def model(self) -> dict:
        """The model.

        Its name, the hash by which recipes know it, its configuration, its figures with their protocol, and whether it has a
        second decoder, for sharp pictures.
        """
        editor = self.editor
        config = dataclasses.asdict(editor.config)
        return {"name": editor.name, "hash": editor.hash, "config": config, "metrics": editor.metrics,
                "sharp": editor.sharpener is not None}


async def explain(request: Request, error: Exception) -> JSONResponse:
    """The answer to a call with an unknown endpoint or argument name."""
    if "/call/v2/" not in request.url.path:
        raise error
    sentence = f"There is no endpoint {error}." if isinstance(error, KeyError) else f"{str(error).split('. Please')[0]}."
    return JSONResponse({"error": sentence}, 400)


# For the FastAPI application; Gradio answers these with a bare "Internal Server Error".
EXCEPTION_HANDLERS = {KeyError: explain, TypeError: explain}


def pictures(images: list[Image.Image]) -> list[gr.FileData]:
    """Pictures as files among the uploads, which are deleted after an hour."""
    return [gr.FileData(path=save_pil_to_cache(image, get_upload_folder(), "face", "png")) for image in images]


def pack(directions: Directions, name: str) -> gr.FileData:
    """Directions as a file among the uploads; in its name, other characters than letters and digits become dashes."""
    file = Path(tempfile.mkdtemp(dir=get_upload_folder())) / f"{re.sub(r'[^0-9A-Za-z]+', '-', name)}.safetensors"
    directions.save(file)
    return gr.FileData(path=str(file))
