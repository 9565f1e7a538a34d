"""Measuring edits, with a decoder and a classifier so simple that every figure has a closed form."""

import numpy as np
import pytest
import torch
from torch import nn

from betavae import Directions
from train import selection
from train.probes import simple_directions

D = 6
NAMES = ["Smiling", "Male", "Young"]
READS = torch.tensor([[2.0, 0, 0, 0, 0, 0], [0, 4, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 3, 0]])


class Decoder(nn.Module):
    """The picture is the latent."""

    def decode(self, z):
        return z


class Reader(nn.Module):
    """Three attributes and a quantity, each of one latent: logits 2 z0, 4 z1, z2, and yaw 10 + 5 * 3 z4."""

    attributes, quantities, names = NAMES, ["yaw"], [*NAMES, "yaw"]

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.0, 0, 0, 10]))
        self.register_buffer("deviation", torch.tensor([1.0, 1, 1, 5]))

    def features(self, x):
        return x

    def forward(self, x):
        return x @ READS.T * self.deviation + self.mean


@pytest.fixture(scope="module")
def judge():
    return selection.Judge(Decoder(), Reader(), torch.device("cpu"))


@pytest.fixture(scope="module")
def z():
    return torch.randn(40, D, generator=torch.Generator().manual_seed(0))


def test_the_judge_reads_logits_and_deviations(judge, z):
    torch.testing.assert_close(judge.read(z), z @ READS.T)
    torch.testing.assert_close(judge.jacobians(z), READS.expand(40, 4, D), atol=1e-4, rtol=0)


def test_effect_leak_and_selectivity_are_those_of_the_slopes(judge, z):
    space = Directions([], D)
    vector = torch.tensor([1.0, 0.5, 0, 0, 0, 1])
    found = selection.measure(judge, z, vector, "Smiling", dose=1.5, space=space)
    assert found.effect == pytest.approx(2 * 1.5, abs=1e-4)
    assert found.leak == pytest.approx((4 * 0.5 * 1.5 + 0) / 2, abs=1e-4)
    assert found.selectivity == pytest.approx(2, abs=1e-3)
    assert found.monotonicity == 1
    assert found.distance > 1
    backwards = selection.measure(judge, z, -vector, "Smiling", dose=1.5, space=space)
    assert backwards.effect == pytest.approx(-3, abs=1e-4) and backwards.monotonicity == 0


def test_identity_drift_is_the_angle_that_the_features_turn_by(judge):
    # Four people at right angles: two of them are a whole unit of cosine distance apart.
    people = torch.eye(D)[:4] * 10
    turned = selection.measure(judge, people, torch.eye(D)[5] * 10, "Smiling", 1.0, Directions([], D))
    assert turned.identity == pytest.approx(1 - 0.5 ** 0.5, abs=1e-4)
    still = selection.measure(judge, people, torch.eye(D)[5] * 1e-4, "Smiling", 1.0, Directions([], D))
    assert still.identity == pytest.approx(0, abs=1e-4)


def test_the_dose_for_an_effect(judge, z):
    for effect in (0.5, 3.0):
        dose = selection.dose_for(judge, z, torch.eye(D)[0], "Smiling", effect)
        assert selection.change(judge, z, dose * torch.eye(D)[0], "Smiling")[0] == pytest.approx(effect, abs=1e-3)
    assert selection.dose_for(judge, z, torch.eye(D)[5], "Smiling", 1.0, limit=4) == 4, "no dose has it"


@pytest.fixture(scope="module")
def planted(judge):
    """Faces in which smiling (latent 0) goes along with Male (latent 1); a true direction each."""
    random = np.random.default_rng(0)
    male = random.random(6000) < 0.5
    smiling = random.random(6000) < np.where(male, 0.85, 0.15)
    young = random.random(6000) < 0.5
    yaw = random.normal(10, 5, 6000)
    mu = random.normal(size=(6000, D))
    mu[:, 0] += 2 * smiling
    mu[:, 1] += 2 * male
    mu[:, 2] += 2 * young
    mu[:, 4] += (yaw - 10) / 5
    mu = torch.from_numpy(mu).float()
    attributes = dict(zip(NAMES, (smiling.astype(np.int8), male.astype(np.int8), young.astype(np.int8))))
    numeric = {"yaw": yaw.astype(np.float32)}
    mirrored = mu * torch.tensor([1.0, 1, 1, 1, -1, 1])
    faces = selection.Faces(mu, mirrored, attributes | numeric, judge.jacobians(mu[:20]))
    return faces, simple_directions(mu, attributes, numeric)


def test_the_choice_is_better_than_the_mean_difference_where_labels_are_correlated(judge, planted):
    faces, simple = planted
    chosen, table = selection.choose(judge, faces, faces.mu[:200], simple)
    assert chosen.names == simple.names == [*NAMES, "yaw"]
    best = table["Smiling"][chosen["Smiling"].method]
    assert best["selectivity"] > 3 * table["Smiling"]["mean difference"]["selectivity"]
    # At one effect, or the comparison would favour the timid.
    effects = [row["effect"] for row in table["Smiling"].values()]
    assert max(effects) - min(effects) < 0.05 * max(effects)
    assert {"mean difference", "ridge", "logistic", "pattern", "partial", "conditional"} < set(table["Smiling"])
    assert "antisymmetric" in table["yaw"] and "antisymmetric" not in table["Smiling"]
    measured = chosen["Smiling"].measured
    assert measured["selectivity"] > 0 and measured["monotonicity"] > 0.99
    # Still in the unit: strength 1 is the gap between the class means along it.
    vector = chosen["Smiling"].vector
    along = faces.mu @ vector / (vector @ vector)
    smiling = torch.from_numpy(faces.columns["Smiling"] == 1)
    assert along[smiling].mean() - along[~smiling].mean() == pytest.approx(1, abs=1e-3)


def test_the_comparison_is_at_equal_effect(judge, planted):
    faces, simple = planted
    chosen, _ = selection.choose(judge, faces, faces.mu[:200], simple)
    row = selection.compare(judge, faces.mu[200:400], simple, chosen, ["Smiling"])["Smiling"]
    assert row["simple"]["effect"] == pytest.approx(row["chosen"]["effect"], rel=0.05)
    assert row["gain"] == pytest.approx(row["chosen"]["selectivity"] / row["simple"]["selectivity"]) and row["gain"] > 3
    matrix = selection.effects(judge, faces.mu[:100], chosen)
    assert matrix.shape == (4, 4)
    assert (matrix.argmax(1) == torch.arange(4)).all()
