"""A model folder, here or on the Hugging Face Hub: config.json, model.safetensors, and optional files."""

import hashlib
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch.overrides import TorchFunctionMode

from betavae import published
from betavae.classifier import Classifier
from betavae.config import VAEConfig
from betavae.directions import Directions
from betavae.files import load_tensors, save_tensors, write
from betavae.mixture import Mixture
from betavae.model import VAE
from betavae.repository import HubError, fetch
from betavae.sharp import Sharpener

# The folder with assets/ and directions/: the repository, or a folder in the package if it was installed from a wheel.
_PACKAGE = Path(__file__).resolve().parent
ROOT = _PACKAGE / "shipped" if (_PACKAGE / "shipped").is_dir() else _PACKAGE.parent
SHIPPED = ROOT / "assets" / "celeba64"
FILES = ("config.json", "model.safetensors", "directions.safetensors", "metrics.json")
# Optional files of a model folder.
EXTRAS = ("atlas.json", "classifier.safetensors", "log.jsonl", "mixture.safetensors", "sharp.safetensors")

INITIALISERS = ("normal_", "uniform_", "trunc_normal_", "zero_", "fill_", "copy_")  # methods of tensors

MAX_BYTES = 2**29  # largest repository to download


class ModelError(ValueError):
    """The model cannot be loaded. The message is one sentence that names the file."""


def resolve(name: str | Path | None, **source) -> Path:
    """The model folder for None (the shipped model), a folder's path, or the name of a Hub repository, "user/repo".

    A folder that exists wins over a repository of the same name. ``source``: see ``download``.

    Raises
    ------
    ModelError
        There is no such folder or repository, or the Hub cannot be reached.
    """
    if name is None:
        return SHIPPED
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else download(str(name), **source)


def download(repo: str, **source) -> Path:
    """The model folder of a Hub repository, "user/repo", downloaded if it is not in the local cache.

    ``source`` has huggingface_hub's ``revision``, ``token``, ``cache_dir``, ``local_files_only`` and ``force_download``.
    With ``token=False`` only public repositories open, and no private one from the cache.

    Raises
    ------
    ModelError
        The name is not user/repo, there is no such repository, it is too large, or the Hub cannot be reached.
    """
    if len(Path(repo).parts) != 2 or Path(repo).is_absolute():
        raise ModelError(f"There is no model folder {repo!r}; give a folder or a Hub repository as user/repo.")
    try:
        return fetch(repo, (*FILES, *EXTRAS, *published.PATTERNS), MAX_BYTES, **source)
    except HubError as error:
        raise ModelError(str(error)) from error


@dataclass(frozen=True)
class Folder:
    """The optional contents of a model folder."""

    metrics: dict = field(default_factory=dict)
    classifier: Classifier | None = None
    atlas: dict = field(default_factory=dict)
    mixture: Mixture | None = None
    log: list[dict] = field(default_factory=list)
    sharpener: Sharpener | None = None
    notes: tuple[str, ...] = ()  # messages on files that were set aside


class Loaded(NamedTuple):
    """A model, its directions, and the rest of its folder."""

    model: VAE
    directions: Directions
    folder: Folder


def load(folder: Path) -> Loaded:
    """The contents of a model folder.

    Raises
    ------
    ModelError
        A file is missing, damaged, or does not belong to the others.
    DirectionsError, ClassifierError, MixtureError, SharpenerError
        The same for the directions, the classifier, the mixture and the second decoder.
    """
    model, weights = _model(folder)
    latents = model.config.latents
    notes: list[str] = []

    def own(path: Path) -> Path | None:
        if stale := _stale(path, weights, folder):
            notes.append(stale)
            warnings.warn(stale, StaleFile, stacklevel=3)
        return path if path.exists() and not stale else None

    directions = own(directions_path(folder) or folder / "directions.safetensors")
    classifier, mixture, sharp = (own(folder / f"{name}.safetensors") for name in ("classifier", "mixture", "sharp"))
    metrics, atlas = (own(folder / f"{name}.json") for name in ("metrics", "atlas"))
    rest = Folder(
        metrics=_read_json(metrics) if metrics else {},
        classifier=Classifier.load(classifier) if classifier else None,
        atlas=_read_json(atlas) if atlas else {},
        mixture=Mixture.load(mixture, latents) if mixture else None,
        log=_read_log(folder / "log.jsonl"),
        sharpener=Sharpener.load(sharp, weights) if sharp else None,
        notes=tuple(notes),
    )
    return Loaded(model, Directions.load(directions, latents) if directions else published.directions(folder, latents), rest)


class StaleFile(UserWarning):
    """A file beside a model belongs to another model and is set aside."""


def stamp(path: str | Path, weights: str) -> None:
    """Write the hash of the weights it belongs to (``model_hash``) into a .safetensors or .json file of a model folder."""
    path = Path(path)
    if path.suffix == ".json":
        write(path, json.dumps({"weights": weights} | _read_json(path) | {"weights": weights}, indent=1) + "\n")
    else:
        tensors, metadata = load_tensors(path)
        save_tensors(tensors, path, metadata | {"weights": weights})


def stamped(path: str | Path) -> str | None:
    """The hash of the weights that a file belongs to, by its ``stamp``; None if it has none."""
    path = Path(path)
    if path.suffix == ".json":
        return _read_json(path).get("weights")
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("weights")
    except (SafetensorError, OSError):
        return None  # whoever reads it says what is wrong


