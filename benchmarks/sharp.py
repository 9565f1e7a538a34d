"""How much longer a sharp picture takes than the honest one, at batch 1.

    OMP_NUM_THREADS=1 python benchmarks/sharp.py [--model FOLDER] [--pictures 200]

Both are drawn in turns from new latents, and times are of the processor, on one thread: the networks alone, and the library's
whole call ``editor.decode(z)`` against ``editor.decode(z, sharp=True)``. A model without a second decoder gets an untrained one
of the usual size: its time does not depend on its weights.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import Tensor

from betavae import Editor
from betavae.sharp import SharpConfig, Sharpener

MOST = 3  # times the honest picture's time


def alternating(ways: dict[str, Callable[[Tensor], object]], latents: Tensor) -> dict[str, list[float]]:
    """Milliseconds of the processor, of each way for each of the latents (n, d), one at a time."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for z in latents.split(1):
        for name, way in ways.items():
            start = time.process_time()
            way(z)
            times[name].append(1000 * (time.process_time() - start))
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="model folder or Hub repository (default: the shipped model)")
    parser.add_argument("--pictures", type=int, default=200, help="of each kind (default: 200)")
    args = parser.parse_args()
    torch.set_num_threads(1)  # as in the app
    editor = Editor.from_pretrained(args.model, device="cpu")
    its = "its own" if editor.sharpener else "an untrained one of the usual size"
    if editor.sharpener is None:
        editor.sharpener = Sharpener(SharpConfig(editor.config.latents, editor.config.image_size)).eval().to(
            memory_format=torch.channels_last)
    model, sharpener = editor.model, editor.sharpener
    latents = editor.sample(args.pictures + 20, seed=0)
    print(f"second decoder: {its}, {sum(p.numel() for p in sharpener.parameters()):,} parameters; one thread, batch 1, "
          f"{args.pictures} pictures; median and 95th percentile")
    kinds = {
        "networks": (model.decode, lambda z: sharpener(model.decode(z), z)),
        "editor.decode": (editor.decode, lambda z: editor.decode(z, sharp=True)),
    }
    for kind, (honest, sharp) in kinds.items():
        with torch.inference_mode():
            alternating({"honest": honest, "sharp": sharp}, latents[:20])  # warm
            times = alternating({"honest": honest, "sharp": sharp}, latents[20:])
        for name, values in times.items():
            print(f"{kind:16}{name:8}{statistics.median(values):8.2f} ms{statistics.quantiles(values, n=20)[-1]:8.2f} ms")
        ratio = statistics.median(times["sharp"]) / statistics.median(times["honest"])
        print(f"{kind:16}{'ratio':8}{ratio:8.2f}     {'at most' if ratio <= MOST else 'MORE THAN'} {MOST}")


if __name__ == "__main__":
    main()
