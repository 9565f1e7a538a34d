"""Pixels to tensors and back: reading, crop, resize, range, and their exact inverses."""

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from betavae.config import FRAME_HEIGHT, FRAME_WIDTH, VAEConfig

# A photo of 100 megapixels decodes to 300 MB; no face needs more.
MAX_PIXELS = 100_000_000
MIN_SIDE = 16
FORMATS = ["JPEG", "PNG", "WebP", "AVIF", "GIF", "BMP", "TIFF"]
try:  # phones write HEIC, which Pillow itself cannot read
    from pillow_heif import register_heif_opener
    register_heif_opener()
    FORMATS.insert(3, "HEIC")
except ImportError:
    pass


class ImageError(ValueError):
    """The picture cannot be used. The message is one sentence that a person can act on."""


def read(source: str | Path | bytes | Image.Image) -> Image.Image:
    """Open a file, bytes or a PIL image of any kind as an upright 8-bit RGB image: ``upright(load(source))``.

    Raises
    ------
    ImageError
        Not an image, damaged, smaller than 16 pixels on a side or larger than 100 megapixels.
    """
    return upright(load(source))


def load(source: str | Path | bytes | Image.Image, name: str | None = None) -> Image.Image:
    """The first frame of a file, bytes or PIL image as it is stored, with all pixels read; ``name`` is for messages.

    Raises
    ------
    ImageError
        Not an image, damaged, smaller than 16 pixels on a side or larger than 100 megapixels.
    """
    name = name or name_of(source)
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images; our limit refuses them before a pixel is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if isinstance(source, Image.Image):
                image = source
            else:
                image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        _check_size(image, name)
        image.load()
        image.getexif()  # damaged tags raise here, not later
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} has too many pixels; at most {MAX_PIXELS // 10**6} megapixels are accepted.") from error
    except FileNotFoundError as error:
        raise ImageError(f"There is no file {name}.") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image that can be read; use {', '.join(FORMATS)}.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow's decoders raise any of these for truncated or damaged data.
        raise ImageError(f"{name} is damaged or incomplete; save it again or choose another picture.") from error
    return image


def name_of(source: object) -> str:
    """The name of a picture in messages: its file's name in quotes, or "This picture"."""
    return f"{Path(source).name!r}" if isinstance(source, (str, Path)) else "This picture"


def upright(image: Image.Image, turn: bool = True) -> Image.Image:
    """An image from ``load`` in 8-bit RGB; with ``turn``, in the orientation given by EXIF.

    Transparency is laid over mid grey, 16-bit and floating-point images are scaled to their own range, CMYK and palettes are
    converted.
    """
    return _rgb(ImageOps.exif_transpose(image) if turn else image)


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name} is {width} x {height} pixels; at most {MAX_PIXELS // 10**6} megapixels are accepted.")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{name} is {width} x {height} pixels; a face needs at least {MIN_SIDE} on each side.")


def white(image: Image.Image) -> float:
    """The value of white in an image of more than 8 bits: 65,535 if that is its range, else its largest value."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    return 65535.0 if image.mode.startswith("I;16") or 255 < values.max() <= 65535 else float(values.max())


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        # 16- and 32-bit greyscale: convert("RGB") would clip at 255 and give a white picture.
        values = np.asarray(image, dtype=np.float64)
        top = white(image)
        values = np.nan_to_num(values) * (255.0 / top if top > 0 else 0.0)
        return Image.fromarray(values.clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (128, 128, 128, 255)), image)
    return image.convert("RGB")


def crop_box(config: VAEConfig, width: int = FRAME_WIDTH, height: int = FRAME_HEIGHT) -> tuple[int, int, int, int]:
    """The part (left, top, right, bottom) of an aligned frame of that size, in pixels, that the model sees."""
    left, top, right, bottom = config.crop
    return round(left * width), round(top * height), round(right * width), round(bottom * height)


def square(frame: np.ndarray, config: VAEConfig, side: int = 1) -> np.ndarray:
    """The similarity (2, 3) that maps the model's square, with ``side`` as its side, to the photo.

    ``frame`` (2, 3) maps the aligned frame, 178 x 218, to the photo. All coordinates are continuous: the first pixel's centre
    is (0.5, 0.5). ``cut(pixels, square(frame, config, n), n, n)`` is the picture.
    """
    left, top, right, bottom = crop_box(config)
    scaling = np.array([[(right - left) / side, 0, left], [0, (bottom - top) / side, top], [0, 0, 1]])
    return np.asarray(frame, dtype=np.float64) @ scaling


def crop(frame: Image.Image, config: VAEConfig) -> Image.Image:
    """The model's part of an aligned frame (178 x 218, or any size of that shape), at the frame's own scale."""
    return frame.crop(crop_box(config, *frame.size))


def extend(face: Image.Image, config: VAEConfig) -> Image.Image:
    """An aligned frame, 178 x 218, with ``face`` where ``crop`` takes it; outside, the face's edges are repeated."""
    left, top, right, bottom = crop_box(config)
    pixels = np.asarray(face.resize((right - left, bottom - top), Image.Resampling.BICUBIC))
    return Image.fromarray(np.pad(pixels, ((top, FRAME_HEIGHT - bottom), (left, FRAME_WIDTH - right), (0, 0)), "edge"))


def cut(pixels: np.ndarray, matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """A turned and scaled window of a picture, uint8 (height, width, 3): ``matrix`` maps the window to the picture.

    Coordinates are continuous: the first pixel's centre is (0.5, 0.5). If the window is coarser than the picture, pixels are
    averaged; beyond the picture it is filled by reflection. The picture is never copied whole.

    Parameters
    ----------
    pixels : uint8 (h, w, 3)
    matrix : (2, 3)
        A similarity.
    """
    scale = max(1.0, np.hypot(matrix[0, 0], matrix[1, 0]))  # pixels of the picture to one of the window
    finer = 2 if scale > 1 else 1  # sample twice as fine, then average: the remaining scale is below 2
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ matrix[:, :2].T + matrix[:, 2]
    size = np.array(pixels.shape[1::-1])
    x0, y0 = np.clip(np.floor(corners.min(0)) - 2, 0, size - 1).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(0)) + 2, 1, size).astype(int)
    part = pixels[y0:max(y1, y0 + 1), x0:max(x1, x0 + 1)]
    inner = np.array(part.shape[1::-1])
    factor = max(1, int(scale / finer))
    reduced = np.maximum(1, inner // factor)
    if factor > 1:
        part = cv2.resize(part, tuple(reduced.tolist()), interpolation=cv2.INTER_AREA)
    # Window -> picture -> its part -> the reduced part; then from pixel centres to OpenCV's whole numbers.
    inside = np.diag(reduced / inner) @ np.column_stack([matrix[:, :2] / finer, matrix[:, 2] - (x0, y0)])
    inside[:, 2] += inside[:, :2] @ (0.5, 0.5) - 0.5
    window = cv2.warpAffine(part, inside, (width * finer, height * finer), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                            borderMode=cv2.BORDER_REFLECT)
    return cv2.resize(window, (width, height), interpolation=cv2.INTER_AREA) if finer > 1 else window


def preprocess(frame: Image.Image, config: VAEConfig) -> Image.Image:
    """Aligned frame -> the model's square RGB input: ``crop``, then resize with PIL's bilinear filter."""
    return crop(frame, config).resize((config.image_size, config.image_size), Image.Resampling.BILINEAR)


def to_tensor(images: list[Image.Image]) -> Tensor:
    """RGB images of one size -> float32 (n, 3, h, w) in [0, 1]."""
    pixels = np.stack([np.asarray(image, dtype=np.uint8) for image in images])
    return from_uint8(torch.from_numpy(pixels))


def from_uint8(pixels: Tensor) -> Tensor:
    """uint8 (n, h, w, 3) -> float32 (n, 3, h, w) in [0, 1], channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float() / 255


def to_pil(x: Tensor) -> list[Image.Image]:
    """(n, 3, h, w) in [0, 1] -> RGB images; of (n, 4, h, w), RGBA. Values outside are clipped.

    The exact inverse of ``to_tensor`` on its range.
    """
    pixels = (x.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(image) for image in pixels]
