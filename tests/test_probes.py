"""Every method, on planted latents whose truth is known."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch.nn.functional import cosine_similarity

from train import probes
from train.probes import ConditionError

N, D = 20_000, 8


@pytest.fixture(scope="module")
def nuisance():
    """A target that moves latent 0 and a nuisance, seven times as frequent with it, that moves latents 0 and 1."""
    random = np.random.default_rng(0)
    target = random.random(N) < 0.4
    other = random.random(N) < np.where(target, 0.7, 0.1)
    mu = random.normal(size=(N, D)) @ (np.eye(D) + 0.3 * random.normal(size=(D, D)))
    truth, side = np.eye(D)[0] * 1.5, np.eye(D)[0] * 0.5 + np.eye(D)[1] * 2
    mu += target[:, None] * truth + other[:, None] * side
    return torch.from_numpy(mu).float(), target, other, torch.from_numpy(truth).float(), torch.from_numpy(side).float()


def alike(a, b) -> float:
    return float(cosine_similarity(a, b, dim=0))


def test_partial_recovers_the_planted_direction_under_a_correlated_nuisance(nuisance):
    mu, target, other, truth, side = nuisance
    found = probes.partial(mu, np.stack([target, other], 1).astype(float))
    assert alike(probes.mean_difference(mu, target), truth) < 0.9, "the mean difference has the nuisance in it"
    torch.testing.assert_close(found[0], truth, atol=0.1, rtol=0)
    torch.testing.assert_close(found[1], side, atol=0.1, rtol=0)


def test_partial_takes_unknown_values_as_the_mean(nuisance):
    mu, target, other, truth, _ = nuisance
    columns = np.stack([target, other], 1).astype(float)
    columns[::7, 1] = np.nan
    assert alike(probes.partial(mu, columns)[0], truth) > 0.97


def test_filters_recover_the_discriminant(nuisance):
    # Two classes with one covariance: both regressions find inverse(covariance) . difference.
    random = np.random.default_rng(1)
    mix = random.normal(size=(D, D))
    present = random.random(N) < 0.3
    mu = torch.from_numpy(random.normal(size=(N, D)) @ mix + np.outer(present, np.eye(D)[2])).float()
    within = torch.from_numpy(mix.T @ mix).float()
    expected = torch.linalg.solve(within, torch.eye(D)[2])
    assert alike(probes.ridge(mu, present.astype(float)), expected) > 0.98
    assert alike(probes.logistic(mu, present), expected) > 0.98


def test_the_pattern_of_the_best_filter_is_the_mean_difference(nuisance):
    mu, target, *_ = nuisance
    assert alike(probes.pattern(probes.ridge(mu, target.astype(float)), torch.cov(mu.T)),
                 probes.mean_difference(mu, target)) > 0.9999


def test_shrunk_covariance_is_the_covariance_of_many_and_invertible_for_few(nuisance):
    mu = nuisance[0]
    torch.testing.assert_close(probes.covariance(mu), torch.cov(mu.T), atol=0.02, rtol=0.02)
    assert torch.linalg.cond(probes.covariance(mu[:5])) < 1e4 < torch.linalg.cond(torch.cov(mu[:5].T))


def test_conditional_leaves_the_others_readings_alone(nuisance):
    mu, target, other, *_ = nuisance
    sigma = probes.covariance(mu)
    others = torch.stack([probes.mean_difference(mu, other), torch.eye(D)[4], torch.eye(D)[4]])  # one of them twice
    held = probes.conditional(probes.mean_difference(mu, target), others, sigma)
    assert (others @ torch.linalg.solve(sigma, held)).abs().max() < 1e-5
    assert held.norm() > 0.1


def test_antisymmetric_cancels_what_a_face_and_its_mirror_image_share():
    random = np.random.default_rng(2)
    yaw = random.normal(0, 15, N)
    identity = random.normal(size=(N, D))
    identity[:, 3] += yaw / 10  # some people were photographed from one side
    turn = np.eye(D)[6] * 0.05
    mu, mirrored = (torch.from_numpy(identity + np.outer(angle, turn) + 0.1 * random.normal(size=(N, D))).float()
                    for angle in (yaw, -yaw))
    assert alike(probes.regression(mu, yaw), torch.eye(D)[6]) < 0.6
    torch.testing.assert_close(probes.antisymmetric(mu, mirrored, yaw), torch.from_numpy(turn).float(), atol=1e-3, rtol=0)


def test_optimised_trades_the_target_for_what_else_moves():
    # Two latents move the target; the first moves another output as well, in half of the faces up and in half down.
    slopes = torch.zeros(10, 2, D)
    slopes[:, 0, 0], slopes[:, 0, 1], slopes[::2, 1, 0], slopes[1::2, 1, 0] = 1.0, 0.5, 3.0, -3.0
    one, eye = torch.tensor([0.0, 1.0]), torch.eye(D)
    pictures = eye.expand(10, D, D)
    found = probes.optimised(slopes, 0, one, pictures, eye, length=0.01, still=0)
    assert found[1] > 20 * found[0] > 0 and found[2:].abs().max() == 0
    alone = probes.optimised(slopes, 0, torch.zeros(2), pictures, eye, length=0.01, still=0)
    torch.testing.assert_close(alone[1] / alone[0], torch.tensor(0.5))


def test_optimised_leaves_the_picture_that_the_classifier_does_not_see():
    # Two latents move the target alike; the second repaints what no output reads.
    slopes = torch.zeros(10, 2, D)
    slopes[:, 0, :2], slopes[:, 1, 2] = 1.0, 1.0
    pictures = torch.diag(torch.tensor([1.0, 9] + [0] * (D - 2))).expand(10, D, D)
    blind, careful = (probes.optimised(slopes, 0, torch.tensor([0.0, 1.0]), pictures, torch.eye(D), 0.01, still) for still in (0, 1))
    torch.testing.assert_close(blind[0], blind[1])
    # H's trace is 1, the picture's 10: inverse(0.01 + picture / 10).
    torch.testing.assert_close(careful[:2], 1 / torch.tensor([0.11, 0.91]))


def test_a_turning_direction_undoes_what_differs_from_face_to_face():
    # Latent 0 moves the target, and another output up or down as latent 2 has it; latent 3 moves that output in every face.
    z = torch.randn(500, D, generator=torch.Generator().manual_seed(0))
    z = z - z.mean(0)
    slopes = torch.zeros(500, 2, D)
    slopes[:, 0, 0], slopes[:, 1, 0], slopes[:, 1, 3] = 1.0, z[:, 2], 1.0
    vector, turn = probes.turning(z, slopes, 0, torch.tensor([0.0, 1.0]), torch.eye(D).expand(500, D, D), torch.eye(D), 1e-3, 0)
    expected = torch.zeros(D, D)
    expected[3, 2] = -1
    torch.testing.assert_close(turn / vector[0], expected, atol=0.1, rtol=0)
    assert vector[1:].abs().max() < 0.02 * vector[0]
    left = torch.einsum("nd,nd->n", slopes[:, 1], vector + z @ turn.T).abs().mean()
    assert left < 0.05 * slopes[:, 1, 0].abs().mean() * vector[0]


@pytest.mark.parametrize("turns", [False, True])
def test_refined_finds_what_shows_only_over_the_whole_step(turns):
    # At the start latent 0 alone seems to move the target, with a side effect; latent 1 moves it by its square, with none.
    # With latent 1 a third output changes as latent 3 of the face has it, unless the step's latent 2 undoes it.
    z = torch.randn(400, D, generator=torch.Generator().manual_seed(0))

    def moved(steps, rows):
        changes = torch.stack([steps[:, 0] + steps[:, 1].square(), steps[:, 0], steps[:, 2] + steps[:, 1] * z[rows, 3]], 1)
        return changes, steps.abs().mean(), torch.zeros(())

    simple, start = torch.eye(D)[0], 0.6 * torch.eye(D)[0] + 0.3 * torch.eye(D)[1]
    vector, turn = probes.refined((start, torch.zeros(D, D) if turns else None), simple, moved, z, 0,
                                  torch.tensor([0.0, 1.0, 1.0]), torch.eye(D), 1.0, 0.5)
    changes, *_ = moved(vector + (z @ turn.T if turns else 0 * z), torch.arange(400))
    assert changes[:, 0].mean() == pytest.approx(1, abs=0.15)
    assert changes[:, 1].abs().mean() < 0.25, "a side effect of 1 along latent 0"
    assert (turn is not None) == turns
    if turns:
        assert turn[2, 3] < -0.1, "what differs from face to face is turned against"
        assert (vector @ turn).abs().max() < 1e-5, "strength 1 is the same for every face"


def test_refined_spares_those_who_are_moved_on_beyond_their_own_side():
    # Latents 0 and 1 serve the target alike, but a step back along latent 0 has a side effect.
    z = torch.randn(400, D, generator=torch.Generator().manual_seed(0))

    def moved(steps, rows):
        return torch.stack([steps[:, :3].sum(1), steps[:, 2], (-steps[:, 0]).relu()], 1), steps.abs().mean(), torch.zeros(())

    start = 0.5 * (torch.eye(D)[0] + torch.eye(D)[1])
    vector, _ = probes.refined((start, None), torch.eye(D)[2], moved, z, 0, torch.tensor([0.0, 1.0, 1.0]), torch.eye(D), 1.0, 0.5)
    assert vector[:2].sum() == pytest.approx(1, abs=0.15)
    assert 0 <= vector[0] < 0.5 * vector[1]


def test_refined_keeps_to_the_usual_whichever_way():
    # Latents 0, 1 and 2 serve the target alike; pictures are strange after a step along 0, or after one back along 1.
    z = torch.randn(400, D, generator=torch.Generator().manual_seed(0))

    def moved(steps, rows):
        strangeness = steps[:, 0].relu().mean() + (-steps[:, 1]).relu().mean()
        return torch.stack([steps[:, :3].sum(1), steps[:, 3]], 1), steps.abs().mean(), strangeness

    start = 0.3 * torch.eye(D)[:3].sum(0)
    vector, _ = probes.refined((start, None), torch.eye(D)[3], moved, z, 0, torch.tensor([0.0, 1.0]), torch.eye(D), 1.0, 0.5)
    assert vector[:3].sum() == pytest.approx(1, abs=0.15)
    assert max(vector[0], vector[1]) < 0.5 * vector[2]


def test_one_pass_over_parts_is_the_mean_difference_of_all(nuisance):
    mu, target, other, *_ = nuisance
    labels = torch.from_numpy(np.stack([target, other], 1))
    differences, positives, negatives = probes.mean_differences(zip(mu.split(777), labels.split(777)))
    for i, present in enumerate((target, other)):
        index = torch.from_numpy(present)
        torch.testing.assert_close(differences[i], mu[index].mean(0) - mu[~index].mean(0), atol=1e-5, rtol=0)
        assert (positives[i], negatives[i]) == (present.sum(), (~present).sum())


@pytest.mark.parametrize("length", [0.1, -3.0])
def test_strength_1_is_the_gap_between_the_classes_whatever_the_method_returned(nuisance, length):
    mu, target, *_ = nuisance
    vector, gap = probes.in_unit(length * torch.randn(D, generator=torch.Generator().manual_seed(0)), mu, target)
    along = mu @ vector / (vector @ vector)
    index = torch.from_numpy(target)
    assert along[index].mean() - along[~index].mean() == pytest.approx(1, abs=1e-4) and gap == 1


def test_the_unit_of_a_number_is_the_gap_about_its_median():
    y = np.arange(100.0)
    mu = torch.from_numpy(y)[:, None].float() @ torch.ones(1, D)
    vector, gap = probes.in_unit(-torch.ones(D), mu, y)
    assert gap == 50
    torch.testing.assert_close(vector, torch.full((D,), 50.0))


def test_the_atlas_names_what_a_latent_is_correlated_with():
    random = np.random.default_rng(4)
    yaw, smile = random.normal(size=5000), random.random(5000) < 0.5
    mu = random.normal(size=(5000, 4))
    mu[:, 0] -= 2 * yaw
    mu[:, 2] += 2 * smile
    unknown = np.where(random.random(5000) < 0.1, np.nan, yaw)
    mu[:, 3] = 0  # a collapsed latent
    atlas = probes.atlas(torch.from_numpy(mu).float(), {"Smiling": smile, "yaw": unknown}, top=1)
    (turns,), (nothing,), (smiles,), (collapsed,) = atlas["latents"]
    assert atlas["faces"] == 5000
    assert turns["name"] == "yaw" and turns["r"] == pytest.approx(np.corrcoef(mu[:, 0], yaw)[0, 1], abs=0.01)
    assert smiles["name"] == "Smiling" and smiles["r"] == pytest.approx(0.5 ** 0.5, abs=0.02)
    assert nothing["low"] < 0 < nothing["high"] and collapsed["r"] == 0
    # The interval that SciPy gives for the same.
    known = np.isfinite(unknown)
    expected = scipy.stats.pearsonr(mu[known, 0], yaw[known]).confidence_interval(0.95)
    assert (turns["low"], turns["high"]) == pytest.approx(tuple(expected), abs=1e-3)


@pytest.fixture(scope="module")
def columns():
    random = np.random.default_rng(3)
    return {name: random.integers(0, 2, 1000) for name in ("Male", "No_Beard", "Blond_Hair", "5_o_Clock_Shadow")} | {
        "yaw": random.normal(0, 15, 1000)}


def test_conditions_are_read_as_written(columns):
    male, beard, blond, shadow = (columns[name] == 1 for name in ("Male", "No_Beard", "Blond_Hair", "5_o_Clock_Shadow"))
    for text, expected in {
            "Male": male, "not Male": ~male, "Male and not No_Beard and Blond_Hair": male & ~beard & blond,
            "5_o_Clock_Shadow or (Male and yaw > 12.5)": shadow | (male & (columns["yaw"] > 12.5)),
            "Male or No_Beard and Blond_Hair": male | (beard & blond), "yaw < -5": columns["yaw"] < -5}.items():
        assert np.array_equal(probes.condition(text, columns), expected), text


@pytest.mark.parametrize(("text", "sentence"), [
    ("Mail and Male", "'Mail'; choose from Male"), ("Male and", "cannot be read"), ("Male + No_Beard", "cannot be read"),
    ("__import__('os')", "cannot be read"), ("Male and not Male", "0 of 1,000"), ("yaw > 1000", "0 of 1,000 faces meet"),
    ("Male or not Male", "0 of 1,000 faces do not meet"), ("yaw > Male", "no number"), ("", "cannot be read"),
])
def test_conditions_that_cannot_be_are_one_sentence(columns, text, sentence):
    with pytest.raises(ConditionError, match=sentence):
        probes.condition(text, columns)
