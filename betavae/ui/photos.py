"""Messages about a visitor's photo, and the edited file.

The page keeps the photo and sends its bytes with every request. The server has them in memory only while it answers.
"""

import base64
import binascii
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from betavae.attributes import attribute
from betavae.classifier import side_effects
from betavae.directions import GRID
from betavae.editor import Editor
from betavae.image import square, to_tensor
from betavae.person import matte, shipped
from betavae.photo import NoFaceError, Photo
from betavae.recipe import Recipe
from betavae.ui import messages

SHOWN = 2048      # longest side, in pixels, of the copy that the page shows where it cannot read the file itself
MAX_BYTES = 2**26  # of a photo
SURE, GONE = 0.7, 0.35  # a photo shows an attribute above the first probability; a reconstruction loses it below the second
TOUCHED = (
    lambda person: None,
    lambda person: person,
    lambda person: 1 - person,
)  # of the page's numbers for what an edit may shade
PLAIN = ("Expression", "Hair", "Accessories")  # groups of which it is said what is kept, as anybody can see it
TURNED, COLOURS = 8.0, 0.09  # degrees, and mean difference in [0, 1], up to which pose and colours are kept


def opened(editor: Editor, request: dict) -> dict:
    """The message of a photo, {name, data, face?, eyes?} -> {face}, or {error, photo} if it has no face.

    ``data`` is the file in base64, ``face`` the number of the face, ``eyes`` two points in the upright photo's pixels. A
    picture saved with its recipe and face resumes that edit.

    Raises
    ------
    ValueError
        The request is not of that form, or the photo cannot be used.
    """
    data, name = bytes_of(request), str(request.get("name") or "Your photo")
    told = {}
    if "eyes" not in request and "face" not in request:
        try:
            recipe = messages.carried(io.BytesIO(data))
            if recipe is not None:
                return {"face": messages.resumed(editor, recipe, name)}
        except ValueError as error:
            told = {"warning": f"It holds an edit that cannot be resumed, and is opened as a photo. {error}"}
    photo = editor.open(data, name=name)
    if "eyes" in request:
        photo.frame_by_eyes(*places(request["eyes"]))
    elif "face" in request:
        photo.choose(messages.whole(request["face"], "face", 0, 10_000))
    try:
        return told | {"face": face(editor, photo, name)}
    except NoFaceError as error:
        return {"error": told.get("warning", str(error)), "photo": seen(photo)}


def face(editor: Editor, photo: Photo, name: str) -> dict:
    """The message that puts a photo's framed face on the stage."""
    shown = editor.input(photo)
    message = messages.face(editor, photo.z[0], name, shown)
    person = matte(shipped(), photo.pixels, photo.framed, editor.config)
    return message | {"kept": kept(editor, shown, photo.z), "photo": seen(photo) | {
        "square": square(photo.framed, editor.config).ravel().tolist(),
        "matte": messages.data_uri(Image.fromarray((255 * person).round().astype(np.uint8))),
    }}


def numbered(editor: Editor, path: Path, caption: str, crop: str) -> dict:
    """The message of a face of a data set: its reconstruction, and what the reconstruction keeps.

    Raises
    ------
    ImageError
        The file cannot be used.
    """
    photo = editor.open(path, crop)
    shown = editor.input(photo)
    return messages.face(editor, photo.z[0], caption, shown) | {"kept": kept(editor, shown, photo.z)}


def other(editor: Editor, request: dict) -> dict:
    """The face in a second photo, for ``Editor.wear``: {name, data, face?} -> {z, picture, name, face, faces}.

    ``face`` is its number among ``faces``, the largest unless given.

    Raises
    ------
    ValueError
        The request is not of that form, the photo cannot be used, or there is no face in it.
    """
    name = str(request.get("name") or "The photo")
    photo = editor.open(bytes_of(request), name=name)
    if not photo.faces:
        raise ValueError(f"No face was found in {name}; choose another photo to take from.")
    if "face" in request:
        photo.choose(messages.whole(request["face"], "face", 0, 10_000))
    return {"z": [round(value, 5) for value in photo.z[0].tolist()], "picture": messages.data_uri(editor.input(photo)),
            "name": name, "face": photo.face, "faces": len(photo.faces)}


def seen(photo: Photo) -> dict:
    """A photo and its faces for the page: size, boxes, eyes, and a copy in case the browser cannot read the file."""
    image = Image.fromarray(photo.pixels)
    image.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS, reducing_gap=3)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, subsampling=0)
    return {
        "name": photo.name.strip("'"), "size": photo.size, "face": photo.face,
        "picture": "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode(),
        "faces": [{"box": [round(v, 1) for v in one.box], "eyes": one.landmarks[:2].round(1).tolist()} for one in photo.faces],
    }


