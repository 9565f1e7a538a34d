import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from betavae import ImageError, VAEConfig
from betavae.image import crop, crop_box, cut, from_uint8, read, to_pil, to_tensor
from train.losses import bce_floor

CONFIG = VAEConfig()


def noise(width, height, mode="RGB") -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (height, width, bands) if bands > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), mode=None).convert(mode) \
        if bands in (1, 3) else Image.merge(mode, [noise(width, height, "L")] * bands)


def encoded(image, format, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def test_tensors_and_pictures_are_exact_inverses():
    image = noise(64, 64)
    assert np.array_equal(to_pil(to_tensor([image]))[0], image)
    x = torch.arange(256).float().reshape(1, 1, 16, 16).expand(1, 3, 16, 16) / 255
    assert torch.equal(to_tensor(to_pil(x)), x)


def test_crop_is_the_centre_148_of_an_aligned_face():
    assert crop_box(CONFIG) == (15, 35, 163, 183)
    image = noise(178, 218)
    assert np.array_equal(crop(image, CONFIG), np.asarray(image)[35:183, 15:163])


def test_crop_scales_with_the_frame():
    assert crop_box(CONFIG, 1780, 2180) == (150, 350, 1630, 1830)


def test_the_pixel_floor_of_the_test_split(unseen):
    # 6,130.09 nats was measured independently of this code: it pins crop, filter and range at once.
    images = unseen.images("test")
    assert len(images) == 2000
    assert bce_floor(from_uint8(images)).mean().item() == pytest.approx(6130.09, abs=0.01)


def test_every_kind_of_picture_is_read_as_upright_rgb():
    picture = noise(40, 60)
    pixels = np.asarray(picture)
    rotated = Image.Exif()
    rotated[0x0112] = 6  # the camera was held a quarter turn to the left
    palette = picture.quantize(16)
    cases = {
        "png": (encoded(picture, "PNG"), pixels),
        "palette": (encoded(palette, "PNG"), np.asarray(palette.convert("RGB"))),
        "exif": (encoded(picture.rotate(90, expand=True), "PNG", exif=rotated), pixels),
        "grey": (encoded(picture.convert("L"), "PNG"), np.asarray(picture.convert("L").convert("RGB"))),
    }
    for name, (data, expected) in cases.items():
        image = read(data)
        assert image.mode == "RGB", name
        assert np.array_equal(image, expected), name


def test_sixteen_bits_keep_their_greys():
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    image = np.asarray(read(encoded(Image.fromarray(ramp), "PNG")))
    assert np.abs(image[..., 0].astype(int) - np.round(ramp / 257).astype(int)).max() <= 1


def test_cmyk_keeps_its_colours():
    red = Image.new("RGB", (32, 32), (200, 30, 40))
    image = np.asarray(read(encoded(red.convert("CMYK"), "JPEG", quality=95))).astype(int)
    assert np.abs(image - (200, 30, 40)).max() < 12


def test_transparency_is_laid_over_grey():
    clear = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    assert np.array_equal(read(encoded(clear, "PNG")), np.full((32, 32, 3), 128))


def test_an_animation_gives_its_first_frame():
    first, second = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    assert np.array_equal(read(data), np.asarray(first))


@pytest.mark.parametrize(("data", "sentence"), [
    (b"this is a text file", "not an image"),
    (b"", "not an image"),
    (encoded(noise(300, 300), "JPEG")[:2000], "damaged"),
    (encoded(noise(300, 300), "PNG")[:2000], "damaged"),
    (encoded(Image.new("RGB", (1, 1)), "PNG"), "1 x 1"),
    (encoded(Image.new("1", (20_000, 20_000)), "PNG"), "megapixels"),
], ids=["text", "empty", "truncated jpeg", "truncated png", "one pixel", "400 megapixels"])
def test_what_cannot_be_used_is_refused_in_one_sentence(data, sentence):
    with pytest.raises(ImageError, match=sentence) as error:
        read(data)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_a_missing_file_is_named():
    with pytest.raises(ImageError, match=r"'nobody.jpg'"):
        read("nobody.jpg")


def test_a_window_of_the_picture_itself_is_the_picture():
    photo = astronaut()
    np.testing.assert_array_equal(cut(photo, np.array([[1.0, 0, 0], [0, 1, 0]]), 512, 512), photo)


def test_a_coarse_window_averages_what_falls_together():
    photo = astronaut()
    window = cut(photo, np.array([[4.0, 0, 0], [0, 4, 0]]), 128, 128)
    means = photo.reshape(128, 4, 128, 4, 3).mean((1, 3))
    assert np.abs(window - means).mean() < 1.5


def test_a_turned_window_shows_the_same_places_and_reflects_beyond_the_edge():
    photo = astronaut()
    # A quarter turn: the window's x runs down the photo.
    turned = cut(photo, np.array([[0.0, -1, 512], [1, 0, 0]]), 512, 512)
    np.testing.assert_array_equal(turned, np.rot90(photo))
    outside = cut(photo, np.array([[1.0, 0, -40], [0, 1, 0]]), 80, 512)
    np.testing.assert_array_equal(outside[:, :40], outside[:, 40:][:, ::-1])
