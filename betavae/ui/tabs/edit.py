"""Tab Edit: a photo or a generated face, the stage, and a slider for every direction."""

import base64
import dataclasses
import itertools
from pathlib import Path

import gradio as gr
import numpy as np
import torch

from betavae.attributes import ATTRIBUTES, GROUPS, PRESETS, attribute
from betavae.directions import Direction, Directions
from betavae.displacement import can_put_back, on_the_wire
from betavae.editor import Editor
from betavae.gallery import Gallery
from betavae.hub import ROOT
from betavae.ui import components, messages, photos

DRAWN = 6  # generated faces: the opening one, and examples
SEEDS = 64  # seeds to choose them from
ROOM = 0.15  # share of a slider's range by which every preset must be able to move an example
MALE = 0.75  # quantile of the score of Male above which a face counts as a man's
LOOKS = {"Blurry": 1, "face_brightness": -1}  # signs of the scores to minimise
EXAMPLES = ROOT / "assets" / "examples"
PRECISION_LATENTS = 256  # with more, the page gets no distance from the data: the precision matrix takes megabytes


def build(editor: Editor, gallery: Gallery | None = None) -> gr.HTML:
    """Build the tab and return its stage, which shows any face message.

    With a ``gallery`` there is a field for the number of one of its faces.
    """
    files = example_files()
    # Only their pictures; the message for the stage is made when one is chosen.
    examples = [messages.photo(editor, path, caption(path)) for path in files]
    quantities = editor.classifier.quantities if editor.classifier else []
    opening, *drawn = [messages.generated(editor, seed) for seed in promising(editor)]
    examples += drawn

    def decode(request):
        unedited = None if request.get("unedited") is None else messages.latent(request["unedited"])
        z, how = messages.latent(request.get("z")), str(request.get("how", "honest"))
        (picture,) = messages.drawn(editor, z, unedited)
        # While the page shows something else, its steps and comparisons still need the model's own picture.
        return {"picture": picture} | ({} if how == "honest" else {"drawn": messages.drawn(editor, z, how=how)[0]})

    def pictures(request):
        return messages.pictures(editor, request)

    def effects(request):
        before, after = messages.latent(request.get("before")), messages.latent(request.get("after"))
        return {"effects": [dataclasses.asdict(effect) | {
            "label": attribute(effect.name).label,
            "quantity": effect.name in quantities,
        } for effect in editor.changes(before, after) if attribute(effect.name).listed]}

    def held(request):
        return messages.held(editor, request)

    def resume(request):
        return messages.linked(editor, str(request.get("recipe")))

    def fields(request):
        # Half of the data on directions, which the page requests only if there is a photo.
        return {"fields": {name: on_the_wire(direction) for name, direction in editor.directions.items()}}

    def open(request):
        return photos.opened(editor, request)

    def save(request):
        return photos.saved(editor, request)

    def other(request):
        return photos.other(editor, request)

    def wear(request):
        return messages.worn(editor, request)

    with gr.Row(elem_classes="workbench"):
        with gr.Column(elem_classes="source", scale=0, min_width=196):
            components.html("photo")
            random = gr.Button("Random face", variant="primary", elem_id="random")
            if gallery:
                low, high = gallery.numbers
                number = gr.Number(None, label="Face number", info=f"{low} to {high}", precision=0, elem_id="face-number",
                                   placeholder=f"of {len(gallery):,}")
            thumbnails = components.html("thumbnails", messages.thumbnails(examples), elem_id="examples",
                                         note=credit())
        answers = [messages.answering(function) for function in (pictures, effects, held, resume, fields, open, save, other,
                                                                 wear, messages.loop)]
        stage = components.html("edit", opening, [messages.at_once(decode), *answers],
                                groups=catalogue(editor), count=sum(attribute(name).listed for name in editor.directions),
                                latents=editor.config.latents, space=space(editor), presets=presets(editor),
                                mask=editor.config.mask, effects=editor.classifier is not None,
                                sharp=messages.has_switch(editor))

    def choose(event: gr.EventData):
        index = int(event.index)
        if index >= len(files):
            return messages.renewed(examples[index])
        data = base64.b64encode(files[index].read_bytes()).decode()
        return photos.opened(editor, {"data": data, "name": caption(files[index])})["face"]

    random.click(lambda: messages.random_face(editor), None, stage, **components.QUIET)
    if gallery:
        def numbered(value):
            if value is None:
                return gr.skip()
            try:
                return photos.numbered(editor, gallery.path(value), f"Face {value:g}", gallery.crop)
            except ValueError as error:
                messages.toast(str(error))
                return gr.skip()

        number.submit(numbered, number, stage, **components.QUIET)
    thumbnails.select(choose, None, stage, **components.QUIET)
    return stage


