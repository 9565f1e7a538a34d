"""Figures, read back from their pixels."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

from betavae import VAE, Directions, Editor
from train import figures

CPU = torch.device("cpu")
SIDE, GAP = figures.SIDE, figures.GAP


@pytest.fixture(scope="module")
def editor():
    torch.manual_seed(0)
    return Editor(VAE(TINY), Directions([], 8), device="cpu")


def report(latents=8, collapsed=()):
    kl = [0.0 if i in collapsed else 0.5 + i for i in range(latents)]
    figures = {"protocol": {"images": 40}, "kl": sum(kl), "kl_per_latent": kl, "active_0.1": latents - len(collapsed),
               "active_1": latents - 1}
    return {"val": figures, "test": figures,
            "collapse": {"verdict": "partial" if collapsed else "none", "latents": list(collapsed), "ignored": []}}


def pixels(n=8, side=64):
    return torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_grid_has_every_picture_in_its_place():
    rows = [[Image.new("RGB", (8, 8), (10 * i, 100 * j, 0)) for i in range(3)] for j in range(2)]
    sheet = np.array(figures.grid(rows, side=20))
    assert sheet.shape == (GAP + 2 * (20 + GAP), GAP + 3 * (20 + GAP), 3)
    for j in range(2):
        for i in range(3):
            assert sheet[GAP + j * (20 + GAP) + 10, GAP + i * (20 + GAP) + 10].tolist() == [10 * i, 100 * j, 0]
    labelled = figures.grid(rows, ["one", "another"], ["a", "b", "c"], side=20)
    assert labelled.width > sheet.shape[1] and labelled.height > sheet.shape[0]
    assert (np.array(labelled)[:, :40] < 128).any(), "a label is written before the rows"
    captioned = np.array(figures.grid(rows, side=60, captions=["17"]))
    assert (captioned != np.array(figures.grid(rows, side=60))).any(2).sum() > 20


def test_traversals_are_of_every_latent_most_kl_first(editor):
    z = editor.sample(2, seed=1)
    sheet = np.array(figures.traversals(editor, z, report(collapsed=(0,)))).astype(int)
    cell = figures.SMALL + GAP
    top, left = sheet.shape[0] - 8 * cell, sheet.shape[1] - 14 * cell

    def face(row, column):
        y, x = top + row * cell, left + column * cell
        return sheet[y:y + figures.SMALL, x:x + figures.SMALL]

    order = [7, 6, 5, 4, 3, 2, 1, 0]
    for row, column, of, value in ((0, 0, 0, -3), (2, 6, 0, 3), (7, 10, 1, 0)):
        moved = z[of].clone()
        moved[order[row]] = value
        assert np.array_equal(face(row, column), np.array(editor.decode(moved)[0]))


def test_a_gif_goes_there_and_back(editor):
    frames = figures.traversal_frames(editor, editor.sample(1, seed=1)[0], report(), columns=4)
    assert len(frames) == 2 * figures.FRAMES - 2 and frames[0].size == (4 * (96 + GAP) + GAP, 2 * (96 + GAP) + GAP)
    assert frames[1].tobytes() == frames[-1].tobytes() != frames[figures.FRAMES - 1].tobytes()


def test_curves_are_of_every_term_in_the_log(tmp_path):
    lines = [{"kind": "train", "step": i, "images": 64 * i, "loss": 1e6 if i < 2 else 100 - i, "kl": float(i), "beta": 4.0}
             for i in range(1, 60)]
    lines += [{"kind": "val", "step": 30, "images": 1920, "kl": 29.0, "mse": 0.02}]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    shown = [axis for axis in figures.curves(tmp_path / "log.jsonl").axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == ["loss", "KL (nats)", "weight of the KL"], "one value is no curve"
    assert shown[0].get_ylim()[1] < 200, "the first batch does not flatten the rest"
    assert [line.get_label() for line in shown[1].lines] == ["train", "val"]


def test_collapsed_latents_are_grey_and_the_title_says_so():
    axis = figures.kl_bars(report(collapsed=(2, 5))).axes[0]
    assert "Partial posterior collapse: 2 of 8 latents are collapsed (2, 5)." in axis.get_title()
    assert sum(bar.get_facecolor()[:3] == (0.6, 0.6, 0.6) for bar in axis.patches) == 2
    assert [text.get_text() for text in axis.get_xticklabels()] == ["7", "6", "4", "3", "1", "0", "2", "5"]


def test_correlations_are_those_of_the_columns():
    mu = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    columns = {"Smiling": (mu[:, 7] > 0).numpy(), "yaw": np.where(np.arange(60) < 5, np.nan, -mu[:, 6].numpy())}
    shown = figures.correlations(mu, columns, report()).axes[0].images[0].get_array()
    assert shown.shape == (8, 2)
    assert shown[0, 0] == pytest.approx(np.corrcoef(mu[:, 7], mu[:, 7] > 0)[0, 1], abs=1e-5)
    assert shown[1, 1] == pytest.approx(-1)


def test_runs_side_by_side_show_the_same_faces(editor, tmp_path):
    torch.manual_seed(1)
    other = Editor(VAE(dataclasses.replace(TINY, latents=4, crop=(0.0, 0.1, 1.0, 0.9))), Directions([], 4), device="cpu")
    runs = [figures.Run("beta1", editor, report(), pixels()), figures.Run("beta4", editor, report(), pixels()),
            figures.Run("wide", other, report(4), pixels())]
    paths = figures.compare_runs(runs, tmp_path)
    assert [path.stem for path in paths] == ["compare-interpolations", "compare-kl", "compare-reconstructions",
                                             "compare-traversals"]
    heights = {path.stem: Image.open(path).height for path in paths}
    # Inputs once for the two that share a crop, once for the third.
    assert heights["compare-reconstructions"] == GAP + 5 * (96 + GAP)
    assert heights["compare-interpolations"] == GAP + 3 * (96 + GAP)
    assert heights["compare-traversals"] == GAP + 9 * (96 + GAP)


def test_progress_is_drawn_beside_the_inputs(editor, tmp_path):
    draw = figures.progress(pixels(16), tmp_path, CPU)
    draw(editor.model, 6400)
    (path,) = (tmp_path / "figures" / "progress").iterdir()
    assert path.name == "reconstructions-000006400.png"
    sheet = np.array(Image.open(path))
    assert sheet.shape[:2] == (GAP + 4 * (SIDE + GAP), GAP + 8 * (SIDE + GAP))
    first = Image.fromarray(pixels(1)[0].numpy()).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    assert np.array_equal(sheet[GAP:GAP + SIDE, GAP:GAP + SIDE], np.array(first))
