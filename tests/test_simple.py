"""Every method, on planted latents whose truth is known."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch.nn.functional import cosine_similarity

from train import atlas as latents
from train.directions import simple
from train.directions.conditions import ConditionError, condition

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
    found = simple.partial(mu, np.stack([target, other], 1).astype(float))
    assert alike(simple.mean_difference(mu, target), truth) < 0.9, "the mean difference has the nuisance in it"
    torch.testing.assert_close(found[0], truth, atol=0.1, rtol=0)
    torch.testing.assert_close(found[1], side, atol=0.1, rtol=0)


def test_partial_takes_unknown_values_as_the_mean(nuisance):
    mu, target, other, truth, _ = nuisance
    columns = np.stack([target, other], 1).astype(float)
    columns[::7, 1] = np.nan
    assert alike(simple.partial(mu, columns)[0], truth) > 0.97


def test_filters_recover_the_discriminant(nuisance):
    # Two classes with one covariance: both regressions find inverse(covariance) . difference.
    random = np.random.default_rng(1)
    mix = random.normal(size=(D, D))
    present = random.random(N) < 0.3
    mu = torch.from_numpy(random.normal(size=(N, D)) @ mix + np.outer(present, np.eye(D)[2])).float()
    within = torch.from_numpy(mix.T @ mix).float()
    expected = torch.linalg.solve(within, torch.eye(D)[2])
    assert alike(simple.ridge(mu, present.astype(float)), expected) > 0.98
    assert alike(simple.logistic(mu, present), expected) > 0.98


def test_shrunk_covariance_is_the_covariance_of_many_and_invertible_for_few(nuisance):
    mu = nuisance[0]
    torch.testing.assert_close(simple.covariance(mu), torch.cov(mu.T), atol=0.02, rtol=0.02)
    assert torch.linalg.cond(simple.covariance(mu[:5])) < 1e4 < torch.linalg.cond(torch.cov(mu[:5].T))


@pytest.mark.parametrize(("method", "attribute", "quantity"), [
    ("mean", "mean difference", "regression"), ("ridge", "ridge", "ridge"), ("logistic", "logistic", "ridge")])
def test_every_method_makes_all_directions_and_says_how(nuisance, method, attribute, quantity):
    mu, target, other, *_ = nuisance
    made = simple.simple_directions(mu, {"Smiling": target, "Male": other}, {"yaw": mu[:, 5].numpy()}, method)
    assert [direction.method for direction in made.values()] == [attribute, attribute, quantity]
    index = torch.from_numpy(target)
    along = mu @ made["Smiling"].vector / made["Smiling"].vector.square().sum()
    assert along[index].mean() - along[~index].mean() == pytest.approx(1, abs=1e-3)
    expected = {"mean difference": simple.mean_difference, "ridge": simple.ridge, "logistic": simple.logistic}[attribute]
    assert alike(made["Smiling"].vector, expected(mu, target.astype(float))) > 0.9999


@pytest.mark.parametrize("length", [0.1, -3.0])
def test_strength_1_is_the_gap_between_the_classes_whatever_the_method_returned(nuisance, length):
    mu, target, *_ = nuisance
    vector, gap = simple.in_unit(length * torch.randn(D, generator=torch.Generator().manual_seed(0)), mu, target)
    along = mu @ vector / (vector @ vector)
    index = torch.from_numpy(target)
    assert along[index].mean() - along[~index].mean() == pytest.approx(1, abs=1e-4) and gap == 1


def test_the_unit_of_a_number_is_the_gap_about_its_median():
    y = np.arange(100.0)
    mu = torch.from_numpy(y)[:, None].float() @ torch.ones(1, D)
    vector, gap = simple.in_unit(-torch.ones(D), mu, y)
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
    atlas = latents.atlas(torch.from_numpy(mu).float(), {"Smiling": smile, "yaw": unknown}, top=1)
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
        assert np.array_equal(condition(text, columns), expected), text


@pytest.mark.parametrize(("text", "sentence"), [
    ("Mail and Male", "'Mail'; choose from Male"), ("Male and", "cannot be read"), ("Male + No_Beard", "cannot be read"),
    ("__import__('os')", "cannot be read"), ("Male and not Male", "0 of 1,000"), ("yaw > 1000", "0 of 1,000 faces meet"),
    ("Male or not Male", "0 of 1,000 faces do not meet"), ("yaw > Male", "no number"), ("", "cannot be read"),
])
def test_conditions_that_cannot_be_are_one_sentence(columns, text, sentence):
    with pytest.raises(ConditionError, match=sentence):
        condition(text, columns)
