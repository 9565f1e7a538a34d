"""The API: named endpoints for programs, each stateless: all that it needs comes with the call, as numbers and files.

Gradio shows them with these signatures and docstrings behind the link below the page, and offers them as tools of an MCP server
(``python app.py --mcp``), so the docstrings here have the form that Gradio reads.
"""

import dataclasses
import functools
import inspect
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import torch
from fastapi import Request
from fastapi.responses import JSONResponse
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image
from torch import Tensor

from betavae import custom
from betavae import latent as geometry
from betavae.attributes import attribute
from betavae.directions import Directions
from betavae.editor import Editor
from betavae.gallery import Gallery
from betavae.recipe import KEYWORD, Recipe
from betavae.ui import messages, once
from betavae.ui.messages import number, whole

MAX_PICTURES = 64
MAX_SEED = 2**31 - 1
MAX_FACES, MAX_SIDE = 1000, 100_000  # of a photo; whether a face is there is the photo's to say


def build(editor: Editor, gallery: Gallery | None = None) -> None:
    """The endpoints around one editor, in the Blocks that is being built; those of a ``gallery`` where there is one."""
    for function in [*endpoints(editor), *numbered(editor, gallery)]:
        # The page with the documentation shows one paragraph, which is the whole docstring then. Off the queue, a call
        # waits for nobody else's; the work of each is bounded by MAX_PICTURES.
        gr.api(answering(function), api_description=" ".join(inspect.getdoc(function).split()), queue=False)


def numbered(editor: Editor, gallery: Gallery | None) -> list[Callable]:
    """The endpoint that knows the faces of a gallery by number; none without one."""
    def numbered_face(number: int, strengths: dict[str, float] | None = None,
                      locks: list[str] | None = None) -> tuple[list[gr.FileData], list[float]]:
        """A face of the data set that the server was started on, beside its reconstruction and its edit.

        Parameters:
            number: which face, as in CelebA's file names
            strengths: how much of each direction
            locks: names of directions in which the face keeps its place
        Returns:
            three pictures: original, reconstruction, edit
            the latent of the reconstruction
        """
        path = gallery.path(number)
        photo = editor.open(path, gallery.crop)
        shown = editor.side_by_side(photo, mapping(strengths or {}, "strengths"), names(locks, "locks"))
        return pictures(shown), photo.z[0].tolist()

    return [numbered_face] if gallery else []


def answering(function: Callable) -> Callable:
    """An endpoint whose ValueErrors reach the caller as their sentence, and that keeps no photo that came with a call."""
    @functools.wraps(function)
    def answer(*arguments):
        try:
            return function(*arguments)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        finally:
            for value in arguments:
                for file in value if isinstance(value, list) else [value]:
                    if isinstance(file, dict) and isinstance(file.get("path"), str):
                        once.forget(file["path"])
    return answer


