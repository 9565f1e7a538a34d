"""The messages between the page and the editor.

A face is a message: latent, scores and pictures. The page keeps it and sends the latent with every request, so no Python object
keeps the state of a user.
"""

import base64
import binascii
import functools
import html
import io
import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from betavae import animation, custom
from betavae.config import choice
from betavae.editor import Editor
from betavae.image import ImageError
from betavae.recipe import Recipe, RecipeError

# A little below 1, generated faces are cleaner and still varied.
TEMPERATURE = 0.8

MAX_FRAMES, MAX_SIDE = 32, 512  # of a loop: pictures one way, and pixels of each
HOW = ("honest", "sharp", "added")  # how faces are drawn: by the model, by its second decoder too, or what that adds
MAX_PICTURES = 81  # of one request: the largest grid of a spectrum


def data_uri(image: Image.Image) -> str:
    """A picture for the page as a data URI. It is lossless, and takes some 6 kB for 64 x 64 pixels."""
    file = io.BytesIO()
    image.save(file, "webp", lossless=True, exact=True, quality=0, method=0)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def drawn(editor: Editor, z: Tensor, unedited: Tensor | None = None, how: str = "honest") -> list[str]:
    """The faces of latents (n, d) or (d,), for the page; a model with masks leaves the background to the page's photo.

    ``unedited`` are the latents of the same faces before an edit, whose outlines are used (``Editor.edit``); ``how`` is of HOW.

    Raises
    ------
    ValueError
        ``how`` does not exist, or the model has no second decoder for it.
    """
    choice("drawing", how, HOW)
    if how == "added":
        images = editor.detail(z)
    elif editor.config.mask and how == "honest":
        images = editor.cutout(z, unedited)
    else:
        images = editor.decode(z, sharp=how == "sharp")
    return [data_uri(image) for image in images]


def has_switch(editor: Editor) -> bool:
    """Whether the page offers sharp pictures: those of a model with masks have no outline."""
    return editor.sharpener is not None and not editor.config.mask


def face(editor: Editor, z: Tensor, caption: str, original: Image.Image | None = None, seed: dict | None = None) -> dict:
    """The message that puts a face (d,) on a stage.

    ``original`` is the model's input for a photo, if there is one. ``seed`` has the recipe's fields {seed, temperature} of a
    generated face, which a link may carry.
    """
    numbers = [round(value, 5) for value in z.tolist()]  # more digits do not change a picture
    return renewed({
        "z": numbers,
        "picture": drawn(editor, torch.tensor(numbers))[0],
        "original": original and data_uri(original),
        "caption": caption,
        "seed": seed,
    })


def renewed(message: dict) -> dict:
    """The same face as a new message: Gradio sends the page only values that changed."""
    return message | {"id": secrets.token_hex(8)}


def thumbnails(faces: list[dict]) -> list[dict]:
    """Faces as the value of the component "thumbnails"."""
    return [{"picture": face["original"] or face["picture"], "caption": face["caption"]} for face in faces]


def generated(editor: Editor, seed: int, temperature: float = TEMPERATURE) -> dict:
    """The message of the face of a seed."""
    return face(editor, editor.sample(1, seed, temperature)[0], f"Generated face {seed}",
                seed={"seed": seed, "temperature": temperature})


def random_face(editor: Editor) -> dict:
    """The message of a new random face."""
    return generated(editor, secrets.randbelow(1_000_000))


def photo(editor: Editor, path: str | Path, caption: str, crop: str = "auto") -> dict:
    """The message of the face in a file, framed by ``crop``.

    Raises
    ------
    ImageError
        The file cannot be used.
    """
    opened = editor.open(path, crop)
    return face(editor, opened.z[0], caption, editor.input(opened))


def resumed(editor: Editor, recipe: Recipe, caption: str | None = None) -> dict:
    """The message that puts a recipe's edit on the Edit tab's stage; without a face if the recipe has none.

    Raises
    ------
    ValueError
        It belongs to another model, names an unknown direction, or is sharp and the model has no second decoder.
    """
    editor.check(recipe)
    editor.directions.shift(recipe.strengths, recipe.locks)
    if recipe.sharp:
        editor.second_decoder()
    edit = {"strengths": recipe.strengths, "locks": list(recipe.locks), "sharp": recipe.sharp}
    if recipe.seed is not None:
        return generated(editor, recipe.seed, recipe.temperature) | edit
    return (face(editor, editor.face(recipe)[0], caption or "A face from a link") if recipe.latent else {}) | edit


