"""What tests share: the real faces, where they are present, and a small model."""

import os
from pathlib import Path

import pytest
import torch

from betavae import VAE, VAEConfig

ROOT = Path(__file__).resolve().parent.parent
CELEBA = Path(os.environ.get("CELEBA", ROOT.parent / "shared" / "celeba"))

TINY = VAEConfig(latents=8, encoder=(8, 8, 16, 16), decoder=(16, 16, 8, 8), block="preactivation", head="pixelshuffle",
                 groups=4, padding="zeros")


@pytest.fixture(scope="session")
def celeba() -> Path:
    """The folder with CelebA's images and lists."""
    if not (CELEBA / "img_align_celeba").is_dir():
        pytest.skip(f"needs CelebA's aligned images and lists, in {CELEBA} or the folder that CELEBA names")
    return CELEBA


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Decoded images, made once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny() -> VAE:
    """An untrained model that is fast: what is tested with it does not depend on its weights."""
    torch.manual_seed(0)
    return VAE(TINY).eval()
