"""Drawn faces: the official layout, true to their factors; and metrics of disentanglement against true factors."""

import csv
import filecmp

import numpy as np
import pytest
from PIL import Image

from train import metrics, synthetic
from train.celeba import CelebA

COUNTS = (960, 20, 20)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("drawn"), COUNTS, seed=3)


def test_the_layout_is_celebas_and_all_of_it_is_used(drawn):
    faces = CelebA.open(drawn)
    assert [int((faces.lists.split == split).sum()) for split in ("train", "val", "test")] == list(COUNTS)
    assert faces.masks and faces.lists.missing == 0 and len(faces.lists.attributes) == 40
    with Image.open(faces.images / faces.lists.names[0]) as image, Image.open(faces.masks / "000001.png") as mask:
        assert (image.size, image.mode, mask.size, mask.mode) == ((178, 218), "RGB", (89, 109), "1")
    # Each label is on faces of both kinds, or no direction could be made of it.
    assert all(5 < values.sum() < 995 for values in faces.lists.attributes.values())


def test_the_same_seed_draws_the_same_files(drawn, tmp_path):
    again = synthetic.write(tmp_path / "again", COUNTS, seed=3)
    files = [path.relative_to(drawn) for path in drawn.rglob("*") if path.is_file()]
    assert len(files) == 2 * sum(COUNTS) + 6
    assert filecmp.cmpfiles(drawn, again, files, shallow=False)[0] == files
    assert not np.array_equal(synthetic.draw_factors(9, 0)["yaw"], synthetic.draw_factors(9, 1)["yaw"])


def face(**values) -> dict[str, float]:
    """A face with nothing on it, but for ``values``."""
    plain = {name: (low + high) / 2 for name, (low, high) in synthetic.RANGES.items()} | dict.fromkeys(synthetic.SWITCHES, 0.0)
    return plain | {"hair": 0.0} | values


def test_a_factor_changes_its_own_part_of_the_picture():
    plain, _, landmarks, _ = synthetic.draw(face())
    for values, rows in (
        ({"glasses": 1.0}, slice(95, 130)),
        ({"moustache": 1.0}, slice(136, 160)),
        ({"hat": 1.0}, slice(0, 80)),
    ):
        changed = (synthetic.draw(face(**values))[0] != plain).any(2)
        assert changed[rows].sum() > 100 and changed.sum() == changed[rows].sum()
    background, person, _, _ = synthetic.draw(face(background_red=1.0))
    assert (background != plain).any(2)[person == 0].mean() > 0.95 and not (background != plain).any(2)[40:110, 70:107].any()
    np.testing.assert_allclose(landmarks[:2].mean(0), synthetic.EYES)


def test_a_positive_yaw_turns_the_face_to_the_left_edge_and_a_smile_widens_the_mouth():
    noses = [synthetic.draw(face(yaw=float(yaw)))[2][2, 0] for yaw in (-30, 0, 30)]
    assert noses[0] > noses[1] + 4 and noses[2] < noses[1] - 4
    widths = [synthetic.draw(face(smile=smile))[3]["mouth_width"] for smile in (0.0, 1.0)]
    assert widths[1] > 1.3 * widths[0]


def test_metrics_know_the_true_factors_from_a_rotation_of_them(drawn):
    with open(drawn / "factors.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("yaw", "smile", "skin", "background_red")
    true = np.array([[float(row[name]) for name in names] for row in rows])
    true = (true - true.mean(0)) / true.std(0)
    mixed = true @ np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    levels = (true > 0).astype(int)
    scores = {}
    for name, codes in (("true", true), ("mixed", mixed)):
        table, _, accuracy = metrics.importances(codes[:700], levels[:700], codes[700:], levels[700:])
        scores[name] = (
            metrics.mig(metrics.discretise(codes), levels),
            metrics.disentanglement(table),
            metrics.completeness(table),
            metrics.factor_vae_score(codes, levels, train=2000, test=1000),
        )
        assert name == "mixed" or accuracy > 0.95
    assert min(scores["true"]) > 0.85
    assert all(mixed < true - 0.15 for mixed, true in zip(scores["mixed"][:3], scores["true"][:3], strict=True))


def test_a_folder_that_is_used_is_left_alone(drawn, capsys):
    before = sorted(drawn.rglob("*"))
    assert synthetic.main([str(drawn)]) == 1 and synthetic.main([str(drawn / "new"), "--counts", "-1", "0", "0"]) == 1
    said = capsys.readouterr().err
    assert "is there already" in said and "--counts" in said and said.count("\n") == 2
    assert sorted(drawn.rglob("*")) == before
