"""What tests share: the real faces, where they are present; a small model; a running app and a browser."""

import dataclasses
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from browser import CHROMIUM, FLAGS, Server, Visitors
from fake_hub import FakeHub
from huggingface_hub.utils._xet import XetSessionHolder
from PIL import Image
from playwright.sync_api import sync_playwright
from skimage.data import astronaut

from betavae import VAE, Editor, VAEConfig, hub
from betavae.sharp import SharpConfig, Sharpener
from train import synthetic
from train.cache import Dataset, load
from train.celeba import CelebA
from train.directions.simple import simple_directions
from train.lists import SPLITS

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


def first_faces(source: Path, counts: tuple[int, int, int], folder: Path) -> Path:
    """The first so many faces of the training, val and test split, copied into a folder with lists of nothing else.

    Copied, not linked: a test that writes must not reach the source. And lists of a few faces are read in no time.
    """
    whole = CelebA.open(source)
    lists = whole.lists
    names = {name for split, n in zip(SPLITS, counts, strict=True) for name in lists.names[lists.split == split][:n]}
    for part, suffix in (("img_align_celeba", ".jpg"), ("masks", ".png")):
        (folder / part).mkdir()
        for name in names:
            file = Path(part, name).with_suffix(suffix)
            shutil.copyfile(source / file, folder / file)
    for path in source.glob("list_*"):
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if ".jpg" not in line or line.replace(",", " ").split()[0] in names]
        (folder / path.name).write_text("".join(kept))
    return folder


@pytest.fixture(scope="session")
def subset(tmp_path_factory) -> Path:
    """1,200 faces in the official layout: real ones, or drawn ones where there are none."""
    folder = tmp_path_factory.mktemp("subset")
    counts = (1000, 100, 100)
    return first_faces(FACES, counts, folder) if (FACES / "img_align_celeba").is_dir() else synthetic.write(folder, counts)


@pytest.fixture(scope="session")
def dataset(subset, cache) -> Dataset:
    """``subset``, decoded for TINY."""
    return load(CelebA.open(subset), TINY, cache)


@pytest.fixture(scope="session")
def unseen(celeba, cache) -> Dataset:
    """The val and test faces, 2,000 each, framed as for the shipped model."""
    faces = CelebA.open(celeba)
    return load(dataclasses.replace(faces, lists=faces.lists.only(faces.lists.split != "train")), VAEConfig(), cache)


@pytest.fixture(scope="session")
def few(subset, tmp_path_factory) -> Path:
    """Too few of them for a run."""
    return first_faces(subset, (200, 30, 30), tmp_path_factory.mktemp("few"))


@pytest.fixture
def fake_hub(tmp_path_factory, monkeypatch):
    """A Hub on loopback that the real client talks to, with the token of "someone" as this machine's own."""
    with FakeHub() as there:
        monkeypatch.setenv("HF_TOKEN", "hf_owner")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        constants = "huggingface_hub.constants."
        monkeypatch.setattr(constants + "ENDPOINT", there.url)
        monkeypatch.setattr(constants + "HUGGINGFACE_CO_URL_TEMPLATE", there.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants + "HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub-cache")))
        monkeypatch.setattr(constants + "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants + "HF_HUB_DISABLE_XET", True)
        for waits in ("huggingface_hub.utils._http", "huggingface_hub.file_download", "betavae.repository"):
            monkeypatch.setattr(f"{waits}.time", SimpleNamespace(sleep=there.waited.append, time=time.time))
        yield there


@pytest.fixture
def xet_hub(fake_hub, tmp_path_factory, monkeypatch):
    """The same Hub, with Xet's storage behind it."""
    fake_hub.xet = tmp_path_factory.mktemp("xet")
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path_factory.mktemp("xet-cache")))
    for name, value in {"RETRY_MAX_ATTEMPTS": "1", "RETRY_BASE_DELAY": "10ms"}.items():
        monkeypatch.setenv(f"HF_XET_CLIENT_{name}", value)
    monkeypatch.setattr("huggingface_hub.utils._xet._GLOBAL_XET_HOLDER", XetSessionHolder())  # which reads these
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    return fake_hub


@pytest.fixture
def tiny() -> VAE:
    """An untrained model that is fast: what is tested with it does not depend on its weights."""
    torch.manual_seed(0)
    return VAE(TINY).eval()


@pytest.fixture(scope="session")
def shelf(tmp_path_factory) -> Path:
    """A folder with untrained models of 8 latents, as train/run.py leaves them: "one" and "two", which has a mask, with two
    directions each; and "bare" without any."""
    folder = tmp_path_factory.mktemp("shelf")
    mu = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    for seed, name in enumerate(("one", "two", "bare")):
        torch.manual_seed(seed)
        hub.save(VAE(dataclasses.replace(TINY, mask=name == "two")), folder / name)
        if name == "bare":
            continue
        simple_directions(mu, {"Smiling": (mu[:, 0] > 0).numpy()}, {"yaw": mu[:, 1].numpy() * 15}).save(
            folder / name / "directions.safetensors")
    return folder


@pytest.fixture(scope="session")
def sharp_model(tmp_path_factory) -> Path:
    """The shipped model's folder with a second decoder, an untrained one, which adds a noise of its own."""
    folder = tmp_path_factory.mktemp("sharp") / "sharp"
    editor = Editor.from_pretrained(device="cpu")
    torch.manual_seed(0)
    sharpener = Sharpener(SharpConfig(editor.config.latents, editor.config.image_size, width=16, blocks=1))
    torch.nn.init.normal_(sharpener.last.weight, std=0.15)
    editor.sharpener = sharpener
    editor.save_pretrained(folder)
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


@pytest.fixture(scope="module")
def one_page(server, browser):
    """One visitor's page for all tests of a module, for their speed."""
    visitors = Visitors(server, browser)
    yield visitors()
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
