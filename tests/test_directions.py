import dataclasses

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from betavae import Directions, DirectionsError, Editor
from betavae.attributes import ATTRIBUTES, GROUPS
from train.directions.simple import in_unit, mean_difference, regression, simple_directions

N, D = 20_000, 8


@pytest.fixture(scope="module")
def planted():
    """Latents in which an attribute moves faces by ``gap`` and a number by ``slope`` a unit, over unit noise."""
    random = np.random.default_rng(0)
    gap, slope = torch.zeros(D), torch.zeros(D)
    gap[:3], slope[5:] = torch.tensor([1.5, -0.5, 1.0]), torch.tensor([0.05, 0.0, -0.02])
    present, angle = random.random(N) < 0.3, random.normal(3, 15, N)
    mu = torch.from_numpy(random.normal(size=(N, D))).float()
    mu += torch.from_numpy(present)[:, None] * gap + torch.from_numpy(angle).float()[:, None] * slope
    return mu, present, angle, gap, slope


def test_mean_difference_recovers_a_planted_direction(planted):
    mu, present, _, gap, _ = planted
    torch.testing.assert_close(mean_difference(mu, present), gap, atol=0.05, rtol=0)


def test_regression_recovers_a_planted_slope_in_the_unit_of_strength_1(planted):
    mu, _, angle, _, slope = planted
    vector, gap = in_unit(regression(mu, angle), mu, angle)
    # Above against below the median of a normal: 2 * sqrt(2 / pi) standard deviations.
    assert gap == pytest.approx(2 * np.sqrt(2 / np.pi) * 15, rel=0.03)
    torch.testing.assert_close(vector, slope * gap, atol=0.05, rtol=0)


def test_regression_on_a_label_is_the_mean_difference(planted):
    mu, _, _, _, _ = planted
    half = np.arange(N) % 3 == 0
    torch.testing.assert_close(regression(mu, half.astype(float)), mean_difference(mu, half), atol=1e-5, rtol=0)


def test_strength_1_moves_a_face_by_the_gap_between_the_classes(planted):
    mu, present, angle, _, _ = planted
    directions = simple_directions(mu, {"Smiling": present}, {"yaw": angle})
    scores = directions.scores(mu)[:, 0]
    assert scores[torch.from_numpy(present)].mean() - scores[torch.from_numpy(~present)].mean() == pytest.approx(1, abs=1e-4)
    moved = directions.scores(mu + 1.7 * directions["Smiling"].vector)[:, 0]
    torch.testing.assert_close(moved - scores, torch.full((N,), 1.7), atol=1e-4, rtol=0)


def test_a_score_reads_its_attribute_and_not_what_is_correlated_with_it():
    # Two latents that nearly repeat each other, an attribute in the first alone.
    random = np.random.default_rng(1)
    present = random.random(N) < 0.5
    shared = random.normal(size=N)
    mu = np.stack([shared + 0.3 * random.normal(size=N) + present, shared + 0.3 * random.normal(size=N)], 1)
    directions = simple_directions(torch.from_numpy(mu).float(), {"Smiling": present}, {})
    scores = directions.scores(torch.from_numpy(mu).float())[:, 0].numpy()
    vector = directions["Smiling"].vector.numpy()
    assert np.corrcoef(scores, present)[0, 1] > np.corrcoef(mu @ vector, present)[0, 1] + 0.2
    assert abs(np.corrcoef(scores, shared)[0, 1]) < 0.35


def test_what_is_stored_beside_a_vector_was_measured(planted):
    mu, present, angle, _, _ = planted
    angle = np.where(np.arange(N) % 10 == 0, np.nan, angle)  # faces that were not found
    directions = simple_directions(mu, {"Smiling": present}, {"yaw": angle})
    smile, yaw = directions["Smiling"], directions["yaw"]
    assert (smile.positives, smile.negatives) == (present.sum(), N - present.sum())
    assert yaw.positives + yaw.negatives == np.isfinite(angle).sum()
    assert yaw.unit == "degrees" and yaw.per_strength == pytest.approx(24, abs=1)
    scores = directions.scores(mu)[:, 0].numpy()
    assert ((scores >= smile.low) & (scores <= smile.high)).mean() == pytest.approx(0.98, abs=0.001)
    assert smile.percentile(np.median(scores)) == pytest.approx(50, abs=0.1)
    assert smile.percentile(-1e9) == 0 and smile.percentile(1e9) == 100


def test_too_few_faces_make_no_direction(planted):
    mu = planted[0]
    rare = np.zeros(N, dtype=bool)
    rare[:29] = True
    assert simple_directions(mu, {"Bald": rare}, {}).names == []
    rare[29] = True
    assert simple_directions(mu, {"Bald": rare}, {}).names == ["Bald"]


