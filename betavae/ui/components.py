"""The page's components: gr.HTML out of the files in static/, and the inputs that several tabs have."""

from collections.abc import Callable
from pathlib import Path

import gradio as gr

STATIC = Path(__file__).resolve().parent / "static"

# Every event is the page's own. With a progress overlay Gradio would fade the stage out on each of them.
QUIET = {"show_progress": "hidden", "api_visibility": "private"}


def text(*names: str) -> str:
    """The files in static/ with these names, one after the other."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in names)


def head() -> str:
    """What goes into the page's <head>: as a <style> there, it is in force before the first paint."""
    return f"<style>{text('page.css')}</style>"


def photo_input(label: str, elem_id: str) -> gr.Image:
    """A photo from a file, the camera or the clipboard; its events belong with ``uploaded``."""
    return gr.Image(label=label, sources=["upload", "webcam", "clipboard"], height=168, buttons=[],
                    placeholder="Drop a portrait, or click", elem_id=elem_id)


def html(name: str, value: object = None, server_functions: list[Callable] | None = None,
         elem_id: str | None = None, parts: tuple[str, ...] = (), **props: object) -> gr.HTML:
    """gr.HTML out of ``name``.html, .css and .js; scripts share stage.js, and ``parts`` are more of them."""
    return gr.HTML(value, html_template=text(f"{name}.html"), css_template=text("controls.css", f"{name}.css"),
                   js_on_load=text("stage.js", *(f"{part}.js" for part in parts), f"{name}.js"),
                   server_functions=server_functions, apply_default_css=False, elem_id=elem_id or name, **props)