@torch.inference_mode()
def kept(editor: Editor, shown: Image.Image, z: torch.Tensor) -> str:
    """What the model keeps of a photo, in words: the classifier compares the model's input with its reconstruction."""
    if editor.classifier is None or editor.config.image_size != 64:
        return ""
    picture = editor.model.decode(z.to(editor.device))
    given = to_tensor([shown]).to(editor.device)
    effects = side_effects(editor.classifier, given, picture)
    sure = [(e.after, attribute(e.name)) for e in effects
            if e.name in editor.classifier.attributes and e.before > SURE and attribute(e.name).listed]
    lost = [entry.label.lower() for after, entry in sure if after < GONE]
    keeps: list[str] = []
    if "yaw" in editor.classifier.quantities:
        column = editor.classifier.names.index("yaw")
        turn = (editor.classifier(picture) - editor.classifier(given))[0, column].abs().item()
        (keeps if turn < TURNED else lost).append("pose")
    (keeps if (picture - given).abs().mean().item() < COLOURS else lost).append("colours")
    keeps += [entry.label.lower() for after, entry in sure if after > SURE and entry.group in PLAIN and
              (entry.primary or entry.group != "Expression")][:3]
    return "; ".join(
        part for part in (f"keeps {_list(keeps)}" if keeps else "", f"loses {_list(lost[:3])}" if lost else "") if part
    )


def _list(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def saved(editor: Editor, request: dict) -> dict:
    """The photo with an edit put back, at its own size: {name, type, data}.

    The request is {name, data, square, before, after, displacement?, touch, recipe}.
    ``before`` and ``after`` are latents, ``displacement`` the sum of the directions' fields, 2 x GRID x GRID numbers as
    ``displacement.put_back`` takes them, ``touch`` 0, 1 or 2: everything, the person, the background. The page computes them,
    since they may contain the visitor's own directions.

    Raises
    ------
    ValueError
        The request is not of that form, or the photo cannot be used.
    """
    name = str(request.get("name") or "photo.png")
    photo = editor.open(bytes_of(request), "centre", name)  # the square determines the face
    matrix = torch.as_tensor(request.get("square"), dtype=torch.float64)
    if matrix.shape != (6,) or not matrix.isfinite().all():
        raise ValueError("The square is not six numbers.")
    frame = unsquare(matrix.numpy().reshape(2, 3), editor)
    z, edited = (messages.latent(request.get(key)) for key in ("before", "after"))
    field = request.get("displacement")
    if field is not None:
        field = np.asarray(field, dtype=np.float32)
        if field.shape != (2 * GRID * GRID,) or not np.isfinite(field).all() or np.abs(field).max() > 1:
            raise ValueError(f"The displacement is not {2 * GRID * GRID} numbers from -1 to 1.")
        field = field.reshape(2, GRID, GRID) if field.any() else None
    touched = TOUCHED[messages.whole(request.get("touch"), "touch", 0, 2)]
    picture = photo.finished(*editor.compose(photo.pixels, frame, z, edited, field, touched))
    recipe = Recipe.from_json(str(request["recipe"])) if request.get("recipe") else None
    suffix = Path(name).suffix.lower()
    if suffix not in (".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff"):
        suffix = ".jpg" if picture.mode in ("RGB", "L", "CMYK") else ".png"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"edited{suffix}")
        photo.save(picture, path, recipe)
        data = path.read_bytes()
    return {"name": f"{Path(name).stem}-edited{suffix}", "type": Image.registered_extensions()[suffix].lower(),
            "data": base64.b64encode(data).decode()}


def unsquare(matrix: np.ndarray, editor: Editor) -> np.ndarray:
    """The frame (2, 3) of a map (2, 3) from the unit square to the photo: the inverse of ``image.square``."""
    unit = np.vstack([square(np.eye(2, 3), editor.config), [0, 0, 1]])
    return (np.vstack([matrix, [0, 0, 1]]) @ np.linalg.inv(unit))[:2]


def bytes_of(request: dict) -> bytes:
    """The file that a request carries.

    Raises
    ------
    ValueError
        It has no file, or one of more than 64 MB.
    """
    text = request.get("data")
    if not isinstance(text, str):
        raise ValueError("The request carries no photo.")
    if len(text) > MAX_BYTES * 4 / 3:
        raise ValueError(f"The photo has more than {MAX_BYTES // 2**20} MB; save it smaller.")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("The photo did not arrive whole; try again.") from None


def places(value: Any) -> list[tuple[float, float]]:
    """Both eyes.

    Raises
    ------
    ValueError
        They are not two pairs of numbers.
    """
    try:
        (a, b), (c, d) = value
        return [(float(a), float(b)), (float(c), float(d))]
    except (TypeError, ValueError):
        raise ValueError("The eyes are not two pairs of numbers.") from None
