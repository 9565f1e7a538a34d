"""The app as a Space on the Hugging Face Hub: its files, its header and its requirements, uploaded in one commit.

    python -m betavae space user/face-latents                          the shipped model
    python -m betavae space user/face-latents --model user/faces       a model of the Hub, downloaded when the Space is built
    python -m betavae space user/face-latents --out DIR                only write the folder

Uploading needs a token of the Hub that may write; ``--out`` needs none.
"""

import argparse
import re
import sys
from importlib import metadata
from pathlib import Path

from huggingface_hub.utils import yaml_dump

from betavae.hub import ROOT
from betavae.release import write
from betavae.repository import Content, push

# The parts of the repository that the app needs.
PARTS = ("app.py", "betavae", "assets/celeba64", "assets/examples", "directions", "LICENSE")
SCREENSHOT = "assets/screenshot.png"
# The Hub's name for each kind of hardware; None is its default, a free CPU.
HARDWARE = {"cpu": None, "gpu": "t4-small", "zero": "zero-a10g"}
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"  # torch without CUDA, which is some 5 GB
HEADER = {
    "title": "Face Latents", "emoji": "🎛️", "colorFrom": "indigo", "colorTo": "yellow", "sdk": "gradio", "app_file": "app.py",
    "pinned": False, "license": "mit", "short_description": "Edit faces in the latent space of a β-VAE",
    "tags": ["vae", "beta-vae", "faces", "image-editing", "latent-space"],
}


class SpaceError(ValueError):
    """The Space cannot be made. The message is one sentence."""


def files(repo: str, model: str | None = None, hardware: str = "cpu") -> dict[str, Content]:
    """The files of a Space: path there -> file here, or content.

    Parameters
    ----------
    model : str, optional
        A Hub repository user/name that the Space opens instead of the shipped model.
    hardware : "cpu" | "gpu" | "zero"
        A CPU, a GPU of the Space's own, or ZeroGPU, which lends one for each call.

    Raises
    ------
    SpaceError
        The app is not beside the package, ``model`` is not user/name, or a requirement is not installed.
    """
    if hardware not in HARDWARE:
        raise SpaceError(f"--hardware is {hardware!r}; choose from {', '.join(HARDWARE)}.")
    if model and not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise SpaceError(f"--model is {model!r}; a Space opens a Hub repository user/name, so publish the model first.")
    missing = [part for part in PARTS if not (ROOT / part).exists()]
    if missing:
        raise SpaceError(f"There is no {missing[0]} in {str(ROOT)!r}; a Space is made from a clone of the repository.")
    found: dict[str, Content] = {}
    for part in (*PARTS, SCREENSHOT):
        for path in sorted((ROOT / part).rglob("*")) if (ROOT / part).is_dir() else [ROOT / part]:
            name = path.relative_to(ROOT)
            if path.is_file() and not any(piece.startswith((".", "__pycache__")) for piece in name.parts):
                found[name.as_posix()] = path
    found["requirements.txt"] = requirements(hardware).encode()
    found["README.md"] = readme(repo, model).encode()
    if model:
        found["space.py"] = (f'"""The app on the model {model}."""\n\nimport sys\n\nfrom app import main\n\n'
                             f'sys.exit(main(["--model", "{model}"]))\n').encode()
    return found


def requirements(hardware: str = "cpu") -> str:
    """requirements.txt of a Space: exactly the versions installed here. Gradio's is ``sdk_version`` in the header.

    Raises
    ------
    SpaceError
        A requirement is not installed here.
    """
    lines = [f"--extra-index-url {CPU_WHEELS}"] if hardware == "cpu" else []
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        if not name or name == "gradio":
            continue
        local = "+cpu" if name == "torch" and hardware == "cpu" else ""
        lines.append(f"{name}=={_version(name)}{local}")
    return "\n".join(lines) + "\n"


def header(repo: str | None = None, model: str | None = None) -> dict:
    """The header of a Space's README.md."""
    own: dict[str, object] = {
        "sdk_version": _version("gradio"),
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    if repo:
        own["thumbnail"] = f"https://huggingface.co/spaces/{repo}/resolve/main/{SCREENSHOT}"
    if model:
        own |= {"app_file": "space.py", "models": [model], "preload_from_hub": [model]}
    return HEADER | own


def readme(repo: str | None = None, model: str | None = None) -> str:
    """README.md of a Space: its header and a description."""
    of = f"[{model}](https://huggingface.co/{model})" if model else "the model that comes with it"
    text = f"""# Face Latents

Upload a photo and edit the face in it with sliders that move it through the latent space of a β-VAE, on {of}. Everything
runs in this Space: a photo is deleted after an hour, and an edit lives in your browser.

It draws few pixels from few numbers, and has learned from photographs of celebrities: it has their biases. The names of the
sliders are CelebA's labels and say nothing about a person. CelebA, and what was trained on it, is for non-commercial research.
"""
    return f"---\n{yaml_dump(header(repo, model), sort_keys=False)}---\n\n{text}"


def upload(repo: str, model: str | None = None, hardware: str = "cpu", *, private: bool | None = None, create_pr: bool = False,
           token: str | bool | None = None) -> str:
    """Make a Space hold the app and nothing else, in one commit; returns its address, or the pull request's.

    Raises
    ------
    SpaceError
        See ``files``.
    HubError
        See ``betavae.repository.push``.
    """
    return push(repo, lambda name: files(name, model, hardware), "Update the app", kind="space", sdk="gradio",
                hardware=HARDWARE.get(hardware), private=private, create_pr=create_pr, token=token)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``python -m betavae space``."""
    parser.add_argument("repo", metavar="USER/SPACE")
    parser.add_argument("--model", metavar="USER/NAME", help="a model on the Hub to open (default: the shipped one)")
    parser.add_argument("--hardware", choices=HARDWARE, default="cpu", help="what its requirements are for (default: cpu)")
    parser.add_argument("--private", action="store_true", help="make a new Space private")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the folder here and upload nothing")


def main(options: argparse.Namespace) -> int:
    """``python -m betavae space``; returns the exit status."""
    if options.out:
        write(files(options.repo, options.model, options.hardware), options.out)
        print(options.out)
    else:
        print(
            upload(options.repo, options.model, options.hardware, private=options.private or None, create_pr=options.create_pr)
        )
    return 0


def _version(name: str) -> str:
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        raise SpaceError(
            f"{name} is not installed here, and a Space gets the versions that are; run: pip install {name}"
        ) from None
