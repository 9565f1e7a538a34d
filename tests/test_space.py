"""The Space: its folder, in an environment that has its requirements and nothing else, driven in a browser; and its upload."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from browser import Server, Visitors, change, pixels, set_slider, settled
from fake_hub import Fault
from huggingface_hub import metadata_load
from packaging.requirements import Requirement

import app
from betavae import Editor, space
from betavae.__main__ import main
from betavae.editor import COMPUTING
from betavae.hub import ROOT
from betavae.release import write
from betavae.repository import HubError


def environment(folder: Path, requirements: list[str]) -> str:
    """A Python whose packages are the requirements, and theirs, out of those that are installed here: links, no download."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    wanted, seen = [Requirement(line) for line in requirements], set()
    while wanted:
        requirement = wanted.pop()
        try:
            package = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            continue  # what torch wants of CUDA, where it was installed without
        version = package.version.partition("+")[0]
        assert requirement.specifier.contains(version, prereleases=True) or "+" in str(requirement.specifier), requirement
        key = (requirement.name.lower(), tuple(sorted(requirement.extras)))
        if key in seen:
            continue
        seen.add(key)
        for top in {file.parts[0] for file in package.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).is_symlink():
                (site / top).symlink_to(package.locate_file(top))
        for text in package.requires or ():
            needed = Requirement(text)
            if any(not needed.marker or needed.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)):
                wanted.append(needed)
    return str(folder / "bin" / "python")


def installed(folder: Path, requirements: list[str]) -> str:
    """The same from the package indexes, as the Hub installs it: minutes, so only where INSTALL_SPACE is set."""
    venv.create(folder, with_pip=True, symlinks=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "--extra-index-url", space.CPU_WHEELS, *requirements], check=True)
    return python


def pinned(folder: Path) -> list[str]:
    """What the Hub installs for a Space: requirements.txt, and Gradio in the version of its header."""
    lines = (folder / "requirements.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("-")] + [
        f"gradio=={metadata_load(folder / 'README.md')['sdk_version']}"
    ]


def test_readme_begins_with_the_header_of_a_space():
    own, made = metadata_load(ROOT / "README.md"), space.header()
    line = next(line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("gradio"))
    assert Requirement(line.partition("#")[0]).specifier.contains(own.pop("sdk_version"))
    assert own.pop("python_version") == "3.11"
    assert own == {name: value for name, value in made.items() if name not in ("sdk_version", "python_version")}


def test_the_package_index_has_every_version_that_is_asked_for(tmp_path):
    write(space.files("someone/faces"), tmp_path / "space")
    # PyTorch without CUDA has an index of its own, with the versions of this one.
    lines = [line.removesuffix("+cpu") for line in pinned(tmp_path / "space")]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", *lines]
    found = subprocess.run(command, capture_output=True, text=True)
    if "from versions: none" in found.stderr:
        pytest.skip("no package index can be reached")
    assert found.returncode == 0, found.stderr
    assert all(line.replace("==", "-").lower() in found.stdout.replace("_", "-").lower() for line in
               (line.replace("_", "-") for line in lines)), found.stdout


def test_the_folder_runs_where_there_is_nothing_but_what_it_asks_for(tmp_path, browser):
    folder = tmp_path / "space"
    assert main(["space", "someone/faces", "--out", str(folder)]) == 0
    parts = {path.relative_to(folder).parts[0] for path in folder.iterdir()}
    assert parts == {"README.md", "LICENSE", "app.py", "requirements.txt", "betavae", "assets", "directions"}
    assert not list(folder.rglob("__pycache__")) and sum(path.stat().st_size for path in folder.rglob("*")) < 30e6
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in pinned(folder))
    python = (installed if os.environ.get("INSTALL_SPACE") else environment)(tmp_path / "python", pinned(folder))
    answer = subprocess.run(
        [python, "-c", "import pytest"], capture_output=True, cwd=tmp_path, env={"PATH": os.environ["PATH"]}
    )
    assert answer.returncode == 1 and b"No module named 'pytest'" in answer.stderr
    log = tmp_path / "log"
    with Server(log, python=python, folder=folder) as server:
        visit = Visitors(server, browser)
        page = visit()
        before = pixels(page, "edit")
        set_slider(page, "Smiling", 1.5)
        settled(page)
        assert change(before, pixels(page, "edit"), (0.5, 1), (0.2, 0.8)) > 1
        visit.leave()
        # The container's own check of its health passes here, and fails where nothing listens.
        check = json.loads(re.search(r"HEALTHCHECK.*?CMD (\[.*?\])\n", (ROOT / "Dockerfile").read_text(), re.DOTALL)[1])
        healthy = [sys.executable, *check[1:]]
        port = server.url.rpartition(":")[2]
        assert subprocess.run(healthy, env={"GRADIO_SERVER_PORT": port, "PATH": os.environ["PATH"]}).returncode == 0
    assert "Traceback" not in log.read_text()
    answer = subprocess.run(healthy, env={"GRADIO_SERVER_PORT": port, "PATH": os.environ["PATH"]}, capture_output=True)
    assert answer.returncode != 0


