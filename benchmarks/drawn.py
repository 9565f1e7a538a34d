"""How well a model trained on drawn faces reconstructs them, and how its latents match the factors that they were drawn from.

    python -m train.synthetic OUT --counts 4000 400 400
    python train/run.py --data OUT --out RUN ...          docs/training.md has the command
    python benchmarks/drawn.py --data OUT --model RUN

SSIM and PSNR are of reconstructions from the posterior mean over the val faces; the mean training face is the baseline. MIG
(Chen et al. 2018) and DCI (Eastwood and Williams 2018) compare the posterior means with the factors in ``factors.csv``,
continuous ones split at their median. DCI's trees are grown on val and scored on test. The same codes in random order are the
baseline.
"""

import argparse
import csv
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch
from torch import Tensor

from betavae import Editor
from betavae.image import from_uint8
from train import metrics
from train.cache import load
from train.celeba import CelebA
from train.evaluation import encode_all
from train.synthetic import RANGES, SWITCHES

# Drawn for every face, and seen in the model's crop; "attractive" is not drawn at all.
FACTORS = tuple(name for name in (*RANGES, *SWITCHES) if name not in ("attractive", "necktie", "necklace"))


def likeness(made: Tensor, x: Tensor) -> tuple[float, float]:
    """Mean SSIM, and mean PSNR in dB, of pictures (n, 3, s, s)."""
    return metrics.ssim(made, x).mean().item(), metrics.psnr((made - x).square().mean((1, 2, 3))).mean().item()


def levels(folder: Path, names: np.ndarray) -> np.ndarray:
    """The factors of faces as 0 or 1, (n, len(FACTORS))."""
    with open(folder / "factors.csv", newline="", encoding="utf-8") as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file)}
    values = np.array([[float(rows[name][factor]) for factor in FACTORS] for name in names])
    middle = [sum(RANGES[factor]) / 2 if factor in RANGES else 0.5 for factor in FACTORS]
    return (values > middle).astype(int)


def scores(val: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> str:
    """MIG on test, and DCI, of codes (n, d) and factors (n, k)."""
    table, _, informativeness = metrics.importances(*val, *test)
    mig = metrics.mig(metrics.discretise(test[0]), test[1])
    return (f"MIG {mig:.3f}, disentanglement {metrics.disentanglement(table):.3f}, "
            f"completeness {metrics.completeness(table):.3f}, informativeness {informativeness:.3f}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="OUT", help="what train.synthetic wrote")
    parser.add_argument("--model", required=True, metavar="RUN", help="a model trained on it")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), metavar="DIR")
    options = parser.parse_args()
    editor = Editor.from_pretrained(options.model, "cpu")
    data = load(CelebA.open(options.data), editor.config, options.cache)
    with torch.inference_mode():
        x = from_uint8(data.images("val"))
        mean = from_uint8(data.images("train")).mean(0, keepdim=True).expand_as(x)
        codes = [encode_all(editor.model, data.images(split), editor.device)[0] for split in ("val", "test")]
        made = editor.model.decode(codes[0])
    for name, pictures in (("mean training face", mean), ("reconstructions", made)):
        print("{}: SSIM {:.3f}, PSNR {:.1f} dB, {:,} val faces".format(name, *likeness(pictures, x), len(x)))
    known = [levels(options.data, data.lists.names[data.indices(split)]) for split in ("val", "test")]
    latents = [z.double().numpy() for z in codes]
    shuffled = [np.random.default_rng(0).permutation(part) for part in latents]
    for name, (val, test) in ((f"{len(FACTORS)} factors", latents), ("codes in random order", shuffled)):
        print(f"{name}: {scores((val, known[0]), (test, known[1]))}")


if __name__ == "__main__":
    main()
