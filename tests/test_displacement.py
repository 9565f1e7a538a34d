"""Displacement fields and putting an edit back into a photo: planted warps, known photos, and the shipped model."""

import base64
import dataclasses
import math
import shutil
import tracemalloc

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from betavae import Editor, displacement, hub
from betavae.config import VAEConfig
from betavae.directions import GRID, Direction, Directions, DirectionsError
from betavae.image import cut, square, to_tensor
from betavae.person import Person, matte
from train.displacement import main

CONFIG = VAEConfig()
# The frame of scikit-image's astronaut, by her eyes.
ASTRONAUT = np.array([[1.115, -0.069, 133.9], [0.069, 1.115, -28.6]])
QUANTILES = tuple(np.linspace(-2, 2, 101).tolist())


def direction(name="planted", vector=(1.0, 0.0), field=None) -> Direction:
    return Direction(name, torch.tensor(vector), "", 0, 0, "strength", 1.0, QUANTILES, displacement=field)


def similarity(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return np.array([[c, -s, x], [s, c, y]])


def bump(dx: float, dy: float) -> np.ndarray:
    """A field that moves the middle of the square by (dx, dy) and its rim by nothing: float32 (2, GRID, GRID)."""
    t = (np.arange(GRID) + 0.5) / GRID
    hill = np.sin(math.pi * t)[:, None] ** 2 * np.sin(math.pi * t)[None] ** 2
    return np.stack([dx * hill, dy * hill]).astype(np.float32)


def pictures(*shades: float) -> list[torch.Tensor]:
    return [torch.full((1, 3, 64, 64), shade) for shade in shades]


def moving_decoder(field: np.ndarray):
    """A decoder whose first latent moves what the picture shows by ``field`` a unit; the others choose the picture."""
    side = 64
    x, y = np.meshgrid(*[np.arange(side, dtype=np.float32)] * 2)
    grown = cv2.resize(field.transpose(1, 2, 0), (side, side)) * side

    def decode(z: torch.Tensor) -> torch.Tensor:
        moved = []
        for first, seed in z.tolist():
            random = np.random.default_rng(abs(int(seed * 1000)))
            texture = cv2.GaussianBlur(random.random((side, side, 3), dtype=np.float32), (0, 0), 2)
            texture = (texture - texture.min()) / np.ptp(texture)
            moved.append(cv2.remap(texture, x - first * grown[..., 0], y - first * grown[..., 1], cv2.INTER_CUBIC,
                                   borderMode=cv2.BORDER_REFLECT))
        return torch.from_numpy(np.stack(moved)).permute(0, 3, 1, 2)

    return decode


@pytest.fixture(scope="module")
def editor():
    return Editor.from_pretrained(device="cpu")


def test_a_planted_displacement_is_found():
    planted = bump(0.02, -0.01)
    z = torch.stack([torch.zeros(24), torch.arange(1, 25).float()], 1)
    found = displacement.estimate(moving_decoder(planted), direction(), z).float().numpy()
    assert found.shape == (2, GRID, GRID)
    # A tenth of what moves: the flow is smoothed, and the decoder's move is taken at the destination too.
    assert np.abs(found - planted).mean() < 0.1 * np.abs(planted).mean() + 1e-4
    assert np.corrcoef(found.ravel(), planted.ravel())[0, 1] > 0.98


def test_a_direction_that_moves_nothing_has_no_displacement():
    decode = moving_decoder(bump(0, 0))
    z = torch.stack([torch.zeros(8), torch.arange(1, 9).float()], 1)
    assert displacement.estimate(decode, direction(), z) is None


def test_the_sum_of_fields_is_weighted_by_the_strengths():
    a, b = bump(0.01, 0), bump(0, 0.02)
    directions = Directions(
        [
            direction("a", field=torch.from_numpy(a).half()),
            direction("b", (0.0, 1.0), torch.from_numpy(b).half()),
            direction("still", (1.0, 1.0)),
        ],
        2,
    )
    summed = displacement.total(directions, {"a": 2.0, "b": -0.5, "still": 3.0})
    np.testing.assert_allclose(summed, displacement.GAIN * (2 * a - 0.5 * b), atol=3e-5)
    assert displacement.total(directions, {"still": 3.0, "a": 0.0}) is None
    with pytest.raises(DirectionsError, match="nobody"):
        displacement.total(directions, {"nobody": 1.0})


def test_a_page_is_told_a_field_in_bytes():
    field = torch.from_numpy(bump(0.01, -0.02)).half()
    directions = Directions([direction("a", field=field), direction("still", (0.0, 1.0))], 2)
    told = displacement.on_the_wire(directions["a"])
    read = np.frombuffer(base64.b64decode(told["data"]), np.int8).reshape(2, GRID, GRID) * told["scale"]
    np.testing.assert_allclose(read, displacement.total(directions, {"a": 1.0}), atol=told["scale"] / 2 + 1e-7)
    assert displacement.on_the_wire(directions["still"]) is None


def test_glasses_cannot_be_put_back(editor):
    assert not displacement.can_put_back("Eyeglasses") and displacement.can_put_back("Smiling")
    assert set(displacement.NOT_IN_THE_PHOTO) < set(editor.directions)


def test_displacements_are_saved_with_their_directions(tmp_path):
    field = torch.from_numpy(bump(0.01, 0.02)).half()
    saved = Directions([direction("a", field=field), direction("still", (0.0, 1.0))], 2)
    saved.save(tmp_path / "directions.safetensors")
    loaded = Directions.load(tmp_path / "directions.safetensors", 2)
    assert torch.equal(loaded["a"].displacement, field) and loaded["still"].displacement is None
    with pytest.raises(DirectionsError, match="displacement of a has the shape"):
        Directions([dataclasses.replace(saved["a"], displacement=field[:, :8])], 2)


@pytest.mark.parametrize("frame", [similarity(1, 0, 0, 0), similarity(2.3, 31, 150, -20), similarity(0.6, -140, 300, 250)],
                         ids=["aligned", "tilted", "upside down"])
def test_nothing_outside_of_the_mask_is_touched(frame):
    photo = astronaut()
    given = photo.copy()
    edited, mask = displacement.put_back(photo, frame, CONFIG, *pictures(0.4, 0.7), bump(0.05, 0.03))
    assert edited.shape == photo.shape and edited.dtype == np.uint8
    np.testing.assert_array_equal(photo, given)
    np.testing.assert_array_equal(edited[~mask], photo[~mask])
    assert mask.any() and (edited[mask] != photo[mask]).any(1).mean() > 0.8
    # The mask is the model's square: 148 of the frame's pixels a side, as far as it lies in the photo.
    square = cv2.fillConvexPoly(np.zeros(photo.shape[:2], np.uint8), np.rint(
        np.array([[15, 35], [163, 35], [163, 183], [15, 183]]) @ frame[:, :2].T + frame[:, 2]).astype(np.int32), 1)
    assert (mask != (square > 0)).mean() < 0.01


@pytest.mark.parametrize("field", [None, bump(0, 0)], ids=["no field", "a field of nothing"])
def test_an_edit_of_nothing_is_the_photo(field):
    before = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    edited, _ = displacement.put_back(astronaut(), similarity(1.7, 12, 40, 8), CONFIG, before, before.clone(), field)
    np.testing.assert_array_equal(edited, astronaut())


@pytest.mark.parametrize("scale, degrees", [(1.0, 0), (2.0, 90), (1.5, 35)])
def test_the_photo_moves_as_far_as_the_field_says_in_the_frame(scale, degrees):
    frame = similarity(scale, degrees, 250, 60)
    centre = np.array([89.0, 109.0]) @ frame[:, :2].T + frame[:, 2]  # of the model's square
    y, x = np.mgrid[:600, :600] + 0.5
    spot = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * (3 * scale) ** 2))
    photo = np.repeat(spot[..., None], 3, 2).astype(np.uint8)
    edited, _ = displacement.put_back(photo, frame, CONFIG, *pictures(0.5, 0.5), bump(0.05, 0.02))
    weight = edited[..., 0].astype(float)
    found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    # 0.05 of the square's 148 pixels to the right and 0.02 down, as the frame has them.
    expected = centre + np.array([0.05, 0.02]) * 148 @ frame[:, :2].T
    assert np.abs(found - expected).max() < 0.12 * np.abs(expected - centre).max()