def test_the_container_has_what_the_space_has():
    """No engine is needed to see that what is copied is what the app needs, and that the rest stays outside."""
    docker = (ROOT / "Dockerfile").read_text()
    copied = {part for line in re.findall(r"^COPY (.*)$", docker, re.MULTILINE) for part in shlex.split(line)[:-1]}
    assert copied == {*space.PARTS, "requirements.txt"}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert let_in == copied
    assert docker.index("USER app") < docker.index("ENTRYPOINT")


def test_the_header_is_one_that_the_hub_takes(tmp_path):
    write(space.files("someone/faces", "someone/model", "gpu"), tmp_path / "space")
    header = metadata_load(tmp_path / "space" / "README.md")
    assert header["sdk"] == "gradio" and header["sdk_version"] == metadata.version("gradio")
    assert (tmp_path / "space" / header["app_file"]).is_file() and header["license"] == "mit"
    assert header["models"] == header["preload_from_hub"] == ["someone/model"]
    assert len(header["short_description"]) <= 60  # more is refused
    assert "someone/faces/resolve/main/assets/screenshot.png" in header["thumbnail"]
    assert (tmp_path / "space" / "assets" / "screenshot.png").is_file()
    requirements = (tmp_path / "space" / "requirements.txt").read_text()
    assert "whl/cpu" not in requirements and "+cpu" not in requirements
    assert "whl/cpu" in space.requirements("cpu") and "+cpu" in space.requirements("cpu")


def test_it_is_uploaded_in_one_commit_which_takes_away_what_is_no_longer_there(fake_hub, capsys):
    assert main(["space", "someone/app"]) == 0
    assert capsys.readouterr().out == f"{fake_hub.url}/spaces/someone/app\n"
    there = fake_hub.repositories["someone/app"]
    assert there.kind == "space" and there.sdk == "gradio" and len(there.commits) == 2
    assert not [path for path in there.files if path.startswith(("tests/", "train/", "benchmarks/"))]
    there.commit("By an older version", there.files | {"train/run.py": b"old"})
    assert main(["space", "someone/app"]) == 0
    assert len(there.commits) == 4 and "train/run.py" not in there.files and "app.py" in there.files


def test_what_the_hub_asks_for_is_said(fake_hub, capsys):
    fake_hub.faults.append(Fault("POST", "create", 402))
    with pytest.raises(HubError, match="needs PRO"):
        space.upload("someone/app")
    assert not fake_hub.repositories
    assert main(["space", "someone/app", "--model", "folder"]) == 1
    assert capsys.readouterr().err.startswith("error: --model is 'folder'; a Space opens a Hub repository user/name")


def test_on_zero_gpu_every_call_that_computes_is_lent_a_gpu(shelf, monkeypatch):
    lent = []

    def gpu(function):
        def call(*args, **options):
            lent.append(function.__name__)
            return function(*args, **options)
        return call

    monkeypatch.setattr(app, "spaces", SimpleNamespace(GPU=gpu))
    editor = app.lent(Editor.from_pretrained(shelf / "one"))
    z = editor.sample(1, 0)
    editor.edit(z, {"Smiling": 1})
    editor.encode(editor.decode(z)[0].resize((178, 218)), "aligned")
    assert lent == ["shift", "decode", "decode", "_encoded"]
    lent.clear()
    editor.remaining(z, {"Smiling": 1}, ["yaw"])
    assert lent == ["remaining"]  # and none of those that it calls once more
    # None that runs a network is left out.
    methods = next(
        node for node in ast.parse((ROOT / "betavae" / "editor.py").read_text()).body if isinstance(node, ast.ClassDef)
    ).body
    running = {method.name for method in methods if isinstance(method, ast.FunctionDef) and re.search(
        r"self\.(model\.(encode|decode|cutout)|sharpener)\(", ast.unparse(method))}
    # Gradients go through _reading, so its callers are lent the GPU.
    running = running - {"_reading"} | {method.name for method in methods if isinstance(method, ast.FunctionDef)
                                        and re.search(r"self\._reading\b", ast.unparse(method))}
    assert running == set(COMPUTING)
    plain = Editor.from_pretrained(shelf / "one")
    assert torch.equal(plain.sample(1, 0), z)