def test_a_file_keeps_everything(planted, tmp_path):
    mu, present, angle, _, _ = planted
    made = simple_directions(mu, {"Smiling": present, "Male": ~present}, {"yaw": angle})
    made.save(tmp_path / "directions.safetensors")
    read = Directions.load(tmp_path / "directions.safetensors", D)
    assert read.names == made.names == ["Smiling", "Male", "yaw"]
    assert torch.equal(read.matrix, made.matrix)
    for name in made:
        a, b = read[name], made[name]
        assert (a.method, a.unit, a.positives, a.negatives, a.per_strength) == (b.method, b.unit, b.positives, b.negatives,
                                                                                 b.per_strength)
        np.testing.assert_allclose(a.quantiles, b.quantiles, atol=1e-4)
    # Anyone can read the vectors without this library.
    assert torch.equal(load_file(tmp_path / "directions.safetensors")["yaw"], made["yaw"].vector)


def test_bad_names_and_strengths_are_named(planted):
    mu, present, *_ = planted
    directions = simple_directions(mu, {"Smiling": present}, {})
    with pytest.raises(DirectionsError, match="'smile'; choose from Smiling"):
        directions.strengths({"smile": 1.0})
    for strength in (float("nan"), float("inf"), "much", None, True):
        with pytest.raises(DirectionsError, match="strength of Smiling"):
            directions.strengths({"Smiling": strength})
    assert "smile" not in directions and "Smiling" in directions


def test_bad_files_are_named(planted, tmp_path):
    mu, present, *_ = planted
    path = tmp_path / "directions.safetensors"
    with pytest.raises(DirectionsError, match="no file"):
        Directions.load(path, D)
    simple_directions(mu, {"Smiling": present}, {}).save(path)
    with pytest.raises(DirectionsError, match=r"another model.*Smiling.*\(9,\)"):
        Directions.load(path, 9)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DirectionsError, match="damaged"):
        Directions.load(path, D)
    save_file({"Smiling": torch.zeros(D)}, path)  # no metadata
    with pytest.raises(DirectionsError, match="damaged"):
        Directions.load(path, D)


def test_an_edit_adds_its_directions(planted, tiny):
    mu, present, angle, *_ = planted
    editor = Editor(tiny, simple_directions(mu, {"Smiling": present}, {"yaw": angle}))
    z = editor.sample(3, seed=0)
    smile, yaw = (editor.directions[name].vector for name in ("Smiling", "yaw"))
    torch.testing.assert_close(editor.shift(z, {"Smiling": 1.5, "yaw": -1}), z + 1.5 * smile - yaw)
    assert editor.edit(z, {"Smiling": 1.5, "yaw": -1}) == editor.decode(z + 1.5 * smile - yaw)
    assert editor.edit(z, {}) == editor.decode(z)


@pytest.fixture(scope="module")
def correlated():
    """Three directions that are far from orthogonal, in a space whose latents are correlated."""
    random = np.random.default_rng(2)
    mix = random.normal(size=(D, D))
    present = random.random((3, N)) < 0.4
    present[1] ^= present[0] & (random.random(N) < 0.7)  # labels that go along with each other
    gaps = random.normal(size=(3, D))
    mu = torch.from_numpy(random.normal(size=(N, D)) @ mix + present.T @ gaps).float()
    return mu, simple_directions(mu, dict(zip(("Smiling", "Male", "Young"), present, strict=True)), {})


def test_a_lock_keeps_its_direction_where_it_is(correlated):
    mu, directions = correlated
    z = mu[:5]
    strengths = {"Smiling": 2.0}
    free, held = (directions.scores(z + directions.shift(strengths, locks)) - directions.scores(z)
                  for locks in ((), ("Male", "Young")))
    assert free[:, 1:].abs().min() > 0.01, "without locks the others move"
    assert held[:, 1:].abs().max() < 1e-5
    share = held[:, 0] / free[:, 0]
    assert share.std() < 1e-4 and 0.05 < share[0] < 1


def test_a_lock_changes_an_edit_as_little_as_it_can(correlated):
    # Against every other step that leaves the locked score alone, by Mahalanobis distance from the free edit.
    _, directions = correlated
    inverse = torch.linalg.inv(directions.covariance)
    free, held = (directions.shift({"Smiling": 1.0}, locks) for locks in ((), ["Male"]))
    reading = inverse @ directions["Male"].vector
    for step in torch.randn(50, D, generator=torch.Generator().manual_seed(0)):
        other = held + step - reading * (reading @ step) / (reading @ reading)
        assert abs(other @ reading) < 1e-3
        assert (other - free) @ inverse @ (other - free) >= (held - free) @ inverse @ (held - free) - 1e-4


