"""Further models beside the first: each has its own page, at /model/NAME/."""

import asyncio
import html
import re
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from betavae import hub
from betavae.hub import ModelError

PREFIX = "/model"
OPEN = 4  # models at a time


@dataclass(frozen=True)
class Page:
    """An open page: its application, and the context to close."""

    app: FastAPI
    running: AsyncExitStack


class Shelf:
    """An ASGI application with a page for every model, built when it is first asked for.

    The least recently used model makes room for the next. A page keeps no state of its visitors, so it is simply built again
    when a visitor moves a slider.

    Parameters
    ----------
    folders : list of Path
        Model folders, or folders of model folders, that may be opened by name. Anybody may open public Hub repositories.
    build : callable
        (name, folder) -> gr.Blocks, the page; may raise a ValueError of one sentence.
    serving : dict
        Arguments of ``gr.mount_gradio_app``.

    Raises
    ------
    ModelError
        A folder is not a model folder and has none, or two models have the same name.
    """

    def __init__(self, folders: list[Path], build: Callable[[str, Path], gr.Blocks], serving: dict):
        self.build, self.serving = build, serving
        self.folders: dict[str, Path] = {}
        for folder in folders:
            models = sorted({path.parent for pattern in ("model.safetensors", "*/model.safetensors")
                             for path in folder.glob(pattern) if hub.opens(path.parent)})
            if not models:
                raise ModelError(f"There is no model folder in {str(folder)!r}: none in it has model.safetensors with a "
                                 "config.json, or the published model's.")
            for model in models:
                name = re.sub(r"[^\w.]+", "-", model.resolve().name)
                if name in self.folders:
                    raise ModelError(f"There are two models {name!r}: {str(self.folders[name])!r} and {str(model)!r}.")
                self.folders[name] = model
        self._pages: OrderedDict[str, Page] = OrderedDict()
        self._opening = asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """The models that can be opened by name."""
        return list(self.folders)

    async def open(self, name: str) -> str:
        """The path below PREFIX of a model: one of ``names``, or a Hub repository.

        Raises
        ------
        ModelError, DirectionsError, ...
            There is no such model, or it cannot be used.
        """
        key = name.strip().replace("/", "--")  # no name on the Hub contains it
        await self._page(key)
        return key

    @asynccontextmanager
    async def lifespan(self, _):
        """The lifespan of the parent application: when it ends, the pages are closed."""
        yield
        for page in self._pages.values():
            await page.running.aclose()

    async def _page(self, key: str) -> Page:
        async with self._opening:
            if key not in self._pages:
                self._pages[key] = await self._start(key)
                if len(self._pages) > OPEN:
                    _, oldest = self._pages.popitem(last=False)
                    await oldest.running.aclose()
            self._pages.move_to_end(key)
            return self._pages[key]

    async def _start(self, key: str) -> Page:
        demo = await asyncio.to_thread(lambda: self.build(key.replace("--", "/"), self._folder(key)))
        app = gr.mount_gradio_app(FastAPI(), demo, f"{PREFIX}/{key}", **self.serving)
        # Before launch, Gradio accepts any file of the server as an upload.
        demo.has_launched = True
        running = AsyncExitStack()
        await running.enter_async_context(app.router.lifespan_context(app))
        return Page(app, running)

    def _folder(self, key: str) -> Path:
        if key in self.folders:
            return self.folders[key]
        if "--" not in key:
            known = f"choose from {', '.join(self.names)}, or give" if self.folders else "give"
            raise ModelError(f"There is no model {key!r} here; {known} a Hub repository as user/repo.")
        # Without a token: a visitor must not see repositories that only this server's token may.
        return hub.download(key.replace("--", "/"), token=False)

    async def __call__(self, scope, receive, send) -> None:
        """Serve a request with the page of the model in its path."""
        if scope["type"] != "http":
            return
        key = scope["path"].partition(f"{PREFIX}/")[2].partition("/")[0]
        try:
            page = await self._page(key)
        except ValueError as error:
            answer = HTMLResponse(f"<!doctype html><title>Face Latents</title><p>{html.escape(str(error))}</p>"
                                  '<p><a href="/">Back to the first model</a></p>', 404)
            await answer(scope, receive, send)
            return
        # Starlette's Mount moved the prefix from the path to the root path; the page expects it in the path.
        await page.app({**scope, "root_path": scope["root_path"].removesuffix(PREFIX)}, receive, send)
