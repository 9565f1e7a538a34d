"""Helpers for tests that use the app as a person does: a server process, a browser, and pixels off a canvas."""

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

from betavae.hub import ROOT
from betavae.ui import components

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Server:
    """``python app.py ARGUMENTS`` on a free port as a context manager; ``url`` answers inside it.

    ``python`` and ``folder`` are of another environment and another copy of the app.
    """

    def __init__(self, log: Path, *arguments: str, python: str = sys.executable, folder: Path = ROOT):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self.folder = folder
        self.command = [python, "app.py", *arguments]
        self.environment = os.environ | {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port),
                                         "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}

    def __enter__(self) -> "Server":
        with open(self.log, "w") as log:
            # Tests that were started in the background ignore Ctrl-C, and would hand that down.
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        while self.url not in self.log.read_text():
            try:
                self.process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError(f"app.py ended with {self.process.returncode}:\n{self.log.read_text()}")
        return self

    def __exit__(self, *_) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def ask(self, elem_id: str, function: str, payload: object) -> dict:
        """Call a server function of the component ``elem_id`` as the page does, but with any payload."""
        with urllib.request.urlopen(f"{self.url}/config") as answer:
            components = json.load(answer)["components"]
        number = next(c["id"] for c in components if c["props"].get("elem_id") == elem_id)
        body = {"data": payload, "component_id": number, "fn_name": function, "session_hash": "test"}
        request = urllib.request.Request(f"{self.url}/gradio_api/component_server", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


def state(page, expression: str, argument: object = None):
    """What an expression of the page's one state, ``state``, gives."""
    return page.evaluate(
        f"async (argument) => {{ const {{ state }} = await import({components.module('state')}); return {expression}; }}",
        argument,
    )


def pixels(page, name: str) -> np.ndarray:
    """What a canvas shows, (h, w, 3) from 0 to 255."""
    return decode(page.eval_on_selector(f"[data-canvas={name}]", "canvas => canvas.toDataURL()"))


def decode(uri: str) -> np.ndarray:
    """The picture in a data URI, (h, w, 3) from 0 to 255."""
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    return np.asarray(image.convert("RGB"), dtype=float)


def change(before: np.ndarray, after: np.ndarray, rows: tuple[float, float], columns: tuple[float, float]) -> float:
    """Mean absolute difference inside a part of the picture, given in fractions of its height and width."""
    height, width, _ = before.shape
    (top, bottom), (left, right) = rows, columns
    part = np.abs(after - before)[int(top * height):int(bottom * height), int(left * width):int(right * width)]
    return float(part.mean())


def settled(page, tab: str = "edit") -> None:
    """Wait until the stage shows what was last asked for."""
    page.wait_for_selector(f"#{tab} .stage[aria-busy=false]")


def captioned(page, name: str) -> None:
    """Wait until the Edit tab shows the face with that name."""
    page.wait_for_function("name => document.querySelector('#edit .status')?.textContent === name", arg=name)
    settled(page)


def upload(page, path: Path, photo: str = "photo") -> None:
    """Give a file to a photo input."""
    page.set_input_files(f"#{photo} input[type=file]", path)


def set_slider(page, name: str, strength: float) -> None:
    """Move a slider to an exact value, let go of it, and wait for its picture."""
    kept = page.eval_on_selector(f"[data-name={name}]", """(input, strength) => {
        input.value = strength;
        const kept = Number(input.value);
        input.dispatchEvent(new Event("input", { bubbles: true }));
        input.dispatchEvent(new Event("change", { bubbles: true }));
        return kept;
    }""", strength)
    assert abs(kept - strength) < 0.02, f"the track of {name} ends before {strength}"
    settled(page)


def push(page, name: str, share: float) -> float:
    """Move a slider by a share, -1 to 1, of the way from this face to that end of its track; the value it has then.

    Tracks are as long as their direction's spread, which another set of directions would change.
    """
    slider = page.locator(f"[data-name={name}]")
    end = float(slider.get_attribute("max" if share > 0 else "min"))
    set_slider(page, name, abs(share) * end)
    return float(slider.input_value())


def drag(page, name: str, strength: float) -> float:
    """Drag a slider's thumb with the mouse to about ``strength``; the value it has then."""
    slider = page.locator(f"[data-name={name}]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    low, high = float(slider.get_attribute("min")), float(slider.get_attribute("max"))
    thumb = 16

    def place(value):
        return box["x"] + thumb / 2 + (value - low) / (high - low) * (box["width"] - thumb)

    y = box["y"] + box["height"] / 2
    page.mouse.move(place(float(slider.input_value())), y)
    page.mouse.down()
    page.mouse.move(place(strength), y, steps=8)
    page.mouse.up()
    settled(page)
    return float(slider.input_value())


class Visitors:
    """Opens the app as new visitors, and notes errors in the console and requests to other hosts."""

    def __init__(self, server, browser):
        self.server, self.browser, self.contexts, self.wrong = server, browser, [], []

    def __call__(self, width=1280, height=900, address="", **options):
        # The face does not move by itself where less motion is asked for, and pixels can be compared.
        context = self.browser.new_context(
            viewport={"width": width, "height": height}, **{"reduced_motion": "reduce"} | options
        )
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: message.type == "error" and self.wrong.append(message.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: request.url.startswith((self.server.url, "data:", "blob:"))
                or self.wrong.append(request.url))
        page.goto(self.server.url + address)
        settled(page)
        return page

    def leave(self):
        for context in self.contexts:
            context.close()
        assert self.wrong == [], self.wrong
