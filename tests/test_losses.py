"""Losses on closed forms and against independent implementations; every objective on real faces."""

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from betavae import VAE
from betavae.image import from_uint8, to_tensor
from betavae.model import VAEOutput
from train.losses import Capacity, Controller, Objective, bce, bce_floor, dice, gaussian_nll, kl, squared_error, ssim
from train.presets import PRESETS, override


def test_kl_is_torch_distributions():
    mu, logvar = 2 * torch.randn(64, 32), torch.randn(64, 32)
    expected = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl(mu, logvar), expected, atol=1e-4, rtol=1e-4)


def test_bce_of_an_image_with_itself_is_its_floor():
    x = torch.rand(3, 3, 8, 8).clamp(0.01, 0.99)
    torch.testing.assert_close(bce(torch.logit(x), x).double(), bce_floor(x), atol=1e-3, rtol=1e-6)
    assert (bce(torch.logit(x) + 0.1, x) > bce_floor(x)).all()
    assert bce_floor(torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)) == 0


def test_capacity_gradient_changes_sign_at_C():
    for value, sign in ((30.0, -1000.0), (60.0, 1000.0)):
        divergence = torch.tensor(value, requires_grad=True)
        Capacity(1000.0)(divergence, 50.0).backward()
        assert divergence.grad == sign


def test_controller_steers_kl_to_C():
    # A stand-in for training: KL falls as beta grows, with the noise of a batch on it.
    torch.manual_seed(0)
    controller, divergences = Controller(0.01), []
    for _ in range(3000):
        divergence = 120 / (1 + controller.log_beta.exp()) + 5 * torch.randn(())
        controller(divergence, 50.0)
        divergences.append(divergence)
    assert torch.stack(divergences[-500:]).mean() == pytest.approx(50, abs=1)


def test_capacity_pulls_every_part_of_a_batch_the_way_of_the_whole():
    # Two processes, one above C and one below; their batch as a whole is above.
    parts = [torch.tensor(value, requires_grad=True) for value in (49.0, 55.0)]
    losses = [Capacity(1000.0)(part, 50.0, lambda value: torch.tensor(52.0)) for part in parts]
    assert sum(losses) / 2 == 1000 * (52 - 50)
    for loss, part in zip(losses, parts, strict=True):
        loss.backward()
        assert part.grad == 1000


def test_a_batch_that_is_not_finite_leaves_the_controller_alone():
    controller = Controller(0.01)
    controller(torch.tensor(20.0), 50.0)
    before = controller.log_beta.item()
    assert before < 0
    for broken in (float("nan"), float("inf")):
        controller(torch.tensor(broken), 50.0)
    assert controller.log_beta.item() == before


def test_ssim_is_the_papers():
    # Wang et al. 2004, equation 13, channel by channel with SciPy's filter of 2.5 deviations: 9 x 9 windows.
    a = np.asarray(Image.open(ROOT / "assets" / "examples" / "astronaut.jpg").convert("RGB").resize((96, 96)))
    b = np.clip(0.7 * a + np.random.default_rng(0).normal(20, 25, a.shape), 0, 255).astype(np.uint8)
    values = []
    for p, q in zip(a.astype(float).transpose(2, 0, 1), b.astype(float).transpose(2, 0, 1), strict=True):
        mean, other, pp, qq, pq = (gaussian_filter(image, 1.5, truncate=2.5)[4:-4, 4:-4]
                                   for image in (p, q, p * p, q * q, p * q))
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        values.append((2 * mean * other + c1) * (2 * (pq - mean * other) + c2)
                      / ((mean ** 2 + other ** 2 + c1) * (pp - mean ** 2 + qq - other ** 2 + c2)))
    x, y = to_tensor([Image.fromarray(a)]), to_tensor([Image.fromarray(b)])
    assert ssim(x, y).item() == pytest.approx(np.mean(values), abs=1e-4)
    assert ssim(x, x).item() == pytest.approx(1, abs=1e-6)


