"""Tab Sample: a grid of random faces, the same for the same seed."""

import secrets

import gradio as gr

from betavae.editor import Editor
from betavae.ui import page

MAX_COUNT = 48
MAX_SEED = 2**31 - 1
MAX_TEMPERATURE = 1.5
OPENING = {"seed": 0, "count": 24, "temperature": page.TEMPERATURE}


def build(editor: Editor, edit: gr.HTML, tabs: gr.Tabs) -> None:
    """The tab's content; a click on a face puts it on ``edit``, the Edit tab's stage, and goes there."""
    def draw(seed, count, temperature):
        if seed is None or count is None or temperature is None:
            # A number field is empty while it is being typed in.
            return gr.skip(), gr.skip()
        drawn = {"seed": int(seed), "count": int(count), "temperature": temperature}
        return faces(editor, drawn), drawn

    def choose(drawn, event: gr.EventData):
        z = latents(editor, drawn)[int(event.index)]
        return page.face(editor, z, f"Sample {int(event.index) + 1} of seed {drawn['seed']}"), gr.Tabs(selected="edit")

    # What the grid shows, which the inputs may already have left behind when a face in it is clicked.
    drawn = gr.State(OPENING)
    with gr.Row(elem_classes="workbench"):
        with gr.Column(elem_classes="source", scale=0, min_width=196):
            seed = gr.Number(OPENING["seed"], label="Seed", precision=0, minimum=0, maximum=MAX_SEED, elem_id="seed")
            new_seed = gr.Button("New seed", variant="primary", elem_id="new-seed")
            count = gr.Slider(1, MAX_COUNT, OPENING["count"], step=1, label="Faces", elem_id="count")
            temperature = gr.Slider(0, MAX_TEMPERATURE, OPENING["temperature"], step=0.05, label="Temperature",
                                    elem_id="temperature")
        grid = page.component("thumbnails", faces(editor, OPENING), elem_id="samples",
                              note="The same seed gives the same faces; a low temperature keeps them close to the "
                                   "average one. Click a face to edit it.")

    new_seed.click(lambda: secrets.randbelow(1_000_000), None, seed, **page.QUIET)
    gr.on([seed.change, count.change, temperature.change], draw, [seed, count, temperature], [grid, drawn],
          trigger_mode="always_last", **page.QUIET)
    grid.select(choose, drawn, [edit, tabs], **page.QUIET)


def latents(editor: Editor, drawn: dict):
    """The faces (n, d) of a seed, a count and a temperature."""
    return editor.sample(drawn["count"], drawn["seed"], drawn["temperature"])


def faces(editor: Editor, drawn: dict) -> list[dict]:
    """The same as thumbnails."""
    return [{"picture": page.data_uri(image), "caption": f"Face {i + 1}"}
            for i, image in enumerate(editor.decode(latents(editor, drawn)))]
