"""Tab Explore: the atlas of the latents, one row each, with a slider over the current face; and rows across models."""

import dataclasses
from collections.abc import Sequence

import gradio as gr
import torch
from torch import Tensor

from betavae import atlas
from betavae.attributes import attribute
from betavae.editor import Editor
from betavae.latent import traverse
from betavae.ui import components, messages

VALUES = (-3, -2, -1, 0, 1, 2, 3)  # of a traversal, in deviations of the prior
MAX_STRIPS = 8
SHOWN = 32  # rows before "show all"


def build(editor: Editor, others: Sequence[Editor], edit: gr.HTML, tabs: gr.Tabs) -> None:
    """Build the tab; ``edit`` is the Edit tab's stage, to which a face can be sent."""
    models = {model.name: model for model in (editor, *others)}

    def known(request):
        return editor.shift(messages.latent(request.get("z")), {})[0]

    def decode(request):
        return {"picture": messages.data_uri(editor.decode(known(request))[0])}

    def take(request):
        return {"z": messages.edited(editor, request).tolist(), "caption": "The face from the Edit tab"}

    def generate(request):
        face = messages.random_face(editor)
        return {"z": face["z"], "caption": face["caption"]}

    def strips(request):
        z, indices = known(request), request.get("latents")
        if not isinstance(indices, list) or not 1 <= len(indices) <= MAX_STRIPS:
            raise ValueError(f"The latents are not a list of 1 to {MAX_STRIPS}.")
        return {"strips": [strip(editor, z, messages.whole(i, "latent", 0, editor.config.latents - 1)) for i in indices]}

    def across(request):
        z, name = known(request), str(request.get("name"))
        return {"rows": [row(editor, model, z, name) for model in models.values()]}

    def go_on(event: gr.EventData):
        return messages.face(editor, known(event._data), str(event.caption)), gr.Tabs(selected="edit")

    rows = [dataclasses.asdict(latent) for latent in atlas.latents(editor)]
    most = max((row["kl"] or 0 for row in rows), default=0)
    for position, latent in enumerate(rows):
        latent |= {"share": (latent["kl"] or 0) / most if most else 0, "hidden": position >= SHOWN,
                   "nats": "" if latent["kl"] is None else f"{latent['kl']:.2f}", **told(latent["meanings"])}
    stage = components.html(
        "explore", None, [messages.answering(function) for function in (decode, take, generate, strips, across)],
        rows=rows, values=VALUES, more=max(0, len(rows) - SHOWN), batch=MAX_STRIPS, compare=len(models) > 1,
        columns=columns(models.values()), notes=[note(model) for model in models.values() if atlas.missing(model)],
        faces=f"{editor.atlas['faces']:,}" if "faces" in editor.atlas else "")
    stage.select(go_on, None, [edit, tabs], **components.QUIET)


def told(meanings: Sequence[dict]) -> dict:
    """The meanings of a latent as text: the best column with its interval, and the others."""
    def figure(value: float) -> str:
        return f"{value:.2f}".replace("-", "−")

    told = {"label": "", "figure": "", "others": ", ".join(f"{m['label']} {figure(m['r'])}" for m in meanings[1:])}
    for best in meanings[:1]:
        told |= {"label": best["label"],
                 "figure": f"r = {figure(best['r'])} [{figure(best['low'])}, {figure(best['high'])}]"}
    return told


def strip(editor: Editor, z: Tensor, index: int) -> list[str]:
    """The pictures of a face (d,) in which one latent takes each of VALUES."""
    return [messages.data_uri(image) for image in editor.decode(traverse(z, index, torch.tensor(VALUES, dtype=torch.float32)))]


def row(editor: Editor, model: Editor, z: Tensor, name: str) -> dict:
    """A row of the comparison: a model's latent for a column, traversed over the face z (d,) of ``editor``."""
    found = atlas.best(model, name)
    if found is None:
        return {"model": model.name, "latent": None}
    latent, meaning = found
    own = z if model is editor else atlas.transfer(z, editor, model)
    # All strips go the same way, towards more.
    pictures = strip(model, own, latent.index)
    return {"model": model.name, "latent": latent.index, "kl": latent.kl, **dataclasses.asdict(meaning),
            "pictures": pictures if meaning.r >= 0 else pictures[::-1]}


def columns(models) -> list[dict]:
    """The columns that some model has a latent for, by name and label, the strongest correlation first."""
    strength: dict[str, float] = {}
    for model in models:
        for latent in atlas.latents(model):
            for meaning in latent.meanings:
                strength[meaning.name] = max(strength.get(meaning.name, 0), abs(meaning.r))
    return [{"name": name, "label": attribute(name).label} for name in sorted(strength, key=lambda n: -strength[n])]


def note(model: Editor) -> str:
    """A note on what a model folder lacks, with the command that makes it."""
    stages = atlas.missing(model)
    lacks = {"evaluate": "KL (metrics.json)", "directions": "meanings (atlas.json)"}
    return (f"{model.name} has no {' and no '.join(lacks[stage] for stage in stages)} of its latents: "
            f"python train/run.py --data DIR --stages {','.join(stages)} --out FOLDER measures them.")
