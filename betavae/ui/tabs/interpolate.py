"""Tab Interpolate: a path through two or more faces, live, as a strip, and in motion."""

import base64

import gradio as gr
import torch
from torch import Tensor

from betavae import animation
from betavae.editor import Editor
from betavae.latent import EASINGS, along, evenly
from betavae.recipe import Recipe
from betavae.ui import components, messages

OPENING_SEEDS = (10, 14)
MAX_FACES = 8
MAX_POSITIONS = 16
MIN_SECONDS, MAX_SECONDS = 0.4, 4.0  # from one face to the next
FPS = 25
SIZES = {"gif": 256, "mp4": 512}  # pixels; a GIF of twice the size is ten times as large as an MP4


def build(editor: Editor, edit: gr.HTML, tabs: gr.Tabs) -> gr.HTML:
    """Build the tab and return its stage, which adds any face message to the path.

    ``edit`` is the Edit tab's stage: its face can be added to the path, and a face of the path can be sent to it.
    """
    def between(request):
        z = along(faces(editor, request), positions(request), *form(request))
        return {"pictures": [messages.data_uri(image) for image in editor.decode(z)],
                "latents": [[round(value, 5) for value in row] for row in z.tolist()]}

    def take(request):
        try:
            return messages.face(editor, messages.edited(editor, request), "Edited face")
        except ValueError as error:
            messages.toast(str(error))
            return gr.skip()

    def load(upload):
        # Empty the input for the next photo.
        return messages.uploaded(editor, upload) or gr.skip(), None

    def go_on(event: gr.EventData):
        request = event._data
        z = along(faces(editor, request), positions(request), *form(request))[0]
        return messages.face(editor, z, str(request["caption"])), gr.Tabs(selected="edit")

    def animate(event: gr.EventData):
        request = event._data
        try:
            yield from progress(editor, request)
        except ValueError as error:
            yield {"job": request.get("job"), "error": str(error)}

    with gr.Row(elem_classes="workbench"):
        with gr.Column(elem_classes="source", scale=0, min_width=196):
            photo = components.photo_input("Add a photo", "photo-path")
            random = gr.Button("Add a random face", elem_id="random-path")
            edited = gr.Button("Add the edited face", elem_id="edited-path")
        stage = components.html("interpolate", None, [messages.answering(between)], easings=list(EASINGS), most=MAX_FACES,
                                model=editor.hash, opening=[messages.generated(editor, seed) for seed in OPENING_SEEDS])
        motion = components.html("animation", seconds=[MIN_SECONDS, MAX_SECONDS], sizes=SIZES)

    photo.input(load, photo, [stage, photo], preprocess=False, **components.QUIET)
    random.click(lambda: messages.random_face(editor), None, stage, **components.QUIET)
    # The browser has that face; the script passes it as the input's value.
    edited.click(take, edit, stage, js=edited_face(), **components.QUIET)
    stage.select(go_on, None, [edit, tabs], **components.QUIET)
    # "multiple": Gradio takes a stopped export for a running one and would drop the next.
    export = motion.submit(animate, None, motion, concurrency_limit=2, trigger_mode="multiple", **components.QUIET)
    motion.stop(stopped, None, motion, cancels=[export], **components.QUIET)
    return stage


def stopped(event: gr.EventData) -> dict:
    """The message that the export of ``job`` has been stopped."""
    return {"job": event.job, "cancelled": True}


def edited_face() -> str:
    """JavaScript that returns the face on the Edit tab's stage: {z, strengths}."""
    return (f"async () => import({components.module('state')})"
            ".then(({ state }) => [{ z: state.edited, strengths: {} }])")


def faces(editor: Editor, request: dict) -> Tensor:
    """The faces (m, d) of a request's path.

    Raises
    ------
    ValueError
        They are not a short list of latents of this model.
    """
    value = request.get("faces")
    if not isinstance(value, list) or not 2 <= len(value) <= MAX_FACES:
        raise ValueError(f"The faces are not a list of 2 to {MAX_FACES} latents.")
    return torch.cat([editor.shift(messages.latent(z), {}) for z in value])


def form(request: dict) -> tuple[str, str]:
    """Method and easing of a request's path; ``along`` checks them."""
    return str(request.get("method")), str(request.get("easing"))


def positions(request: dict) -> Tensor:
    """The positions (n,) that a request asks for.

    Raises
    ------
    ValueError
        They are not a short list of numbers from 0 to 1.
    """
    value = request.get("positions")
    if (not isinstance(value, list) or not 1 <= len(value) <= MAX_POSITIONS
            or not all(type(x) in (int, float) and 0 <= x <= 1 for x in value)):
        raise ValueError(f"The positions are not a list of 1 to {MAX_POSITIONS} numbers from 0 to 1.")
    return torch.tensor(value, dtype=torch.float32)


def progress(editor: Editor, request: dict):
    """The messages of an export: the number of frames done, and at last the file."""
    path, closed, kind = faces(editor, request), request.get("closed") is True, str(request.get("format"))
    if kind not in animation.FORMATS:
        raise ValueError(f"The format is {kind!r}; choose from {', '.join(animation.FORMATS)}.")
    seconds = messages.number(request.get("seconds"), "seconds", MIN_SECONDS, MAX_SECONDS)
    count = round((len(path) - (not closed)) * seconds * FPS)
    job = {"job": request.get("job"), "total": count}
    first = Recipe(editor.hash, latent=tuple(round(value, 5) for value in path[0].tolist()))
    writer = animation.FORMATS[kind](FPS, first)
    latents = along(path, evenly(count, closed), *form(request), closed)
    for done, frame in enumerate(animation.frames(editor, latents, SIZES[kind])):
        if done % animation.BATCH == 0:
            yield job | {"done": done}
        writer.add(frame)
    data = base64.b64encode(writer.finish()).decode()
    yield job | {"done": count, "kind": kind, "file": f"data:{animation.MIME[kind]};base64,{data}"}
