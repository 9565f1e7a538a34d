"""What tests share: the real faces, where they are present; a small model; a running app and a browser."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import CHROMIUM, FLAGS, Server, Visitors
from PIL import Image
from playwright.sync_api import sync_playwright
from skimage.data import astronaut

from betavae import VAE, VAEConfig, hub
from train.probes import simple_directions
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
    counts = (("train", 1000), ("val", 100), ("test", 100))
    names = np.concatenate([whole.names[whole.split == split][:n] for split, n in counts])
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


@pytest.fixture(scope="session")
def few(subset, tmp_path_factory) -> Path:
    """The first 200, 30 and 30 faces of ``subset``, in lists of nothing else: too few for a run, and read in no time."""
    folder = tmp_path_factory.mktemp("few")
    whole = CelebA.open(subset)
    names = {name for split, n in (("train", 200), ("val", 30), ("test", 30)) for name in whole.names[whole.split == split][:n]}
    for part, suffix in (("img_align_celeba", ".jpg"), ("masks", ".png")):
        (folder / part).mkdir()
        for name in names:
            file = Path(part, name).with_suffix(suffix)
            shutil.copyfile(subset / file, folder / file)
    for path in subset.glob("list_*"):
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if ".jpg" not in line or line.replace(",", " ").split()[0] in names]
        (folder / path.name).write_text("".join(kept))
    return folder


@pytest.fixture
def tiny() -> VAE:
    """An untrained model that is fast: what is tested with it does not depend on its weights."""
    torch.manual_seed(0)
    return VAE(TINY).eval()


@pytest.fixture(scope="session")
def shelf(tmp_path_factory) -> Path:
    """A folder with two untrained models, "one" and "two", of 8 latents and two directions, as train/run.py leaves them."""
    folder = tmp_path_factory.mktemp("shelf")
    mu = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        hub.save(VAE(TINY), folder / name)
        simple_directions(mu, {"Smiling": (mu[:, 0] > 0).numpy()}, {"yaw": mu[:, 1].numpy() * 15}).save(
            folder / name / "directions.safetensors")
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory, shelf):
    log = tmp_path_factory.mktemp("app") / "log"
    with Server(log, "--models", str(shelf)) as server:
        yield server
    # Stopped with Ctrl-C; and nothing that the tests did made the server write a stack trace.
    assert server.process.returncode in (0, 130)
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(server, browser):
    visitors = Visitors(server, browser)
    yield visitors
    visitors.leave()


@pytest.fixture(scope="session")
def portrait():
    """A face that fills the frame as in the training data."""
    return Image.fromarray(astronaut()[0:250, 122:326])


@pytest.fixture(scope="session")
def photo(tmp_path_factory, portrait):
    path = tmp_path_factory.mktemp("photo") / "portrait.png"
    portrait.save(path)
    return path
