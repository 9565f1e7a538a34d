"""Measuring edits, with a decoder and a classifier so simple that every figure has a closed form."""

import numpy as np
import pytest
import torch
from torch import nn

from betavae import Directions
from betavae.directions import Direction
from train import selection
from train.probes import simple_directions

D = 6
NAMES = ["Smiling", "Male", "Young"]
READS = torch.tensor([[2.0, 0, 0, 0, 0, 0], [0, 4, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 3, 0]])


class Decoder(nn.Module):
    """Every latent is a subpixel of a 2 x 2 picture, the others are black; read again, the last latent is lost."""

    def decode(self, z):
        return nn.functional.pad(z, (0, 12 - D)).reshape(-1, 3, 2, 2)

    def encode(self, x):
        return flat(x) * torch.tensor([1.0] * (D - 1) + [0]), None


def flat(x):
    return x.flatten(1)[:, :D]


def by_hand(vector):
    """A direction by its vector alone."""
    return Direction("Smiling", vector, "by hand", 0, 0, "strength", 1.0, 1.0, (0.0, 1.0))


class Reader(nn.Module):
    """Three attributes and a quantity, each of one latent: logits 2 z0, 4 z1, z2, and yaw 10 + 5 * 3 z4."""

    attributes, quantities, names = NAMES, ["yaw"], [*NAMES, "yaw"]

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.0, 0, 0, 10]))
        self.register_buffer("deviation", torch.tensor([1.0, 1, 1, 5]))

    def features(self, x):
        return flat(x)

    def head(self, features):
        return features @ READS.T


