"""Tab Model: description, scores and limits of this model, and other models."""

from collections.abc import Callable

from betavae.editor import Editor
from betavae.ui import components
from betavae.ui.shelf import Shelf

# Charts of the training log: title, and lines as (label, kind of entry, field).
CHARTS = (
    ("Reconstruction error, nats per face", (("training", "train", "bce"), ("validation", "val", "bce"))),
    ("What the numbers of a face carry (KL), nats", (("training", "train", "kl"), ("target", "train", "C"))),
)
SCORES = {"images": "Faces", "bce": "Error, nats", "bce_gap": "above the pixel floor", "psnr": "Likeness, dB",
          "kl": "Carried, nats", "active_0.1": "Numbers in use", "active_1": "much in use"}
TERMS = {"bce": "Binary cross-entropy of the reconstruction", "bce_gap": "The same, less that of the pictures with themselves",
         "psnr": "PSNR of the reconstruction",
         "kl": "KL divergence of the posterior from the prior: what the latents carry of a face",
         "active_0.1": "Latents that carry more than 0.1 nat", "active_1": "Latents that carry more than 1 nat"}
LIMITS = (
    "It draws {size} x {size} pixels from {latents} numbers: it keeps what most faces have in common and loses what makes a "
    "face somebody's. Edits are of that reconstruction.",
    "It has seen photographs of celebrities, mostly young, light-skinned and made up, cut to one frame. Faces unlike those "
    "come out as something nearer to what it knows.",
    "The sliders have the names of CelebA's labels, given by annotators, some of them judgements. What moves is whatever "
    "goes along with a label in that data: glasses also age, make-up also feminises. They say nothing about a person.",
    "Do not use it to deceive, or to make pictures of people who have not agreed.",
)


def build(editor: Editor, shelf: Shelf | None = None) -> None:
    """Build the tab; with a ``shelf``, its models can be opened."""
    functions: list[Callable] = []
    if shelf:
        async def open_model(request):
            try:
                return {"key": await shelf.open(str(request.get("name")))}
            except ValueError as error:
                return {"error": str(error)}
        functions.append(open_model)

    components.html("model", None, functions, title=editor.name, facts=facts(editor),
                    scores=scores(editor), charts=charts(editor), limits=limits(editor),
                    others=shelf.names if shelf else [], picker=shelf is not None)


def facts(editor: Editor) -> list[dict]:
    """The card of the model, as terms and descriptions."""
    config, metrics = editor.config, editor.metrics
    left, top, right, bottom = config.crop
    parameters = sum(value.numel() for value in editor.model.parameters())
    rows = {
        "Kind": f"variational autoencoder, {config.block} blocks, {parameters:,} parameters",
        "Picture": f"{config.image_size} x {config.image_size} pixels from {config.latents} latents",
        "Sees": f"{left:.0%} to {right:.0%} across and {top:.0%} to {bottom:.0%} down a portrait of 178 x 218",
        "Directions": f"{len(editor.directions)}",
        "Trained": "its folder does not say how",
        "Recipes": f"know it as {editor.hash}",
    }
    if {"preset", "images_seen", "seed"} <= set(metrics):
        rows["Trained"] = f"preset {metrics['preset']}, {metrics['images_seen']:,} images, seed {metrics['seed']}"
        rows["Data"] = metrics.get("data", "CelebA")
        if rows["Data"] == "CelebA":
            rows["Data"] = "CelebA, 202,599 photographs of 10,177 celebrities (Liu et al. 2015)"
            rows["Licence"] = "code MIT; CelebA is for non-commercial research only, and so are models trained on it"
    if editor.notes:
        rows["Set aside"] = " ".join(editor.notes)
    return [{"term": term, "text": text} for term, text in rows.items()]


def scores(editor: Editor) -> dict | None:
    """The figures of metrics.json as a table; None if there are none."""
    splits = {name: figures for name, figures in editor.metrics.items()
              if isinstance(figures, dict) and isinstance(figures.get("protocol"), dict) and "bce" in figures}
    if not splits:
        return None

    def cell(figures, key):
        value = figures["protocol"].get("images") if key == "images" else figures.get(key)
        return "" if value is None else f"{value:,.0f}" if isinstance(value, int) else f"{value:,.2f}"

    return {"head": [{"text": text, "term": TERMS.get(key, "")} for key, text in SCORES.items()],
            "rows": [{"name": name, "cells": [cell(figures, key) for key in SCORES]} for name, figures in splits.items()]}


def charts(editor: Editor) -> list[dict]:
    """The curves of log.jsonl, each a list of points (images seen, value); empty without a log."""
    drawn = []
    for title, lines in CHARTS:
        series = [{"label": label, "points": [(entry["images"], entry[field]) for entry in editor.log
                                              if entry.get("kind") == kind and {"images", field} <= set(entry)]}
                  for label, kind, field in lines]
        drawn.append({"title": title, "lines": [line for line in series if line["points"]]})
    return [chart for chart in drawn if chart["lines"]]


def limits(editor: Editor) -> list[str]:
    """The limits and biases of the model, in sentences."""
    return [text.format(size=editor.config.image_size, latents=editor.config.latents) for text in LIMITS]
