"""Tab Make: a direction of your own, from faces with something and faces without, or from one face minus another."""

import base64
import tempfile
from pathlib import Path

import gradio as gr
import torch

from betavae import custom
from betavae.attributes import attribute
from betavae.directions import Direction, Directions, DirectionsError
from betavae.displacement import on_the_wire
from betavae.editor import Editor
from betavae.ui import components, messages
from betavae.ui.tabs import edit

MAX_FACES = 20  # on a side


def build(editor: Editor) -> None:
    """Build the tab. Directions made here become sliders of the Edit tab, in this visitor's page only."""
    def make(request):
        positives, negatives = (faces(request.get(side)) for side in ("positives", "negatives"))
        direction, report = custom.from_faces(str(request.get("name")), positives, negatives, editor.directions)
        direction = editor.with_displacement(direction)
        made = editor.directions.having([direction])
        return {"direction": slider(direction, editor.directions), "report": told(report), "warning": report.warning,
                "pack": packed(made)}

    def pictures(request):
        return messages.pictures(editor, request)

    def take(side):
        def take_photos(uploads):
            taken = [face for upload in uploads or [] if (face := messages.uploaded(editor, upload))]
            added = [{"z": face["z"], "picture": thumbnail["picture"], "caption": face["caption"]}
                     for face, thumbnail in zip(taken, messages.thumbnails(taken), strict=True)]
            return messages.renewed({"side": side, "faces": added}) if added else gr.skip(), None
        return take_photos

    def load(upload):
        if not upload:
            return gr.skip(), gr.skip()
        path, name = Path(upload["path"]), upload.get("orig_name") or "The file"
        try:
            loaded = custom.read(path, editor.directions)
        except DirectionsError as error:
            messages.toast(str(error).replace(str(path), name))
            return gr.skip(), None
        # A pack brings its displacement fields; a bare vector has none.
        own = [editor.with_displacement(direction) for direction in loaded.values()] if len(loaded) == 1 else loaded.values()
        sliders = [slider(direction, editor.directions) for direction in own]
        return messages.renewed({"directions": sliders}), None

    # Hidden: the component's boxes pass their files on to these inputs.
    with gr.Row(elem_classes="offstage"):
        inputs = {side: gr.File(label=side, file_count="multiple", file_types=["image"], elem_id=f"photos-{side}")
                  for side in ("positives", "negatives")}
        pack = gr.File(label="Direction", file_types=[".safetensors", ".pt", ".npy"], elem_id="pack")
    stage = components.html("make", None, [messages.answering(make), messages.answering(pictures)], most=MAX_FACES,
                            known=editor.directions.names)

    for side, photos in inputs.items():
        photos.upload(take(side), photos, [stage, photos], preprocess=False, **components.QUIET)
    pack.upload(load, pack, [stage, pack], preprocess=False, **components.QUIET)


def slider(direction: Direction, space: Directions) -> dict:
    """A new direction for the Edit tab."""
    return edit.slider(direction, space) | {"displacement": on_the_wire(direction)}


def faces(value: object) -> torch.Tensor:
    """The latents (n, d) of one side; ``from_faces`` checks that they have the model's size.

    Raises
    ------
    ValueError
        They are not a short list of latents of one size.
    """
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_FACES:
        raise ValueError(f"A side is no list of 1 to {MAX_FACES} faces.")
    rows = [messages.latent(row) for row in value]
    if len({len(row) for row in rows}) > 1:
        raise ValueError("The faces of a side have latents of different sizes.")
    return torch.stack(rows)


def told(report: custom.Report) -> list[dict]:
    """A report as terms and descriptions."""
    rows = {"Most like": ", ".join(f"{attribute(name).label} ({cosine:+.2f})" for name, cosine in report.nearest
                                  if attribute(name).listed)}
    if report.stability is not None and report.leave_one_out is not None:
        rows = {"Tells apart faces it has not seen": f"{100 * report.leave_one_out:.0f} % of them",
                "Stability": f"{report.stability:.2f} of 1, if other such faces had been taken"} | rows
    return [{"term": term, "text": text} for term, text in rows.items() if text]


def packed(directions: Directions) -> str:
    """The file that ``Directions.save`` writes, as base64."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pack.safetensors"
        directions.save(file)
        return base64.b64encode(file.read_bytes()).decode()
