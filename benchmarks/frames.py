"""How many frames a second a photo moves at while a slider is dragged, in Chromium.

    python -m benchmarks.frames [--seconds 5]

A photo of 12 megapixels (scikit-image's portrait of Eileen Collins by NASA, enlarged into 3000 x 4000) is on the app's stage in
a window of 1280 x 900. A slider that moves it, Turn head, gets a new value in every frame that the browser offers, at most 60 a
second. A frame counts once its pixels were read back from the stage's canvas, so that nothing that is still to be drawn does.
The decodes that come meanwhile are drawn too. Once with WebGL2, drawn by what the first line of the answer names (SwiftShader,
on the processor, where there is no graphics card), and once without WebGL, by the page's own code.

Needs what the tests need (requirements-test.txt). Figures are of this machine, and of nothing else running on it.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from PIL import Image
from playwright.sync_api import sync_playwright
from skimage.data import astronaut

from benchmarks.app import serve

WAYS = {"WebGL2": ["--enable-unsafe-swiftshader"], "no WebGL": ["--disable-3d-apis"]}
RENDERER = """() => {
    const gl = document.createElement("canvas").getContext("webgl2");
    const names = gl?.getExtension("WEBGL_debug_renderer_info");
    return gl ? gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER) : "the page's own code";
}"""
DRAG = """async (seconds) => {
    const slider = document.querySelector("[data-name=yaw]");
    const context = document.querySelector("[data-canvas=edit]").getContext("2d");
    const [low, high] = [Number(slider.min), Number(slider.max)];
    const frame = () => new Promise(requestAnimationFrame);
    const put = (share) => {
        slider.value = low + (0.5 + 0.3 * Math.sin(share)) * (high - low);
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        return context.getImageData(256, 256, 1, 1).data.join();
    };
    const shown = new Set();
    for (let i = 0; i < 10; i++) { await frame(); put(i); }  // warm
    const work = [];
    const begin = performance.now();
    let now = begin;
    for (let i = 0; now - begin < 1000 * seconds; i++) {
        await frame();
        const start = performance.now();
        shown.add(put(i / 10));
        now = performance.now();
        work.push(now - start);
    }
    slider.dispatchEvent(new Event("change", { bubbles: true }));
    return { rate: 1000 * work.length / (now - begin), work, shown: shown.size };
}"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="of each drag (default: 5)")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        path = Path(folder, "photo.jpg")
        photo = Image.new("RGB", (3000, 4000), (120, 110, 100))
        photo.paste(Image.fromarray(astronaut()).resize((2000, 2000), Image.Resampling.BICUBIC), (500, 800))
        photo.save(path, quality=92)
        address = serve(stack, [sys.executable, "app.py"])
        playwright = stack.enter_context(sync_playwright())
        for name, flags in WAYS.items():
            browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"),
                                                 args=["--no-sandbox", "--disable-gpu", *flags])
            page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
            page.set_default_timeout(120_000)
            page.goto(address)
            page.wait_for_selector("#edit .stage[aria-busy=false]", state="attached")
            page.set_input_files("#photo input[type=file]", path)
            page.wait_for_function("document.querySelector('#edit [data-canvas=edit]').width === 1024")
            page.wait_for_selector("#edit .stage[aria-busy=false]")
            told = page.evaluate(DRAG, args.seconds)
            work = told["work"]
            print(f"{name}: {page.evaluate(RENDERER)}")
            print(f"  {told['rate']:.1f} frames a second; of work a frame {statistics.median(work):.1f} ms (p50), "
                  f"{statistics.quantiles(work, n=20)[-1]:.1f} ms (p95); {told['shown']} shades of the middle pixel")
            browser.close()


if __name__ == "__main__":
    main()