def test_what_the_model_adds_is_added_in_the_middle_and_fades_to_the_rim():
    photo = np.full((218, 178, 3), 100, np.uint8)
    edited, mask = displacement.put_back(photo, similarity(1, 0, 0, 0), CONFIG, *pictures(0.4, 0.6))
    assert abs(int(edited[109, 89, 0]) - (100 + 0.2 * 255)) <= 1
    row = edited[109, :89, 0].astype(int)
    assert row[0] == 100 and (np.diff(row) >= 0).all() and row.max() > 145 and mask[109, 20:158].all()


def test_a_photo_of_a_hundred_megapixels_needs_little_more_than_itself():
    photo = np.zeros((10_000, 10_000, 3), np.uint8)
    tracemalloc.start()
    edited, mask = displacement.put_back(photo, similarity(16, 10, 800, 300), CONFIG, *pictures(0.3, 0.6), bump(0.02, 0.02))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - edited.nbytes - mask.nbytes < 150e6


def test_a_wide_panorama_is_edited():
    photo = np.random.default_rng(0).integers(0, 255, (300, 40_000, 3), dtype=np.uint8)
    edited, mask = displacement.put_back(photo, similarity(1, 0, 39_000, 20), CONFIG, *pictures(0.4, 0.6), bump(0.03, 0))
    np.testing.assert_array_equal(edited[~mask], photo[~mask])
    assert (edited[mask] != photo[mask]).mean() > 0.5


