"""What the tabs share: the files beside this one, and the messages between the page and the editor.

A face travels as a message of its own: latent, scores and pictures. The page holds it and sends the latent back with
every request, so no Python object holds anything of any user.
"""

import base64
import functools
import html
import io
import secrets
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from betavae.editor import Editor
from betavae.image import ImageError, read

FOLDER = Path(__file__).resolve().parent

# A little below 1 the generated faces are cleaner, and still varied.
TEMPERATURE = 0.8

# Every event is the page's own. With a progress overlay Gradio would fade the stage out on each of them.
QUIET = {"show_progress": "hidden", "api_visibility": "private"}


def text(*names: str) -> str:
    """The files of the page with these names, one after the other."""
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)


def head() -> str:
    """What goes into the page's <head>: as a <style> there, it is in force before the first paint."""
    return f"<style>{text('page.css')}</style>"


def data_uri(image: Image.Image) -> str:
    """A picture for the page. PNG: the page shows exactly what was decoded, in some 8 kB for 64 x 64 pixels."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def face(editor: Editor, z: Tensor, caption: str, original: Image.Image | None = None) -> dict:
    """The message that puts a face (d,) on a stage; ``original`` is the photo as the model sees it, if there is one."""
    return renewed({
        "z": z.tolist(),
        "scores": dict(zip(editor.directions.names, editor.directions.scores(z[None])[0].tolist())),
        "picture": data_uri(editor.decode(z)[0]),
        "original": original and data_uri(original),
        "caption": caption,
    })


def renewed(message: dict) -> dict:
    """The same face as a new message: Gradio tells the page only of values that changed."""
    return message | {"id": secrets.token_hex(8)}


def thumbnails(faces: list[dict]) -> list[dict]:
    """Faces as the component "thumbnails" shows them."""
    return [{"picture": face["original"] or face["picture"], "caption": face["caption"]} for face in faces]


def generated(editor: Editor, seed: int) -> dict:
    """The face of a seed."""
    return face(editor, editor.sample(1, seed, TEMPERATURE)[0], f"Generated face {seed}")


def random_face(editor: Editor) -> dict:
    """A generated face that nobody has seen."""
    return generated(editor, secrets.randbelow(1_000_000))


def photo(editor: Editor, path: str | Path, caption: str) -> dict:
    """The face in a file.

    Raises
    ------
    ImageError
        The file cannot be used.
    """
    image = read(path)
    return face(editor, editor.encode(image)[0], caption, editor.input(image))


def uploaded(editor: Editor, upload: dict | None) -> dict | None:
    """The face in what gr.Image sends with ``preprocess=False``; None, and a toast that says why, if there is none.

    Gradio's own preprocessing would open the file first and answer a bad one with a message of its own. That the path
    is of an upload it checks in either case.
    """
    if not upload or not upload.get("path"):
        return None
    try:
        return photo(editor, upload["path"], upload.get("orig_name") or "Your photo")
    except ImageError as error:
        # Toasts are rendered as HTML, and the sentence holds the name of the file.
        gr.Warning(html.escape(str(error)), duration=8)
        return None


def latent(value: object) -> Tensor:
    """A latent (d,) that the page sent; its length is the editor's to check.

    Raises
    ------
    ValueError
        It is no list of numbers.
    """
    if not isinstance(value, list) or not all(type(x) in (int, float) and abs(x) < 1e6 for x in value):
        raise ValueError("The latent is not a list of numbers.")
    return torch.tensor(value, dtype=torch.float32)


def edited(editor: Editor, request: dict) -> Tensor:
    """The latent (d,) that a request {z, strengths} of the page asks for.

    Raises
    ------
    ValueError
        The request is not of that form, or the editor refuses it.
    """
    if not isinstance(request.get("strengths"), dict):
        raise ValueError("The strengths are not an object of numbers by name.")
    return editor.shift(latent(request.get("z")), request["strengths"])[0]


def answering(function: Callable[[dict], dict]) -> Callable[[object], dict]:
    """A server function whose ValueErrors reach the page as {"error": sentence}."""
    @functools.wraps(function)
    def answer(request: object) -> dict:
        try:
            if not isinstance(request, dict):
                raise ValueError("The request is not an object.")
            return function(request)
        except ValueError as error:
            return {"error": str(error)}
    return answer


def photo_input(label: str, elem_id: str) -> gr.Image:
    """A photo from a file, the camera or the clipboard; its events belong with ``uploaded``."""
    return gr.Image(label=label, sources=["upload", "webcam", "clipboard"], height=168, buttons=[],
                    placeholder="Drop a portrait, or click", elem_id=elem_id)


def component(name: str, value: object = None, server_functions: list[Callable] | None = None,
              elem_id: str | None = None, **props: object) -> gr.HTML:
    """gr.HTML out of ``name``.html, .css and .js; the scripts share stage.js."""
    return gr.HTML(value, html_template=text(f"{name}.html"), css_template=text(f"{name}.css"),
                   js_on_load=text("stage.js", f"{name}.js"), server_functions=server_functions,
                   apply_default_css=False, elem_id=elem_id or name, **props)
