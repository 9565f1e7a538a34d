"""The mixture of the aggregate posterior: density and draws against torch.distributions, its fit on known mixtures."""

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from betavae import Directions, Editor
from betavae.hub import Folder
from betavae.latent import noise
from betavae.mixture import Mixture, MixtureError
from train.mixture import fit_mixture, posterior_samples

WEIGHTS, MEANS = torch.tensor([0.3, 0.7]), torch.tensor([[-3.0, 0.0, 1.0], [3.0, 1.0, 0.0]])


def spread(seed: int) -> torch.Tensor:
    a = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(seed))
    return a @ a.mT / 3 + 0.2 * torch.eye(3)


@pytest.fixture
def mixture() -> Mixture:
    return Mixture(WEIGHTS, MEANS, spread(0))


def test_density_is_that_of_torch(mixture):
    reference = MixtureSameFamily(Categorical(WEIGHTS), MultivariateNormal(MEANS, spread(0)))
    z = 4 * torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(mixture.log_prob(z), reference.log_prob(z))


def test_draws_have_the_mixtures_moments(mixture):
    z = mixture.sample(40_000, seed=0)
    right = z[:, 0] > 0  # where the second component is, as good as alone
    assert right.float().mean() == pytest.approx(0.7, abs=0.01)
    torch.testing.assert_close(z[right].mean(0), MEANS[1], atol=0.03, rtol=0)
    torch.testing.assert_close(z[right].T.cov(), spread(0)[1], atol=0.05, rtol=0)


def test_a_seed_keeps_its_faces_whatever_the_count_and_the_temperature(mixture):
    z = mixture.sample(16, seed=4)
    assert torch.equal(z, mixture.sample(16, seed=4)) and not torch.equal(z, mixture.sample(16, seed=5))
    component = (z[:, 0] > 0).long()
    assert torch.equal(mixture.sample(16, seed=4, temperature=0), MEANS[component])
    half = mixture.sample(16, seed=4, temperature=0.5)
    torch.testing.assert_close(half - MEANS[component], (z - MEANS[component]) / 2)
    # As many as before and more: the first ones stay.
    torch.testing.assert_close(mixture.sample(32, seed=4)[:16], z)


def test_truncation_bounds_the_noise_and_keeps_its_order():
    free, bounded = noise(4000, 8, seed=2), noise(4000, 8, seed=2, truncation=1.5)
    assert bounded.abs().max() <= 1.5
    assert torch.equal(bounded.flatten().argsort()[:100], free.flatten().argsort()[:100])
    # The variance of N(0, 1) between -t and t: 1 - 2 t phi(t) / (2 Phi(t) - 1).
    assert bounded.var() == pytest.approx(1 - 3 * 0.12952 / 0.86639, abs=0.01)
    torch.testing.assert_close(noise(10, 8, seed=2, truncation=8), noise(10, 8, seed=2), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="truncation is 0"):
        noise(1, 8, seed=0, truncation=0)


def test_draws_are_shaped_a_few_at_a_time_and_stay_the_same(mixture, monkeypatch):
    whole, einsum, held = mixture.sample(50, seed=4), torch.einsum, []

    def counted(equation, factors, e):
        held.append(len(factors))
        return einsum(equation, factors, e)

    monkeypatch.setattr("betavae.mixture.DRAWS", 8)
    monkeypatch.setattr(torch, "einsum", counted)
    assert torch.equal(mixture.sample(50, seed=4), whole) and held == [8] * 6 + [2]


def test_a_file_brings_the_same_draws_back(mixture, tmp_path):
    mixture.save(tmp_path / "mixture.safetensors")
    assert torch.equal(Mixture.load(tmp_path / "mixture.safetensors", 3).sample(9, 1), mixture.sample(9, 1))


def test_unusable_files_are_one_sentence(mixture, tmp_path):
    path = tmp_path / "mixture.safetensors"
    with pytest.raises(MixtureError, match="no file"):
        Mixture.load(path, 3)
    mixture.save(path)
    with pytest.raises(MixtureError, match="3 latents, this model 8"):
        Mixture.load(path, 8)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(MixtureError, match="damaged"):
        Mixture.load(path, 3)


@pytest.mark.parametrize(("parts", "named"), [
    ((WEIGHTS, MEANS[:1], spread(0)), r"\(2,\), \(1, 3\)"), ((WEIGHTS, MEANS, spread(0)[:, :2]), r"\(2, 2, 3\)"),
    ((WEIGHTS / 2, MEANS, spread(0)), "sum 1"), ((WEIGHTS, MEANS, -spread(0)), "positive definite"),
    ((WEIGHTS, MEANS / 0, spread(0)), "finite"),
])
def test_what_is_no_mixture_is_refused(parts, named):
    with pytest.raises(MixtureError, match=named):
        Mixture(*parts)


def test_the_fit_finds_as_many_components_as_there_are(mixture):
    z, held_out = mixture.sample(4000, seed=1), mixture.sample(2000, seed=2)
    fitted, report = fit_mixture(z, held_out)
    assert report["components"] == len(fitted.weights) == 2
    order = fitted.means[:, 0].argsort()
    torch.testing.assert_close(fitted.weights[order], WEIGHTS, atol=0.03, rtol=0)
    torch.testing.assert_close(fitted.means[order], MEANS, atol=0.1, rtol=0)
    # No density is likelier than the true one, by more than chance.
    assert report["log_likelihood"] == pytest.approx(float(mixture.log_prob(held_out).mean()), abs=0.02)
    assert report["prior"] < report["log_likelihood"] and report["candidates"][1] < report["log_likelihood"]


def test_few_faces_get_one_component():
    z = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    assert fit_mixture(z, z)[1]["candidates"].keys() == {1}


def test_posterior_samples_have_the_posteriors_moments():
    mu, logvar = torch.full((20_000, 2), 3.0), torch.tensor([0.0, -2.0]).expand(20_000, 2)
    z = posterior_samples(mu, logvar)
    torch.testing.assert_close(z.mean(0), mu[0], atol=0.03, rtol=0)
    torch.testing.assert_close(z.var(0), logvar[0].exp(), atol=0.03, rtol=0)


def test_the_editor_draws_from_either(tiny):
    mixture = Mixture(torch.ones(1), torch.full((1, 8), 5.0), torch.eye(8)[None])
    editor = Editor(tiny, Directions([], 8), Folder(mixture=mixture))
    torch.testing.assert_close(editor.sample(3, 1, source="mixture"), editor.sample(3, 1) + 5)
    with pytest.raises(ValueError, match=r"'flow'.*prior, mixture"):
        editor.sample(1, 0, source="flow")
    with pytest.raises(ValueError, match="no mixture"):
        Editor(tiny, Directions([], 8)).sample(1, 0, source="mixture")