def test_the_shipped_fields_move_what_their_names_say(editor):
    smile, yaw = (editor.directions[name].displacement.float() for name in ("Smiling", "yaw"))
    rows, columns = torch.meshgrid(*[(torch.arange(GRID) + 0.5) / GRID] * 2, indexing="ij")
    mouth = (rows > 0.65) & (rows < 0.8)
    left, right = mouth & (columns > 0.3) & (columns < 0.45), mouth & (columns > 0.55) & (columns < 0.7)
    # The corners of the mouth go apart; the nose turns and the whole middle of the face with it, to one side.
    assert smile[0][left].mean() < -0.004 and smile[0][right].mean() > 0.004
    middle = yaw[0][(rows > 0.4) & (rows < 0.7) & (columns > 0.4) & (columns < 0.6)]
    assert (middle.sign() == middle.sign()[0]).all() and middle.abs().mean() > 0.008
    assert editor.directions["light_side"].displacement is None


def test_a_direction_of_ones_own_gets_a_field_from_a_few_faces(editor):
    shipped = editor.directions["Smiling"]
    own = editor.with_displacement(dataclasses.replace(shipped, name="Mine", displacement=None))
    fields = torch.stack([d.displacement.float().flatten() for d in (shipped, own)])
    assert torch.corrcoef(fields)[0, 1] > 0.9
    assert editor.with_displacement(shipped) is shipped


def smiling(editor: Editor, photo: np.ndarray) -> float:
    """The logit that the astronaut smiles."""
    seen = to_tensor([Image.fromarray(cut(photo, square(ASTRONAUT, CONFIG, 64), 64, 64))])
    with torch.inference_mode():
        return float(editor.classifier(seen)[0, editor.classifier.names.index("Smiling")])


def test_the_command_gives_fields_to_directions_that_have_none(editor, tmp_path, capsys):
    for name in ("config.json", "model.safetensors", "mixture.safetensors"):
        shutil.copyfile(hub.SHIPPED / name, tmp_path / name)
    bare = [dataclasses.replace(editor.directions[name], displacement=None) for name in ("Smiling", "light_side")]
    editor.directions.having(bare).save(tmp_path / "directions.safetensors")
    assert main(["--model", str(tmp_path)]) == 0
    assert "1 of 2 directions move what they show: Smiling" in capsys.readouterr().out
    made = Directions.load(tmp_path / "directions.safetensors", 32)
    torch.testing.assert_close(made["Smiling"].displacement, editor.directions["Smiling"].displacement, atol=2e-3, rtol=0)
    assert made["light_side"].displacement is None
    assert hub.stamped(tmp_path / "directions.safetensors") == editor.hash
    (tmp_path / "directions.safetensors").unlink()
    assert main(["--model", str(tmp_path)]) == 1 and "has no directions.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("strength, least, most", [(-2.0, -math.inf, -1.0), (2.0, 0.3, math.inf)])
def test_a_smile_put_back_is_seen_and_the_photo_stays_sharp(editor, strength, least, most):
    photo = astronaut()
    z = editor.encode(Image.fromarray(cut(photo, ASTRONAUT, 178, 218)), crop="aligned")
    edited, mask = editor.put_into(photo, ASTRONAUT, z, {"Smiling": strength})
    np.testing.assert_array_equal(edited[~mask], photo[~mask])
    assert least < smiling(editor, edited) - smiling(editor, photo) < most
    energy, own = (np.square(cv2.Laplacian(picture, cv2.CV_32F)[60:180, 150:290]).mean() for picture in (edited, photo))
    assert energy > 0.9 * own


def test_an_opened_photo_smiles(editor, tmp_path):
    Image.fromarray(astronaut()).save(tmp_path / "portrait.png")
    edited = editor.put_back(editor.open(tmp_path / "portrait.png"), {"Smiling": 2.0})
    assert edited.size == (512, 512) and edited.mode == "RGB"
    changed = (np.asarray(edited) != astronaut()).any(2)
    # The face, and neither the shuttle nor the suit.
    assert changed[60:180, 150:290].mean() > 0.9 and not changed[260:].any() and not changed[:, 360:].any()
    assert smiling(editor, np.asarray(edited)) > smiling(editor, astronaut()) + 0.3