def endpoints(editor: Editor) -> list[Callable]:
    """The functions that are served. What is wrong with an argument is a ValueError of one sentence."""
    space = editor.directions

    def encode(photo: gr.FileData, crop: str = "auto") -> list[float]:
        """The latent of the face in a photo.

        Parameters:
            photo: a portrait, as JPEG, PNG, WebP, GIF, BMP or TIFF
            crop: "auto" for the largest centred frame, "aligned" for a face aligned as in CelebA
        Returns:
            the latent, which the other endpoints take
        """
        return editor.encode(uploaded(photo, "photo"), str(crop))[0].tolist()

    def faces(photo: gr.FileData) -> list[dict]:
        """The faces in a photo, the largest first.

        Parameters:
            photo: a photo, which the server does not keep
        Returns:
            for each face box (left, top, right, bottom), landmarks (eyes, nose, corners of the mouth, left to right), both in \
pixels of the upright photo, and score, how sure the detector is
        """
        return [{"box": list(found.box), "landmarks": found.landmarks.tolist(), "score": float(found.score)}
                for found in editor.open(uploaded(photo, "photo")).faces]

    def edit_photo(photo: gr.FileData, strengths: dict[str, float], locks: list[str] | None = None, face: int = 0,
                   eyes: list[list[float]] | None = None) -> tuple[gr.FileData, list[float]]:
        """A photo with a face of it edited: its own pixels at its own size, moved and shaded; the rest stays bit for bit.

        Parameters:
            photo: a photo, which the server does not keep
            strengths: how much of each direction, such as {"Smiling": 1.5}
            locks: names of directions in which the face keeps its place
            face: which of the faces that /faces lists, from 0
            eyes: both eyes as [[x, y], [x, y]] in pixels of the upright photo, instead of face, where none was found
        Returns:
            the photo in its own format, the recipe inside; it can be fetched once and is deleted then
            the face's latent before the edit
        """
        path = uploaded(photo, "photo")
        recipe = Recipe(editor.hash, mapping(strengths, "strengths"), names(locks, "locks"))
        opened = editor.open(path)
        if eyes is not None:
            opened.frame_by_eyes(*points(eyes, "eyes", 2))
        elif opened.faces or face != 0:
            opened.choose(whole(face, "face", 0, MAX_FACES))
        carried = dataclasses.replace(recipe, latent=tuple(round(value, 5) for value in opened.z[0].tolist()))
        name = Path(photo.get("orig_name") or path.name)
        suffix = name.suffix if Image.registered_extensions().get(name.suffix.lower()) in Image.SAVE else ".png"
        out = once.place(f"{name.stem}-edited{suffix}")
        opened.save(editor.put_back(opened, recipe.strengths, recipe.locks), out, carried)
        return gr.FileData(path=str(out), orig_name=out.name).model_dump(), list(carried.latent)

    def decode(latent: list[float]) -> gr.FileData:
        """The picture of a latent.

        Parameters:
            latent: a face, from encode or sample
        Returns:
            a PNG of the model's size
        """
        return pictures(editor.decode(messages.latent(latent)))[0]

    def edit(latent: list[float], strengths: dict[str, float], locks: list[str] | None = None,
             vectors: dict[str, list[float]] | None = None) -> tuple[gr.FileData, list[float]]:
        """A face with directions added.

        Parameters:
            latent: a face, from encode or sample
            strengths: how much of each direction, such as {"Smiling": 1.5, "yaw": -1}
            locks: names of directions in which the face keeps its place
            vectors: directions of your own by name, each as long as a latent, that strengths and locks may name as well
        Returns:
            the picture
            the edited latent
        """
        given = {name: messages.latent(vector) for name, vector in mapping(vectors, "vectors").items()}
        own = custom.from_vectors(given, space)
        z = face(latent)
        z = editor.shift(z, mapping(strengths, "strengths"), names(locks, "locks"), own)[0]
        return pictures(editor.decode(z))[0], z.tolist()

    def apply(recipe: dict, latent: list[float] | None = None) -> gr.FileData:
        """The picture of an edit recipe, as the page writes it into its links and its saved pictures.

        Parameters:
            recipe: {"model": ..., "strengths": {...}, "locks": [...]} and the face as "seed" or "latent"; model tells which
            latent: the face to edit instead of the recipe's own
        Returns:
            a PNG with the recipe inside; dropped on the page, it resumes the edit
        """
        read = Recipe.from_json(json.dumps(mapping(recipe, "recipe")))
        (image,) = editor.apply(read, None if latent is None else messages.latent(latent))
        if latent is None:
            image.info[KEYWORD] = read.to_json()  # which Gradio writes into the PNG
        return pictures([image])[0]

    def side_effects(latent: list[float], strengths: dict[str, float], locks: list[str] | None = None) -> list[dict]:
        """What an edit changes besides what it is meant to, as a classifier of pixels sees it: the largest change first.

        Parameters:
            latent: a face, from encode or sample
            strengths: how much of each direction
            locks: names of directions in which the face keeps its place
        Returns:
            name, probability before and after, and the change in logits
        """
        effects = editor.side_effects(messages.latent(latent), mapping(strengths, "strengths"), names(locks, "locks"))
        return [dataclasses.asdict(effect) for effect in effects]

    def remaining(strengths: dict[str, float], locks: list[str], latent: list[float] | None = None) -> dict[str, float]:
        """What share of each wanted effect is left under locks: 1 is all of it.

        Parameters:
            strengths: how much of each direction is wanted
            locks: names of directions in which the face keeps its place
            latent: the face, from encode or sample; the average face if there is none
        """
        z = space.mean if latent is None else face(latent)
        return editor.remaining(z, mapping(strengths, "strengths"), names(locks, "locks"))

    def spectrum(latent: list[float], direction: str, steps: int = 7,
                 locks: list[str] | None = None) -> tuple[list[gr.FileData], list[float]]:
        """A face along one direction, from one end of the data to the other.

        Parameters:
            latent: a face, from encode or sample
            direction: its name
            steps: how many pictures, 2 to 64
            locks: names of directions in which the face keeps its place
        Returns:
            the pictures
            the strength of each
        """
        z, count, held = face(latent), whole(steps, "steps", 2, MAX_PICTURES), names(locks, "locks")
        latents, strengths = editor.spectrum(z, str(direction), count, held)
        return pictures(editor.decode(latents)), strengths

    def traverse(latent: list[float], dimension: int, values: list[float]) -> list[gr.FileData]:
        """A face in which one number of the latent takes other values.

        Parameters:
            latent: a face, from encode or sample
            dimension: which number, from 0
            values: what it shall be, 1 to 64 numbers
        """
        z, dimension = face(latent), whole(dimension, "dimension", 0, editor.config.latents - 1)
        if not isinstance(values, list) or not 1 <= len(values) <= MAX_PICTURES:
            raise ValueError(f"values is no list of 1 to {MAX_PICTURES} numbers.")
        wanted = torch.tensor([number(value, "values", -100, 100) for value in values])
        return pictures(editor.decode(geometry.traverse(z, dimension, wanted)))

    def interpolate(latents: list[list[float]], steps: int = 8, method: str = "slerp", easing: str = "linear",
                    closed: bool = False) -> tuple[list[gr.FileData], list[list[float]]]:
        """Pictures on the way through two or more faces, in their order.

        Parameters:
            latents: the faces, 2 to 64
            steps: how many pictures, 2 to 64, evenly spaced in time
            method: "slerp" for great arcs, "lerp" for straight lines
            easing: the speed between two faces: "linear", "ease in-out", "ease in" or "ease out"
            closed: whether the way leads back to the first face, as a loop without a seam
        Returns:
            the pictures
            their latents
        """
        if not isinstance(latents, list) or len(latents) > MAX_PICTURES:
            raise ValueError(f"latents is no list of 2 to {MAX_PICTURES} latents.")
        count = whole(steps, "steps", 2, MAX_PICTURES)
        faces = torch.stack([face(latent) for latent in latents]) if latents else torch.zeros(0, editor.config.latents)
        z = geometry.along(faces, geometry.evenly(count, bool(closed)), str(method), str(easing), bool(closed))
        return pictures(editor.decode(z)), z.tolist()

    def sample(count: int = 1, seed: int = 0, temperature: float = 1.0, truncation: float | None = None,
               source: str = "prior") -> tuple[list[gr.FileData], list[list[float]]]:
        """Random faces, the same on every machine for the same seed.

        Parameters:
            count: how many, 1 to 64
            seed: 0 to 2147483647
            temperature: 0 for the average face, 1 for the variety of the prior, at most 2
            truncation: how many deviations each number is at most from the average, 0.1 to 10
            source: "prior" for N(0, I), "mixture" for where the training faces are
        Returns:
            the pictures
            their latents
        """
        bound = None if truncation is None else number(truncation, "truncation", 0.1, 10)
        z = editor.sample(whole(count, "count", 1, MAX_PICTURES), whole(seed, "seed", 0, MAX_SEED),
                          number(temperature, "temperature", 0, 2), bound, str(source))
        return pictures(editor.decode(z)), z.tolist()

    def neighbours(latent: list[float], count: int = 8, radius: float = 2.0,
                   seed: int = 0) -> tuple[list[gr.FileData], list[list[float]]]:
        """Random faces at one distance from a face, the same on every machine for the same seed.

        Parameters:
            latent: a face, from encode or sample
            count: how many, 1 to 64
            radius: the distance, 0 to 20; two random faces are about 8 apart
            seed: 0 to 2147483647
        Returns:
            the pictures
            their latents
        """
        z = geometry.neighbours(face(latent), whole(count, "count", 1, MAX_PICTURES), whole(seed, "seed", 0, MAX_SEED),
                                number(radius, "radius", 0, 20))
        return pictures(editor.decode(z)), z.tolist()

    def wear(latent: list[float], other: list[float], groups: list[str], amount: float = 1.0) -> dict[str, float]:
        """The strengths that bring a face to where another one stands in some groups of directions, such as its expression.

        Parameters:
            latent: a face, from encode or sample
            other: the face that is taken from
            groups: of "Expression", "Pose", "Hair", "Face", "Accessories" and "Light and background"
            amount: 0 for nothing of it, 1 for all
        Returns:
            how much of each direction, which edit and edit_photo take
        """
        return editor.wear(face(latent), face(other), names(groups, "groups"), number(amount, "amount", 0, 1))

    def percentiles(latent: list[float]) -> dict[str, float]:
        """Where a face stands among the training faces: for each direction, the percentage of them below it.

        Parameters:
            latent: a face, from encode or sample
        """
        return space.percentiles(face(latent))

    def reach(latent: list[float], direction: str, percentile: float) -> float:
        """The strength that brings a face to a percentile of a direction among the training faces.

        Parameters:
            latent: a face, from encode or sample
            direction: its name
            percentile: 0 to 100
        """
        return space.reach(face(latent), str(direction), number(percentile, "percentile", 0, 100))

    def directions() -> list[dict]:
        """What can be edited: for each direction its name, what a person calls it, its vector, its unit, how many of the unit strength 1 is, the scores between which the data lies, how it was made and what was
        measured of it.
        """
        return [{"name": name, "label": attribute(name).label, "group": attribute(name).group, "unit": d.unit,
                 "per_strength": d.per_strength, "low": d.low, "high": d.high, "method": d.method,
                 "measured": d.measured, "vector": d.vector.tolist()}
                for name, d in space.items()]

    def make_direction(name: str, positives: list[gr.FileData],
                       negatives: list[gr.FileData]) -> tuple[gr.FileData, list[float], dict]:
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
        sides = [editor.encode(photos(files, side)) for files, side in ((positives, "positives"), (negatives, "negatives"))]
        direction, report = custom.from_faces(str(name), *sides, space)
        return pack(space.having([direction]), direction.name), direction.vector.tolist(), dataclasses.asdict(report)

    def model() -> dict:
        """The model: its name, the hash by which recipes know it, its configuration, and its figures with their protocol."""
        return {"name": editor.name, "hash": editor.hash, "config": dataclasses.asdict(editor.config),
                "metrics": editor.metrics}

    def face(value: object) -> Tensor:
        return editor.shift(messages.latent(value), {})[0]

    return [encode, faces, edit_photo, decode, edit, apply, remaining, side_effects, spectrum, traverse, interpolate, sample, neighbours,
            wear, percentiles, reach, directions, make_direction, model]


