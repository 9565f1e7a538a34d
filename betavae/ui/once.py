"""Files that the server deletes: an uploaded photo after its call, an edited photo after its download."""

import shutil
import tempfile
from pathlib import Path
from urllib.parse import unquote

from gradio.utils import get_upload_folder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOLDER = "once"


def place(name: str) -> Path:
    """A new path for a file of that name, which is served once and then deleted."""
    folder = Path(get_upload_folder()).resolve() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder)) / Path(name).name


def forget(path: str | Path) -> None:
    """Delete an upload, or a file at a path from ``place``, with its folder; other files are left alone."""
    path, uploads = Path(path).resolve(), Path(get_upload_folder()).resolve()
    if path.is_relative_to(uploads) and path.parent not in (uploads, uploads / FOLDER):
        shutil.rmtree(path.parent, ignore_errors=True)


class Once:
    """ASGI middleware that deletes a file at a path from ``place`` as soon as it has been sent whole.

    After a broken download the file can be fetched again. A file that nobody fetches is deleted with the other uploads.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and delete the file that it fetched."""
        _, found, path = unquote(scope.get("path", "")).partition("/file=")
        folder = Path(get_upload_folder()).resolve() / FOLDER
        if scope["type"] != "http" or scope["method"] != "GET" or not found or not Path(path).resolve().is_relative_to(folder):
            return await self.app(scope, receive, send)
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            await send(message)
            status = message.get("status", status)
            if status == 200 and message["type"] == "http.response.body" and not message.get("more_body"):
                forget(path)

        await self.app(scope, receive, sending)