def test_no_edit_is_the_photo_itself(editor):
    photo = astronaut()
    z = editor.sample(1, 0)
    for strengths in ({}, {"Smiling": 0.0}):
        np.testing.assert_array_equal(editor.put_into(photo, ASTRONAUT, z, strengths)[0], photo)


def as_a_page_does(photo, frame, before, after, told: dict, strength: float, person: np.ndarray) -> np.ndarray:
    """``put_back`` as its docstring has it, by plain loops, from what a page is given: bytes and linear sampling."""

    def linear(image, x, y):
        """An image (h, w, c) at continuous coordinates in pixels, clamped to its edge."""
        x, y = np.clip(x - 0.5, 0, image.shape[1] - 1), np.clip(y - 0.5, 0, image.shape[0] - 1)
        x0, y0 = np.minimum(x.astype(int), image.shape[1] - 2), np.minimum(y.astype(int), image.shape[0] - 2)
        fx, fy = (x - x0)[..., None], (y - y0)[..., None]
        above = image[y0, x0] * (1 - fx) + image[y0, x0 + 1] * fx
        return above * (1 - fy) + (image[y0 + 1, x0] * (1 - fx) + image[y0 + 1, x0 + 1] * fx) * fy

    def back(x, y):
        for _ in range(displacement.STEPS):
            move = (smoothstep(x) * smoothstep(y))[..., None] * linear(field, x * GRID, y * GRID) / displacement.STEPS
            x, y = x - move[..., 0], y - move[..., 1]
        return x, y

    def smoothstep(u):
        t = np.clip(np.minimum(u, 1 - u) / displacement.BORDER, 0, 1)
        return t * t * (3 - 2 * t)

    field = (
        np.frombuffer(base64.b64decode(told["data"]), np.int8).reshape(2, GRID, GRID).transpose(1, 2, 0)
        * told["scale"]
        * strength
    )
    before, after = (np.rint(picture[0].permute(1, 2, 0).numpy() * 255) / 255 for picture in (before, after))
    n = len(before)
    t = (np.arange(n) + 0.5) / n
    ux, uy = np.meshgrid(t, t)
    vx, vy = back(ux, uy)
    residual = after - linear(before, vx * n, vy * n)
    sigma = displacement.LOW_PASS * n
    weights = np.exp(-np.arange(-4, 5) ** 2 / (2 * sigma ** 2))
    for axis in (0, 1):
        padded = np.pad(residual, [(4, 4) if i == axis else (0, 0) for i in range(3)], "edge")
        residual = sum(w * np.take(padded, range(i, i + n), axis) for i, w in enumerate(weights / weights.sum()))
    y, x = np.mgrid[:photo.shape[0], :photo.shape[1]] + 0.5
    left, top, right, bottom = np.array(CONFIG.crop) * (178, 218, 178, 218)
    p = np.linalg.solve(frame[:, :2], np.stack([x.ravel() - frame[0, 2], y.ravel() - frame[1, 2]]))
    ux, uy = ((p[0] - left) / (right - left)).reshape(x.shape), ((p[1] - top) / (bottom - top)).reshape(x.shape)
    m = smoothstep(ux) * smoothstep(uy)
    vx, vy = back(ux, uy)
    px, py = left + vx * (right - left), top + vy * (bottom - top)
    moved = linear(photo.astype(float), *[row[0] * px + row[1] * py + row[2] for row in frame])
    person = np.rint(person * 255) / 255
    shade = linear(person[..., None], vx * len(person), vy * len(person)) * linear(residual, ux * n, uy * n)
    return np.clip(moved + 255 * m[..., None] * shade, 0, 255)


@pytest.mark.parametrize("name, strength", [("Smiling", 2.0), ("yaw", -1.0)])
def test_the_file_agrees_with_what_a_page_draws(editor, name, strength):
    photo = astronaut()
    z = editor.encode(Image.fromarray(cut(photo, ASTRONAUT, 178, 218)), crop="aligned")
    with torch.inference_mode():
        before, after = editor.model.decode(torch.cat([z, editor.shift(z, {name: strength})])).split(1)
    drawn = as_a_page_does(photo, ASTRONAUT, before, after, displacement.on_the_wire(editor.directions[name]), strength,
                           matte(Person.load(), photo, ASTRONAUT, CONFIG))
    saved, mask = editor.put_into(photo, ASTRONAUT, z, {name: strength})
    assert np.abs(saved[mask] - drawn[mask]).mean() < 2
    assert np.abs(saved[mask].astype(float) - photo[mask]).mean() > 4
    # What remains is sharpening between pixels: no bias anywhere, smoothed over a few pixels.
    difference = cv2.GaussianBlur(saved - drawn, (0, 0), 4)
    assert np.abs(difference).max() < 3
