"""What tests share: the real faces, where they are present, and a small model."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from betavae import VAE, VAEConfig
from train.data import CelebA, Dataset, load

ROOT = Path(__file__).resolve().parent.parent
FACES = Path(os.environ.get("CELEBA", ROOT.parent / "shared" / "celeba"))

TINY = VAEConfig(latents=8, encoder=(8, 8, 16, 16), decoder=(16, 16, 8, 8), block="preactivation", head="pixelshuffle",
                 groups=4, padding="zeros")


@pytest.fixture(scope="session")
def celeba() -> Path:
    """The folder with CelebA's images and lists."""
    if not (FACES / "img_align_celeba").is_dir():
        pytest.skip(f"needs CelebA's aligned images and lists, in {FACES} or the folder that CELEBA names")
    return FACES


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Decoded images, made once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def subset(celeba, tmp_path_factory) -> Path:
    """1,200 real faces in the official layout: 1,000 for training, 100 for val and test each."""
    folder = tmp_path_factory.mktemp("subset")
    whole = CelebA.open(celeba)
    names = np.concatenate([whole.names[whole.split == split][:n] for split, n in (("train", 1000), ("val", 100), ("test", 100))])
    for part, suffix in (("img_align_celeba", ".jpg"), ("masks", ".png")):
        (folder / part).mkdir()
        for name in names:
            source = (celeba / part / name).with_suffix(suffix)
            shutil.copyfile(source, folder / part / source.name)  # no link: a test that writes must not reach the source
    for path in celeba.glob("list_*"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session")
def dataset(subset, cache) -> Dataset:
    """``subset``, decoded for TINY."""
    return load(CelebA.open(subset), TINY, cache)


@pytest.fixture
def tiny() -> VAE:
    """An untrained model that is fast: what is tested with it does not depend on its weights."""
    torch.manual_seed(0)
    return VAE(TINY).eval()
