import dataclasses
import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY
from PIL import Image
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F

from benchmarks.train import PlainVAE
from betavae import VAE, Directions, Editor, ModelError, VAEConfig, hub
from betavae.classifier import Classifier
from betavae.image import to_tensor
from betavae.mixture import Mixture
from betavae.model import VAEOutput, conv
from betavae.sharp import SharpConfig, Sharpener
from betavae.ui.tabs.model import facts
from train.directions.simple import simple_directions
from train.initialisation import initialise
from train.losses import divergence, kl
from train.presets import PRESETS


def parameters(module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("preset", "size"), [("capacity", 3_541_251), ("plain", 1_125_763), ("vae", 8_729_283),
                                             ("beta-norm", 17_136_835), ("masked", 16_630_564)])
def test_a_preset_has_the_published_size(preset, size):
    model = VAE(PRESETS[preset].model)
    # Keras, in which `masked` is published, counts BatchNorm's running means and variances as well.
    running = sum(value.numel() for name, value in model.named_buffers() if "running" in name) if preset == "masked" else 0
    assert parameters(model) + running == size
    if preset == "capacity":
        assert parameters(model.decoder) == 879_939


@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in ("beta4", "beta10")])  # they share vae's network
def test_a_preset_encodes_and_decodes(preset):
    config = PRESETS[preset].model
    model = VAE(config)
    x = torch.rand(2, 3, config.image_size, config.image_size)
    output = model(x)
    assert output.logits.shape == x.shape
    assert output.mu.shape == output.logvar.shape == output.z.shape == (2, config.latents)
    assert (output.mask is None) != config.mask
    if config.mask:
        assert output.mask.shape == (2, 1, config.image_size, config.image_size)
    else:
        assert torch.equal(model.decode(output.z), torch.sigmoid(output.logits))


@pytest.mark.parametrize("preset", ["plain", "vae"])
def test_a_strided_network_is_the_textbooks(preset):
    # Written down as in a textbook, with the same weights in the same order.
    config = PRESETS[preset].model
    widths, side = config.encoder, config.encoder_base
    down = [layer for a, b in pairwise((3, *widths)) for layer in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())]
    up = [layer for a, b in pairwise(widths[::-1]) for layer in (nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU())]
    encoder = nn.Sequential(*down, nn.Flatten())
    heads = nn.ModuleList([nn.Linear(widths[-1] * side ** 2, config.latents) for _ in range(2)])
    decoder = nn.Sequential(nn.Linear(config.latents, widths[-1] * side ** 2), nn.Unflatten(1, (widths[-1], side, side)),
                            *up, nn.ConvTranspose2d(widths[0], 3, 4, 2, 1),
                            nn.Sigmoid() if preset == "plain" else nn.Tanh())
    model = VAE(config)
    textbook = nn.ModuleList([encoder, heads, decoder])
    for own, value in zip(textbook.parameters(), model.parameters(), strict=True):
        own.data = value.detach().clone()
    x, z = torch.rand(2, 3, config.image_size, config.image_size), torch.randn(2, config.latents)
    if preset == "plain":
        features, picture = encoder(x), decoder(z)
    else:  # [-1, 1] inside
        features, picture = encoder((x - 0.5) / 0.5), decoder(z) * 0.5 + 0.5
    for made, expected in zip((*model.encode(x), model.decode(z)), (*(head(features) for head in heads), picture), strict=True):
        torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


