"""Tab Sample: grids of random faces, the same for the same seed, and the neighbours of a face."""

import gradio as gr
from torch import Tensor

from betavae.config import choice
from betavae.editor import Editor
from betavae.latent import neighbours
from betavae.ui import components, messages

MAX_COUNT = 48
MAX_SEED = 2**31 - 1
MAX_TEMPERATURE, MAX_TRUNCATION = 1.5, 3.0
PRIOR, MIXTURE, BOTH, NEIGHBOURS = "prior", "mixture", "both", "neighbours"
# Label and explanation of each source of faces.
SOURCES = {
    PRIOR: ("From noise", "The prior N(0, I): noise, as training wanted the faces to be spread"),
    MIXTURE: ("Like real faces", "A mixture of Gaussians, fitted to where the training faces are"),
    BOTH: ("Both", "The same noise through both"),
    NEIGHBOURS: ("Neighbours", "Faces around the one on the Edit tab"),
}
OPENING = {"source": PRIOR, "seed": 0, "count": 24, "temperature": messages.TEMPERATURE, "truncation": None, "radius": 3}


def build(editor: Editor, edit: gr.HTML, interpolate: gr.HTML, tabs: gr.Tabs) -> None:
    """Build the tab; a click on a face sends it to ``edit`` or ``interpolate``, those tabs' stages, and opens the tab."""
    def draw(request):
        return {"grids": grids(editor, request)}

    def chosen(event: gr.EventData):
        request, index, name = event._data, int(event.index), str(event.grid)
        caption = f"{SOURCES[name][0]} {index + 1} of seed {request['seed']}"
        return messages.face(editor, latents(editor, request, name)[index], caption)

    def to_edit(event: gr.EventData):
        return chosen(event), gr.Tabs(selected="edit")

    def to_path(event: gr.EventData):
        return chosen(event), gr.Tabs(selected="interpolate")

    sources = [{"name": name, "label": label, "term": term} for name, (label, term) in SOURCES.items()
               if editor.mixture or name not in (MIXTURE, BOTH)]
    samples = components.html("sample", None, [messages.answering(draw)], sources=sources,
                              opening=OPENING, limits={"count": MAX_COUNT, "seed": MAX_SEED, "truncation": MAX_TRUNCATION,
                                                       "temperature": MAX_TEMPERATURE, "radius": radius_limit(editor)},
                              note=note(editor))
    # Two events: Gradio drops an unopened tab's properties when an event leaves it unchanged.
    samples.select(to_edit, None, [edit, tabs], **components.QUIET)
    samples.submit(to_path, None, [interpolate, tabs], **components.QUIET)


def note(editor: Editor) -> str:
    """An explanation of the sources."""
    if editor.mixture is None:
        return "Where real faces are is not known: python train/run.py --stages directions --out FOLDER measures it."
    return f"{SOURCES[PRIOR][0]}: as training wanted faces spread. {SOURCES[MIXTURE][0]}: as they are."


def radius_limit(editor: Editor) -> int:
    """The largest radius: the distance of two random faces, about sqrt(2 d)."""
    return max(1, round((2 * editor.config.latents) ** 0.5))


def latents(editor: Editor, request: dict, name: str) -> Tensor:
    """The latents (n, d) of the grid ``name`` that a request asks for.

    Raises
    ------
    ValueError
        The request is malformed.
    """
    count, seed = (messages.whole(request.get(key), key, low, high) for key, low, high in
                   (("count", 1, MAX_COUNT), ("seed", 0, MAX_SEED)))
    if name == NEIGHBOURS:
        return neighbours(messages.edited(editor, request), count, seed,
                          messages.number(request.get("radius"), "radius", 0, radius_limit(editor)))
    truncation = request.get("truncation")
    if truncation is not None:
        truncation = messages.number(truncation, "truncation", 0.1, MAX_TRUNCATION)
    temperature = messages.number(request.get("temperature"), "temperature", 0, MAX_TEMPERATURE)
    return editor.sample(count, seed, temperature, truncation, "prior" if name == PRIOR else "mixture")


def grids(editor: Editor, request: dict) -> list[dict]:
    """The grids of a request, each with its name and pictures."""
    source = str(request.get("source"))
    choice("source", source, list(SOURCES))
    names = (PRIOR, MIXTURE) if source == BOTH else (source,)
    return [{"name": name, "label": SOURCES[name][0],
             # One by one: rounding depends on the batch size, and a face must always be the same picture.
             "pictures": [messages.data_uri(editor.decode(z)[0]) for z in latents(editor, request, name)]}
            for name in names]
