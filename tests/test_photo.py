"""A photo goes in and comes back as it was, but for the edit: size, orientation, mode, profile, EXIF."""

import io

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY
from PIL import ExifTags, Image, ImageCms
from skimage.data import astronaut

from betavae import Editor, ImageError, NoFaceError, Photo, Recipe
from betavae.image import preprocess, read
from betavae.photo import save

PORTRAIT = Image.fromarray(astronaut())


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.from_pretrained(device="cpu")


def stored(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def unlike(picture: Image.Image, data: bytes) -> np.ndarray:
    """Where a picture differs from the stored one: (h, w) of bool."""
    a, b = np.asarray(picture), np.asarray(Image.open(io.BytesIO(data)))
    assert a.shape == b.shape and a.dtype == b.dtype
    return (a != b).reshape(*a.shape[:2], -1).any(2)


def test_a_photo_is_edited_and_the_rest_of_it_is_bit_for_bit_its_own(editor):
    data = stored(PORTRAIT, "PNG")
    photo = editor.open(data)
    assert isinstance(photo, Photo) and photo.face == 0 and photo.size == (512, 512) and photo.z.shape == (1, 32)
    edited = editor.put_back(photo, {"Smiling": 2})
    changed = unlike(edited, data)
    assert changed[90:180, 170:280].mean() > 0.5
    rows, columns = np.nonzero(changed)
    # The model's square lies within this part of the portrait.
    assert rows.max() < 260 and columns.min() > 120 and columns.max() < 330
    assert not unlike(editor.put_back(photo, {}), data).any()
    assert not unlike(editor.put_back(photo, {"Smiling": 0}), data).any()


def test_a_photo_held_sideways_comes_back_as_it_was_stored(editor):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "A camera"
    data = stored(PORTRAIT.rotate(90), "JPEG", quality=95, exif=exif)
    photo = editor.open(data)
    upright = editor.open(stored(PORTRAIT, "PNG"))
    assert np.abs(photo.faces[0].landmarks - upright.faces[0].landmarks).max() < 3
    edited = editor.put_back(photo, {"Smiling": 2})
    changed = unlike(edited, data)
    assert changed.any() and np.rot90(changed, -1)[90:180, 170:280].mean() > 0.5
    kept = Image.Exif()
    kept.load(edited.info["exif"])
    assert kept[ExifTags.Base.Orientation] == 6 and kept[ExifTags.Base.Make] == "A camera"


def with_thumbnail() -> bytes:
    """EXIF with a thumbnail, as cameras write it: a second directory that points at a small JPEG."""
    thumbnail = stored(PORTRAIT.resize((64, 64)), "JPEG")
    first = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x01\0\0\0" + b"\x1a\0\0\0"
    second = (
        b"\x02\0"
        + b"\x01\x02\x04\0\x01\0\0\0\x38\0\0\0"
        + b"\x02\x02\x04\0\x01\0\0\0"
        + len(thumbnail).to_bytes(4, "little")
        + b"\0\0\0\0"
    )
    return b"Exif\0\0" + first + second + thumbnail


def test_profile_and_exif_are_kept_and_a_thumbnail_of_the_unedited_photo_is_not(editor, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = stored(PORTRAIT, "JPEG", quality=95, icc_profile=profile, exif=with_thumbnail(), dpi=(300, 300))
    assert data.count(b"\xff\xd8\xff") == 2
    photo = editor.open(data)
    recipe = Recipe(editor.hash, {"Smiling": 2.0})
    photo.save(editor.put_back(photo, {"Smiling": 2}), tmp_path / "edited.jpg", recipe)
    written = (tmp_path / "edited.jpg").read_bytes()
    assert written.count(b"\xff\xd8\xff") == 1
    again = Image.open(tmp_path / "edited.jpg")
    assert again.info["icc_profile"] == profile and again.info["dpi"] == (300, 300)
    assert again.getexif()[ExifTags.Base.Orientation] == 1
    assert Recipe.read(tmp_path / "edited.jpg") == recipe


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".avif"])
def test_every_format_carries_the_recipe(tmp_path, suffix):
    if suffix not in Image.registered_extensions():
        pytest.skip(f"this Pillow was built without {suffix}")
    recipe = Recipe("0" * 12, {"Smiling": 1.5}, seed=3)
    save(PORTRAIT.resize((64, 64)), tmp_path / f"a{suffix}", recipe)
    assert Recipe.in_picture(tmp_path / f"a{suffix}") == recipe
    with pytest.raises(ValueError, match=r"'a.xyz'; use .jpg, .png"):
        save(PORTRAIT, tmp_path / "a.xyz")


def sixteen_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257 + 3)


