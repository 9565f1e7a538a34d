"""The published model of the ``capacity`` recipe, by a reference of its names and shapes that is written down here."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from betavae import DirectionsError, Editor, ModelError
from betavae.image import to_tensor
from betavae.ui.shelf import Shelf
from betavae.ui.tabs.edit import slider


class Block(nn.Module):
    def __init__(self, channels, width, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False, padding_mode="reflect")
        self.gn1 = nn.GroupNorm(32, width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False, padding_mode="reflect")
        self.gn2 = nn.GroupNorm(32, width)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.GroupNorm(32, width))

    def forward(self, x):
        h = nn.functional.leaky_relu(self.gn1(self.conv1(x)), 0.2)
        return nn.functional.leaky_relu(self.gn2(self.conv2(h)) + self.shortcut(x), 0.2)


class Published(nn.Module):
    """Its layers in its order, which is where its tensors have their names from."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 64, 4, 2, 1, bias=False, padding_mode="reflect"), nn.GroupNorm(32, 64), nn.LeakyReLU(0.2),
            Block(64, 128, 2), Block(128, 256, 2), Block(256, 256, 2), nn.Flatten())
        self.fc_mu, self.fc_logvar, self.fc = nn.Linear(4096, 32), nn.Linear(4096, 32), nn.Linear(32, 4096)
        self.decoder = nn.Sequential(
            nn.Upsample(scale_factor=2), Block(256, 128), nn.Upsample(scale_factor=2), Block(128, 64),
            nn.Upsample(scale_factor=2), Block(64, 64), nn.Upsample(scale_factor=2), Block(64, 64),
            nn.Conv2d(64, 3, 3, 1, 1))

    def decode(self, z):
        return torch.sigmoid(self.decoder(self.fc(z).view(-1, 256, 4, 4)))


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(3)
    return Published().eval()


@pytest.fixture(scope="module")
def vectors():
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(32, generator=generator) / 3 for name in ("Smiling", "Eyeglasses")}


@pytest.fixture
def folder(reference, vectors, tmp_path):
    """As it is published: no config.json, no figures."""
    save_file(reference.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "directions").mkdir()
    torch.save(vectors["Smiling"], tmp_path / "directions" / "Smiling.pt")
    np.save(tmp_path / "directions" / "Eyeglasses.npy", vectors["Eyeglasses"].numpy())
    return tmp_path


def test_it_is_on_the_shelf_without_a_configuration(folder, tmp_path):
    (tmp_path / "other").mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "other" / "model.safetensors")
    shelf = Shelf([folder], lambda name, folder: None, {})
    assert shelf.names == [re.sub(r"[^\w.]+", "-", tmp_path.name)], "and what does not open is not"
    with pytest.raises(ModelError, match=r"no model folder in '.*other'"):
        Shelf([tmp_path / "other"], lambda name, folder: None, {})


def test_it_opens_and_its_pixels_are_the_references(folder, reference, portrait):
    editor = Editor.from_pretrained(folder)
    z = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert (editor.model.decode(z) - reference.decode(z)).abs().max() < 4e-6
        x = to_tensor([editor.input(portrait)])
        h = reference.encoder(x)
        for ours, theirs in zip(editor.model.encode(x), (reference.fc_mu(h), reference.fc_logvar(h)), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_its_directions_move_by_their_own_length_on_the_published_slider(folder, vectors):
    editor = Editor.from_pretrained(folder)
    space = editor.directions
    assert set(space.names) == {"Smiling", "Eyeglasses"}
    z = torch.randn(1, 32)
    for name, vector in vectors.items():
        assert torch.allclose(editor.shift(z, {name: 2.5}) - z, 2.5 * vector, atol=1e-5)
        assert space.sweep(z[0], name, 7) == pytest.approx([-3, -2, -1, 0, 1, 2, 3])
        shown = slider(space[name], space)
        assert shown["track"] == (-3, 3, 0.1) and (shown["low"], shown["high"]) == (-3, 3)
    # And so they do after being kept as a pack.
    space.save(folder / "directions.safetensors")
    assert Editor.from_pretrained(folder).directions["Smiling"].track == (-3, 3, 0.1)


def test_a_visitor_opens_it_by_its_name_on_the_hub(folder, fake_hub, reference):
    fake_hub.add("ayushshah/beta-vae-capacity-annealing-celeba",
                 {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")})
    editor = Editor.from_pretrained("ayushshah/beta-vae-capacity-annealing-celeba", token=False)
    assert len(editor.directions) == 2 and editor.config.head_padding == "zeros"


def test_what_is_not_it_is_refused(folder, reference):
    tensors = reference.state_dict()
    save_file(tensors | {"fc.weight": torch.zeros(4096, 31)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match="does not fit"):
        Editor.from_pretrained(folder)
    save_file({"weight": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"has no file config.json"):
        Editor.from_pretrained(folder)


def test_a_direction_that_would_be_unpickled_is_refused(folder):
    class Malice:
        def __reduce__(self):
            return print, ("it ran",)

    torch.save(Malice(), folder / "directions" / "Smiling.pt")
    with pytest.raises(DirectionsError, match=r"Smiling.pt' is damaged, or holds more than a tensor"):
        Editor.from_pretrained(folder)