async def explain(request: Request, error: Exception) -> JSONResponse:
    """The answer to a call that never reached an endpoint, because its name or an argument's is wrong."""
    if "/call/v2/" not in request.url.path:
        raise error
    sentence = f"There is no endpoint {error}." if isinstance(error, KeyError) else f"{str(error).split('. Please')[0]}."
    return JSONResponse({"error": sentence}, 400)


# For the FastAPI application; Gradio answers these with a bare "Internal Server Error".
EXCEPTION_HANDLERS = {KeyError: explain, TypeError: explain}


def uploaded(value: object, name: str) -> Path:
    """The file that was uploaded as an argument. That it is an upload Gradio has checked, if it is marked as a file.

    Raises
    ------
    ValueError
        It is no file.
    """
    if not isinstance(value, dict) or value.get("meta") != {"_type": "gradio.FileData"}:
        raise ValueError(f'{name} is no uploaded file: {{"path": ..., "meta": {{"_type": "gradio.FileData"}}}}.')
    return Path(value["path"])


def points(value: object, name: str, count: int) -> list[tuple[float, float]]:
    """An argument that is a list of so many places [x, y].

    Raises
    ------
    ValueError
        It is something else.
    """
    if not isinstance(value, list) or len(value) != count or not all(isinstance(place, list) and len(place) == 2 for place in value):
        raise ValueError(f"{name} is {value!r}; it must be a list of {count} places [x, y].")
    x, y = ([number(place[axis], name, 0, MAX_SIDE) for place in value] for axis in (0, 1))
    return list(zip(x, y))


