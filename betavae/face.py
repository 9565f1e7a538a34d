"""From a photo to a frame: the 178 x 218 portrait format of aligned CelebA, which the models were trained on."""

from PIL import Image

from betavae.config import FRAME_HEIGHT, FRAME_WIDTH

CROPS = ("auto", "aligned")


def frame(photo: Image.Image, crop: str = "auto") -> Image.Image:
    """Cut an upright RGB photo to the aligned frame's shape, at the photo's own scale.

    Parameters
    ----------
    photo : PIL.Image.Image
        RGB, upright (``betavae.image.read``).
    crop : "auto" | "aligned"
        "aligned": the photo is such a frame already and is used whole.
        "auto": the largest centred frame that fits in the photo. A portrait in which head and shoulders fill the
        picture comes out framed like the training data: eyes just above the middle, some background on each side.

    Raises
    ------
    ValueError
        ``crop`` is neither, or the photo is called aligned and is more than 2 % off the shape 178 x 218.
    """
    width, height = photo.size
    if crop == "aligned":
        if abs(width * FRAME_HEIGHT / (height * FRAME_WIDTH) - 1) > 0.02:
            raise ValueError(f'The image is {width} x {height}; crop="aligned" needs the shape of '
                             f'{FRAME_WIDTH} x {FRAME_HEIGHT}; use crop="auto" for other photos.')
        return photo
    if crop != "auto":
        raise ValueError(f"crop is {crop!r}; choose from {', '.join(CROPS)}.")
    scale = min(width / FRAME_WIDTH, height / FRAME_HEIGHT)
    w, h = round(FRAME_WIDTH * scale), round(FRAME_HEIGHT * scale)
    left, top = (width - w) // 2, (height - h) // 2
    return photo.crop((left, top, left + w, top + h))
