"""Tab Interpolate: the faces on the way from one to another."""

import gradio as gr

from betavae.editor import Editor
from betavae.ui import page

OPENING_SEEDS = {"a": 10, "b": 14}
MAX_POSITIONS = 16


def build(editor: Editor, edit: gr.HTML) -> None:
    """The tab's content; ``edit`` is the Edit tab's stage, whose face can be taken over."""
    def between(request):
        a, b = page.latent(request.get("a")), page.latent(request.get("b"))
        return {"pictures": [page.data_uri(image) for image in
                             editor.interpolate(a, b, positions(request.get("positions")), str(request.get("method")))]}

    def take(side):
        def take_edited(request):
            try:
                return {side: page.face(editor, page.edited(editor, request), "Edited face")}, None
            except ValueError as error:
                page.toast(str(error))
                return gr.skip(), gr.skip()
        return take_edited

    def load(side):
        def load_upload(upload):
            face = page.uploaded(editor, upload)
            return ({side: face}, gr.skip()) if face else (gr.skip(), None)
        return load_upload

    def source(side):
        with gr.Column(elem_classes="source", scale=0, min_width=196):
            return (page.photo_input(f"Face {side.upper()}", f"photo-{side}"),
                    gr.Button("Random face", elem_id=f"random-{side}"),
                    gr.Button("The edited face", elem_id=f"edited-{side}"))

    with gr.Row(elem_classes="workbench"):
        a = source("a")
        opening = {side: page.generated(editor, seed) for side, seed in OPENING_SEEDS.items()}
        stage = page.component("interpolate", opening, [page.answering(between)])
        b = source("b")

    for side, (photo, random, edited) in {"a": a, "b": b}.items():
        photo.input(load(side), photo, [stage, photo], preprocess=False, **page.QUIET)
        random.click(lambda side=side: ({side: page.random_face(editor)}, None), None, [stage, photo], **page.QUIET)
        # The browser holds that face; its script puts it in the place of the input's value.
        edited.click(take(side), edit, [stage, photo], js="() => [window.editedFace()]", **page.QUIET)


def positions(value: object) -> list[float]:
    """The positions that the page sent.

    Raises
    ------
    ValueError
        They are no short list of numbers from 0 to 1.
    """
    if (not isinstance(value, list) or not 1 <= len(value) <= MAX_POSITIONS
            or not all(type(x) in (int, float) and 0 <= x <= 1 for x in value)):
        raise ValueError(f"The positions are not a list of 1 to {MAX_POSITIONS} numbers from 0 to 1.")
    return [float(x) for x in value]
