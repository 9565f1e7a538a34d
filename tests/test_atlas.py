"""The atlas in words, and a face in the latents of another model."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import TINY

from betavae import VAE, Directions, Editor
from betavae.atlas import VERBS, best, latents, missing, transfer
from betavae.attributes import ATTRIBUTES
from betavae.hub import Folder
from betavae.image import crop, extend


def column(name, r):
    return {"name": name, "r": r, "low": r - 0.02, "high": r + 0.02}


ATLAS = {"faces": 1000, "latents": [
    [column("yaw", -0.81), column("Smiling", 0.1)], [column("Bangs", 0.4)], [column("yaw", 0.3)], [column("Male", 0.1)],
    [column("Smiling", 0.7)], [], [], []]}
KL = [2.0, 0.5, 3.0, 1.0, 0.01, 0.2, 0.2, 0.2]


@pytest.fixture
def editor(tiny):
    return Editor(tiny, Directions([], 8), Folder({"val": {"kl_per_latent": KL}}, atlas=ATLAS), device="cpu")


def test_latents_are_told_in_words_by_falling_kl(editor):
    rows = latents(editor)
    assert [row.kl for row in rows] == sorted(KL, reverse=True)
    words = {row.index: row.words for row in rows}
    assert words[0] == "turns the head" and words[1] == "partly changes the bangs" and words[2] == "turns the head, a little"
    assert words[3] == "nothing that was measured" and words[4] == "not used" and words[5] == ""
    assert rows[1].index == 0 and rows[1].meanings[0].label == "Turn head" and rows[1].meanings[0].low == pytest.approx(-0.83)


def test_the_best_latent_for_a_column_is_the_most_correlated_one_either_way(editor):
    latent, meaning = best(editor, "yaw")
    assert latent.index == 0 and meaning.r == -0.81
    assert best(editor, "Goatee") is None


def test_what_a_folder_lacks_is_named_and_the_rest_is_shown(tiny, editor):
    bare = Editor(tiny, Directions([], 8), device="cpu")
    assert [row.index for row in latents(bare)] == list(range(8)) and latents(bare)[0].kl is None
    assert missing(bare) == ["evaluate", "directions"] and missing(editor) == []
    bare.atlas = {"latents": [[]] * 9}
    with pytest.raises(ValueError, match="8 latents"):
        latents(bare)


def test_verbs_are_of_columns_that_exist():
    assert set(VERBS) <= set(ATTRIBUTES)


def test_the_shipped_atlas_is_of_the_shipped_model():
    rows = latents(Editor.from_pretrained(device="cpu"))
    assert len(rows) == 32 and rows[0].kl > 3 and all(row.words and len(row.meanings) == 3 for row in rows)
    assert all(m.low < m.r < m.high for row in rows for m in row.meanings)
    assert "turns the head" in " ".join(row.words for row in rows)


def test_extend_and_crop_give_the_face_back():
    image = Editor.from_pretrained(device="cpu").decode(torch.zeros(32))[0]
    frame = extend(image, TINY)
    assert frame.size == (178, 218)
    back = crop(frame, TINY).resize(image.size)
    assert np.abs(np.asarray(back, dtype=int) - np.asarray(image)).mean() < 2
    # Outside, the edge goes on.
    assert frame.getpixel((0, 100)) == frame.getpixel((15, 100))


def test_another_model_sees_the_same_face():
    shipped = Editor.from_pretrained(device="cpu")
    z = shipped.sample(1, seed=2, temperature=0.8)[0]
    # Through its own picture the model knows its face again: closer than other faces by far.
    again, other = transfer(z, shipped, shipped), shipped.sample(1, seed=3, temperature=0.8)[0]
    pictures = [np.asarray(image, dtype=int) for image in shipped.decode(torch.stack([z, again, other]))]
    assert np.abs(pictures[1] - pictures[0]).mean() < 0.3 * np.abs(pictures[2] - pictures[0]).mean()
    wide = VAE(dataclasses.replace(TINY, crop=(0, 0.1, 1, 0.9))).eval()
    assert transfer(z, shipped, Editor(wide, Directions([], 8), device="cpu")).shape == (8,)