def test_dice_of_masks():
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, :4] = 1
    right, wrong = (100 * (2 * side - 1) for side in (mask, 1 - mask))
    assert dice(right, mask).item() == pytest.approx(0, abs=1e-6)
    assert dice(wrong, mask).item() == pytest.approx(1 - 1 / 65)
    assert dice(torch.full_like(mask, -100), torch.zeros_like(mask)).item() == pytest.approx(0, abs=1e-6)
    # Of one whole batch, not the mean of its images', and of squared areas: a grey mask of a half pays for a quarter each.
    both = torch.stack([right[0], torch.full_like(right[0], -100)])
    assert dice(both, mask).item() == pytest.approx(1 - (2 * 16 + 1) / (16 + 32 + 1))
    assert dice(torch.zeros_like(mask), mask).item() == pytest.approx(1 - (2 * 16 + 1) / (64 / 4 + 32 + 1))


def test_dice_of_a_batch_that_processes_share_is_the_whole_batchs():
    mask, logits = (torch.rand(4, 1, 8, 8) > 0.5).float(), torch.randn(4, 1, 8, 8, requires_grad=True)
    whole = dice(logits, mask)
    expected, = torch.autograd.grad(whole, logits)
    for i in (0, 2):
        means = iter([(torch.sigmoid(logits) * mask).sum((1, 2, 3)).mean().detach(),
                      (torch.sigmoid(logits).square() + mask.square()).sum((1, 2, 3)).mean().detach()])
        part = dice(logits[i:i + 2], mask[i:i + 2], lambda value, means=means: next(means))
        torch.testing.assert_close(part, whole)
        gradient, = torch.autograd.grad(part, logits)
        torch.testing.assert_close(gradient[i:i + 2] / 2, expected[i:i + 2])  # the processes' gradients are averaged


def test_a_learned_variance_is_best_at_the_mean_squared_error():
    x, picture = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    error = squared_error(torch.logit(picture), x)
    sigma = torch.tensor(0.3)
    expected = -Normal(picture, sigma).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(gaussian_nll(error, sigma.log(), 192), expected, rtol=1e-4, atol=1e-2)
    log_sigma = torch.linspace(-3, 1, 4001)
    best = gaussian_nll(error[:1, None], log_sigma, 192).argmin()
    assert log_sigma[best].exp().square().item() == pytest.approx(error[0].item() / 192, rel=0.01)


def test_the_variance_found_is_the_batchs_and_its_gradient_that_of_the_profile_likelihood():
    config = override(PRESETS["plain"], {"reconstruction": "gaussian", "beta": "0"})
    x, logits = torch.rand(2, 3, 64, 64), torch.randn(2, 3, 64, 64, requires_grad=True)
    loss, terms = Objective(config)(made(config, logits=logits), x, None, config.level(0.0))
    mse = F.mse_loss(torch.sigmoid(logits), x)
    assert terms["sigma"].square().item() == pytest.approx(mse.item(), rel=1e-5)
    given, = torch.autograd.grad(loss, logits)
    profile, = torch.autograd.grad(3 * 64 * 64 / 2 * mse.log(), logits)
    torch.testing.assert_close(given, profile, rtol=1e-3, atol=1e-5)


def made(config, **fields) -> VAEOutput:
    """What a model might have made of two pictures."""
    n, d, s = 2, config.model.latents, config.model.image_size
    given = {name: torch.randn(n, d) for name in ("mu", "logvar", "noise", "z")}
    given |= {"logits": torch.randn(n, 3, s, s), "mask": torch.randn(n, 1, s, s) if config.model.mask else None}
    return VAEOutput(**given | fields)


@pytest.mark.parametrize(("preset", "weight"), [("vae", 1), ("beta4", 4), ("beta10", 10), ("plain", 1)])
def test_the_summed_loss_is_as_written(preset, weight):
    config = PRESETS[preset]
    output, x = made(config), torch.rand(2, 3, config.model.image_size, config.model.image_size)
    loss, terms = Objective(config)(output, x, None, config.level(0.0))
    # [-1, 1] is the range of the tanh networks.
    a, b = (torch.tanh(output.logits / 2), 2 * x - 1) if preset != "plain" else (torch.sigmoid(output.logits), x)
    divergence = kl_divergence(Normal(output.mu, (output.logvar / 2).exp()), Normal(0.0, 1.0)).sum(1).mean()
    expected = F.mse_loss(a, b, reduction="sum") / 2 + weight * divergence
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    assert set(terms) == {"loss", "mse", "kl"} and terms["kl"] == pytest.approx(divergence.item(), rel=1e-4)


