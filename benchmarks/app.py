"""From a slider to new pixels, in Chromium.

    python benchmarks/app.py [--model FOLDER] [--drags 200]

Two pages are measured in turns: the app, and a bare Gradio page with as many sliders, each with an identity function
behind it (``gr.Slider.input`` with ``queue=False`` to ``gr.HTML``). A time is from the slider's input event to the
picture on the canvas (to the text on the page, for the bare one); what the screen adds is not in it. Then whole drags,
60 events a second for two seconds: how many pictures come, and how long after the last event the last value's is there.

Needs what the tests need (requirements-test.txt). Figures are of this machine, and of nothing else running on it.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 4          # the pages take turns, so that what else the machine does meets both
DRAGS = 10          # whole ones
EVENTS = 120        # of a whole drag

BARE = """
import gradio as gr
with gr.Blocks() as demo:
    answer = gr.HTML("0", elem_id="answer")
    for i in range({count}):
        slider = gr.Slider(-3, 3, 0, step=0.001, label=f"Slider {{i}}")
        slider.input(lambda value: str(value), slider, answer, queue=False, show_progress="hidden",
                     trigger_mode="always_last")
demo.launch()
"""

# What both pages are driven with: `sliders`, and `seen`, the times at which an answer got onto the page.
COMMON = """
window.seen = [];
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const put = (slider, share) => {
    const [low, high] = [Number(slider.min), Number(slider.max)];
    slider.value = low + (0.25 + 0.5 * share) * (high - low);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
};
window.moves = async (count) => {
    const times = [];
    for (let i = 0; i < count; i++) {
        await wait(30);
        const before = seen.length;
        const start = performance.now();
        put(sliders[i % sliders.length], Math.random());
        while (seen.length === before) {
            if (performance.now() - start > 20000) throw new Error(`no answer to slider ${i % sliders.length}`);
            await wait(0);
        }
        times.push(seen[before] - start);
        await idle();
    }
    return times;
};
window.drag = async (events) => {
    const before = seen.length;
    const start = performance.now();
    for (let i = 0; i < events; i++) {
        while (performance.now() < start + i * 1000 / 60) await wait(0);
        put(sliders[0], 0.5 + 0.5 * Math.sin(i / 9));
    }
    const released = performance.now();
    sliders[0].dispatchEvent(new Event("change", { bubbles: true }));
    await idle();
    return { after: Math.max(0, seen.at(-1) - released), pictures: seen.length - before };
};
"""
APP = COMMON + """
window.sliders = [...document.querySelectorAll("#edit .slider input[type=range]")];
const canvas = document.querySelector("[data-canvas=edit]");
const draw = CanvasRenderingContext2D.prototype.drawImage;
CanvasRenderingContext2D.prototype.drawImage = function (...parts) {
    draw.apply(this, parts);
    if (this.canvas === canvas) seen.push(performance.now());
};
window.idle = async () => {
    while (document.querySelector("#edit .stage").getAttribute("aria-busy") !== "false") await wait(1);
};
window.content = () => canvas.toDataURL();
window.again = async (events) => {
    for (const share of [0.9, 0.5 + 0.5 * Math.sin((events - 1) / 9)]) {
        put(sliders[0], share);
        await idle();
    }
    return content();
};
"""
PLAIN = COMMON + """
window.sliders = [...document.querySelectorAll("input[type=range]")];
const answer = document.querySelector("#answer");
let text = answer.textContent;
new MutationObserver(() => {
    if (answer.textContent !== text) seen.push(performance.now());
    text = answer.textContent;
}).observe(answer, { childList: true, subtree: true, characterData: true });
window.idle = async () => {
    let count = -1;
    while (count !== seen.length) {
        count = seen.length;
        await wait(150);
    }
};
"""


def serve(stack: ExitStack, command: list[str]) -> str:
    """Start a Gradio app on a free port, and wait until it answers; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port),
                                "GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_SSR_MODE": "False"}
    process = stack.enter_context(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL))
    stack.callback(process.terminate)
    while process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}").close()
            return f"http://127.0.0.1:{port}"
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise SystemExit(f"{command[1]} ended with {process.returncode}.")


def line(name: str, times: list[float]) -> str:
    """Median and 95th percentile of some times in milliseconds, as a row."""
    return f"{name:38}{statistics.median(times):8.1f} ms{statistics.quantiles(times, n=20)[-1]:8.1f} ms"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="model folder or Hub repository (default: the shipped model)")
    parser.add_argument("--drags", type=int, default=200, help="slider movements on each page (default: 200)")
    args = parser.parse_args()
    with ExitStack() as stack:
        app = serve(stack, [sys.executable, "app.py", *(["--model", args.model] if args.model else [])])
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"),
                                             args=["--no-sandbox", "--disable-gpu"])
        stack.callback(browser.close)

        def visit(url: str, ready: str, script: str):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(120_000)
            page.goto(url)
            page.wait_for_selector(ready, state="attached")
            page.evaluate(script)
            page.evaluate("moves(20)")  # warm
            return page

        pages = {"app": visit(app, "#edit .stage[aria-busy=false]", APP)}
        count = pages["app"].evaluate("sliders.length")
        bare = serve(stack, [sys.executable, "-c", BARE.format(count=count)])
        pages["bare"] = visit(bare, "input[type=range]", PLAIN)

        times = {name: [] for name in pages}
        for _ in range(ROUNDS):
            for name, page in pages.items():
                page.bring_to_front()
                times[name] += page.evaluate("count => moves(count)", max(2, args.drags // ROUNDS))
        drags = {name: [] for name in pages}
        for _ in range(DRAGS):
            for name, page in pages.items():
                page.bring_to_front()
                drags[name].append(page.evaluate("events => drag(events)", EVENTS))
        page = pages["app"]
        shown = page.evaluate("content()")
        last = shown == page.evaluate("count => again(count)", EVENTS)

    print(f"{count} sliders, {len(times['app'])} movements{'':11}{'p50':>11}{'p95':>11}")
    print(line("app: slider to picture", times["app"]))
    print(line("bare Gradio event: slider to text", times["bare"]))
    print(f"{'app / bare':38}{statistics.median(times['app']) / statistics.median(times['bare']):8.2f}")
    print(f"\n{DRAGS} drags of {EVENTS} events, 60 a second: last picture after the last event")
    for name in pages:
        print(line(name, [drag["after"] for drag in drags[name]])
              + f"   {statistics.median(drag['pictures'] for drag in drags[name]):.0f} pictures")
    print(f"the last picture is {'' if last else 'NOT '}that of the last value")


if __name__ == "__main__":
    main()