def _stale(path: Path, weights: str, folder: Path) -> str | None:
    """Why a file that is there is not this model's, as a sentence; None if it is.

    A file without a stamp is taken on trust where nothing in the folder's run.json says that its files are stamped: shipped
    folders and those from before there were stamps. A classifier of pixels belongs to data, not to weights, and needs none.
    """
    if not path.exists():
        return None
    owner = stamped(path)
    if owner is None and path.name != "classifier.safetensors":
        owner = weights if _read_json(folder / "run.json").get("weights") is None else "unknown"
    if owner in (None, weights):
        return None
    return f"{str(path)!r} is of the weights {owner} and this model has {weights}: it is set aside; make it anew."


def model_hash(model: VAE) -> str:
    """12 hexadecimal digits of the SHA-256 of the weights, as ``save`` rounds them: which model it is, wherever it lies."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().half().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _read_json(path: Path) -> dict:
    """The object in a file, empty where there is no file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ModelError(f"{str(path)!r} is damaged: it is not JSON.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{str(path)!r} is damaged: it is no JSON object.")
    return content


def _read_log(path: Path) -> list[dict]:
    """The entries of a training log, none where there is no file."""
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    except ValueError as error:
        raise ModelError(f"{str(path)!r} is damaged: a line of it is not JSON.") from error
    if not all(isinstance(entry, dict) for entry in entries):
        raise ModelError(f"{str(path)!r} is damaged: a line of it is no JSON object.")
    return entries


class Uninitialised(TorchFunctionMode):
    """A context in which modules are made without initial values.

    For meta tensors PyTorch computes them with its decompositions, and importing those (torch._dynamo) takes longer than
    loading a model.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if getattr(func, "__module__", None) == "torch.nn.init" or name in INITIALISERS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def opens(folder: Path) -> bool:
    """Whether a folder looks like a model folder: it has weights, and a configuration or the published model's names."""
    path = folder / "model.safetensors"
    if not path.is_file() or (folder / "config.json").is_file():
        return path.is_file()
    try:
        with safe_open(path, framework="pt") as file:
            return published.recognised(file.keys())
    except (SafetensorError, OSError):
        return False


def load_model(folder: Path) -> VAE:
    """The model of a folder, in eval mode on the CPU.

    Loading is strict: exactly the tensors of the config's model, of the right shape, and finite. The published model of the
    ``capacity`` recipe has no config.json and is recognised by its tensors' names.

    Raises
    ------
    ModelError
        config.json or model.safetensors is missing, damaged, or does not belong to the other.
    """
    return _model(folder)[0]


def _model(folder: Path) -> tuple[VAE, str]:
    """``load_model`` with the model's hash, which is computed to check the file."""
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ModelError(f"The model folder {str(folder)!r} has no file model.safetensors.")
    try:
        weights, metadata = load_tensors(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{str(path)!r} is damaged: it cannot be read as safetensors.") from error
    if (folder / "config.json").is_file():
        try:
            config = VAEConfig.load(folder / "config.json")
        except (ValueError, OSError) as error:
            raise ModelError(f"{str(folder / 'config.json')!r} is not a model's configuration: {error}") from error
    elif published.recognised(weights):
        config, weights = published.weights(weights)
    else:
        raise ModelError(f"The model folder {str(folder)!r} has no file config.json.")
    # Meta tensors without initialisation: no value is computed only to be overwritten.
    with torch.device("meta"), Uninitialised():
        model = VAE(config)
    try:
        model.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ModelError(f"{str(path)!r} does not fit its configuration: {first}") from error
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise ModelError(f"{str(path)!r} is damaged: it has weights that are not finite.")
    found = model_hash(model)
    if metadata.get("weights") not in (None, found):
        raise ModelError(f"{str(path)!r} is damaged: its weights were {metadata['weights']} and are {found}.")
    model.float()  # stored in half precision, computed in single
    return model.eval().to(memory_format=torch.channels_last), found


def directions_path(folder: Path) -> Path | None:
    """The file of a folder's directions: in the folder, or for a shipped model in directions/ under its name."""
    if (folder / "directions.safetensors").exists():
        return folder / "directions.safetensors"
    return ROOT / "directions" / f"{folder.name}.safetensors" if folder.resolve().parent == SHIPPED.parent else None


def save(model: VAE, folder: str | Path) -> None:
    """Write config.json and model.safetensors, each whole or not at all.

    The weights are rounded to float16, which halves the file; a run's figures are measured on the saved model. Buffers are not
    rounded: running variances and counts may exceed float16.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parameters = dict(model.named_parameters())
    weights = {name: (value.half() if name in parameters else value).cpu().contiguous()
               for name, value in model.state_dict().items()}
    save_tensors(weights, folder / "model.safetensors", {"format": "pt", "weights": model_hash(model)})
    write(folder / "config.json", model.config.to_json() + "\n")


def save_all(loaded: Loaded, folder: str | Path) -> None:
    """Write a model folder that ``load`` reads as ``loaded``; files are stamped with the hash of the weights."""
    folder, rest = Path(folder), loaded.folder
    save(loaded.model, folder)
    weights = model_hash(loaded.model)
    loaded.directions.save(folder / "directions.safetensors")
    for name in ("classifier", "mixture"):
        if getattr(rest, name) is not None:
            getattr(rest, name).save(folder / f"{name}.safetensors")
    if rest.sharpener is not None:
        rest.sharpener.save(folder / "sharp.safetensors", weights)
    for name in ("metrics", "atlas"):
        if getattr(rest, name):
            write(folder / f"{name}.json", json.dumps(getattr(rest, name), indent=1) + "\n")
    if rest.log:
        write(folder / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in rest.log))
    for name in ("directions.safetensors", "mixture.safetensors", "metrics.json", "atlas.json"):
        if (folder / name).exists():
            stamp(folder / name, weights)
