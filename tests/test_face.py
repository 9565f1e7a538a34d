"""Finding faces and framing them, on NASA's portrait of an astronaut (public domain), turned, scaled and multiplied."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from skimage.data import astronaut

from betavae import face
from betavae.face import TEMPLATE, apply, by_eyes, find, similarity

# Read off the picture by hand, to a pixel or two: pupils, tip of the nose, corners of the mouth.
MARKS = np.array([[203, 102], [246, 104], [224, 124], [202, 139], [246, 141]])
EYES = np.hypot(*(MARKS[1] - MARKS[0]))


def turned(angle: float, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The portrait turned counter-clockwise and scaled, on a larger canvas, and where its marks are then."""
    radians = np.deg2rad(angle)
    turn = scale * np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    side = round(800 * scale)
    move = np.column_stack([turn, np.array([side / 2, side / 2]) - turn @ (256, 256)])
    back = np.linalg.inv(np.vstack([move, [0, 0, 1]]))
    picture = Image.fromarray(astronaut()).transform(
        (side, side), Image.Transform.AFFINE, back[:2].ravel(), Image.Resampling.BICUBIC, fillcolor=(120, 120, 120)
    )
    return np.asarray(picture), apply(move, MARKS.astype(float))


@pytest.mark.parametrize(
    ("angle", "scale"), [(0, 1), (20, 1), (-45, 1), (45, 1), (90, 1), (-90, 1), (180, 1), (0, 4), (30, 5), (10, 0.5)]
)
def test_a_face_is_found_however_the_photo_is_held(angle, scale):
    pixels, marks = turned(angle, scale)
    found = find(pixels)
    assert len(found) == 1
    off = np.hypot(*(found[0].landmarks - marks).T) / (scale * EYES)
    assert off[:2].mean() < 0.06 and off.max() < 0.15
    # The frame puts the points where the training data has them.
    aligned = similarity(found[0].landmarks, TEMPLATE)
    assert np.hypot(*(apply(aligned, marks) - TEMPLATE).T).max() < 7


def test_a_group_lists_everybody_the_largest_first():
    pixels = np.full((1200, 1500, 3), 130, np.uint8)
    portrait = Image.fromarray(astronaut()[0:250, 122:326])
    for i in range(20):
        side = 160 + 4 * i
        x, y = 300 * (i % 5) + 20, 300 * (i // 5) + 20
        pixels[y:y + side, x:x + side * 204 // 250] = np.asarray(portrait.resize((side * 204 // 250, side)))
    found = find(pixels)
    assert len(found) == 20
    sizes = [one.size for one in found]
    assert sizes == sorted(sizes, reverse=True)
    left, top, right, bottom = found[0].box
    assert 1200 < left < right < 1500 and 900 < top < bottom < 1200


def test_a_face_of_40_pixels_in_a_photo_of_12_megapixels():
    pixels = np.full((3000, 4000, 3), 130, np.uint8)
    small = Image.fromarray(astronaut()[0:250, 122:326]).resize((87, 107), Image.Resampling.LANCZOS)  # the face is 40 wide
    pixels[2000:2107, 3000:3087] = np.asarray(small)
    found = find(pixels)
    assert len(found) == 1 and 30 < found[0].size < 50
    assert 3000 < found[0].landmarks[:, 0].mean() < 3087


def drawing(kind: str) -> np.ndarray:
    picture = Image.new("RGB", (600, 600), (240, 240, 235))
    draw = ImageDraw.Draw(picture)
    if kind == "text":
        for i in range(28):
            draw.text((30, 20 + 20 * i), "The quick brown fox jumps over the lazy dog, and goes on. " * 2, fill=(20, 20, 20))
    elif kind == "cartoon":
        draw.ellipse((150, 120, 450, 480), fill=(255, 220, 60), outline="black", width=6)
        for x in (240, 340):
            draw.ellipse((x, 240, x + 30, 290), fill="black")
        draw.arc((220, 300, 380, 420), 20, 160, fill="black", width=8)
    elif kind == "back of a head":
        draw.ellipse((180, 100, 420, 420), fill=(70, 45, 30))
        draw.rectangle((240, 400, 360, 470), fill=(224, 172, 145))
        draw.rectangle((120, 460, 480, 600), fill=(60, 70, 120))
    elif kind == "noise":
        return np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    return np.asarray(picture)


@pytest.mark.parametrize("kind", ["text", "cartoon", "back of a head", "noise", "nothing"])
def test_what_is_no_face_is_not_found(kind):
    assert find(drawing(kind)) == []


def test_a_similarity_is_the_one_that_made_the_points():
    random = np.random.default_rng(0)
    points = random.normal(size=(5, 2)) * 30
    matrix = np.array([[0.6, -1.3, 40], [1.3, 0.6, -7]])
    np.testing.assert_allclose(similarity(points, apply(matrix, points)), matrix, atol=1e-9)
    # Least squares: no other similarity is nearer to points that none reaches.
    target = apply(matrix, points) + random.normal(size=(5, 2))
    best = similarity(points, target)

    def error(a, b, x, y):
        return ((apply(np.array([[a, -b, x], [b, a, y]]), points) - target) ** 2).sum()

    fitted = best[0, 0], best[1, 0], best[0, 2], best[1, 2]
    for i in range(4):
        for step in (-0.01, 0.01):
            assert error(*(value + step * (i == k) for k, value in enumerate(fitted))) > error(*fitted)


def test_two_eyes_are_a_frame():
    frame = by_eyes((100, 200), (160, 210))
    np.testing.assert_allclose(apply(frame, TEMPLATE[:2]), [[100, 200], [160, 210]], atol=1e-9)
    with pytest.raises(ValueError, match="two places at least a pixel apart"):
        by_eyes((100, 200), (100, 200))


def test_frames_of_aligned_pictures_and_of_the_centre():
    assert np.array_equal(face.whole(178, 218), [[1, 0, 0], [0, 1, 0]])
    with pytest.raises(ValueError, match="200 x 200"):
        face.whole(200, 200)
    for width, height in ((1000, 1000), (4000, 300), (17, 900)):
        left, top, right, bottom = *apply(face.centre(width, height), np.array([[0.0, 0]]))[0], \
            *apply(face.centre(width, height), np.array([[178.0, 218]]))[0]
        assert left == pytest.approx(width - right, abs=1e-6) and top == pytest.approx(height - bottom, abs=1e-6)
        assert min(left, top) == pytest.approx(0, abs=1e-6)
