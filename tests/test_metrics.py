"""The metrics' closed forms, and independent references where there are any."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from skimage.metrics import structural_similarity
from sklearn.metrics import mutual_info_score, roc_auc_score
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from betavae.image import from_uint8
from train import metrics
from train.losses import bce, bce_floor, kl


def exact(mean, covariance, n=50):
    """(n, d) whose sample mean and covariance are these."""
    mean, covariance = torch.tensor(mean).double(), torch.tensor(covariance).double()
    x = torch.randn(n, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    x = x - x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(x.T).reshape(len(mean), -1)), x.T, upper=False)
    return (torch.linalg.cholesky(covariance) @ white).T + mean


def faces(n=4):
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_cross_entropy_of_pictures_is_that_of_their_logits():
    logits = 3 * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    x = faces()[:, :, :8, :8]
    torch.testing.assert_close(metrics.bce(torch.sigmoid(logits), x), bce(logits, x).double(), rtol=1e-5, atol=0)
    torch.testing.assert_close(metrics.bce(x, x), bce_floor(x))
    black, white = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    assert metrics.bce(black, black) == 0 and metrics.bce(black, white) == 100 * 12, "finite where the picture is certain"


def test_psnr():
    assert metrics.psnr(torch.tensor([0.01, 1.0])).tolist() == pytest.approx([20, 0])


def test_ssim_of_even_pictures():
    a, b = 0.25, 0.75
    x, made = torch.full((1, 3, 16, 16), a), torch.full((1, 3, 16, 16), b)
    # Without texture it is the luminance term alone (Wang et al. 2004, equation 6).
    assert metrics.ssim(made, x).item() == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4), rel=1e-3)
    assert metrics.ssim(faces(), faces()).tolist() == pytest.approx([1] * 4, abs=1e-3)


def test_ssim_is_scikit_images_on_a_face(portrait):
    image = np.asarray(portrait.resize((64, 64)), dtype=np.float32) / 255
    made = np.clip(image + 0.1 * np.random.default_rng(0).standard_normal(image.shape), 0, 1).astype(np.float32)
    reference = structural_similarity(made, image, channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5,
                                      use_sample_covariance=False)
    ours = metrics.ssim(*(torch.from_numpy(picture).permute(2, 0, 1)[None] for picture in (made, image)))
    assert ours.item() == pytest.approx(reference, abs=1e-5) and 0.1 < reference < 0.9


def test_figures_of_apples_gpus_use_no_float64_there():
    class NoFloat64(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            out = function(*arguments, **options or {})
            for tensor in out if isinstance(out, tuple) else (out,):
                assert not (isinstance(tensor, torch.Tensor) and tensor.device.type == "mps" and tensor.dtype == torch.float64)
            return out

    # Tensors that are on the device in name only: which operations are asked of it is what is tested.
    with FakeTensorMode(allow_non_fake_inputs=True), NoFloat64():
        x = torch.empty(2, 3, 8, 8, device="mps")
        assert x.device.type == "mps"
        for values in (metrics.bce(x, x), bce_floor(x), metrics.float64(x)):
            assert values.dtype == torch.float64 and values.device.type == "cpu"


def test_frechet_distance_of_known_gaussians():
    a = exact([0.0, 0.0], [[1.0, 0.0], [0.0, 4.0]])
    b = exact([3.0, 4.0], [[9.0, 0.0], [0.0, 1.0]], n=70)
    # |mean|^2 + sum of (deviation - deviation)^2
    assert metrics.frechet_distance(a, b) == pytest.approx(25 + (1 - 3) ** 2 + (2 - 1) ** 2)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet_distance(a, b) == pytest.approx(metrics.frechet_distance(b, a))


def test_frechet_distance_is_that_of_the_matrix_root():
    random = torch.Generator().manual_seed(0)
    a = torch.randn(40, 6, generator=random) @ torch.randn(6, 6, generator=random)
    b = torch.randn(60, 6, generator=random) @ torch.randn(6, 6, generator=random) + 1
    A, B = np.cov(a.double().T), np.cov(b.double().T)
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(A + B - 2 * sqrtm(A @ B).real)
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)


def test_frechet_distance_of_fewer_pictures_than_features():
    # Both lie on one line in 100 dimensions: the distance is that of two numbers.
    axis = torch.nn.functional.normalize(torch.randn(100, generator=torch.Generator().manual_seed(0)).double(), dim=0)
    a, b = (exact([mean], [[variance]], n=10) * axis for mean, variance in ((0.0, 1.0), (2.0, 9.0)))
    assert metrics.frechet_distance(a, b) == pytest.approx(4 + (3 - 1) ** 2)
    with pytest.raises(ValueError, match="1 and 10 rows"):
        metrics.frechet_distance(a[:1], b)


def test_active_latents_and_units():
    assert metrics.active_latents(torch.tensor([0.05, 0.1, 0.2, 3.0]), 0.1) == 2
    mu = torch.tensor([[1.0, 0.01, 0.0], [-1.0, -0.01, 0.0]])
    assert metrics.active_units(mu) == 1


def test_an_aggregate_posterior_that_is_the_prior_costs_nothing():
    # q(z|x) with variance 1 - v around means of variance v has q(z) = N(0, I), though every KL is positive.
    mu = exact([0.0, 0.0], np.diag([0.9, 0.5]), n=1001) * math.sqrt(1001 / 1000)  # covariance over n, not n - 1
    logvar = torch.tensor([0.1, 0.5]).log().expand(1001, 2)
    mean, covariance = metrics.aggregate_posterior(mu, logvar)
    torch.testing.assert_close(covariance, torch.eye(2).double(), atol=1e-6, rtol=0)
    assert metrics.gaussian_kl(mean, covariance) == pytest.approx(0, abs=1e-6)
    assert metrics.total_correlation(covariance) == pytest.approx(0, abs=1e-6)


def test_divergences_of_gaussians():
    rho = 0.6
    covariance = torch.tensor([[1.0, rho], [rho, 1.0]]).double()
    assert metrics.total_correlation(covariance) == pytest.approx(-0.5 * math.log(1 - rho ** 2))
    assert metrics.gaussian_kl(torch.zeros(2).double(), covariance) == pytest.approx(-0.5 * math.log(1 - rho ** 2))
    # Of independent latents it is the sum of each one's KL.
    mu, variances = torch.tensor([0.5, -1.0]), torch.tensor([0.3, 2.0])
    assert metrics.gaussian_kl(mu.double(), variances.double().diag()) == pytest.approx(kl(mu, variances.log()).sum().item())


def test_collapse_is_named():
    kl = torch.zeros(100, 4)
    kl[:, 0] = 2.0     # used
    kl[:, 1] = 0.5     # costs nats and shows nothing
    kl[:5, 3] = 1.0    # of a few faces, such as those with glasses
    change = torch.tensor([9.0, 0.2, 0.3, 0.4])
    assert metrics.collapse(kl, change) == {"verdict": "partial", "latents": [2], "ignored": [1, 3]}
    assert metrics.collapse(kl[:, :1], change[:1]) == {"verdict": "none", "latents": [], "ignored": []}
    assert metrics.collapse(torch.zeros(100, 2), torch.tensor([0.1, 0.1]))["verdict"] == "full"
    assert metrics.collapse(torch.ones(100, 2), torch.tensor([0.1, 0.1]))["verdict"] == "full", "no latent is seen"


def test_aurocs_of_single_latents_are_sklearns():
    random = np.random.default_rng(0)
    mu = random.normal(size=(200, 3)).round(1)  # with ties
    present = (mu[:, :2] + random.normal(size=(200, 2)) * [1, -3] > 0.3).astype(int)
    expected = [[roc_auc_score(present[:, k], mu[:, j]) for k in range(2)] for j in range(3)]
    np.testing.assert_allclose(metrics.latent_aurocs(mu, present), np.maximum(expected, 1 - np.array(expected)))


def test_a_probe_reads_what_is_linear_and_nothing_from_noise():
    mu = np.random.default_rng(0).normal(size=(400, 5))
    assert metrics.probe_auroc(mu, mu @ [1, -1, 0, 2, 0] > 0) > 0.99
    assert abs(metrics.probe_auroc(mu, np.random.default_rng(1).random(400) > 0.5) - 0.5) < 0.1


def test_mutual_information_is_sklearns():
    random = np.random.default_rng(0)
    codes, factors = random.integers(0, 5, (300, 3)), random.integers(0, 3, (300, 2))
    codes[:, 1] = factors[:, 0]
    expected = [[mutual_info_score(codes[:, j], factors[:, k]) for k in range(2)] for j in range(3)]
    np.testing.assert_allclose(metrics.mutual_information(codes, factors), expected, atol=1e-12)


def coins(n, k, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (n, k))


def test_tad_counts_attributes_that_one_latent_alone_tells():
    present = coins(2000, 3)
    mu = np.random.default_rng(1).normal(size=(2000, 4))
    mu[:, 0] += 100 * present[:, 0]  # told by latent 0 alone
    mu[:, 1] -= 100 * present[:, 1]  # told by latents 1 and 2
    mu[:, 2] += 100 * present[:, 1]
    total, counted = metrics.tad(mu, present)
    chance = np.sort(metrics.latent_aurocs(mu, present)[:, 0])[-2]
    assert counted == 2 and total == pytest.approx(1 - chance) and chance < 0.55
    # An attribute that another nearly repeats says nothing of its own, and neither does the other.
    assert metrics.tad(mu, np.column_stack([present[:, 0], present[:, 0], present[:, 1]])) == (0.0, 1)


def test_discretised_latents_fill_their_range():
    mu = np.column_stack([np.linspace(-3, 3, 600), np.zeros(600)])
    bins = metrics.discretise(mu, 20)
    assert np.bincount(bins[:, 0]).tolist() == [30] * 20 and not bins[:, 1].any()


def levels(n=3000, sizes=(10, 10, 10, 10, 10), seed=0):
    """Independent factors; as a representation, the ideal one."""
    return np.random.default_rng(seed).integers(0, sizes, (n, len(sizes)))


def test_mig_of_ideal_useless_and_doubled_codes():
    factors = levels()
    assert metrics.mig(factors, factors) > 0.95
    assert metrics.mig(np.zeros_like(factors), factors) == 0
    assert metrics.mig(np.hstack([factors, factors]), factors) == pytest.approx(0, abs=1e-12)
    # One code tells all of a fair coin, another half of its entropy: it is known in half of the cases.
    coin = np.tile([0, 1], 500)
    half = np.where(np.arange(1000) < 500, coin, 2)
    assert metrics.mig(np.column_stack([coin, half]), coin[:, None]) == pytest.approx(0.5)


FIVE = np.diag(5 * np.ones(5))


@pytest.mark.parametrize(("importances", "disentanglement", "completeness"), [
    (FIVE, 1, 1),
    (np.array([[1.0, 0], [0, 1], [0, 0]]), 1, 1),                   # a latent without a use
    (np.zeros((10, 10)), 0, 0),
    (np.ones((10, 10)), 0, 0),
    (np.vstack([FIVE, FIVE]), 1, 1 - math.log(2) / math.log(10)),   # two latents for each factor
    (np.hstack([FIVE, FIVE]), 1 - math.log(2) / math.log(10), 1),   # two factors on each latent
    (FIVE[:2], 1, 1),                                               # factors that no latent knows
])
def test_dci_of_importances(importances, disentanglement, completeness):
    assert metrics.disentanglement(importances) == pytest.approx(disentanglement, abs=1e-9)
    assert metrics.completeness(importances) == pytest.approx(completeness, abs=1e-9)


def test_importances_find_the_latent_of_each_factor():
    factors = coins(300, 3)
    mu = np.random.default_rng(1).normal(size=(300, 4))
    mu[:, [3, 0, 1]] += 20 * factors
    table, train, test = metrics.importances(mu[:200], factors[:200], mu[200:], factors[200:])
    assert table.argmax(0).tolist() == [3, 0, 1] and table.max(0) == pytest.approx([1, 1, 1])
    assert train == test == 1
    assert metrics.disentanglement(table) == pytest.approx(1, abs=1e-6)


def test_factor_vae_score_of_ideal_and_useless_latents():
    factors = levels(sizes=(5, 6, 7, 8, 9))
    assert metrics.factor_vae_score(factors.astype(float), factors, batch=16, train=500, test=500) > 0.98
    noise = np.random.default_rng(1).normal(size=(3000, 5))
    assert metrics.factor_vae_score(noise, factors, batch=16, train=1500, test=1000) == pytest.approx(1 / 5, abs=0.1)
    assert metrics.factor_vae_score(np.zeros((3000, 5)), factors) == 0
    unused = np.column_stack([factors.astype(float), np.zeros(3000)])  # a dead latent must not win every vote
    assert metrics.factor_vae_score(unused, factors, batch=16, train=500, test=500) > 0.98


def test_faces_blurred_are_nearer_than_other_faces(dataset):
    x = from_uint8(dataset.images("val")[:8])
    blurred = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
    assert (metrics.ssim(blurred, x) > metrics.ssim(x.roll(1, 0), x)).all()
    assert (metrics.bce(blurred, x) < metrics.bce(x.roll(1, 0), x)).all()
