"""A photo and its faces: opened upright, framed, and given back with its own size, mode, profile and EXIF."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor

from betavae import face
from betavae.config import choice
from betavae.face import CROPS, Face
from betavae.image import ImageError, load, name_of, upright, white
from betavae.recipe import Recipe

# From upright back to how EXIF's orientation says that a picture is stored.
BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
QUALITY = 95  # of formats that lose something


class NoFaceError(ImageError):
    """The photo has no face: none was found, and none was marked by hand. The message says what to do."""


class Photo:
    """A photo, upright and in RGB, with its faces; made by ``Editor.open``.

    Parameters
    ----------
    source : path, bytes or PIL image
    encode : callable
        An aligned frame (RGB, 178 x 218) -> z (1, d).
    crop : "auto" | "aligned" | "centre"
        "auto": find the faces and frame the largest. "aligned": the photo is an aligned frame. "centre": the largest centred
        frame, for a portrait in which no face can be found.
    name : str, optional
        The photo's name in messages; its file's name unless given.

    Attributes
    ----------
    pixels : uint8 (h, w, 3)
        The photo, upright, in RGB; ``size`` is (w, h).
    faces : list of Face
        The faces found, largest first; each has ``landmarks`` (5, 2) in the upright photo's pixels: eyes, nose, corners of the
        mouth, left to right in the image.
    face : int or None
        Index of the framed face; None if the frame was set by hand or there is none.
    frame : (2, 3) or None
        The similarity that maps the aligned frame (178 x 218) to the upright photo; None while there is no face.

    Raises
    ------
    ImageError, ValueError
        The photo cannot be used (``betavae.image.read``), ``crop`` does not exist, or does not fit.

    Examples
    --------
    >>> photo = editor.open("photo.jpg")
    >>> photo.choose(2)                                      # the third largest face
    >>> photo.frame_by_eyes((410, 300), (520, 310))          # or a face that was not found
    >>> editor.put_back(photo, {"Smiling": 1.5}).save("edited.jpg")
    """

    def __init__(self, source: "str | Path | bytes | Image.Image", encode: Callable[[Image.Image], Tensor], crop: str = "auto",
                 name: str | None = None):
        choice("crop", crop, CROPS)
        self.name = name_of(name or source)
        self.stored = load(source, self.name)
        self.orientation = int(self.stored.getexif().get(ExifTags.Base.Orientation, 1) or 1)
        self.pixels = np.asarray(upright(self.stored))
        self.faces: list[Face] = []
        self.face: int | None = None
        self.frame: np.ndarray | None = None
        self._encode = encode
        self._z: Tensor | None = None
        if crop == "auto":
            self.faces = face.find(self.pixels)
            if self.faces:
                self.choose(0)
        else:
            self._place({"aligned": face.whole, "centre": face.centre}[crop](*self.size))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright photo."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def choose(self, index: int) -> None:
        """Frame another of the faces.

        Raises
        ------
        ValueError
            There is none of that number.
        """
        if type(index) is not int or not 0 <= index < len(self.faces):
            raise ValueError(f"{self.name} has no face {index!r}; "
                             + (f"choose from 0 to {len(self.faces) - 1}." if self.faces else "none was found in it."))
        self._place(self.faces[index].frame, index)

    def frame_by_eyes(self, left: tuple[float, float], right: tuple[float, float]) -> None:
        """Frame the face with its eyes at these places, (x, y) in the upright photo's pixels, left and right as in the image.

        Raises
        ------
        ValueError
            They are one place, or outside of the photo.
        """
        width, height = self.size
        for x, y in (left, right):
            if not (0 <= x <= width and 0 <= y <= height):
                raise ValueError(f"{self.name} is {width} x {height} pixels; an eye at ({x:g}, {y:g}) is outside of it.")
        self._place(face.by_eyes(left, right))

    def _place(self, frame: np.ndarray, index: int | None = None) -> None:
        self.frame, self.face, self._z = frame, index, None

    @property
    def z(self) -> Tensor:
        """The framed face's latent (1, d), on the CPU.

        Raises
        ------
        NoFaceError
            There is no frame.
        """
        if self._z is None:
            self._z = self._encode(self.aligned())
        return self._z

    def aligned(self) -> Image.Image:
        """The framed face as in the training data: RGB, 178 x 218.

        Raises
        ------
        NoFaceError
            There is no frame.
        """
        return face.align(self.pixels, self.framed)

    @property
    def framed(self) -> np.ndarray:
        """``frame`` (2, 3), if there is one.

        Raises
        ------
        NoFaceError
            There is no frame.
        """
        if self.frame is None:
            raise NoFaceError(f"{self.name}: no face was found; mark both eyes, or choose a photo with a face.")
        return self.frame

    def finished(self, pixels: np.ndarray, mask: np.ndarray) -> Image.Image:
        """The photo as it was stored, with edited pixels where the mask is: its size, orientation, mode, ICC profile and EXIF.

        Parameters
        ----------
        pixels, mask : uint8 (h, w, 3), bool (h, w)
            Of the upright photo.

        Returns
        -------
        PIL.Image.Image
            Every pixel outside of the mask is the stored one, bit for bit. Pictures with a palette come back in RGB or RGBA,
            which can hold the new colours.
        """
        edited, where = Image.fromarray(pixels), Image.fromarray(mask.astype(np.uint8) * 255)
        if self.orientation in BACK:
            edited, where = edited.transpose(BACK[self.orientation]), where.transpose(BACK[self.orientation])
        out = self.stored.copy()
        if out.mode in ("P", "1", "PA"):
            out = out.convert("L" if out.mode == "1" else "RGBA" if out.has_transparency_data else "RGB")
        if out.mode.startswith(("I", "F")):
            out = _levels(out, edited, where)
        elif out.mode in ("RGBA", "LA", "RGBa", "La"):
            alpha = out.getchannel(out.mode[-1])
            whole = edited.convert(out.mode[:-1])
            whole.putalpha(alpha)
            out.paste(whole, mask=where)
        else:
            out.paste(edited.convert(out.mode), mask=where)
        out.info = {key: self.stored.info[key] for key in ("icc_profile", "dpi") if key in self.stored.info}
        exif = self.stored.getexif()
        if exif:
            out.info["exif"] = exif.tobytes()  # anew: without the thumbnail, which shows the photo before the edit
        return out

    def save(self, picture: Image.Image, path: str | Path, recipe: Recipe | None = None) -> None:
        """Write what ``finished`` made, in the format of the file's name, with its profile, its EXIF and the recipe inside.

        Raises
        ------
        ValueError
            The format is unknown, or cannot hold the picture.
        """
        save(picture, path, recipe)


def save(picture: Image.Image, path: str | Path, recipe: Recipe | None = None) -> None:
    """Write a picture with the profile and EXIF in its ``info``, and a recipe inside where the format can hold one.

    Raises
    ------
    ValueError
        The format is unknown, or cannot hold the picture.
    """
    path = Path(path)
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise ValueError(f"A picture cannot be written as {path.name!r}; use .jpg, .png, .webp, .avif or .tif.")
    if kind == "JPEG" and picture.mode not in ("L", "RGB", "CMYK"):
        picture = _opaque(picture)
    options: dict[str, Any] = {key: picture.info[key] for key in ("icc_profile", "dpi") if key in picture.info}
    exif = Image.Exif()
    if "exif" in picture.info:
        exif.load(picture.info["exif"])
    if recipe is not None:
        recipe.into(exif)
        if kind == "PNG":
            options["pnginfo"] = recipe.png_info()
    if len(exif) or recipe is not None:
        options["exif"] = exif.tobytes()
    if kind in ("JPEG", "WEBP", "AVIF", "HEIF"):
        options["quality"] = QUALITY
    if kind == "JPEG" and picture.mode == "RGB":
        options["subsampling"] = 0
    try:
        file = io.BytesIO()
        picture.save(file, kind, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"A {picture.mode} picture cannot be written as {path.name!r} ({error}); use .png.") from error
    path.write_bytes(file.getvalue())


def _opaque(picture: Image.Image) -> Image.Image:
    """For a format without transparency or 16 bits: over mid grey, in RGB."""
    info = picture.info
    picture = upright(picture, turn=False)
    picture.info = info
    return picture


def _levels(stored: Image.Image, edited: Image.Image, where: Image.Image) -> Image.Image:
    """A picture of more than 8 bits with the edit's change added in its own range, where the mask is."""
    values = np.asarray(stored)
    before = np.asarray(upright(stored, turn=False).convert("L"), dtype=np.float64)
    top = white(stored)
    change = (np.asarray(edited.convert("L"), dtype=np.float64) - before) * (top / 255)
    moved = np.clip(values + change, 0, top)
    moved = (moved if stored.mode == "F" else moved.round()).astype(values.dtype)
    return Image.fromarray(np.where(np.asarray(where) > 0, moved, values))