@pytest.mark.parametrize(("image", "kind", "mode"), [
    (PORTRAIT.convert("L"), "PNG", "L"),
    (PORTRAIT.convert("RGBA"), "PNG", "RGBA"),
    (PORTRAIT.convert("LA"), "PNG", "LA"),
    (PORTRAIT.convert("CMYK"), "TIFF", "CMYK"),
    (sixteen_bits(PORTRAIT), "PNG", "I;16"),
    (PORTRAIT.quantize(256), "PNG", "RGB"),
], ids=["grey", "alpha", "grey and alpha", "cmyk", "16 bits", "palette"])
def test_every_kind_of_photo_keeps_its_mode_and_its_pixels(editor, image, kind, mode):
    data = stored(image, kind)
    edited = editor.put_back(data, {"Smiling": 2})
    assert edited.mode == mode
    changed = unlike(edited, data if image.mode != "P" else stored(image.convert("RGB"), "PNG"))
    assert changed[90:180, 170:280].mean() > 0.3 and not changed[300:].any() and not changed[:, 350:].any()


def test_heic_is_read(editor):
    pytest.importorskip("pillow_heif")
    photo = editor.open(stored(PORTRAIT, "HEIF", quality=90))
    assert len(photo.faces) == 1


def test_a_photo_without_a_face_says_so_and_takes_a_frame_by_hand(editor, tmp_path):
    Image.new("RGB", (400, 300), "grey").save(tmp_path / "wall.jpg")
    photo = editor.open(tmp_path / "wall.jpg")
    assert photo.faces == [] and photo.frame is None
    for wanted in (
        lambda: photo.z,
        lambda: editor.encode(tmp_path / "wall.jpg"),
        lambda: editor.put_back(photo, {"Smiling": 1}),
    ):
        with pytest.raises(NoFaceError, match=r"^'wall.jpg': no face was found; mark both eyes"):
            wanted()
    with pytest.raises(ValueError, match=r"'wall.jpg' has no face 0; none was found"):
        photo.choose(0)
    with pytest.raises(ValueError, match=r"'wall.jpg' is 400 x 300 pixels; an eye at \(500, 100\) is outside"):
        photo.frame_by_eyes((100, 100), (500, 100))
    photo.frame_by_eyes((160, 120), (220, 120))
    assert photo.z.shape == (1, 32) and editor.put_back(photo, {"Smiling": 1}).size == (400, 300)


def test_another_face_can_be_chosen(editor):
    pair = np.concatenate([astronaut()[0:250, 122:326], astronaut()[0:250, 122:326][::-1, ::-1][::-1, ::-1] // 2], 1)
    photo = editor.open(Image.fromarray(pair))
    assert len(photo.faces) == 2
    first = photo.z
    photo.choose(1)
    assert photo.face == 1 and not torch.allclose(first, photo.z)
    with pytest.raises(ValueError, match="This picture has no face 2; choose from 0 to 1"):
        photo.choose(2)


def test_by_hand_and_by_itself_the_same_face_is_framed_alike(editor):
    photo = editor.open(stored(PORTRAIT, "PNG"))
    found = photo.frame
    photo.frame_by_eyes(*photo.faces[0].landmarks[:2])
    # The eyes alone know nothing of how long a face is.
    assert np.abs(photo.frame[:, :2] - found[:, :2]).max() < 0.15 * np.hypot(*found[:, 0])


def test_training_data_and_aligned_pictures_are_framed_by_one_function(editor, subset, dataset):
    assert (editor.config.crop, editor.config.image_size) == (TINY.crop, TINY.image_size), "which the data is decoded for"
    photo = subset / "img_align_celeba" / dataset.lists.names[7]
    assert np.array_equal(editor.input(photo, "aligned"), dataset.pixels[7].numpy())
    assert np.array_equal(editor.input(photo, "aligned"), preprocess(read(photo), editor.config))


def test_an_editor_encodes_one_photo_or_a_list(editor):
    photos = [PORTRAIT, PORTRAIT.rotate(30), editor.open(PORTRAIT)]
    z = editor.encode(photos)
    assert z.shape == (3, 32)
    torch.testing.assert_close(editor.encode(photos[0]), z[:1])
    torch.testing.assert_close(z[2], z[0])
    assert (z[1] - z[0]).norm() < 0.5 * z[0].norm(), "a tilted photo shows the same face"
    assert [image.size for image in editor.decode(z)] == [(64, 64)] * 3


def test_a_crop_that_does_not_exist_or_fit_is_named(editor):
    with pytest.raises(ValueError, match="crop is 'tight'; choose from auto, aligned, centre"):
        editor.open(PORTRAIT, "tight")
    with pytest.raises(ValueError, match="512 x 512"):
        editor.open(PORTRAIT, "aligned")
    with pytest.raises(ImageError, match=r"'nobody.jpg'"):
        editor.open(ROOT / "nobody.jpg")


def test_a_photo_of_a_hundred_megapixels(editor):
    large = Image.new("RGB", (10_000, 9_900), (110, 120, 130))
    large.paste(PORTRAIT.resize((3000, 3000)), (6000, 500))
    photo = editor.open(large)
    assert len(photo.faces) == 1
    edited = editor.put_back(photo, {"Smiling": 2})
    assert edited.size == large.size
    assert np.array_equal(np.asarray(edited)[:, :6000], np.asarray(large)[:, :6000])
