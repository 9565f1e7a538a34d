"""Makes the pictures in README and docs again, from the app and the shipped model.

    python tests/pictures.py            screenshot.png, screenshot-phone.png, editor.webp, into assets/

Needs what the tests need (requirements-test.txt, Chromium). The photo is NASA's portrait of Eileen Collins, in
the public domain.
"""

import io
import itertools
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from browser import CHROMIUM, FLAGS, Server, captioned, set_slider, upload
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from skimage.data import astronaut

from betavae.hub import ROOT

ASSETS = ROOT / "assets"
MOVES = (("Smiling", (0, 1.2, -2, 0)), ("yaw", (0, 1.5, -1.5, 0)))
STEPS, MILLISECONDS, WIDTH = 6, 110, 900  # frames from one value to the next, their time, the moving picture's width


def opened(page: Page, url: str, path: Path) -> None:
    """Open the app and give it a photo."""
    page.goto(url)
    page.wait_for_selector("#edit .stage[aria-busy=false]")
    upload(page, path)
    captioned(page, path.name)
    page.wait_for_function("!document.querySelector('#edit .views').hidden")


def moving(page: Page) -> list[Image.Image]:
    """The page while sliders are dragged, a frame a step."""
    frames = []
    for name, stops in MOVES:
        for start, end in itertools.pairwise(stops):
            for step in range(STEPS):
                set_slider(page, name, start + (end - start) * step / STEPS)
                frames.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    return [frame.resize((WIDTH, round(WIDTH * frame.height / frame.width)), Image.Resampling.LANCZOS) for frame in frames]


def main() -> None:
    """Make them all."""
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder) / "log") as server, sync_playwright() as playwright:
        path = Path(folder) / "portrait.png"
        Image.fromarray(astronaut()).save(path)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 860}, reduced_motion="reduce")
        opened(page, server.url, path)
        frames = moving(page)
        frames[0].save(ASSETS / "editor.webp", save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0,
                       quality=60)
        set_slider(page, "yaw", 0)
        set_slider(page, "Smiling", 1.2)
        page.screenshot(path=ASSETS / "screenshot.png")
        phone = browser.new_page(viewport={"width": 390, "height": 844}, device_scale_factor=2, is_mobile=True, has_touch=True,
                                 reduced_motion="reduce")
        opened(phone, server.url, path)
        set_slider(phone, "Smiling", 1.2)
        phone.screenshot(path=ASSETS / "screenshot-phone.png")
        browser.close()
    for name in ("editor.webp", "screenshot.png", "screenshot-phone.png"):
        print(f"{name}: {(ASSETS / name).stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
