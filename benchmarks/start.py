"""From the command to the first page.

    python benchmarks/start.py [--model FOLDER] [--rounds 3]

What is measured in turns: ``import torch, gradio`` alone, and ``python app.py`` until it answers a request for the page. The
first round, in which files may come from the disk, is printed and left out of the ratio.
"""

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def processor() -> float:
    """Seconds of processor time that the programs started here and ended by now have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def imports() -> tuple[float, float]:
    """Seconds, and seconds of processor time, that importing torch and gradio takes a fresh interpreter."""
    begin, used = time.perf_counter(), processor()
    subprocess.run([sys.executable, "-c", "import torch, gradio"], check=True)
    return time.perf_counter() - begin, processor() - used


def page(model: str | None) -> tuple[float, float]:
    """Seconds, and seconds of processor time, from the start of app.py to its page.

    Raises
    ------
    RuntimeError
        The app ended before it answered.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    begin, used, taken = time.perf_counter(), processor(), 0.0
    app = subprocess.Popen([sys.executable, "app.py", *(["--model", model] if model else [])], cwd=ROOT, env=environment,
                           stdout=subprocess.DEVNULL)
    try:
        while app.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                    answer.read()
                taken = time.perf_counter() - begin
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.02)
    finally:
        app.terminate()
        app.wait()
    if not taken:
        raise RuntimeError(f"The app ended with status {app.returncode} before it answered.")
    return taken, processor() - used


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model folder; left out: the shipped model")
    parser.add_argument("--rounds", type=int, default=3, help="after the first, which is not counted")
    options = parser.parse_args()
    times = []
    for turn in range(options.rounds + 1):
        (alone, alone_used), (whole, whole_used) = imports(), page(options.model)
        times.append((alone, whole, alone_used, whole_used))
        print(f"{'first' if turn == 0 else turn}: import torch, gradio {alone:.1f} s ({alone_used:.1f} s of a processor), "
              f"the page {whole:.1f} s ({whole_used:.1f} s)", flush=True)
    alone, whole, alone_used, whole_used = (statistics.median(column) for column in zip(*times[1:], strict=True))
    print(f"median: {alone:.1f} s and {whole:.1f} s, {whole / alone:.2f} times as long; "
          f"{alone_used:.1f} s and {whole_used:.1f} s of a processor, {whole_used / alone_used:.2f} times as much")


if __name__ == "__main__":
    main()
