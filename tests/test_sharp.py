"""The second decoder: what it starts as, what it learns, how it is kept."""

import pytest
import torch
from torch.nn import functional as F

from betavae import Editor, hub
from betavae.image import to_tensor
from betavae.sharp import SharpConfig, Sharpener, SharpenerError, upsampled
from train import sharpen
from train.sharpen import SharpenConfig, fit_sharpener, laplacian_energy

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def fine(dataset):
    """Latents of the first 32 val faces, and the pictures that a sharp decoder should make of them: the faces themselves."""
    pixels = dataset.images("val")[:32]
    editor = Editor.from_pretrained(device="cpu")
    mu = editor.model.encode(pixels.permute(0, 3, 1, 2).float() / 255)[0].detach()
    large = F.interpolate(pixels.permute(0, 3, 1, 2).float(), scale_factor=2, mode="bicubic").clamp(0, 255)
    return editor, large.round().byte().permute(0, 2, 3, 1).contiguous(), mu


def test_a_new_sharpener_is_upsampling():
    torch.manual_seed(0)
    picture, z = torch.rand(2, 3, 64, 64), torch.randn(2, 8)
    made = Sharpener(SharpConfig(8, 64))(picture, z)
    assert made.shape == (2, 3, 128, 128)
    torch.testing.assert_close(made, upsampled(picture))


def test_no_weights_draw_a_checkerboard_on_a_flat_picture():
    torch.manual_seed(0)
    sharpener = Sharpener(SharpConfig(8, 64))
    for weight in sharpener.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    made = sharpener(torch.full((1, 3, 64, 64), 0.5), torch.randn(1, 8))[0, :, 56:72, 56:72]  # what no border reaches
    assert (made - 0.5).abs().max() > 1e-3
    torch.testing.assert_close(made, made[:, :1, :1].expand_as(made))


def test_it_comes_back_from_its_file_and_only_for_its_model(tmp_path):
    torch.manual_seed(0)
    sharpener = Sharpener(SharpConfig(8, 64, width=16, blocks=1))
    torch.nn.init.normal_(sharpener.last.weight, std=0.1)
    sharpener.half().float().save(tmp_path / "sharp.safetensors", "abc")
    picture, z = torch.rand(2, 3, 64, 64), torch.randn(2, 8)
    with torch.inference_mode():
        torch.testing.assert_close(Sharpener.load(tmp_path / "sharp.safetensors", "abc")(picture, z), sharpener(picture, z))
    with pytest.raises(SharpenerError, match="is of the model abc and this is xyz"):
        Sharpener.load(tmp_path / "sharp.safetensors", "xyz")
    (tmp_path / "sharp.safetensors").write_bytes(b"\0" * 50)
    with pytest.raises(SharpenerError, match=r"sharp.safetensors.*damaged"):
        Sharpener.load(tmp_path / "sharp.safetensors", "abc")


def test_it_learns_detail_and_a_run_that_stops_goes_on_bitwise(fine, tmp_path, monkeypatch):
    editor, pixels, mu = fine
    config = SharpenConfig(images=160, batch=4, lr=1e-3, warmup=0.85, lowpass=1.0, features=0.0)
    arguments = (config, editor.model, editor.classifier, pixels, mu)
    monkeypatch.setattr(sharpen, "LOG_EVERY", 6)
    whole = fit_sharpener(*arguments, tmp_path / "whole", CPU)

    class Stopped(Exception):
        pass

    real, steps = sharpen.Sharpening.step, []

    def stop(self, step):
        if len(steps) == 36:  # the discriminator has begun
            raise Stopped
        steps.append(step)
        return real(self, step)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(sharpen.Sharpening, "step", stop)
        fit_sharpener(*arguments, tmp_path / "parts", CPU, save_seconds=0)
    logs = [tmp_path / part / "sharpen" / "log.jsonl" for part in ("whole", "parts")]
    logs[1].write_text(logs[1].read_text() + '{"images": 168}\n')  # logged, and killed before it was saved
    resumed = fit_sharpener(*arguments, tmp_path / "parts", CPU)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert logs[0].read_text() == logs[1].read_text() != ""
    # And the pictures are nearer to the faces than the decodes are.
    with torch.inference_mode():
        honest = editor.model.decode(mu)
        faces = pixels.permute(0, 3, 1, 2).float() / 255
        before, after = ((made - faces).abs().mean() for made in (upsampled(honest), whole(honest, mu)))
    assert after < before


def test_the_energy_of_detail_falls_with_blur(fine):
    _, pixels, _ = fine
    faces = pixels.permute(0, 3, 1, 2).float() / 255
    blurred = F.avg_pool2d(F.pad(faces, (1, 1, 1, 1), "reflect"), 3, 1)
    assert (laplacian_energy(blurred) < 0.7 * laplacian_energy(faces)).all()


def test_measures_know_upsampling_from_the_faces_themselves(fine):
    editor, pixels, mu = fine

    class Faces(Sharpener):
        def forward(self, picture, z):
            rows = (
                (z[:, None] - mu[None]).square().sum(2).argmin(1)
            )  # of the unedited face, and nearly always of the edited one
            return pixels[rows].permute(0, 3, 1, 2).float() / 255

    steps = {"Smiling": 1.5 * editor.directions["Smiling"].vector}
    size = SharpConfig(32, 64)
    plain = sharpen.measure(editor.model, Sharpener(size), pixels, mu, steps, editor.classifier, CPU)
    faces = sharpen.measure(editor.model, Faces(size), pixels, mu, steps, editor.classifier, CPU)
    assert plain["laplacian"] == pytest.approx(plain["laplacian_honest"]) and plain["lowpass"] < 1e-3
    assert plain["spearman"]["Smiling"] == pytest.approx(1) and plain["frechet"] == pytest.approx(
        plain["frechet_honest"], rel=1e-3
    )
    assert faces["laplacian"] == pytest.approx(1) and faces["frechet"] == pytest.approx(0, abs=1e-6)
    assert faces["lowpass"] > 2 and not faces["spearman"]["Smiling"] > 0.9  # an edit does not change them


def test_an_editor_draws_sharp_pictures_where_its_model_has_a_second_decoder(tiny, tmp_path):
    hub.save(tiny, tmp_path)
    editor = Editor.from_pretrained(tmp_path, device="cpu")
    z = editor.sample(2, seed=0)
    with pytest.raises(ValueError, match="no second decoder"):
        editor.decode(z, sharp=True)
    sharpener = Sharpener(SharpConfig(8, 64, width=16, blocks=1))
    torch.nn.init.normal_(sharpener.last.weight, std=0.05)
    sharpener.save(tmp_path / "sharp.safetensors", editor.hash)
    editor = Editor.from_pretrained(tmp_path, device="cpu")
    honest, sharp = editor.decode(z), editor.edit(z, {}, sharp=True)
    assert honest[0].size == (64, 64) and sharp[0].size == (128, 128)
    with torch.inference_mode():
        expected = editor.sharpener(editor.model.decode(z), z)
    torch.testing.assert_close(to_tensor(sharp), expected, atol=0.003, rtol=0)