def linked(editor: Editor, text: str) -> dict:
    """The message of the recipe in a link, as of ``resumed``.

    Raises
    ------
    ValueError
        It cannot be used; the sentence is for the visitor who followed the link.
    """
    try:
        recipe = Recipe.from_json(text)
    except RecipeError:
        raise ValueError("This link is cut off or damaged: the edit in it cannot be read.") from None
    unknown = [name for name in (*recipe.strengths, *recipe.locks) if name not in editor.directions]
    if recipe.model != editor.hash:
        raise ValueError(f"This link is of another model ({recipe.model}), and this page has {editor.hash}.")
    if unknown:
        raise ValueError(f"This link moves {unknown[0]!r}, and this model has no slider of that name.")
    if recipe.sharp and editor.sharpener is None:
        raise ValueError("This link is of a sharp picture, and this model has no second decoder to draw it.")
    return resumed(editor, recipe)


def carried(picture: Path | IO[bytes]) -> Recipe | None:
    """The recipe with a face in a picture; None if there is none.

    Raises
    ------
    RecipeError
        There is one, and it cannot be used.
    """
    recipe = Recipe.in_picture(picture)
    return recipe if recipe is not None and (recipe.latent or recipe.seed is not None) else None


def uploaded(editor: Editor, upload: dict | None) -> dict | None:
    """The message of the face in the data of gr.Image with ``preprocess=False``; if there is none, None and a toast.

    A picture saved with its recipe gives the face of the recipe. Gradio's own preprocessing would open the file first and show
    its own message for a bad one; it checks in either case that the path is an upload. The file is deleted, so that a photo
    stays with its visitor.
    """
    if not upload or not upload.get("path"):
        return None
    path, caption = Path(upload["path"]), upload.get("orig_name") or "Your photo"
    try:
        recipe = carried(path)
        if recipe is not None:
            return face(editor, editor.shift(editor.face(recipe), recipe.strengths, recipe.locks)[0], caption)
    except ValueError as error:
        toast(f"{caption!r} holds an edit that cannot be resumed, and is opened as a photo. {error}")
    try:
        return photo(editor, path, caption)
    except ImageError as error:
        toast(str(error))
        return None
    finally:
        path.unlink(missing_ok=True)


def toast(sentence: str) -> None:
    """Show a sentence on any tab. Toasts are rendered as HTML and sentences contain file names, so it is escaped."""
    gr.Warning(html.escape(sentence), duration=8)


def latent(value: object) -> Tensor:
    """A latent (d,) sent by the page; the editor checks its length.

    Raises
    ------
    ValueError
        It is not a list of numbers.
    """
    if not isinstance(value, list) or not all(type(x) in (int, float) and abs(x) < 1e6 for x in value):
        raise ValueError("The latent is not a list of numbers.")
    return torch.tensor(value, dtype=torch.float32)


def pictures(editor: Editor, request: dict) -> dict:
    """The pictures of a request's {latents}.

    Raises
    ------
    ValueError
        They are not a list of latents, or too many.
    """
    latents = request.get("latents")
    if not isinstance(latents, list) or not 1 <= len(latents) <= MAX_PICTURES:
        raise ValueError(f"The latents are not a list of 1 to {MAX_PICTURES}.")
    faces = torch.cat([editor.shift(latent(z), {}) for z in latents])
    of = request.get("unedited")
    if of is not None and (not isinstance(of, list) or len(of) != len(latents)):
        raise ValueError("The unedited latents are not as many as the latents.")
    unedited = None if of is None else torch.cat([editor.shift(latent(z), {}) for z in of])
    return {"pictures": drawn(editor, faces, unedited, str(request.get("how", "honest")))}


def whole(value: object, name: str, low: int, high: int) -> int:
    """The value of ``name``, checked to be a whole number from ``low`` to ``high``.

    Raises
    ------
    ValueError
        It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1 or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; it must be a whole number from {low} to {high}.")
    return int(value)


def number(value: object, name: str, low: float, high: float) -> float:
    """The value of ``name``, checked to be a number from ``low`` to ``high``.

    Raises
    ------
    ValueError
        It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}.")
    return float(value)


def edited(editor: Editor, request: dict) -> Tensor:
    """The latent (d,) of a request {z, strengths}.

    Raises
    ------
    ValueError
        The request is not of that form, or the editor refuses it.
    """
    if not isinstance(request.get("strengths"), dict):
        raise ValueError("The strengths are not an object of numbers by name.")
    return editor.shift(latent(request.get("z")), request["strengths"])[0]


