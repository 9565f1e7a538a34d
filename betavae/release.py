"""Publish a model folder on the Hugging Face Hub: its files and a card with its figures, in one commit."""

import io
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCardData

from betavae import hub
from betavae.hub import EXTRAS, FILES, stamped
from betavae.repository import Content, push

# Named one by one: reconstructions.png shows CelebA's own images, which may not be redistributed.
FIGURES = {"edits": "Edits of a generated face", "samples": "Random faces", "traversals": "One latent a row, from −3 to 3",
           "curves": "Loss, reconstruction and KL while training", "effects": "What every direction changes"}
RECORDS = ("run.json", "compare.json", "selection.json", "sharp.json")
PAPER = "1804.03599"
TERMS = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
CELEBA_TERMS = (f"[CelebA]({TERMS}): photographs of celebrities with 40 labels, for non-commercial research only. None of its "
                "images is here, and the model is for the same use.")
CELEBA_SEEN = ("photographs of celebrities, mostly young, light-skinned and made up, in one frame; other faces come out as "
               "something nearer to these. The names of the directions are CelebA's labels, some of them judgements")
OTHER_SEEN = ("the faces of its data, in one frame; other faces come out as something nearer to these. The names of the "
              "directions are that data's labels")
# (name in metrics.json, in the card, type for the Hub)
SCORES = (
    ("bce", "BCE, nats", "bce"),
    ("bce_gap", "BCE above the pixels' floor, nats", "bce_gap"),
    ("psnr", "PSNR, dB", "psnr"),
    ("ssim", "SSIM", "ssim"),
    ("lpips", "LPIPS", "lpips"),
    ("kl", "KL, nats", "kl"),
    ("active_0.1", "latents above 0.1 nat", "active_latents_0.1"),
    ("active_1", "latents above 1 nat", "active_latents_1"),
)
SPLITS = ("val", "test")


class PublishError(ValueError):
    """The model cannot be published. The message is one sentence that says what to do."""


def publish(folder: Path, repo: str, *, private: bool | None = None, create_pr: bool = False,
            token: str | bool | None = None, message: str | None = None) -> str:
    """Make a Hub repository hold a model folder (``release``), in one commit; returns its address, or the pull request's.

    Files of an earlier version that this folder lacks are deleted in the same commit. ``private`` is the visibility of a new
    repository: True, or None for the account's default.

    Raises
    ------
    PublishError
        A file is missing or belongs to other weights.
    HubError
        See ``betavae.repository.push``.
    """
    folder = Path(folder)
    return push(repo, lambda name: release(folder, name), message or f"Publish {repo.rpartition('/')[2]}",
                ours=_ours, private=private, create_pr=create_pr, token=token)


def release(folder: Path, repo: str) -> dict[str, Content]:
    """The files that ``publish`` puts into a repository: path there -> file here, or content.

    Raises
    ------
    PublishError
        A file is missing or belongs to other weights.
    """
    directions = hub.directions_path(folder)
    files: dict[str, Content] = {name: folder / name for name in (*FILES, *EXTRAS, *RECORDS) if (folder / name).is_file()}
    if directions and directions.is_file():
        files["directions.safetensors"] = directions
    for name, stage in zip(FILES, ("fit", "fit", "directions", "evaluate"), strict=True):
        if name not in files:
            raise PublishError(f"{str(folder)!r} has no {name}; run the stage {stage} first.")
    weights = hub.model_hash(hub.load_model(folder))
    for path in (content for content in files.values() if isinstance(content, Path)):
        owner = stamped(path) if path.suffix in (".safetensors", ".json") else None
        if owner not in (None, weights):
            raise PublishError(f"{str(path)!r} is of the weights {owner} and the model has {weights}; make it anew first.")
    loaded = hub.load(folder)
    for split in SPLITS:
        if split not in loaded.folder.metrics:
            raise PublishError(f"{str(folder / 'metrics.json')!r} has no figures of {split}; run the stage evaluate first.")
    files |= {f"figures/{name}.png": folder / "figures" / f"{name}.png" for name in FIGURES
              if (folder / "figures" / f"{name}.png").is_file()}
    # One tensor a direction, for code that reads the published model's.
    for name, direction in loaded.directions.items():
        buffer = io.BytesIO()
        torch.save(direction.vector.float().clone(), buffer)
        files[f"directions/{name}.pt"] = buffer.getvalue()
    # Keep a card that somebody wrote.
    own = folder / "README.md"
    files["README.md"] = own if own.is_file() else card(loaded, files, repo).encode()
    return files


def write(files: dict[str, Content], folder: Path) -> None:
    """Write the files of a release into a folder, which must be empty or new."""
    if folder.exists() and any(folder.iterdir()):
        raise PublishError(f"{str(folder)!r} is not empty; the files to publish need a folder of their own.")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())


