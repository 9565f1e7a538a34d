"""Directions of one's own, on planted faces whose truth is known."""

import numpy as np
import pytest
import torch

from betavae import Directions, DirectionsError, custom
from train.directions.simple import simple_directions

D = 8


@pytest.fixture(scope="module")
def world():
    """A population with one known direction, and a maker of faces with and without a hat along another axis."""
    random = np.random.default_rng(0)
    smiling = random.random(5000) < 0.5
    mu = random.normal(size=(5000, D))
    mu[:, 0] += 2 * smiling
    space = simple_directions(torch.from_numpy(mu).float(), {"Smiling": smiling}, {})

    def faces(n, hat):
        z = random.normal(size=(n, D))
        z[:, 5] += 4 * hat
        return torch.from_numpy(z).float()

    return space, faces


def test_many_faces_find_the_planted_direction(world):
    space, faces = world
    direction, report = custom.from_faces("Hat", faces(300, 1), faces(300, 0), space)
    expected = torch.zeros(D)
    expected[5] = 4
    torch.testing.assert_close(direction.vector, expected, atol=0.3, rtol=0)
    assert report.leave_one_out > 0.95 and report.stability > 0.95 and report.warning is None
    assert abs(dict(report.nearest)["Smiling"]) < 0.2


def test_a_few_faces_are_enough_to_try_and_are_said_to_be_few(world):
    space, faces = world
    direction, report = custom.from_faces("Hat", faces(6, 1), faces(6, 0), space)
    assert direction.vector.argmax() == 5
    assert report.leave_one_out > 0.7
    assert "6 faces" in report.warning or "Not to be trusted" in report.warning


def test_faces_that_share_nothing_are_not_trusted(world):
    space, faces = world
    _, report = custom.from_faces("Nothing", faces(8, 0), faces(8, 0), space)
    assert report.leave_one_out < 0.75 or report.stability < 0.8
    assert "Not to be trusted" in report.warning


def test_this_face_minus_that_one(world):
    space, faces = world
    a, b = faces(1, 1), faces(1, 0)
    direction, report = custom.from_faces("Mine", a, b, space)
    torch.testing.assert_close(direction.vector, (a - b)[0])
    assert report.leave_one_out is None and report.stability is None and "One face" in report.warning


def test_a_known_direction_is_recognised(world):
    space, _ = world
    z = torch.zeros(1, D)
    _, report = custom.from_faces("Grin", z + space["Smiling"].vector, z, space)
    assert report.nearest[0] == ("Smiling", pytest.approx(1, abs=1e-4))


def test_it_joins_the_others_and_is_shared_as_a_pack(world, tmp_path):
    space, faces = world
    direction, _ = custom.from_faces("Hat", faces(20, 1), faces(20, 0), space)
    pack = Directions([direction], D, space.mean, space.covariance)
    pack.save(tmp_path / "hats.safetensors")
    joined = space | custom.read(tmp_path / "hats.safetensors", space)
    assert joined.names == ["Smiling", "Hat"]
    z = faces(4, 0)
    moved = joined.scores(z + joined.shift({"Hat": 1})) - joined.scores(z)
    torch.testing.assert_close(moved[:, 1], torch.ones(4), atol=1e-4, rtol=0)
    with pytest.raises(DirectionsError, match="'Hat' already"):
        joined | pack


def test_its_percentiles_are_those_of_the_population(world):
    space, faces = world
    direction, _ = custom.from_faces("Hat", faces(200, 1), faces(200, 0), space)
    scores = (space | Directions([direction], D)).scores(faces(4000, 0))[:, 1].numpy()
    # Faces without hats are drawn as the population is in that latent.
    assert direction.percentile(np.median(scores)) == pytest.approx(50, abs=4)
    assert direction.high - direction.low == pytest.approx(2 * 2.326 * scores.std(), rel=0.1)


def test_published_formats_are_read(world, tmp_path):
    space, _ = world
    vector = torch.arange(1.0, D + 1)
    torch.save(vector, tmp_path / "Bald.pt")
    np.save(tmp_path / "Bangs.npy", vector.double().numpy())
    for name in ("Bald.pt", "Bangs.npy"):
        read = custom.read(tmp_path / name, space)
        assert read.names == [name.split(".")[0]]
        assert torch.equal(read.matrix[0], vector)


def test_files_that_do_not_fit_are_one_sentence(world, tmp_path):
    space, _ = world
    torch.save(torch.zeros(9), tmp_path / "wide.pt")
    torch.save({"a": torch.zeros(8)}, tmp_path / "dict.pt")
    np.save(tmp_path / "objects.npy", np.array([print], dtype=object), allow_pickle=True)
    (tmp_path / "text.pt").write_text("no tensor")
    (tmp_path / "vector.csv").write_text("1,2")
    for name, sentence in (("wide.pt", r"\(9,\).*\(8,\)"), ("dict.pt", "dict"), ("objects.npy", "damaged"),
                           ("text.pt", "damaged"), ("vector.csv", "no kind"), ("gone.pt", "no file")):
        with pytest.raises(DirectionsError, match=sentence) as error:
            custom.read(tmp_path / name, space)
        assert "\n" not in str(error.value)


def test_bad_faces_and_names_are_refused(world):
    space, faces = world
    for name, positives, negatives, sentence in (
            ("Smiling", faces(2, 1), faces(2, 0), "'Smiling' already"), (" ", faces(2, 1), faces(2, 0), "no name"),
            ("Hat", torch.zeros(0, D), faces(2, 0), "positive"), ("Hat", faces(2, 1), torch.zeros(2, 9), "negative"),
            ("Hat", torch.ones(2, D), torch.ones(3, D), "no length")):
        with pytest.raises(DirectionsError, match=sentence):
            custom.from_faces(name, positives, negatives, space)
