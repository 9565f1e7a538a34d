"""Person and background told apart: the guided filter against its definition, the network on photos."""

import numpy as np
import pytest
import torch
from skimage.data import astronaut, cat
from test_displacement import ASTRONAUT, CONFIG, similarity

from betavae.person import SIDE, Person, PersonError, guided_filter, matte
from train import person
from train.celeba import CelebA


def test_the_guided_filter_is_least_squares_in_every_window():
    random = np.random.default_rng(0)
    guide, values, radius, epsilon = random.random((9, 9, 3)), random.random((9, 9)), 1, 0.01
    # The pixel in the middle is in nine windows that do not reach the border; the answer is the mean of theirs.
    answers = []
    for y in range(3, 6):
        for x in range(3, 6):
            colours = guide[y - 1:y + 2, x - 1:x + 2].reshape(9, 3)
            wanted = values[y - 1:y + 2, x - 1:x + 2].ravel()
            rows = np.vstack([np.column_stack([colours, np.ones(9)]), np.sqrt(9 * epsilon) * np.eye(4)[:3]])
            solution = np.linalg.lstsq(rows, np.concatenate([wanted, np.zeros(3)]), rcond=None)[0]
            answers.append(np.append(guide[4, 4], 1) @ solution)
    assert guided_filter(guide, values, radius, epsilon)[4, 4] == pytest.approx(np.mean(answers), abs=1e-4)


def test_a_persons_edge_follows_the_photo():
    found = matte(Person.load(), astronaut(), ASTRONAUT, CONFIG)
    assert found.shape == (SIDE, SIDE) and found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    assert found[SIDE // 3:SIDE // 2, SIDE // 3:2 * SIDE // 3].min() > 0.9   # the face
    assert found[:SIDE // 12, :SIDE // 12].max() < 0.2                       # the wall behind
    # From one to the other within a few pixels, beside the hair.
    row = found[SIDE // 3]
    assert ((row > 0.15) & (row < 0.85)).mean() < 0.2


def test_a_frame_that_leaves_the_photo_has_a_matte():
    found = matte(Person.load(), cat(), similarity(3, 20, -200, -150), CONFIG)
    assert np.isfinite(found).all() and found.shape == (SIDE, SIDE)


def test_persons_of_faces_that_it_was_not_trained_on_are_found(celeba):
    faces = CelebA.open(celeba)
    rows = np.flatnonzero(faces.lists.split == "test")[:200]
    of_person, of_background = person.overlap(Person.load(), *person.read(faces, rows))
    assert of_person > 0.9 and of_background > 0.85


def test_training_finds_a_planted_person():
    # The person is what is red, anywhere.
    random = torch.Generator().manual_seed(0)
    masks = (torch.nn.functional.interpolate(torch.rand(32, 1, 4, 4, generator=random), (88, 72), mode="bicubic") > 0.5).to(
        torch.uint8
    ) * 255
    red = masks.float() * 0.8 + 25 * torch.rand(32, 1, 88, 72, generator=random)
    frames = torch.cat([red, 200 - red, red * 0], 1).clamp(0, 255).to(torch.uint8)
    network = person.fit(frames[:24], masks[:24], images=480)
    assert min(person.overlap(network, frames[24:], masks[24:])) > 0.8


def test_a_folder_without_faces_is_named(tmp_path, capsys):
    assert person.main(["--data", str(tmp_path / "gone")]) == 1
    assert "There is no data folder" in capsys.readouterr().err


def test_a_place_that_is_not_there_is_named_before_the_training(subset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(person, "fit", lambda *arguments: pytest.fail("trained"))
    assert person.main(["--data", str(subset), "--out", str(tmp_path / "gone" / "person.safetensors")]) == 1
    assert "there is no such folder" in capsys.readouterr().err


def test_a_file_without_the_network_is_named(tmp_path):
    (tmp_path / "nothing.safetensors").write_bytes(b"nothing")
    with pytest.raises(PersonError, match=r"nothing.safetensors"):
        Person.load(tmp_path / "nothing.safetensors")
