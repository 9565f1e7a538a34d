"""Face Latents as a web app.

    python app.py [--model FOLDER_OR_REPO] [--models FOLDER ...] [--data DIR] [--device DEVICE] [--mcp]

``--help`` lists the options.
"""

import argparse
import functools
import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path

try:
    import spaces  # on ZeroGPU, which wants to be there before torch is
except ImportError:
    spaces = None

import gradio as gr
import torch
from starlette.middleware import Middleware
from starlette.routing import Mount

from betavae.editor import COMPUTING, Editor
from betavae.gallery import Gallery
from betavae.ui import api, components
from betavae.ui.once import Once
from betavae.ui.shelf import PREFIX, Shelf
from betavae.ui.tabs import edit, explore, interpolate, make, model, sample
from betavae.ui.titled import Titled

NOTE = ("A small model trained on celebrity photos: it has their biases, and it blurs what it does not know. "
        "The attribute names are CelebA's labels, not facts about a person.")
TITLE = "Face Latents"
TAGLINE = "Make a face smile, turn or age"
DESCRIPTION = f"{TAGLINE}: a slider for each, on your photo or on a face that is nobody's."


def build_demo(editor: Editor, shelf: Shelf | None = None, others: Sequence[Editor] = (),
               gallery: Gallery | None = None) -> gr.Blocks:
    """The app around one editor, which every visitor shares: what belongs to a visitor stays in the browser.

    ``shelf`` has the other models that a visitor can go to; the latents of ``others`` stand beside the editor's own; the
    faces of ``gallery`` can be asked for by number.
    """
    config = editor.config
    # Uploads are deleted after an hour.
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as demo:
        components.html(
            "header",
            tagline=TAGLINE,
            about=f"The model draws {config.image_size} x {config.image_size} pixels from "
            f"{config.latents} numbers, its latents; {len(editor.directions)} directions move them.",
        )
        with gr.Tabs(selected="edit") as tabs:
            with gr.Tab("Edit", id="edit"):
                stage = edit.build(editor, gallery)
            with gr.Tab("Interpolate", id="interpolate"):
                path = interpolate.build(editor, stage, tabs)
            with gr.Tab("Sample", id="sample"):
                sample.build(editor, stage, path, tabs)
            with gr.Tab("Explore", id="explore"):
                explore.build(editor, others, stage, tabs)
            with gr.Tab("Make", id="make"):
                make.build(editor)
            with gr.Tab("Model", id="model"):
                model.build(editor, shelf)
        api.build(editor, gallery)
        gr.HTML(f"<p>{NOTE}</p>", elem_id="note", apply_default_css=False)
    return demo


def serving(routes: Sequence = (), **options) -> dict:
    """How a demo is served, the first one and those on the shelf; ``routes`` and ``options`` are of its FastAPI application."""
    # On the server, rendering (ssr_mode) would need Node.
    return {"head": components.head(), "footer_links": ["api"], "ssr_mode": False, "max_file_size": "50mb", "show_error": True,
            "app_kwargs": {"exception_handlers": api.EXCEPTION_HANDLERS,
                           "middleware": [Middleware(components.Compressed), Middleware(Titled, TITLE, DESCRIPTION),
                                          Middleware(Once)],
                           "routes": [components.modules(), *routes], **options}}


WORKING = ContextVar("WORKING", default=False)  # where a GPU is lent already


def lent(editor: Editor) -> Editor:
    """The editor as it is; on ZeroGPU, which lends a GPU for the time of a call, with every call that computes wrapped."""
    for name in COMPUTING if spaces else ():
        setattr(editor, name, _lending(getattr(editor, name)))
    return editor


def _lending(method: Callable) -> Callable:
    @spaces.GPU
    @functools.wraps(method)
    def working(*arguments, **options):
        WORKING.set(True)  # for the methods that this one calls
        try:
            return method(*arguments, **options)
        finally:
            WORKING.set(False)

    @functools.wraps(method)
    def call(*arguments, **options):
        return (method if WORKING.get() else working)(*arguments, **options)

    return call


def main(arguments: list[str] | None = None) -> int:
    """Serve the app until Ctrl-C; returns the exit status. GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say where."""
    parser = argparse.ArgumentParser(description="Edit, interpolate and sample faces in the browser.")
    parser.add_argument("--model", help="model folder or Hub repository user/repo (default: the shipped model)")
    parser.add_argument("--models", type=Path, nargs="+", default=[], metavar="FOLDER",
                        help="other models to choose from on the page: model folders, or folders of model folders")
    parser.add_argument("--compare", nargs="+", default=[], metavar="MODEL",
                        help="more models, whose latents the tab Explore shows beside this one's")
    parser.add_argument("--data", type=Path, metavar="DIR",
                        help="CelebA's folder, or one of pictures: its faces can be asked for by number")
    parser.add_argument("--mcp", action="store_true", help="also be an MCP server (needs gradio[mcp])")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the fastest there is)")
    args = parser.parse_args(arguments)
    if args.mcp and importlib.util.find_spec("mcp") is None:
        print('error: --mcp needs a package that is not installed; run: pip install "gradio[mcp]"', file=sys.stderr)
        return 1
    # Of one picture. Several threads would wait for those of other requests; several requests use several cores.
    torch.set_num_threads(1)
    try:
        gallery = Gallery(args.data) if args.data else None
        shelf = Shelf(
            args.models,
            lambda name, folder: build_demo(lent(Editor.from_pretrained(folder, args.device, name)), shelf, gallery=gallery),
            serving(),
        )
        editor, *others = (lent(Editor.from_pretrained(name, args.device)) for name in (args.model, *args.compare))
        demo = build_demo(editor, shelf, others, gallery)
        demo.launch(mcp_server=args.mcp, **serving(routes=[Mount(PREFIX, shelf)], lifespan=shelf.lifespan))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