def card(loaded: hub.Loaded, files: dict[str, Content], repo: str) -> str:
    """The model card: description, use, data and terms, recipe, scores with their protocol, limits."""
    config, metrics, names = loaded.model.config, loaded.folder.metrics, loaded.directions.names
    title = repo.rpartition("/")[2]
    made = {key: metrics.get(key) for key in ("preset", "images_seen", "seed")}
    source = metrics.get("data", "CelebA")
    celeba: dict[str, Any] = {"license": "other", "license_name": "celeba-non-commercial-research", "license_link": TERMS,
              "datasets": ["flwrlabs/celeba"]}
    thumbnail: dict[str, Any] = {"thumbnail": "figures/edits.png"} if "figures/edits.png" in files else {}
    data = ModelCardData(
        **(celeba if source == "CelebA" else {"datasets": [source]} if "/" in source else {}), library_name="betavae",
        pipeline_tag="image-to-image", model_name=title, eval_results=_results(metrics),
        tags=["vae", "beta-vae", "faces", "latent-editing", "disentanglement", f"arxiv:{PAPER}"],
        **thumbnail)
    pictures = "\n\n".join(f"![{FIGURES[name]}](figures/{name}.png)" for name in FIGURES if f"figures/{name}.png" in files)
    train = (f"Trained with the preset `{made['preset']}` on {made['images_seen']:,} images drawn from the training split of "
             f"{source} (seed {made['seed']})." if all(value is not None for value in made.values()) else
             "How it was trained is not recorded with it.")
    terms, seen = (CELEBA_TERMS, CELEBA_SEEN) if source == "CelebA" else (
        f"Trained on {source}; whoever publishes this model says here under which terms.", OTHER_SEEN)
    example = names[0] if names else "NAME"
    sharp = "" if loaded.folder.sharpener is None else """
A second decoder (`sharp.safetensors`) draws at twice the size: `editor.decode(z, sharp=True)`. The detail that it adds is a
network's guess and is not encoded in z; no figure below is measured on it.
"""
    return f"""---
{data.to_yaml()}
---

# {title}

A variational autoencoder of faces at {config.image_size} × {config.image_size} pixels with {config.latents} latents, and
{len(names)} directions in which a face can be edited. The objective follows
[Understanding disentangling in β-VAE](https://arxiv.org/abs/{PAPER}) (Burgess et al. 2018).

{pictures}

## Use

With the package `betavae` (in a clone of Face Latents: `pip install .`), in the browser by `python app.py --model {repo}`, or:

```python
from betavae import Editor

editor = Editor.from_pretrained("{repo}")
z = editor.encode("photo.jpg")
editor.edit(z, {{"{example}": 1.5}})[0].save("edited.png")
```
{sharp}
`directions/NAME.pt` has each direction as one tensor ({config.latents},): `edited = z + strength * direction`. How far
the data reaches is in `directions.safetensors`.

## Data and terms

{terms}

## Recipe

{train} Weights `{hub.model_hash(loaded.model)}`{", settings in `run.json`" if "run.json" in files else ""}; the crop is
{", ".join(f"{edge:.4f}" for edge in config.crop)} (left, top, right, bottom) of the aligned 178 × 218 frame.

## Scores

{_table(metrics)}

{_protocol(metrics)} All figures, each with its protocol, are in `metrics.json`.

Directions: {", ".join(names) or "none"}.

## Limits and bias

It draws {config.image_size} × {config.image_size} pixels from {config.latents} numbers: what makes a face somebody's is lost.
It has seen {seen}: a direction moves whatever goes along with a label in that data, and says nothing about a person. Do not use
it to infer anything about people, to deceive, or to make pictures of people who have not agreed.
"""


def _results(metrics: dict) -> list[EvalResult]:
    """The scores for the Hub's model-index, each with its protocol."""
    results = []
    for split in SPLITS:
        protocol = metrics[split]["protocol"]
        for key, name, kind in SCORES:
            if key in metrics[split]:
                results.append(
                    EvalResult(
                        task_type="image-to-image",
                        task_name="Reconstruction",
                        dataset_type="flwrlabs/celeba" if protocol.get("data", "CelebA") == "CelebA" else protocol["data"],
                        dataset_name=protocol.get("data", "CelebA"),
                        dataset_split=split,
                        dataset_args={key: protocol[key] for key in ("images", "crop", "image_size", "z") if key in protocol},
                        metric_type=kind,
                        metric_name=name,
                        metric_value=round(float(metrics[split][key]), 4),
                    )
                )
    return results


def _table(metrics: dict) -> str:
    known = [(key, name) for key, name, _ in SCORES if all(key in metrics[split] for split in SPLITS)]
    rows = [f"| | {' | '.join(SPLITS)} |", "| --- | --- | --- |"]
    rows.append("| images | " + " | ".join(f"{metrics[split]['protocol']['images']:,}" for split in SPLITS) + " |")
    rows += [f"| {name} | " + " | ".join(f"{metrics[split][key]:,.6g}" for split in SPLITS) + " |" for key, name in known]
    return "\n".join(rows)


def _protocol(metrics: dict) -> str:
    protocol = metrics["test"]["protocol"]
    z = "the posterior mean" if protocol.get("z") == "mu" else f"z as {protocol.get('z')}"
    return (
        f"Images in [0, 1], reconstructed from {z}; BCE and KL are sums over an image. The floor is the images' BCE with "
        "themselves."
    )


def _ours(path: str) -> bool:
    """Whether a file of a repository may be of an earlier release; other files are the owner's own."""
    return path in (*FILES, *EXTRAS, *RECORDS) or (path.startswith("directions/") and path.endswith(".pt")) or \
        path in {f"figures/{name}.png" for name in FIGURES}
