"""Files that the server forgets: an uploaded photo when its call is answered, an edited photo when it is fetched."""

import shutil
import tempfile
from pathlib import Path
from urllib.parse import unquote

from gradio.utils import get_upload_folder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOLDER = "once"


def place(name: str) -> Path:
    """Where a file of that name is to be written, to be served once and deleted."""
    folder = Path(get_upload_folder()).resolve() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder)) / Path(name).name


def forget(path: str | Path) -> None:
    """Delete an upload, or what ``place`` gave, with the folder made for it; anything else stays."""
    path, uploads = Path(path).resolve(), Path(get_upload_folder()).resolve()
    if path.is_relative_to(uploads) and path.parent not in (uploads, uploads / FOLDER):
        shutil.rmtree(path.parent, ignore_errors=True)


class Once:
    """ASGI middleware that deletes what ``place`` gave as soon as it has been sent whole.

    A download that breaks off leaves the file to be fetched again; what nobody fetches goes with the other uploads.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and delete the file that it has fetched."""
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