@pytest.mark.parametrize(("preset", "beta"), [("beta-norm", 0.7 / 32), ("beta-norm-literal", 0.7)])
def test_the_normalised_loss_is_as_written(preset, beta):
    config = PRESETS[preset]
    output, x = made(config), torch.rand(2, 3, 128, 128)
    loss, _ = Objective(config)(output, x, None, config.level(0.0))
    expected = F.mse_loss(torch.sigmoid(output.logits), x) + beta * kl(output.mu, output.logvar).mean()
    torch.testing.assert_close(loss, expected)


def test_only_the_face_and_its_mask_are_learned_where_there_are_masks():
    config = PRESETS["masked"]
    x, mask = torch.rand(2, 3, 144, 144), torch.zeros(2, 1, 144, 144)
    mask[:, :, 40:100, 40:100] = 1
    output = made(config, logits=torch.randn(2, 3, 144, 144, requires_grad=True))
    loss, terms = Objective(config)(output, x, mask, config.level(0.0))
    loss.backward()
    outside = (mask == 0).expand_as(x)
    assert output.logits.grad[outside].abs().max() == 0 and (output.logits.grad[~outside] != 0).all()
    expected = (2 - terms["ssim"] + 4 * terms["mae"] + terms["mask_bce"] + terms["dice"]
                + 1e-3 * kl(output.mu, output.logvar).mean())
    torch.testing.assert_close(loss.detach(), expected)
    replaced = torch.where(outside, x, torch.sigmoid(output.logits.detach()))
    assert terms["mae"] == pytest.approx((replaced - x).abs().mean().item(), rel=1e-4)
    assert terms["ssim"] == pytest.approx(ssim(replaced, x).mean().item(), rel=1e-4)


SMALL = {"model.image_size": "32", "model.latents": "8", "lr": "5e-3"}
STRIDED = SMALL | {"model.encoder": "8,16,32", "model.decoder": "32,16,8"}
POOLED = SMALL | {"model.encoder": "8,16,32", "model.decoder": "8,32,32,16,8,8", "model.decoder_depth": "1,1,1,1,2",
                  "model.depth": "2,1,1", "model.hidden": "64"}


@pytest.mark.parametrize(("preset", "settings"), [
    ("plain", STRIDED),
    ("vae", STRIDED),
    ("beta-norm", STRIDED),
    ("masked", POOLED),
    ("plain", STRIDED | {"ramp": "0.5"}),                                     # annealed beta
    ("plain", STRIDED | {"objective": "capacity", "ramp": "0.5"}),            # annealed C
    ("plain", STRIDED | {"objective": "controller"}),
    ("plain", STRIDED | {"reconstruction": "gaussian"}),
    ("plain", STRIDED | {"model.flow": "2"}),
], ids=lambda value: value if isinstance(value, str) else ",".join(f"{k}={v}" for k, v in value.items() if k not in POOLED))
def test_a_few_steps_on_real_faces_lower_the_loss(dataset, preset, settings):
    config = override(PRESETS[preset], settings)
    x = from_uint8(dataset.images("train")[:16, ::2, ::2])
    mask = from_uint8(dataset.masks("train")[:16, ::2, ::2, None]) if config.model.mask else None
    torch.manual_seed(0)
    model, objective = VAE(config.model), Objective(config)
    optimizer = torch.optim.Adam(model.parameters(), config.lr)
    # At one level of the schedule, so that the loss of the last step is the same function as that of the first.
    losses, reconstructions = [], []
    for _ in range(30):
        loss, terms = objective(model(x, torch.randn(16, 8)), x, mask, config.level(1.0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(terms["loss"].item())
        reconstructions.append(next(terms[name].item() for name in ("mae", "nll", "mse") if name in terms))
    assert losses[-1] < losses[0] and reconstructions[-1] < 0.95 * reconstructions[0]
    assert all(parameter.grad is not None for parameter in model.parameters())