def photos(value: object, name: str) -> list[Path]:
    """The same for a list of files."""
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_PICTURES:
        raise ValueError(f"{name} is no list of 1 to {MAX_PICTURES} files.")
    return [uploaded(file, name) for file in value]


def pictures(images: list[Image.Image]) -> list[dict]:
    """Pictures as files among the uploads, which are deleted after an hour."""
    # As dicts: of models in a list Gradio would send the text.
    return [gr.FileData(path=save_pil_to_cache(image, get_upload_folder(), "face", "png")).model_dump() for image in images]


def pack(directions: Directions, name: str) -> dict:
    """Directions as a file among the uploads; what of the name is neither letter nor digit becomes a dash."""
    file = Path(tempfile.mkdtemp(dir=get_upload_folder())) / f"{re.sub(r'[^0-9A-Za-z]+', '-', name)}.safetensors"
    directions.save(file)
    return gr.FileData(path=str(file)).model_dump()


def mapping(value: object, name: str) -> dict:
    """An argument that is an object; {} where it is not given.

    Raises
    ------
    ValueError
        It is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {value!r}; it must be an object with names as keys.")
    return value


def names(value: object, name: str) -> list[str]:
    """An argument that is a list of names; [] where it is not given.

    Raises
    ------
    ValueError
        It is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name} is {value!r}; it must be a list of names.")
    return value
