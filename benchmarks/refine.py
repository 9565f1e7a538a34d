"""What each weight of refined directions is for: directions refined without it, on val faces.

    python benchmarks/refine.py --data DIR                                  every weight, four names
    python benchmarks/refine.py --data DIR --names Smiling yaw --steps 30   quicker

DIR is a CelebA folder; the model is the shipped one, or --model FOLDER with a classifier.safetensors. A row has the means over
the names of what the refined direction does at the simple direction's effect (docs/directions.md), as multiples of what the
simple direction does, on the val faces that it is chosen on. A name takes about a minute and a half on one core, so the six
rows of four names take 35 minutes. Unfinished work is kept in --out: the same command goes on.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch

from betavae import hub
from betavae.classifier import Classifier
from train.cache import load
from train.directions.compare import SIDE_EFFECTS
from train.directions.evaluator import REFERENCE_FACES, Evaluator
from train.directions.refine import Faces, RefineConfig, refined_directions
from train.directions.simple import simple_directions
from train.evaluation import encode_all
from train.sources import open_data

NAMES = ("Smiling", "Eyeglasses", "Young", "yaw")
WITHOUT = ("mean_weight", "beyond_weight", "pixel_weight", "outlier_weight", "length_weight")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", required=True)
    parser.add_argument("--model", metavar="FOLDER", type=Path, default=hub.SHIPPED)
    parser.add_argument("--cache", metavar="DIR", default="runs/cache")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs/refine"))
    parser.add_argument("--names", nargs="+", default=NAMES, help=f"directions (default: {' '.join(NAMES)})")
    parser.add_argument("--steps", type=int, default=RefineConfig.steps)
    options = parser.parse_args()
    device = torch.device("cpu")
    model = hub.load_model(options.model)
    dataset = load(open_data(options.data), model.config, options.cache)
    train = dataset.indices("train")
    mu, val = (encode_all(model, dataset.images(split), device)[0] for split in ("train", "val"))
    labels, measured = ({name: values[train] for name, values in columns.items()}
                        for columns in (dataset.lists.attributes, dataset.numeric()))
    space = simple_directions(mu, labels, measured)
    evaluator = Evaluator(model, Classifier.load(options.model / "classifier.safetensors"), device, mu[:REFERENCE_FACES])
    base = dataclasses.replace(RefineConfig(), steps=options.steps)
    some = torch.from_numpy(np.random.default_rng(0).permutation(len(train))[:base.faces])
    masked = dataset.person is not None
    masks = dataset.masks("train")[some] if masked else None
    faces = Faces(mu, labels | measured, mu[some], evaluator.observe(mu[some]), masks)
    val_masks = dataset.masks("val") if masked else None
    space = space.having([space[name] for name in options.names])
    print(f"{', '.join(options.names)}; {base.choosing_faces} val faces; refined over simple, means over the names")
    print(f"{'without':16}{'merit':>8}" + "".join(f"{key:>22}" for key in SIDE_EFFECTS))
    for weight in (None, *WITHOUT):
        config = dataclasses.replace(base, **{weight: 0.0}) if weight else base
        _, table = refined_directions(evaluator, faces, val, val_masks, space, options.out, config)
        ratios = [[row["refined"][key] / row["simple"][key] for key in SIDE_EFFECTS] for row in table.values()]
        merit = np.mean([row["ratio"] for row in table.values()])
        print(f"{weight or 'nothing':16}{merit:8.3f}" + "".join(f"{value:22.3f}" for value in np.mean(ratios, 0)), flush=True)


if __name__ == "__main__":
    main()
