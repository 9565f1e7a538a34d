"""What reconstructions keep of what people see, by a classifier that the models were not trained with.

    python benchmarks/kept.py --data DIR --judge judge.safetensors MODEL ...       2,000 val faces; --split test

For each model and attribute: the judge's mean probability on the photos that lack the attribute, on their reconstructions from
the posterior mean, and the same for photos that have it. ``told`` is the AUROC of the judge on the reconstructions, mean over
the attributes with 20 faces on each side; ``on photos`` is what it has on the photos. The judge has another seed than the
models' own classifier; benchmarks/putback.py trains one where the file is missing.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from betavae import hub
from betavae.classifier import Classifier
from betavae.image import from_uint8
from betavae.model import VAE
from train.cache import load
from train.sources import open_data

SHOWN = ("Smiling", "Eyeglasses", "Male", "Mouth_Slightly_Open", "Bangs")
FEWEST = 20  # faces on a side of an attribute whose AUROC is counted


@torch.inference_mode()
def read(judge: Classifier, pixels: Tensor, model: VAE | None = None) -> np.ndarray:
    """Probabilities (n, 40) of the attributes in pictures, uint8 (n, s, s, 3), or in a model's reconstructions of them."""
    rows = []
    for part in pixels.split(100):
        x = from_uint8(part)
        if model is not None:
            x = model.decode(model.encode(x)[0])
        rows.append(judge(x)[:, :len(judge.attributes)].sigmoid())
    return torch.cat(rows).numpy()


def auroc(present: np.ndarray, probability: np.ndarray) -> float:
    """Mean AUROC over the attributes that enough faces have and lack."""
    counts = present.sum(0)
    return float(np.mean([roc_auc_score(present[:, k], probability[:, k]) for k in range(present.shape[1])
                          if FEWEST <= counts[k] <= len(present) - FEWEST]))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="model folders, of 64 px")
    parser.add_argument("--data", required=True, help="CelebA")
    parser.add_argument("--judge", type=Path, required=True, help="a classifier's file, of another seed than the models' own")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--cache", default="runs/cache")
    options = parser.parse_args()
    judge, source = Classifier.load(options.judge), open_data(options.data)
    for folder in options.models:
        model = hub.load_model(hub.resolve(folder))
        dataset = load(source, model.config, options.cache)
        rows, pixels = dataset.indices(options.split), dataset.images(options.split)
        present = np.stack([dataset.lists.attributes[name][rows] for name in judge.attributes], 1).astype(int)
        photos, kept = read(judge, pixels), read(judge, pixels, model)
        print(f"{folder}: {len(pixels):,} {options.split} faces; told {auroc(present, kept):.3f}, "
              f"on photos {auroc(present, photos):.3f}")
        for name in SHOWN:
            k = list(judge.attributes).index(name)
            sides = (f"{side}: photos {photos[mask, k].mean():.3f}, reconstructions {kept[mask, k].mean():.3f}"
                     for side, mask in (("lacking", present[:, k] == 0), ("having", present[:, k] == 1)))
            print(f"  {name:20}", *sides)


if __name__ == "__main__":
    main()