def test_the_normalised_network_is_the_one_written_down():
    # Encoder convolutions without padding, BatchNorm on mu and logvar; dense, BatchNorm over every unit and no activation.
    config = PRESETS["beta-norm"].model
    model = VAE(config)
    x = torch.rand(4, 3, 128, 128)
    h, sides = x, []
    for block in model.encoder.blocks:
        h = torch.relu(F.batch_norm(F.conv2d(h, block[0].weight, block[0].bias, 2), None, None, training=True))
        sides.append(h.shape[-1])
    assert sides == [62, 29, 13, 5] and h.flatten(1).shape[1] == 12_800
    heads = [F.batch_norm(head(h.flatten(1)), None, None, training=True) for head in (model.encoder.mu, model.encoder.logvar)]
    z = torch.randn(4, 32)
    h = F.batch_norm(model.decoder.linear(z), None, None, training=True).unflatten(1, (512, 8, 8))
    for block in model.decoder.blocks:
        up = F.conv_transpose2d(h, block[0].weight, block[0].bias, 2, 2, 1)
        h = torch.relu(F.batch_norm(up, None, None, training=True))
    picture = torch.sigmoid(F.conv2d(h, model.decoder.head[0].weight, model.decoder.head[0].bias, padding=2))
    for ours, theirs in zip((*model.encode(x), model.decode(z)), (*heads, picture), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


def test_a_head_may_pad_otherwise_than_the_rest():
    torch.manual_seed(0)
    zeros, reflect = (VAE(dataclasses.replace(VAEConfig(), head_padding=padding)).eval() for padding in ("zeros", "same"))
    reflect.load_state_dict(zeros.state_dict())
    with torch.inference_mode():
        difference = (zeros.decode(torch.zeros(1, 32)) - reflect.decode(torch.zeros(1, 32))).abs()[0].amax(0)
    assert difference[1:-1, 1:-1].max() < 1e-6 < 1e-3 < difference[0].max()


@pytest.mark.parametrize(
    ("scheme", "deviation"), [("kaiming", (2 / (1.04 * 4096)) ** 0.5), ("glorot", (2 / (4096 + 32)) ** 0.5)]
)
def test_weights_start_as_the_source_says(scheme, deviation):
    torch.manual_seed(0)
    model = VAE(PRESETS["capacity"].model)
    initialise(model, scheme)
    assert model.encoder.mu.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert model.encoder.mu.bias.abs().max() == 0


def test_pooling_halves_odd_sides_and_comes_back():
    sides = []
    config = dataclasses.replace(PRESETS["masked"].model, encoder=(4,) * 6, decoder=(4,) * 7, hidden=8, latents=16, narrow=4)
    model = VAE(config)
    for module in model.modules():
        if isinstance(module, (nn.MaxPool2d, nn.ConvTranspose2d)):
            module.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[-1]))
    model(torch.rand(2, 3, 144, 144))
    assert sides == [72, 36, 18, 9, 4, 2] + 2 * [4, 9, 18, 36, 72, 144]