def names(request: dict, what: str) -> list[str]:
    """The list of names in a field of a request; empty without the field.

    Raises
    ------
    ValueError
        It is not a list of names.
    """
    found = request.get(what) or []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"The {what} are not a list of names.")
    return found


def held(editor: Editor, request: dict) -> dict:
    """The edit of a face under locks, as ``Editor.shift`` has it: {z, strengths, locks, vectors} -> {z, picture, remaining}.

    While a slider is dragged, the page shows its own approximation; it requests this when the slider is released. ``vectors``
    are the visitor's own directions among the names, {name: vector}. ``remaining`` is the share of each effect that is left.

    Raises
    ------
    ValueError
        The request is not of that form, or the editor refuses it.
    """
    strengths, vectors, locks = request.get("strengths") or {}, request.get("vectors") or {}, names(request, "locks")
    if not isinstance(strengths, dict) or not isinstance(vectors, dict):
        raise ValueError("The strengths and the vectors are not objects by name.")
    own = custom.from_vectors({name: latent(vector) for name, vector in vectors.items()}, editor.directions)
    z = latent(request.get("z"))
    numbers = [round(value, 5) for value in editor.shift(z, strengths, locks, own)[0].tolist()]
    return {"z": numbers, "picture": drawn(editor, torch.tensor(numbers), unedited=z)[0],
            "remaining": editor.remaining(z, strengths, locks, own)}


def worn(editor: Editor, request: dict) -> dict:
    """The strengths of ``Editor.wear``: {z, other, groups, locks} -> {strengths}.

    The page scales them by the wanted amount.

    Raises
    ------
    ValueError
        The request is not of that form, or the editor refuses it.
    """
    groups, locks = names(request, "groups"), names(request, "locks")
    if not groups:
        raise ValueError("No groups are given; choose what to take, such as Expression or Pose.")
    strengths = editor.wear(latent(request.get("z")), latent(request.get("other")), groups, locks=locks)
    return {"strengths": {name: round(strength, 4) for name, strength in strengths.items()}}


def loop(request: dict) -> dict:
    """The file of a loop, {frames, format, recipe?} -> {file}: a data URI; the frames are pictures in base64.

    Raises
    ------
    ValueError
        The frames are not a short list of small pictures of one size, the format is unknown, or the recipe is malformed.
    """
    kind, frames = str(request.get("format")), request.get("frames")
    if kind not in animation.FORMATS:
        raise ValueError(f"The format is {kind!r}; choose from {', '.join(animation.FORMATS)}.")
    if not isinstance(frames, list) or not 2 <= len(frames) <= MAX_FRAMES:
        raise ValueError(f"The frames are not a list of 2 to {MAX_FRAMES} pictures.")
    recipe = Recipe.from_json(json.dumps(request["recipe"])) if "recipe" in request else None
    try:
        way = [Image.open(io.BytesIO(base64.b64decode(str(frame), validate=True)), formats=["JPEG"]) for frame in frames]
        if any(image.size != way[0].size or max(image.size) > MAX_SIDE or image.width % 2 or image.height % 2 for image in way):
            raise ValueError(f"The frames are not of one even size up to {MAX_SIDE} pixels.")
        data = animation.loop([image.convert("RGB") for image in way], kind, recipe)
    except (binascii.Error, OSError, SyntaxError, Image.DecompressionBombError):
        raise ValueError("The frames did not arrive whole; try again.") from None
    return {"file": f"data:{animation.MIME[kind]};base64,{base64.b64encode(data).decode()}"}


def answering(function: Callable[[dict], dict]) -> Callable[[object], dict]:
    """A server function whose ValueErrors reach the page as {"error": sentence}."""
    @functools.wraps(function)
    def answer(request: object) -> dict:
        try:
            if not isinstance(request, dict):
                raise ValueError("The request is not an object.")
            return function(request)
        except ValueError as error:
            return {"error": str(error)}
    return answer


def at_once(function: Callable[[dict], dict]) -> Callable[[object], Awaitable[dict]]:
    """``answering`` in the server's own thread, for functions that take no longer than a picture.

    The change of threads takes a fifth of the time from a slider to its picture.
    """
    answer = answering(function)

    @functools.wraps(function)
    async def answer_here(request: object) -> dict:
        return answer(request)
    return answer_here
