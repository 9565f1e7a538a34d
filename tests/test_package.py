"""The wheel has all that the library, the app and the training need, and the lists of requirements agree."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from betavae.hub import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder into which the wheel was installed, without what it depends on."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-w", str(folder)], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", str(wheel), "--no-deps", "--no-index", "--target", str(folder / "site")], check=True)
    return folder / "site"


def run(installed: Path, folder: Path, *command: str) -> str:
    """What a command prints that sees the installed wheel and not this repository."""
    ended = subprocess.run([sys.executable, *command], cwd=folder, env=os.environ | {"PYTHONPATH": str(installed)},
                           capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_installed_package_edits_a_photo(installed, photo, tmp_path):
    run(installed, tmp_path, "-m", "betavae", "edit", str(photo), "--set", "Smiling=1.5", "--out", "edited.png")
    assert Image.open(tmp_path / "edited.png").size == Image.open(photo).size
    where = run(installed, tmp_path, "-c", "import betavae; print(betavae.__file__)")
    assert Path(where.strip()).is_relative_to(installed) and (installed / "betavae" / "py.typed").is_file()


def test_the_installed_commands_start(installed, tmp_path):
    assert "--models" in run(installed, tmp_path, str(installed / "bin" / "face-latents"), "--help")
    assert "--preset" in run(installed, tmp_path, str(installed / "bin" / "face-latents-train"), "--help")
    examples = run(installed, tmp_path, "-c", "from betavae.ui.tabs.edit import EXAMPLES; print(len(list(EXAMPLES.iterdir())))")
    assert int(examples) == len(list((ROOT / "assets" / "examples").iterdir()))


@pytest.mark.parametrize(("file", "extras"), [("requirements.txt", (None, "app")), ("requirements-train.txt", ("train",)),
                                              ("requirements-test.txt", ("test",))])
def test_the_lists_of_requirements_agree(file, extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [
        line for extra in extras for line in (project["optional-dependencies"][extra] if extra else project["dependencies"])
    ]
    listed = [re.sub(r"\s*#.*", "", line) for line in (ROOT / file).read_text().splitlines()]
    assert sorted(named) == sorted(line for line in listed if line and not line.startswith("-r"))