def test_a_locked_direction_with_a_strength_moves_by_just_that(correlated):
    _, directions = correlated
    z = torch.zeros(1, D)
    moved = directions.scores(z + directions.shift({"Smiling": 2, "Male": 0.5}, ["Male", "Male"])) - directions.scores(z)
    assert moved[0, 1] == pytest.approx(0.5, abs=1e-5)


def test_locking_everything_wanted_away_leaves_nothing(correlated):
    _, directions = correlated
    only = Directions([directions["Smiling"], dataclasses.replace(directions["Smiling"], name="Twin")], D,
                      directions.mean, directions.covariance)
    assert only.shift({"Smiling": 1.0}, ["Twin"]).abs().max() < 1e-5
    with pytest.raises(DirectionsError, match="'smile'"):
        directions.shift({"Smiling": 1.0}, ["smile"])


def test_a_face_dependent_step_of_earlier_versions_is_left_out(correlated, tmp_path):
    path, (_, directions) = tmp_path / "d.safetensors", correlated
    directions.save(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(path) | {"Smiling.turn": torch.eye(D)}, path, metadata)
    read = Directions.load(path, D)
    assert read.names == directions.names and torch.equal(read.matrix, directions.matrix)
    read.save(path)
    assert not any(key.endswith(".turn") for key in load_file(path))


def test_what_earlier_versions_measured_is_read_under_todays_names(correlated, tmp_path):
    path = tmp_path / "d.safetensors"
    directions = correlated[1]
    earlier = dataclasses.replace(directions["Smiling"], measured={"dose": 2.0, "leak": 0.5, "pixels": 0.1})
    directions.having([earlier]).save(path)
    assert Directions.load(path, D)["Smiling"].measured == {"strength": 2.0, "side_effect_absolute": 0.5, "pixels": 0.1}


def test_reach_and_percentile_agree(correlated):
    mu, directions = correlated
    z = mu[3]
    torch.testing.assert_close(directions.scores(directions.mean[None]), torch.zeros(1, 3), atol=1e-5, rtol=0)
    for percentile in (0, 5, 50, 90, 100):
        there = z + directions.reach(z, "Male", percentile) * directions["Male"].vector
        assert directions.percentiles(there)["Male"] == pytest.approx(percentile, abs=0.1)
    with pytest.raises(DirectionsError, match="101"):
        directions.reach(z, "Male", 101)
    swept = [float(directions.scores((z + strength * directions["Male"].vector)[None])[0, 1])
             for strength in directions.sweep(z, "Male", 3)]
    low, high = directions["Male"].low, directions["Male"].high
    assert swept == pytest.approx([low, (low + high) / 2, high], abs=1e-4)


def test_safe_strengths_end_where_the_data_does(correlated):
    mu, directions = correlated
    assert (directions.distance(mu) <= directions.radius).float().mean() == pytest.approx(0.99, abs=0.001)
    inside = next(z for z in mu if directions.distance(z[None]) < directions.radius)
    low, high = directions.safe(inside, "Smiling")
    assert low < 0 < high
    for strength in (low, high):
        edge = inside + strength * directions["Smiling"].vector
        assert directions.distance(edge[None]).item() == pytest.approx(directions.radius, rel=1e-4)
    assert directions.safe(directions.mean + 1000 * torch.randn(D, generator=torch.Generator().manual_seed(0)), "Smiling") \
        == (0, 0)
    # Of N(0, I), the radius is the 99 % quantile of a chi distribution with as many degrees.
    assert Directions([], 32).radius == pytest.approx(53.486 ** 0.5, rel=1e-3)


def test_cosine_is_that_of_the_whitened_vectors(correlated):
    _, directions = correlated
    values, basis = torch.linalg.eigh(directions.covariance.double())
    white = directions.matrix.double() @ basis / values.sqrt()
    expected = torch.nn.functional.cosine_similarity(white, white[:1])
    np.testing.assert_allclose(list(directions.cosine(directions["Smiling"].vector).values()), expected, atol=1e-5)


def test_every_attribute_has_a_group_and_twelve_show_at_once():
    assert {entry.group for entry in ATTRIBUTES.values()} == set(GROUPS)
    assert sum(entry.primary for entry in ATTRIBUTES.values()) == 12
    assert len({entry.label for entry in ATTRIBUTES.values()}) == len(ATTRIBUTES)