def test_batch_norm_keeps_most_of_its_running_mean_and_survives_the_file(tmp_path):
    config = dataclasses.replace(PRESETS["beta-norm"].model, image_size=32, encoder=(4, 8), decoder=(8, 4), latents=4)
    model = VAE(config)
    x = torch.rand(8, 3, 32, 32)
    model(x)
    mean = F.conv2d(x, model.encoder.blocks[0][0].weight, model.encoder.blocks[0][0].bias, 2).mean((0, 2, 3))
    torch.testing.assert_close(model.encoder.blocks[0][1].running_mean, 0.01 * mean)
    model.encoder.blocks[0][1].running_var.fill_(1e6)  # more than float16 holds
    model.half().float().eval()
    model.encoder.blocks[0][1].running_var.fill_(1e6)
    hub.save(model, tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(hub.load_model(tmp_path).encode(x), model.encode(x), atol=1e-5, rtol=1e-4)


@pytest.fixture
def masked() -> VAE:
    """A small model with masks that have both sides in them, whose BatchNorms have seen what they normalise."""
    config = dataclasses.replace(PRESETS["masked"].model, image_size=32, encoder=(4, 8), depth=(1, 1), decoder_depth=(),
                                 decoder=(8, 4, 4, 4, 4, 4), hidden=16, latents=8)
    torch.manual_seed(0)
    model = VAE(config)
    initialise(model, "glorot")
    for layer in model.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.momentum = None  # the plain mean of all batches
    with torch.no_grad():
        model(torch.rand(64, 3, 32, 32), torch.randn(64, 8))
        model.mask_decoder.head[0].weight.mul_(10)
    return model.eval()


def test_a_masked_face_returns_to_its_own_background(masked, tmp_path):
    model = masked
    hub.save(model, tmp_path)
    editor = Editor.from_pretrained(tmp_path, device="cpu")
    photo = ROOT / "assets" / "examples" / "astronaut.jpg"
    z = editor.encode(photo)
    with torch.inference_mode():
        drawn, mask = editor.model.cutout(z).split([3, 1], 1)
    assert mask.min() < 0.1 and mask.max() > 0.9
    background = to_tensor([editor.input(photo)])
    over = to_tensor(editor.edit(z, {}, background=editor.input(photo)))
    alone = to_tensor(editor.decode(z))
    outside, inside = (mask < 0.02).expand_as(over), (mask > 0.98).expand_as(over)
    torch.testing.assert_close(over[outside], background[outside], atol=0.03, rtol=0)
    torch.testing.assert_close(alone[outside], torch.full_like(alone, 0.5)[outside], atol=0.03, rtol=0)
    for picture in (over, alone):
        torch.testing.assert_close(picture[inside], drawn[inside], atol=0.03, rtol=0)


def test_an_edit_is_laid_on_by_the_outline_of_the_unedited_face_or_of_the_edited_one(masked):
    model = masked
    editor = Editor(model, Directions([], 8))
    z, edited = torch.randn(2, 1, 8)
    black = Image.new("RGB", (32, 32))
    picture, own = model.cutout(edited).split([3, 1], 1)
    theirs = model.cutout(z)[:, 3:]
    assert (own - theirs).abs().max() > 0.1
    for placed, mask in ((None, own), (z, theirs)):
        torch.testing.assert_close(to_tensor(editor.decode(edited, black, placed)), mask * picture, atol=0.003, rtol=0)
    with pytest.raises(ValueError, match="mask is 'both'; choose from unedited, edited"):
        editor.edit(z, {}, mask="both")


def test_a_model_without_masks_says_so_and_draws_its_own_background(tiny):
    assert torch.equal(tiny.decode(torch.zeros(1, 8), torch.zeros(1, 3, 64, 64)), tiny.decode(torch.zeros(1, 8)))
    with pytest.raises(ValueError, match="no decoder of masks"):
        tiny.cutout(torch.zeros(1, 8))


@pytest.fixture
def flowing() -> VAE:
    """A model whose flow does something: a fresh one moves nothing."""
    torch.manual_seed(0)
    model = VAE(dataclasses.replace(TINY, flow=3))
    for layer in model.flow.layers:
        nn.init.normal_(layer[-1].weight, std=0.3)
    return model.eval()


def test_the_flows_log_determinant_is_that_of_its_jacobian(flowing):
    z, context = torch.randn(8), torch.randn(1, 64)
    jacobian = torch.autograd.functional.jacobian(lambda z: flowing.flow(z[None], context)[0][0], z)
    log_scale = flowing.flow(z[None], context)[1]
    torch.testing.assert_close(log_scale.sum(), torch.linalg.slogdet(jacobian).logabsdet)
    assert log_scale.abs().min() > 0 and (jacobian - torch.diag(jacobian.diag())).abs().max() > 0.01


def test_a_fresh_flow_moves_nothing_and_the_prior_costs_nothing():
    model = VAE(dataclasses.replace(TINY, flow=2))
    x = torch.rand(2, 3, 64, 64)
    mu, logvar, _ = model.encoder(x)
    assert torch.equal(model.encode(x)[0], mu) and torch.equal(model.encode(x)[1], logvar)
    for head in (model.encoder.mu, model.encoder.logvar):
        nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
    torch.testing.assert_close(divergence(model(x)), torch.zeros(2, 8))


def test_a_flows_kl_is_that_of_the_gaussian_it_makes(flowing):
    # A flow whose layers do not look is affine, and its posterior a Gaussian again: the one that encode gives.
    for layer in flowing.flow.layers:
        nn.init.zeros_(layer[-1].weight), nn.init.normal_(layer[-1].bias, std=0.5)
    with torch.inference_mode():
        x = torch.rand(1, 3, 64, 64)
        mu, logvar, context = flowing.encoder(x)
        noise = torch.randn(100_000, 8)
        z, log_scale = flowing.flow(mu + (0.5 * logvar).exp() * noise, context.expand(len(noise), -1))
        drawn = divergence(VAEOutput(None, mu, logvar, noise, z, log_scale))
        torch.testing.assert_close(drawn.mean(0, keepdim=True), kl(*flowing.encode(x)), atol=0.02, rtol=0.02)
        assert (drawn.mean(0) - kl(mu, logvar)).abs().max() > 0.1


def test_z_is_mu_plus_deviation_times_noise(tiny):
    # A published implementation scales the noise by the log-deviation; this one must not.
    x, noise = torch.rand(4, 3, 64, 64), torch.randn(4, 8)
    output = tiny(x, noise)
    torch.testing.assert_close(output.z, Normal(output.mu, (0.5 * output.logvar).exp()).icdf(Normal(0, 1).cdf(noise)),
                               atol=1e-4, rtol=1e-3)


def test_config_survives_json():
    for preset in PRESETS.values():
        assert VAEConfig.from_json(preset.model.to_json()) == preset.model


@pytest.mark.parametrize(("change", "named"), [
    ({"latents": 0}, "latents is 0"),
    ({"block": "dense"}, "'dense'"),
    ({"crop": (0.5, 0, 0.5, 1)}, "crop is"),
    ({"encoder": (30,)}, "30 channels"),
    ({"image_size": 60}, "image_size is 60"),
    ({"norm": "layer"}, "'layer'; choose from group, batch, none"),
    ({"kernel": 3}, "kernel is 3; choose from 4, 5"),
    ({"hidden": -1}, "hidden is -1"),
    ({"depth": (1, 2)}, "each stage of the encoder"),
    ({"flow": 1, "latents": 1}, "at least 2 latents"),
    ({"padding": "valid"}, "needs strided blocks"),
    ({"head_padding": "none"}, "'none'; choose from same, reflect, zeros"),
    ({"head_kernel": 4}, "head_kernel is 4; it must be odd"),
    ({"decoder_depth": (1, 2)}, "needs pooled blocks"),
    ({"norm_eps": 0}, "norm_eps is 0"),
    ({"block": "pooled", "head": "transposed"}, "need 'conv'"),
    ({"block": "pooled", "encoder": (32,) * 7}, "at least 128"),
    ({"block": "pooled"}, "needs 4096"),
    ({"mask": "yes"}, "mask is 'yes'"),
])
def test_config_refuses_what_cannot_be_built(change, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(VAEConfig(), **change)


def test_config_refuses_unknown_and_missing_fields():
    fields = json.loads(TINY.to_json())
    with pytest.raises(ValueError, match="colour"):
        VAEConfig.from_json(json.dumps(fields | {"colour": "red"}))
    del fields["latents"]
    with pytest.raises(ValueError, match="latents, crop, encoder, decoder are required"):
        VAEConfig.from_json(json.dumps(fields))


def test_a_config_from_before_a_field_was_there_means_what_it_meant():
    fields = json.loads(TINY.to_json())
    for later in ("kernel", "norm", "hidden", "output", "mask"):
        del fields[later]
    assert VAEConfig.from_json(json.dumps(fields)) == TINY


def test_saved_model_opens_the_same(tiny, tmp_path):
    hub.save(tiny.half().float(), tmp_path)  # what float16 cannot hold is not the subject here
    editor = Editor.from_pretrained(tmp_path)
    z = editor.sample(3, seed=1)
    assert editor.config == tiny.config
    with torch.inference_mode():
        torch.testing.assert_close(editor.model.decode(z), tiny.decode(z), atol=1e-6, rtol=0)


def corrupt(folder, name):
    (folder / name).write_bytes(b"\x00" * 100)


def mismatch(folder, _):
    other = dataclasses.replace(TINY, latents=9)
    (folder / "config.json").write_text(other.to_json())


@pytest.mark.parametrize(("damage", "name", "sentence"), [
    (lambda folder, name: (folder / name).unlink(), "config.json", "no file config.json"),
    (lambda folder, name: (folder / name).unlink(), "model.safetensors", "no file model.safetensors"),
    (corrupt, "config.json", "config.json"),
    (corrupt, "model.safetensors", "model.safetensors.*damaged"),
    (corrupt, "metrics.json", "metrics.json.*damaged"),
    (mismatch, "", "model.safetensors.*does not fit"),
])
def test_loading_is_strict_and_names_the_file(tiny, tmp_path, damage, name, sentence):
    hub.save(tiny, tmp_path)
    damage(tmp_path, name)
    with pytest.raises(ModelError, match=sentence) as error:
        Editor.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_weights_that_are_not_finite_are_refused(tiny, tmp_path):
    with torch.no_grad():
        tiny.encoder.mu.bias[0] = float("nan")
    hub.save(tiny, tmp_path)
    with pytest.raises(ModelError, match="not finite"):
        Editor.from_pretrained(tmp_path)


def test_a_name_that_is_neither_folder_nor_repository():
    with pytest.raises(ModelError, match="'no/such/folder'"):
        Editor.from_pretrained("no/such/folder")


def test_files_of_other_weights_are_set_aside_with_a_sentence(shelf, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(shelf / "one", folder)
    (folder / "metrics.json").write_text('{"val": {}}')
    for name in ("directions.safetensors", "metrics.json"):
        hub.stamp(folder / name, hub.model_hash(hub.load_model(folder)))
    loaded = hub.load(folder)
    assert len(loaded.directions) == 2 and "val" in loaded.folder.metrics
    assert list(loaded.directions) == list(hub.load(shelf / "one").directions)
    # Another training leaves other weights there.
    hub.save(VAE(dataclasses.replace(TINY)), folder)
    with pytest.warns(hub.StaleFile) as said:
        loaded = hub.load(folder)
    assert len(loaded.directions) == 0 and loaded.folder.metrics == {}
    assert loaded.folder.notes == tuple(str(w.message) for w in said)
    with pytest.warns(hub.StaleFile):
        shown = {row["term"]: row["text"] for row in facts(Editor.from_pretrained(folder))}
    assert all(note in shown["Set aside"] for note in loaded.folder.notes), "on the page too"
    assert [name for name in ("directions.safetensors", "metrics.json") if any(name in str(w.message) for w in said)] == [
        "directions.safetensors", "metrics.json"]
    # A file that does not say is trusted, unless its run stamps every file.
    shutil.copy(shelf / "one" / "directions.safetensors", folder)
    with pytest.warns(hub.StaleFile, match="metrics"):
        assert len(hub.load(folder).directions) == 2
    (folder / "run.json").write_text(json.dumps({"weights": hub.model_hash(hub.load_model(folder))}))
    with pytest.warns(hub.StaleFile, match="of the weights unknown"):
        assert len(hub.load(folder).directions) == 0


@pytest.mark.parametrize("name", ["directions.safetensors", "mixture.safetensors", "classifier.safetensors",
                                  "sharp.safetensors", "metrics.json", "atlas.json"])
def test_every_file_beside_the_weights_is_checked_and_an_old_one_is_set_aside(tiny, tmp_path, name):
    hub.save(tiny, tmp_path)
    own = hub.model_hash(tiny)
    Mixture(torch.ones(1), torch.zeros(1, 8), torch.eye(8)[None]).save(tmp_path / "mixture.safetensors")
    Classifier(["Smiling"], []).save(tmp_path / "classifier.safetensors")
    simple_directions(torch.randn(200, 8), {"Smiling": np.arange(200) % 2 == 0}, {}).save(tmp_path / "directions.safetensors")
    Sharpener(SharpConfig(8, 64, width=16, blocks=1)).save(tmp_path / "sharp.safetensors", own)
    for kind in ("metrics", "atlas"):
        (tmp_path / f"{kind}.json").write_text('{"of": "these"}')
        hub.stamp(tmp_path / f"{kind}.json", own)

    def held():
        _, directions, rest = hub.load(tmp_path)
        found = {"directions": directions, "mixture": rest.mixture, "classifier": rest.classifier, "sharp": rest.sharpener,
                 "metrics": rest.metrics, "atlas": rest.atlas}
        return {kind for kind, value in found.items() if value is not None and (not hasattr(value, "__len__") or len(value))}

    kind = Path(name).stem
    before = held()
    assert kind in before and len(before) == 6
    hub.stamp(tmp_path / name, "0123456789ab")
    with pytest.warns(hub.StaleFile, match=rf"{name}' is of the weights 0123456789ab and this model has {own}"):
        assert held() == before - {kind}
    assert (tmp_path / name).exists(), "nothing is deleted"


def test_a_bit_that_changed_in_the_weights_is_noticed(tiny, tmp_path):
    hub.save(tiny, tmp_path)
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"is damaged: its weights were {hub.model_hash(tiny)} and are"):
        hub.load_model(tmp_path)


def test_unknown_device_is_named(tiny):
    with pytest.raises(ValueError, match="'tpu'"):
        Editor(tiny, Directions([], 8), device="tpu")


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_a_convolution_that_doubles_is_one_of_the_upsampled_picture(padding):
    layer = conv(dataclasses.replace(VAEConfig(), padding=padding), 6, 4, bias=True, double=True)
    plain = conv(dataclasses.replace(VAEConfig(), padding=padding), 6, 4, bias=True)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 6, 5, 5, requires_grad=True)
    theirs = plain(F.interpolate(x, scale_factor=2))
    ours = layer(x)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(ours)
    torch.testing.assert_close(torch.autograd.grad(ours, (x, layer.weight), weights),
                               torch.autograd.grad(theirs, (x, plain.weight), weights), atol=1e-4, rtol=1e-4)


def test_what_such_a_convolution_keeps_is_of_the_weights_that_it_has():
    layer, x = conv(VAEConfig(), 6, 4, double=True), torch.randn(2, 6, 5, 5)

    def agrees():
        with torch.inference_mode():
            kept = layer(x)
        torch.testing.assert_close(layer(x), kept)  # with gradients nothing is kept
        return kept

    first = agrees()
    torch.testing.assert_close(agrees(), first, rtol=0, atol=0)
    layer(x).sum().backward()
    torch.optim.SGD(layer.parameters(), 0.1).step()
    moved = agrees()
    layer.load_state_dict(conv(VAEConfig(), 6, 4, double=True).state_dict())
    loaded = agrees()
    layer.load_state_dict({"weight": torch.randn(4, 6, 3, 3)}, assign=True)
    assert not any(torch.allclose(a, b) for a, b in ((first, moved), (moved, loaded), (loaded, agrees())))
    layer.double()
    with torch.inference_mode():
        assert layer(x.double()).dtype == torch.float64


def test_the_published_network_is_the_one_written_down_layer_after_layer():
    torch.manual_seed(0)
    ours, plain = VAE(PRESETS["capacity"].model), PlainVAE()
    with torch.no_grad():
        for a, b in zip(plain.parameters(), ours.parameters(), strict=True):
            a.copy_(b)
    x, noise = torch.rand(2, 3, 64, 64), torch.randn(2, 32)
    theirs, output = plain(x, noise), ours(x, noise)
    for a, b in zip(theirs, (output.logits, output.mu, output.logvar), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
