"""Measuring and refining edits, with a decoder and a classifier so simple that every figure has a closed form."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import TINY
from sklearn.metrics import roc_auc_score
from torch import nn

from betavae import hub
from betavae.classifier import Classifier
from betavae.directions import Direction, Directions
from train import stages
from train.directions import compare, evaluator, refine
from train.directions.evaluator import Effects, Evaluator
from train.directions.refine import RefineConfig
from train.directions.simple import simple_directions
from train.evaluation import encode_all
from train.measure import MEASURED
from train.presets import PRESETS
from train.run import main

D = 6
NAMES = ["Smiling", "Male", "Young"]
READS = torch.tensor([[2.0, 0, 0, 0, 0, 0], [0, 4, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 3, 0]])
ONE = torch.eye(D)


class Decoder(nn.Module):
    """Every latent is a subpixel of a 2 x 2 picture, the others are black."""

    def decode(self, z):
        return nn.functional.pad(z, (0, 12 - D)).reshape(-1, 3, 2, 2)


def flat(x):
    return x.flatten(1)[:, :D]


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


def by_hand(vector, name="Smiling"):
    """A direction by its vector alone."""
    return Direction(name, vector, "by hand", 0, 0, "strength", 1.0, (0.0, 1.0))


@pytest.fixture(scope="module")
def judge():
    return Evaluator(Decoder(), Reader(), torch.device("cpu"), USUAL)


@pytest.fixture(scope="module")
def z():
    return torch.randn(40, D, generator=torch.Generator().manual_seed(0))


def figures(judge, z, step, **options):
    return {key: float(value) for key, value in evaluator.effects(judge, z, step, "Smiling", **options).means().items()}


def test_observations_are_logits_and_deviations(judge, z):
    torch.testing.assert_close(judge.observe(z).outputs, z @ READS.T)


def test_figures_are_those_of_the_step(judge, z):
    found = figures(judge, z, 1.5 * torch.tensor([1.0, 0.5, 0, 0, 0, 1]))
    assert found["effect"] == pytest.approx(2 * 1.5, abs=1e-4)
    assert found["side_effect_absolute"] == pytest.approx((4 * 0.5 * 1.5 + 0) / 2, abs=1e-4)
    assert found["pixels"] == pytest.approx(1.5 * 2.5 / 12, abs=1e-4)
    assert figures(judge, z, -1.5 * ONE[0])["effect"] == pytest.approx(-3, abs=1e-4)


def test_mean_side_effects_cancel_over_faces_and_absolute_ones_do_not():
    class Folded(Reader):
        def head(self, z):
            # What moves Male along latent 5 goes up for half of the faces and down for the others.
            out = super().head(z)
            return torch.cat([out[:, :1], out[:, 1:2] + z[:, 5:] * z[:, 3:4].sign(), out[:, 2:]], 1)

    z = torch.randn(40, D)
    z[:, 3] = torch.tensor([1.0, -1]).repeat(20)
    found = figures(Evaluator(Decoder(), Folded(), torch.device("cpu"), USUAL), z, ONE[0] + ONE[5])
    assert (found["effect"], found["side_effect_absolute"]) == pytest.approx((2, 0.5), abs=1e-5)
    assert found["side_effect_mean"] == pytest.approx(0, abs=1e-5) and found["pixels"] == pytest.approx(2 / 12)


def test_an_outlier_score_is_the_distance_from_usual_pictures(judge):
    # Features are the latents, of unit variance: the squared distance is that from 0, on average D.
    faces = torch.randn(4000, D, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(judge.observe(faces).outlier_scores, faces.square().sum(1) / D, rtol=0.15, atol=0.1)
    far, near = 3 * ONE[:1], torch.zeros(1, D)
    assert judge.observe(far).outlier_scores == pytest.approx(9 / D, rel=0.1) and judge.observe(near).outlier_scores < 0.01


def test_every_face_is_moved_to_its_other_side():
    class Glasses(Reader):
        def head(self, z):
            # Latent 0 shows from 1 on: below that there are none, and taking them off changes Male instead.
            return torch.cat([2 * (z[:, :1] - 1).clamp(min=-0.1), 4 * z[:, 1:2] + (z[:, :1] + 1).clamp(max=0), z[:, 2:3],
                              z[:, 4:5]], 1)

    judge = Evaluator(Decoder(), Glasses(), torch.device("cpu"), USUAL)
    z = torch.zeros(4, D)
    z[3, 0] = 3
    assert evaluator.sides(judge, judge.observe(z), "Smiling").tolist() == [1, 1, 1, -1]
    found = figures(judge, z, 3 * ONE[0])
    assert found["effect"] == pytest.approx((3 * (4 + 0.2) + (4 + 0.2)) / 4, abs=1e-5)
    assert found["side_effect_absolute"] == pytest.approx(0, abs=1e-5), "nobody's glasses were taken off who had none"
    back = figures(judge, z, 3 * ONE[0], back=True)
    assert back["side_effect_absolute"] == pytest.approx(3 * 2 / 4 / 2, abs=1e-5), "three of four became less Male by 2"


def test_an_edit_of_the_background_counts_the_persons_pixels_alone():
    before, after = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    after[:, :, :, 0], after[0, :, :, 1] = 0.8, 0.2
    masks = torch.zeros(2, 2, 2, dtype=torch.uint8)
    masks[:, :, 1] = 255
    torch.testing.assert_close(evaluator.pixel_changes(before, after, "background_warmth", masks), torch.tensor([0.2, 0.0]))
    torch.testing.assert_close(evaluator.pixel_changes(before, after, "Smiling", masks), torch.tensor([0.5, 0.4]))


def test_the_strength_for_an_effect(judge, z):
    for effect in (0.5, 3.0):
        strength = evaluator.strength_for(judge, z, by_hand(ONE[0]), effect)
        assert figures(judge, z, strength * ONE[0])["effect"] == pytest.approx(effect, abs=1e-3)
    assert evaluator.strength_for(judge, z, by_hand(ONE[5]), 1.0, limit=4) == 4, "no strength has it"


def test_a_bootstrap_is_a_mean_over_faces_drawn_again():
    random = torch.Generator().manual_seed(0)
    done = Effects(
        torch.randn(500, 4, generator=random), torch.rand(500, generator=random), torch.rand(500, generator=random), 0, 3
    )
    weights = refine.bootstrap(500, 2000)
    torch.testing.assert_close(weights.sum(1), torch.ones(2000))
    low, high = refine.interval(done.means(weights)["effect"])
    values = done.changes[:, 0]
    mean, error = float(values.mean()), float(1.96 * values.std() / 500 ** 0.5)
    assert (low, high) == pytest.approx((mean - error, mean + error), abs=0.02)


def test_refining_finds_what_shows_only_over_the_whole_step():
    # At the start latent 0 alone seems to move the target, with a side effect; latent 1 moves it by its square, with none.
    def forward(steps, rows):
        return torch.stack([steps[:, 0] + steps[:, 1].square(), steps[:, 0]], 1), steps.abs().mean(1), torch.zeros(len(steps))

    vector = refine.refine(
        0.6 * ONE[0] + 0.3 * ONE[1], forward, 400, 0, torch.tensor([0.0, 1.0]), ONE, 1.0, 0.5, RefineConfig()
    )
    changes, *_ = forward(vector[None], None)
    assert changes[0, 0] == pytest.approx(1, abs=0.15)
    assert changes[0, 1].abs() < 0.25, "a side effect of 1 along latent 0"


def test_refining_spares_faces_pushed_further_the_way_they_are():
    # Latents 0 and 1 serve the target alike, but a step back along latent 0 has a side effect.
    def forward(steps, rows):
        changes = torch.stack([steps[:, :3].sum(1), steps[:, 2] + 0.1, (-steps[:, 0]).relu()], 1)
        return changes, steps.abs().mean(1), torch.zeros(len(steps))

    start, others = 0.5 * (ONE[0] + ONE[1]), torch.tensor([0.0, 1.0, 1.0])
    vector = refine.refine(start, forward, 400, 0, others, ONE, 1.0, 0.5, RefineConfig())
    assert vector[:2].sum() == pytest.approx(1, abs=0.2) and vector[0] < 0.7 * vector[1]
    blind = refine.refine(start, forward, 400, 0, others, ONE, 1.0, 0.5, dataclasses.replace(RefineConfig(), beyond_weight=0.0))
    assert blind[0] == pytest.approx(blind[1].item(), abs=0.05)


def test_refining_keeps_to_usual_pictures_both_ways():
    # Latents 0, 1 and 2 serve the target alike; pictures are outliers after a step along 0, or after one back along 1.
    def forward(steps, rows):
        outliers = steps[:, 0].relu() + (-steps[:, 1]).relu()
        return torch.stack([steps[:, :3].sum(1), steps[:, 3] + 0.1], 1), steps.abs().mean(1), outliers

    vector = refine.refine(0.3 * ONE[:3].sum(0), forward, 400, 0, torch.tensor([0.0, 1.0]), ONE, 1.0, 0.5, RefineConfig())
    assert vector[:3].sum() == pytest.approx(1, abs=0.2)
    assert max(vector[0], vector[1]) < 0.6 * vector[2]


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
    attributes = dict(zip(NAMES, (smiling.astype(np.int8), male.astype(np.int8), young.astype(np.int8)), strict=True))
    numeric = {"yaw": yaw.astype(np.float32)}
    return (
        refine.Faces(mu, attributes | numeric, mu[:300], judge.observe(mu[:300])),
        simple_directions(mu, attributes, numeric),
    )


@pytest.fixture(scope="module")
def kept(judge, planted, tmp_path_factory):
    faces, simple = planted
    out = tmp_path_factory.mktemp("refined")
    return out, *refine.refined_directions(judge, faces, faces.mu[:200], None, simple, out)


def test_refined_directions_are_better_where_labels_are_correlated(planted, kept):
    faces, simple = planted
    _, directions, table = kept
    assert directions.names == simple.names == [*NAMES, "yaw"]
    row = table["Smiling"]
    assert row["method"] == directions["Smiling"].method == "refined" and row["interval"][0] > 1.5
    # At one effect, or the comparison would favour the timid.
    assert row["simple"]["effect"] == pytest.approx(row["refined"]["effect"], rel=0.03)
    assert directions["Smiling"].measured["effect"] > 0
    # What a slider calls degrees is what the picture turns by: yaw is 10 + 5 * 3 z4.
    assert directions["yaw"].per_strength == pytest.approx(15 * directions["yaw"].vector[4].item(), rel=1e-3)
    # Still in the unit: strength 1 is the gap between the class means along it.
    vector = directions["Smiling"].vector
    along = faces.mu @ vector / (vector @ vector)
    smiling = torch.from_numpy(faces.columns["Smiling"] == 1)
    assert along[smiling].mean() - along[~smiling].mean() == pytest.approx(1, abs=1e-3)


def test_a_refinement_goes_on_where_it_was_stopped(judge, planted, kept):
    faces, simple = planted
    out, directions, _ = kept
    folder, = out.iterdir()
    found = {path.stem: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert set(found) == set(simple.names)
    (folder / "Male.json").unlink()
    again, _ = refine.refined_directions(judge, faces, faces.mu[:200], None, simple, out)
    assert torch.equal(again.matrix, directions.matrix)
    assert [name for name, time in found.items() if (folder / f"{name}.json").stat().st_mtime_ns != time] == ["Male"]
    # Other settings are other work.
    quick = dataclasses.replace(RefineConfig(), steps=2)
    refine.refined_directions(judge, faces, faces.mu[:200], None, simple.having([simple["Young"]]), out, quick)
    assert len(list(out.iterdir())) == 2


def test_a_joined_condition_keeps_its_simple_direction(judge, planted, tmp_path):
    faces, simple = planted
    joined = simple.having([dataclasses.replace(simple["Young"], name="Viking")])
    directions, table = refine.refined_directions(judge, faces, faces.mu[:200], None, joined, tmp_path)
    assert directions["Viking"].method == "mean difference" and not table


def test_the_comparison_is_at_equal_effect_with_intervals(judge, planted, kept):
    faces, simple = planted
    directions = kept[1]
    rows, means = compare.compare(judge, faces.mu[200:600], None, simple, directions, ["Smiling", "Male"])
    row = rows["Smiling"]
    assert row["simple"]["effect"] == pytest.approx(row["chosen"]["effect"], rel=0.05)
    for key in ("side_effect_absolute", "side_effect_mean"):
        one, other = (row[kind]["effect"] / row[kind][key] for kind in ("chosen", "simple"))
        gain = row["gains"][key]
        assert gain["value"] == pytest.approx(one / other, rel=1e-4) and gain["value"] > 2
        assert gain["interval"][0] <= gain["value"] * 1.001 and gain["value"] <= gain["interval"][1] * 1.001
        assert means[key]["value"] == pytest.approx(np.mean([rows[name]["gains"][key]["value"] for name in rows]), rel=1e-4)
    assert json.loads(json.dumps(rows)) == rows
    matrix = compare.effect_matrix(judge, faces.mu[:100], directions)
    assert matrix.shape == (4, 4) and (matrix.argmax(1) == torch.arange(4)).all()


def test_attribute_dependency_is_that_of_the_slopes(judge, planted):
    _, simple = planted
    faces = torch.randn(3000, D, generator=torch.Generator().manual_seed(3))
    # Smiling by 2 a unit, Male by 4 * 0.25 and Young by 1 * 0.5; the outputs' deviations are 2, 4 and 1.
    directions = simple.having([by_hand(torch.tensor([1.0, 0.25, 0.5, 0, 0, 0]))])
    found = compare.attribute_dependency(judge, faces, directions, "Smiling")
    for degree in (1, 2, 3):
        assert found[str(degree)]["mean"] == pytest.approx(degree * (0.25 + 0.5) / 2, rel=0.06)
        assert found[str(degree)]["max"] == pytest.approx(degree * 0.5, rel=0.06)
    still = simple.having([by_hand(ONE[5])])
    assert compare.attribute_dependency(judge, faces, still, "Smiling") == {}, "no strength reaches it"


def test_the_report_leaves_out_the_faces_that_settings_were_compared_on():
    assert list(range(2000))[compare.reported(2000)] == list(range(500, 2000))


def test_photographs_say_what_differing_in_one_label_alone_gains():
    random = np.random.default_rng(0)
    male = random.random(5000) < 0.5
    smiling = random.random(5000) < np.where(male, 0.9, 0.1)
    young = random.random(5000) < 0.5
    columns = dict(zip(NAMES, (column.astype(float) for column in (smiling, male, young)), strict=True)) | {
        "yaw": random.normal(size=5000)
    }
    y = torch.from_numpy(np.stack(list(columns.values()), 1)).float()
    # Smiling is read from smiles, and of a smile Male reads a tenth; the two go along with each other.
    reads = torch.diag(torch.tensor([2.0, 3, 1, 1]))
    reads[0, 1] = 0.1
    gains = compare.photograph_gains(y @ reads, columns, [*NAMES, "yaw"], 3)
    together = smiling[male].mean() - smiling[~male].mean()
    assert gains["Smiling"] == pytest.approx(
        (2 / 0.1) / (2 / (0.1 + 3 * (male[smiling].mean() - male[~smiling].mean()))), rel=0.2
    )
    assert gains["Male"] > 5 and together > 0.7


def test_the_ends_of_safe_ranges_are_probabilities_and_quantities(judge, planted):
    _, simple = planted
    faces = simple.mean.repeat(3, 1)
    for name, read in (("Male", lambda z: torch.sigmoid(4 * z[:, 1])), ("yaw", lambda z: 10 + 5 * 3 * z[:, 4])):
        low, high = simple.safe(faces[0], name)
        found = compare.safe_range_ends(judge, faces, simple, name)
        for key, strength in (("low", low), ("unedited", 0.0), ("high", high)):
            assert found[key] == pytest.approx(read(faces + strength * simple[name].vector).mean().item(), rel=1e-3, abs=1e-4)
        assert found["low"] < found["unedited"] < found["high"]


def test_the_background_ratio_compares_background_and_person():
    class Half(nn.Module):
        """Latent 0 is the brightness of the left half, latent 1 of the right."""

        def decode(self, z):
            return z[:, None, None, :2].repeat_interleave(4, 3).expand(-1, 3, 8, 8)

    judge = Evaluator(Half(), Reader(), torch.device("cpu"), USUAL)
    masks = torch.zeros(5, 8, 8, dtype=torch.uint8)
    masks[:, :, 4:] = 255
    step = torch.tensor([3.0, 1, 0, 0, 0, 0])
    assert compare.background_ratio(judge, torch.rand(5, D), step, masks) == pytest.approx(3, rel=1e-4)


def test_a_run_refines_and_compares(subset, cache, tmp_path, monkeypatch, dataset):
    monkeypatch.setitem(
        PRESETS, "tiny", dataclasses.replace(PRESETS["celeba64"], preset="tiny", model=TINY, images=320, batch=16)
    )
    monkeypatch.setattr(
        stages, "RefineConfig", lambda: RefineConfig(steps=2, batch=8, beyond_batch=4, faces=40, choosing_faces=20)
    )
    names = ("Smiling", "yaw", "background_brightness")

    def few(*arguments):
        made = simple_directions(*arguments)
        return made.having([made[name] for name in names])

    monkeypatch.setattr(stages, "simple_directions", few)
    torch.manual_seed(0)
    for name in ("classifier", "witness"):  # untrained: what they read is any function of pixels
        Classifier(list(dataset.lists.attributes), list(MEASURED)).save(tmp_path / f"{name}.safetensors")
    command = ["--data", str(subset), "--cache", str(cache), "--out", str(tmp_path), "--device", "cpu", "--preset", "tiny"]
    assert main([*command, "--stages", "fit,directions,compare", "--choose"]) == 0
    selection, report = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("selection", "compare"))
    assert {selection[name]["method"] for name in ("Smiling", "yaw")} <= {"refined", "mean difference", "regression"}
    assert selection["Smiling"]["faces"] == 20 and len(selection["Smiling"]["interval"]) == 2
    assert report["images"] == 75, "the first quarter of 100 test faces is left out"
    side_effects, rows = set(compare.SIDE_EFFECTS), report["directions"]
    assert {"effect", "strength", "attribute_dependency"} | side_effects == set(rows["Smiling"]["chosen"])
    assert set(report["means"]) == side_effects and "background_ratio" in rows["background_brightness"]
    assert (tmp_path / "figures" / "effects.png").exists()
    assert not list(tmp_path.glob("previous-*"))
    # The first 20 val faces choose; the others alone measure what is stored.
    made = Directions.load(tmp_path / "directions.safetensors", TINY.latents)
    mu, _ = encode_all(hub.load_model(tmp_path), dataset.images("val")[20:], torch.device("cpu"))
    smiles = dataset.lists.attributes["Smiling"][dataset.indices("val")[20:]]
    expected = roc_auc_score(smiles, made.scores(mu)[:, made.names.index("Smiling")])
    assert made["Smiling"].measured["auroc"] == pytest.approx(expected, abs=3e-3)
    # Other directions leave nothing beside them that was chosen or measured with these.
    assert main([*command, "--stages", "directions"]) == 0
    records = {path.name for part in ("compare", "selection") for path in tmp_path.glob(f"*{part}.json")}
    assert records == {"previous-compare.json", "previous-selection.json"}
