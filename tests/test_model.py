import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY
from torch.distributions import Normal, kl_divergence

from betavae import VAE, Directions, Editor, ModelError, VAEConfig, hub
from train.losses import Capacity, Controller, bce, bce_floor, kl
from train.presets import PRESETS


def parameters(module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_capacity_model_has_the_published_size():
    model = VAE(PRESETS["capacity"].model)
    assert parameters(model) == 3_541_251
    assert parameters(model.decoder) == 879_939


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_encodes_and_decodes(preset):
    config = PRESETS[preset].model
    model = VAE(config)
    x = torch.rand(2, 3, config.image_size, config.image_size)
    output = model(x)
    assert output.logits.shape == x.shape
    assert output.mu.shape == output.logvar.shape == output.z.shape == (2, config.latents)
    assert torch.equal(model.decode(output.z), torch.sigmoid(output.logits))


def test_z_is_mu_plus_deviation_times_noise(tiny):
    # A published implementation scales the noise by the log-deviation; this one must not.
    x, noise = torch.rand(4, 3, 64, 64), torch.randn(4, 8)
    output = tiny(x, noise)
    torch.testing.assert_close(output.z, Normal(output.mu, (0.5 * output.logvar).exp()).icdf(Normal(0, 1).cdf(noise)),
                               atol=1e-4, rtol=1e-3)


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


def test_config_survives_json():
    for preset in PRESETS.values():
        assert VAEConfig.from_json(preset.model.to_json()) == preset.model


@pytest.mark.parametrize(("change", "named"), [
    ({"latents": 0}, "latents is 0"),
    ({"block": "dense"}, "'dense'"),
    ({"crop": (0.5, 0, 0.5, 1)}, "crop is"),
    ({"encoder": (30,)}, "30 channels"),
    ({"image_size": 60}, "image_size is 60"),
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


def test_a_hub_repository_is_downloaded_and_opened(tiny, tmp_path, monkeypatch):
    hub.save(tiny, tmp_path)
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(tmp_path)

    def model_info(self, repo, **_):
        size = 2**40 if repo == "someone/everything" else 10**6
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename="model.safetensors", size=size)])

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(hub.HfApi, "model_info", model_info)
    assert Editor.from_pretrained("someone/faces").config == TINY
    assert asked == [("someone/faces", [*hub.FILES, *hub.EXTRAS])]
    with pytest.raises(ModelError, match="'someone/everything' holds 1,048,576 MB"):
        Editor.from_pretrained("someone/everything")
    assert len(asked) == 1


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="'someone/faces' cannot be reached"):
        Editor.from_pretrained("someone/faces")


def test_unknown_device_is_named(tiny):
    with pytest.raises(ValueError, match="'tpu'"):
        Editor(tiny, Directions([], 8), device="tpu")
