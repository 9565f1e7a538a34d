"""What a run measures, through the command and with stand-ins for the networks that others published."""

import json
import urllib.error
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY
from torch import nn

from betavae import hub
from betavae.image import from_uint8
from betavae.mixture import Mixture
from train import evaluation, metrics
from train.run import main

CPU = torch.device("cpu")


class Copier(nn.Module):
    """Its latents are the mean colours of a picture and one that it never looks at; it paints the picture in them."""

    config = SimpleNamespace(latents=4, crop=TINY.crop, image_size=16)

    def encode(self, x):
        mu = torch.cat([x.mean((2, 3)), torch.zeros(len(x), 1)], 1)
        return mu, torch.tensor([-12.0, -12.0, -12.0, 0.0]).expand_as(mu)

    def decode(self, z, background=None):
        return z[:, :3, None, None].clamp(0, 1).expand(-1, -1, 16, 16)


def pixels(n, seed=0):
    """Pictures of one colour each: (n, 16, 16, 3)."""
    colours = torch.randint(20, 236, (n, 1, 1, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return colours.expand(n, 16, 16, 3).contiguous()


def test_figures_and_their_stamps():
    figures = evaluation.evaluate(Copier(), pixels(40), "test", CPU, similarities={"ssim": metrics.ssim})
    assert figures["protocol"] == {"split": "test", "images": 40, "crop": [round(v, 6) for v in TINY.crop],
                                   "image_size": 16, "z": "mu", "weights": "float32", "arithmetic": "float32"}
    assert figures["bce_gap"] == pytest.approx(0, abs=1e-3) and figures["ssim"] == pytest.approx(1, abs=1e-3)
    sampled = figures["sampled"]
    assert sampled["protocol"] == figures["protocol"] | {"z": "sample", "seed": 0}
    # Noise of variance exp(-12) on each colour is all that sampling adds.
    assert sampled["mse"] == pytest.approx(np.exp(-12), rel=0.2) and sampled["bce_gap"] > figures["bce_gap"]
    assert figures["kl_per_latent"][3] == 0 and figures["active_0.1"] == 3 and figures["active_units"] == 3
    assert figures["posterior"]["variance_max"] == pytest.approx(1, abs=1e-6), "the unused latent's"


def test_an_unused_latent_is_named():
    mu, logvar = evaluation.encode_all(Copier(), pixels(40), CPU)
    found = evaluation.collapse(Copier(), "test", mu, logvar, CPU)
    assert (found["verdict"], found["latents"], found["ignored"]) == ("partial", [3], [])
    # From -3 to 3 a colour goes from black to full, in one of three channels.
    assert found["change_per_latent"] == pytest.approx([85, 85, 85, 0])
    assert evaluation.collapse_sentence(found, 4) == "Partial posterior collapse: 1 of 4 latents are collapsed (3)."


def test_frechet_distances_of_injected_features():
    val, test = pixels(60, seed=1), pixels(60, seed=2)
    mu, _ = evaluation.encode_all(Copier(), test, CPU)
    mixture = Mixture(torch.ones(1), mu.mean(0, keepdim=True), torch.cov(mu.T)[None] + 1e-6 * torch.eye(4))

    def colours(pictures):
        return pictures.mean((2, 3))

    found = evaluation.frechet(Copier(), val, test, mu, mixture, colours, "mean colours", CPU)
    real = [colours(from_uint8(part)) for part in (val, test)]
    assert found["floor"] == pytest.approx(metrics.frechet_distance(*real)) and found["floor"] > 0
    assert found["reconstructions"] == pytest.approx(0, abs=1e-6), "this model paints the very colours"
    assert found["mixture_samples"] < 0.2 * found["prior_samples"], "half of N(0, I) is clipped to black"
    assert found["protocol"]["features"] == "mean colours" and found["protocol"]["images"] == 60


def test_attributes_that_a_latent_is():
    random = np.random.default_rng(0)
    columns = [{"A": random.integers(0, 2, 200), "B": random.integers(0, 2, 200), "Rare": np.arange(200) < 3} for _ in range(2)]
    latents = [torch.from_numpy(np.column_stack([20 * c["A"], -20 * c["B"], 0 * c["A"]]) + random.normal(size=(200, 3)))
               for c in columns]
    found = evaluation.attributes(Copier(), (latents[0], columns[0]), (latents[1], columns[1]))
    assert found["protocol"]["left_out"] == ["Rare"] and found["protocol"]["attributes"] == 2
    assert found["auroc_per_attribute"] == {"A": 1, "B": 1} and found["auroc"] == 1
    assert found["tad_attributes"] == 2 and found["tad"] > 0.7 and found["mig"] > 0.8
    assert found["dci"]["disentanglement"] == pytest.approx(1, abs=1e-6) and found["factor_vae_score"] > 0.95


def test_weights_that_cannot_be_had_are_a_sentence(monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    for network in (evaluation.inception, evaluation.lpips):
        with pytest.raises(evaluation.Unavailable, match=r"cannot be downloaded .*no network"):
            network(CPU)


def test_another_model_is_evaluated_into_a_folder_of_its_own(tiny, subset, cache, tmp_path, capsys):
    hub.save(tiny, tmp_path / "model")
    (tmp_path / "model" / "metrics.json").write_text('{"preset": "plain", "images_seen": 640, "seed": 7}')
    command = ["--data", str(subset), "--cache", str(cache), "--out", str(tmp_path / "out"), "--device", "cpu",
               "--model", str(tmp_path / "model")]
    assert main([*command, "--stages", "evaluate", "--features", "none"]) == 0
    report = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (report["preset"], report["images_seen"], report["seed"]) == ("plain", 640, 7)
    assert set(report["absent"]) == {"lpips", "frechet"} and "frechet" not in report
    assert report["test"]["protocol"]["split"] == "test" and report["attributes"]["protocol"]["images"] == 100
    assert report["test"]["sampled"]["bce"] >= report["test"]["bce_floor"]
    printed = capsys.readouterr().out
    assert f"{report['test']['bce_gap']:,.1f}" in printed and "posterior collapse" in printed and "frechet is absent" in printed
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [*hub.FILES[:1], "metrics.json", hub.FILES[1]]
    assert main([*command, "--stages", "fit"]) == 1
    assert "with --model, choose from evaluate, figures" in capsys.readouterr().err