def catalogue(editor: Editor) -> list[dict]:
    """The groups of the slider panel with their sliders, in order."""
    order = list(ATTRIBUTES)
    groups: dict[str, list[dict]] = {group: [] for group in GROUPS}
    for name in sorted(editor.directions, key=lambda name: order.index(name) if name in order else len(order)):
        groups[attribute(name).group].append(slider(editor.directions[name], editor.directions))
    return [{"group": group, "sliders": sliders, "more": sum(slider["listed"] and not slider["primary"] for slider in sliders)}
            for group, sliders in groups.items() if sliders]


def slider(direction: Direction, space: Directions) -> dict:
    """A direction of a space, for the page."""
    entry = attribute(direction.name)
    return {"name": direction.name, "label": entry.label, "primary": entry.primary, "words": entry.words,
            "listed": entry.listed, "vector": brief(direction.vector),
            "weights": brief(torch.linalg.solve(space.covariance.double(), direction.vector.double())),
            "put_back": can_put_back(direction.name),
            "unit": direction.unit, "per_strength": direction.per_strength,
            "low": direction.low, "high": direction.high, "track": direction.track, "quantiles": direction.quantiles}


def space(editor: Editor) -> dict:
    """The latent space for the page: its metric, and the hash of the model."""
    directions = editor.directions
    precision = brief(torch.linalg.inv(directions.covariance.double())) if directions.latents <= PRECISION_LATENTS else None
    return {"model": editor.hash, "mean": brief(directions.mean), "radius": directions.radius,
            "precision": precision}


def brief(values: torch.Tensor) -> list:
    """Numbers with 6 digits, which halves their size."""
    if values.ndim > 1:
        return [brief(row) for row in values]
    return [float(f"{value:.6g}") for value in values.tolist()]


def presets(editor: Editor) -> list[dict]:
    """The presets whose directions this model has, each with a description."""
    return [{"name": name, "targets": targets,
             "words": ", ".join(f"{attribute(direction).label} {'to the top' if percent >= 50 else 'to the bottom'} "
                                f"{max(1, min(percent, 100 - percent))} %" for direction, percent in targets.items())}
            for name, targets in PRESETS.items() if all(direction in editor.directions for direction in targets)]


def promising(editor: Editor) -> list[int]:
    """Seeds of faces that every preset can change, clear and well lit ones first.

    If fewer than ``DRAWN`` of the first ``SEEDS`` are such faces, the first seeds fill up.
    """
    directions, names = editor.directions, editor.directions.names
    faces = torch.cat([editor.sample(1, seed, messages.TEMPERATURE) for seed in range(SEEDS)])
    scores = directions.scores(faces)

    def room(name: str, percent: float) -> torch.Tensor:
        """The distance of each face from a preset's target, as a share of the slider's range."""
        direction, sign = directions[name], 1 if percent >= 50 else -1
        target = float(np.interp(percent, np.linspace(0, 100, len(direction.quantiles)), direction.quantiles))
        return sign * (target - scores[:, names.index(name)]) / (direction.high - direction.low)

    works = torch.ones(SEEDS, dtype=torch.bool)
    for preset in presets(editor):
        works &= torch.stack([room(name, percent) for name, percent in preset["targets"].items()]).amax(0) >= ROOM
    found = works.nonzero().ravel().tolist()
    looks = [(names.index(name), sign) for name, sign in LOOKS.items() if name in names]
    found.sort(key=lambda seed: sum(sign * float(directions[names[i]].percentile(float(scores[seed, i]))) for i, sign in looks))
    if "Male" in names:  # alternate women and men
        male = scores[:, names.index("Male")] > np.quantile(directions["Male"].quantiles, MALE)
        sides = [seed for seed in found if not male[seed]], [seed for seed in found if male[seed]]
        found = [seed for pair in itertools.zip_longest(*sides) for seed in pair if seed is not None]
    return (found + list(range(DRAWN)))[:DRAWN]


def example_files() -> list[Path]:
    """The photos that ship with the app, in the order of their names."""
    return sorted(path for path in EXAMPLES.glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))


def caption(path: Path) -> str:
    """The caption of an example photo."""
    return path.stem.replace("_", " ")


def credit() -> str:
    """The credit of the example photos: the first paragraph of CREDITS.md."""
    path = EXAMPLES / "CREDITS.md"
    if not path.is_file():
        return ""
    return " ".join(path.read_text(encoding="utf-8").split("\n\n")[0].replace("`", "").split())