USUAL = torch.randn(3000, D, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def judge():
    return selection.Judge(Decoder(), Reader(), torch.device("cpu"), USUAL)


@pytest.fixture(scope="module")
def z():
    return torch.randn(40, D, generator=torch.Generator().manual_seed(0))


def test_the_judge_reads_logits_and_deviations(judge, z):
    torch.testing.assert_close(judge.read(z), z @ READS.T)
    slopes = judge.slopes(z)
    torch.testing.assert_close(slopes.outputs, READS.expand(40, 4, D), atol=1e-4, rtol=0)
    torch.testing.assert_close(slopes.picture, torch.eye(D).expand(40, D, D) / (3 * 4), atol=1e-4, rtol=0)
    assert slopes.person is None
    right = torch.zeros(40, 2, 2, dtype=torch.uint8)
    right[:, :, 1] = 255
    slopes = judge.slopes(z, right)
    persons = torch.diag(torch.tensor([0.0, 1, 0, 1, 0, 1])).expand(40, D, D) / (3 * 4)
    torch.testing.assert_close(slopes.person, persons, atol=1e-4, rtol=0)
    torch.testing.assert_close(slopes.elsewhere("background_warmth"), slopes.person)
    torch.testing.assert_close(slopes.elsewhere("Smiling"), slopes.picture)


def test_effect_leak_and_selectivity_are_those_of_the_slopes(judge, z):
    space = Directions([], D)
    vector = torch.tensor([1.0, 0.5, 0, 0, 0, 1])
    found = selection.measure(judge, z, by_hand(vector), dose=1.5, space=space)
    assert found.effect == pytest.approx(2 * 1.5, abs=1e-4)
    assert found.leak == pytest.approx((4 * 0.5 * 1.5 + 0) / 2, abs=1e-4)
    assert found.selectivity == pytest.approx(2, abs=1e-3)
    assert found.monotonicity == 1
    assert found.distance > 1
    assert found.drift == pytest.approx(1 / (1 + 0.25 + 1) ** 0.5, abs=1e-4)
    assert found.beyond == pytest.approx(found.leak, abs=1e-4), "this decoder is as good either way"
    backwards = selection.measure(judge, z, by_hand(-vector), dose=1.5, space=space)
    assert backwards.effect == pytest.approx(-3, abs=1e-4) and backwards.monotonicity == 0


def test_a_picture_is_strange_by_its_distance_from_the_usual_ones(judge):
    # Features are the latents, of unit variance: the squared distance is that from 0, on average D.
    faces = torch.randn(4000, D, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(judge.look(faces).strangeness, faces.square().sum(1) / D, rtol=0.15, atol=0.1)
    far, near = 3 * torch.eye(D)[:1], torch.zeros(1, D)
    assert judge.look(far).strangeness == pytest.approx(9 / D, rel=0.1) and judge.look(near).strangeness < 0.01
    # From 1.5 along latent 0 the step to the other side ends at 0, and the step back at 3: the figure is the mean of both.
    found = selection.measure(judge, 0.5 * far, by_hand(torch.eye(D)[0]), dose=1.5, space=Directions([], D))
    assert found.strange == pytest.approx((9 + 0) / 2 / D, rel=0.1)


def test_every_face_is_moved_to_its_other_side():
    class Glasses(Reader):
        def head(self, z):
            # Latent 0 shows from 1 on: below that there are none, and taking them off changes Male instead.
            return torch.cat([2 * (z[:, :1] - 1).clamp(min=-0.1), 4 * z[:, 1:2] + (z[:, :1] + 1).clamp(max=0), z[:, 2:3],
                              z[:, 4:5]], 1)

    judge = selection.Judge(Decoder(), Glasses(), torch.device("cpu"), USUAL)
    z = torch.zeros(4, D)
    z[3, 0] = 3
    assert selection.sides(judge, judge.look(z), "Smiling").tolist() == [1, 1, 1, -1]
    found = selection.change(judge, z, 3 * torch.eye(D)[0], "Smiling")
    assert found.effect == pytest.approx((3 * (4 + 0.2) + (4 + 0.2)) / 4, abs=1e-5)
    assert found.leak == pytest.approx(0, abs=1e-5), "nobody's glasses were taken off who had none"
    whole = selection.measure(judge, z, by_hand(torch.eye(D)[0]), 3.0, Directions([], D))
    assert whole.leak == pytest.approx(0, abs=1e-5)
    assert whole.beyond == pytest.approx(3 * 2 / 4 / 2, abs=1e-5), "three of four without glasses became less Male by 2"


def test_photographs_say_what_differing_in_one_label_alone_gains():
    random = np.random.default_rng(0)
    male = random.random(5000) < 0.5
    smiling = random.random(5000) < np.where(male, 0.9, 0.1)
    young = random.random(5000) < 0.5
    columns = dict(zip(NAMES, (column.astype(float) for column in (smiling, male, young)))) | {"yaw": random.normal(size=5000)}
    y = torch.from_numpy(np.stack(list(columns.values()), 1)).float()
    # Smiling is read from smiles, and of a smile Male reads a tenth; the two go along with each other.
    reads = torch.diag(torch.tensor([2.0, 3, 1, 1]))
    reads[0, 1] = 0.1
    gains = selection.photographs(y @ reads, columns, [*NAMES, "yaw"], 3)
    together = smiling[male].mean() - smiling[~male].mean()
    assert gains["Smiling"] == pytest.approx((2 / 0.1) / (2 / (0.1 + 3 * (male[smiling].mean() - male[~smiling].mean()))), rel=0.2)
    assert gains["Male"] > 5 and together > 0.7


def test_identity_drift_is_the_angle_that_the_features_turn_by(judge):
    # Four people at right angles: two of them are a whole unit of cosine distance apart.
    people = torch.eye(D)[:4] * 10
    turned = selection.measure(judge, people, by_hand(torch.eye(D)[5] * 10), 1.0, Directions([], D))
    assert turned.identity == pytest.approx(1 - 0.5 ** 0.5, abs=1e-4)
    still = selection.measure(judge, people, by_hand(torch.eye(D)[5] * 1e-4), 1.0, Directions([], D))
    assert still.identity == pytest.approx(0, abs=1e-4)


def test_the_dose_for_an_effect(judge, z):
    for effect in (0.5, 3.0):
        dose = selection.dose_for(judge, z, by_hand(torch.eye(D)[0]), effect)
        assert selection.change(judge, z, dose * torch.eye(D)[0], "Smiling").effect == pytest.approx(effect, abs=1e-3)
    assert selection.dose_for(judge, z, by_hand(torch.eye(D)[5]), 1.0, limit=4) == 4, "no dose has it"


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
    faces = selection.Faces(mu, mirrored, attributes | numeric, mu[:300], judge.slopes(mu[:300]), judge.look(mu[:300]))
    return faces, simple_directions(mu, attributes, numeric)


def test_the_choice_is_better_than_the_mean_difference_where_labels_are_correlated(judge, planted):
    faces, simple = planted
    chosen, table = selection.choose(judge, faces, faces.mu[:200], None, simple)
    assert chosen.names == simple.names == [*NAMES, "yaw"]
    best = table["Smiling"][chosen["Smiling"].method]
    assert best["merit"] > 3 * table["Smiling"]["mean difference"]["merit"]
    # At one effect, or the comparison would favour the timid.
    effects = [row["effect"] for row in table["Smiling"].values()]
    assert max(effects) - min(effects) < 0.05 * max(effects)
    assert {"mean difference", "ridge", "logistic", "pattern", "partial", "conditional"} < set(table["Smiling"])
    assert "antisymmetric" in table["yaw"] and "antisymmetric" not in table["Smiling"]
    measured = chosen["Smiling"].measured
    assert measured["selectivity"] > 0 and measured["monotonicity"] > 0.99
    # What a slider calls degrees is what the picture turns by: yaw is 10 + 5 * 3 z4.
    assert chosen["yaw"].per_strength == pytest.approx(15 * chosen["yaw"].vector[4].item(), rel=1e-3)
    # Still in the unit: strength 1 is the gap between the class means along it.
    vector = chosen["Smiling"].vector
    along = faces.mu @ vector / (vector @ vector)
    smiling = torch.from_numpy(faces.columns["Smiling"] == 1)
    assert along[smiling].mean() - along[~smiling].mean() == pytest.approx(1, abs=1e-3)


def test_the_comparison_is_at_equal_effect(judge, planted):
    faces, simple = planted
    chosen, _ = selection.choose(judge, faces, faces.mu[:200], None, simple)
    row = selection.compare(judge, faces.mu[200:400], None, simple, chosen, ["Smiling"])["Smiling"]
    assert row["simple"]["effect"] == pytest.approx(row["chosen"]["effect"], rel=0.05)
    for gain, harm, least in (("gain_leak", "leak", 3), ("gain_bias", "bias", 3), ("gain_pixels", "pixels", 1),
                              ("gain_strange", "strange", 0.9), ("gain_beyond", "beyond", 3)):
        chosen_selectivity, simple_selectivity = (row[kind]["effect"] / row[kind][harm] for kind in ("chosen", "simple"))
        assert row[gain] == pytest.approx(chosen_selectivity / simple_selectivity) and row[gain] > least
    matrix = selection.effects(judge, faces.mu[:100], chosen)
    assert matrix.shape == (4, 4)
    assert (matrix.argmax(1) == torch.arange(4)).all()


def test_bias_is_the_leak_that_does_not_cancel_over_faces():
    class Folded(Reader):
        def head(self, z):
            # What moves Male along latent 5 goes up for half of the faces and down for the others.
            out = super().head(z)
            return torch.cat([out[:, :1], out[:, 1:2] + z[:, 5:] * z[:, 3:4].sign(), out[:, 2:]], 1)

    judge = selection.Judge(Decoder(), Folded(), torch.device("cpu"), USUAL)
    z = torch.randn(40, D)
    z[:, 3] = torch.tensor([1.0, -1]).repeat(20)
    found = selection.change(judge, z, torch.eye(D)[0] + torch.eye(D)[5], "Smiling")
    assert (found.effect, found.leak, found.bias) == pytest.approx((2, 0.5, 0), abs=1e-5)
    assert found.pixels == pytest.approx(2 / 12)


def test_reach_reads_probabilities_and_quantities_at_both_ends_of_the_safe_range(judge, planted):
    _, simple = planted
    faces = simple.mean.repeat(3, 1)
    for name, read in (("Male", lambda z: torch.sigmoid(4 * z[:, 1])), ("yaw", lambda z: 10 + 5 * 3 * z[:, 4])):
        low, high = simple.safe(faces[0], name)
        found = selection.reach(judge, faces, simple, name)
        for key, strength in (("low", low), ("still", 0.0), ("high", high)):
            assert found[key] == pytest.approx(read(faces + strength * simple[name].vector).mean().item(), rel=1e-3, abs=1e-4)
        assert found["low"] < found["still"] < found["high"]


def test_outside_compares_background_and_person():
    class Half(nn.Module):
        """Latent 0 is the brightness of the left half, latent 1 of the right."""

        def decode(self, z):
            return z[:, None, None, :2].repeat_interleave(4, 3).expand(-1, 3, 8, 8)

    judge = selection.Judge(Half(), Reader(), torch.device("cpu"), USUAL)
    masks = torch.zeros(5, 8, 8, dtype=torch.uint8)
    masks[:, :, 4:] = 255
    shift = torch.tensor([3.0, 1, 0, 0, 0, 0])
    assert selection.outside(judge, torch.rand(5, D), shift, masks) == pytest.approx(3, rel=1e-4)
