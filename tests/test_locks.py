"""A lock holds what the picture shows, not a score in the latent."""

import pytest
import torch

from betavae import Editor, custom
from betavae.directions import Directions, DirectionsError
from betavae.locks import hold, slopes


@pytest.fixture(scope="module")
def editor():
    return Editor.from_pretrained(device="cpu")


def reading(editor, z, name):
    with torch.inference_mode():
        return editor.classifier.standard(editor.model.decode(z))[:, editor.classifier.names.index(name)]


def test_the_locked_reading_stays_and_the_wanted_effect_is_left(editor):
    z = editor.sample(4, 7, 0.8, source="mixture")
    for strengths, lock in (
        ({"Smiling": 1.5}, "Mouth_Slightly_Open"),
        ({"Eyeglasses": 1.5}, "Male"),
        ({"Young": -2.0}, "Gray_Hair"),
    ):
        free, held = editor.shift(z, strengths), editor.shift(z, strengths, [lock])
        locked = (reading(editor, held, lock) - reading(editor, z, lock)).abs() / (reading(editor, free, lock)
                                                                                 - reading(editor, z, lock)).abs()
        (name,) = strengths
        wanted = (reading(editor, held, name) - reading(editor, z, name)) / (
            reading(editor, free, name) - reading(editor, z, name)
        )
        assert locked.median() < 0.2, lock
        assert wanted.median() > 0.5, lock


def test_a_face_is_edited_alike_alone_and_among_others(editor):
    z = editor.sample(3, 3, 0.8)
    together = editor.shift(z, {"Smiling": 1.5}, ["yaw", "Male"])
    alone = torch.cat([editor.shift(face, {"Smiling": 1.5}, ["Male", "yaw", "Male"]) for face in z])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=0)


def test_a_locked_direction_goes_by_its_own_strength_alone(editor):
    z = editor.sample(2, 3, 0.8)
    held = editor.shift(z, {"Smiling": 1.5, "Male": 0.7}, ["Male"])
    own = reading(editor, editor.shift(z, {"Male": 0.7}), "Male")
    assert (reading(editor, held, "Male") - own).abs().max() < 0.15
    torch.testing.assert_close(editor.shift(z, {}, ["Male"]), z)


def test_what_the_classifier_does_not_read_is_held_in_the_latent(editor):
    z = editor.sample(1, 3, 0.8)
    own = custom.from_vectors({"Mine": editor.directions["yaw"].vector}, editor.directions)
    space = editor.directions | own
    held = editor.shift(z, {"Smiling": 1.5}, ["Mine"], own)
    torch.testing.assert_close(held, z + space.shift({"Smiling": 1.5}, ["Mine"]))
    both = editor.shift(z, {"Smiling": 1.5}, ["Mine", "Male"], own)
    assert (space.readings(["Mine"]) @ (both - z)[0]).abs().max() < 1e-3
    assert (reading(editor, both, "Male") - reading(editor, z, "Male")).abs().max() < 0.15
    blind = Editor(editor.model, editor.directions, device="cpu")
    torch.testing.assert_close(
        blind.shift(z, {"Smiling": 1.0}, ["Male"]), z + blind.directions.shift({"Smiling": 1.0}, ["Male"])
    )
    with pytest.raises(DirectionsError, match="no direction 'male'"):
        editor.shift(z, {"Smiling": 1.0}, ["male"])


def test_a_linear_reading_is_held_in_closed_form():
    torch.manual_seed(0)
    rows, mean, root = torch.randn(2, 5), torch.zeros(5), torch.randn(5, 5)
    covariance = root @ root.T + torch.eye(5)
    vectors = torch.randn(2, 5)
    space = custom.from_vectors(dict(zip("ab", vectors, strict=True)), Directions([], 5, mean, covariance))
    z = torch.randn(3, 5)
    values, slope = slopes(lambda z: z @ rows.T, z, [1, 0])
    torch.testing.assert_close(values.float(), (z @ rows.T)[:, [1, 0]])
    torch.testing.assert_close(slope.float(), rows[[1, 0]].expand(3, 2, 5))
    step = hold(z, {"a": 2.0}, ["b"], space, lambda z: z @ rows.T, ["a", "b"])
    assert (step @ rows[1]).abs().max() < 0.1 * (2 * vectors[0] @ rows[1]).abs()
    torch.testing.assert_close(step @ rows[0], (2 * vectors[0] @ rows[0]).expand(3), rtol=0.2, atol=0.1)


def test_what_is_left_is_read_from_the_pictures(editor):
    z = editor.sample(1, 7, 0.8)
    left = editor.remaining(z, {"Smiling": 1.5}, ["Mouth_Slightly_Open"])["Smiling"]
    readings = reading(editor, torch.cat([z, editor.shift(z, {"Smiling": 1.5}),
                                          editor.shift(z, {"Smiling": 1.5}, ["Mouth_Slightly_Open"])]), "Smiling")
    assert left == pytest.approx(float((readings[2] - readings[0]) / (readings[1] - readings[0])), abs=1e-3)
