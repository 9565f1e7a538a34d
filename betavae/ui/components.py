"""The page's components: gr.HTML out of the files in static/, and the inputs that several tabs have."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

STATIC = Path(__file__).resolve().parent / "static"
# The address of the modules contains a hash of their content, since browsers cache them.
ADDRESS = "/modules/" + hashlib.sha256(b"".join(path.read_bytes() for path in sorted(STATIC.glob("*.js")))).hexdigest()[:12]

# For events of the page: not in the API, and without Gradio's progress overlay, which would fade out the stage.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def text(*names: str) -> str:
    """The files in static/ with these names, one after the other."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in names)


def head() -> str:
    """HTML for the page's <head>: a <style> there applies before the first paint."""
    return f"<style>{text('page.css')}</style>"


def photo_input(label: str, elem_id: str) -> gr.Image:
    """An input for a photo from a file, the camera or the clipboard; ``messages.uploaded`` reads it."""
    return gr.Image(label=label, sources=["upload", "webcam", "clipboard"], height=168, buttons=[],
                    placeholder="Drop a portrait, or click", elem_id=elem_id)


def html(name: str, value: object = None, server_functions: list[Callable] | None = None,
         elem_id: str | None = None, **props: Any) -> gr.HTML:
    """gr.HTML made of ``name``.html and .css; the module ``name``.js mounts it."""
    return gr.HTML(value, html_template=text(f"{name}.html"), css_template=text("controls.css", f"{name}.css"),
                   js_on_load=f"Promise.all([import({module(name)}), import({module('connection')})]).then("
                              "([{ default: mount }, { reaching }]) => "
                              "mount({ element, props, server: reaching(server), trigger, watch }));",
                   server_functions=server_functions, apply_default_css=False, elem_id=elem_id or name, **props)


def module(name: str) -> str:
    """The address of the module ``name``.js, as a JavaScript expression relative to the page's address."""
    return f'new URL("{ADDRESS[1:]}/{name}.js", document.baseURI)'


class Compressed:
    """ASGI middleware that compresses pages and long answers; Gradio compresses only its own files.

    A single picture, which a slider waits for, is not compressed.
    """

    def __init__(self, app: ASGIApp):
        self.app = app
        self.compressing = GZipMiddleware(app, minimum_size=16_000, compresslevel=5)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; the answer may be compressed if it is a page, its configuration, or a component's pictures."""
        path = scope.get("path", "")
        other = ("/gradio_api/" in path and "/component_server" not in path) or "." in path.rpartition("/")[2]
        await (self.app if other else self.compressing)(scope, receive, send)


class Lasting(StaticFiles):
    """Files that a browser may cache for good, since a change of content changes the address."""

    def file_response(self, *arguments, **options) -> Response:
        """The answer with a file, with its caching time."""
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def modules() -> Mount:
    """The route that serves the page's modules, compressed."""
    return Mount(ADDRESS, GZipMiddleware(Lasting(directory=STATIC)))
