"""How well locks hold, and what they leave of the edit, by a classifier that they do not use.

    python benchmarks/locks.py --judge judge.safetensors                  24 faces of the mixture x 6 sliders, strength 1.5
    python benchmarks/locks.py --judge judge.safetensors --seed 100       those that the lock's settings were chosen on

Each edit locks what it changes most besides its target, by the model's own classifier: the first "also changed" chip of the
page. The judge has another seed than that; benchmarks/putback.py trains one where the file is missing. *Locked* is the mean
absolute change of the locked logit (of a quantity: in deviations) as a share of that without the lock, *wanted* the change of
the target's in the direction of the edit; both as ratios of sums and, in brackets, as the median over the edits.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import Tensor

from betavae import Editor
from betavae.classifier import Classifier

SLIDERS = ("Smiling", "Male", "Young", "Eyeglasses", "Blond_Hair", "Heavy_Makeup")
STRENGTH, TEMPERATURE = 1.5, 0.8


def measure(editor: Editor, judge: Classifier, z: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """What is left of the locked change and of the wanted one, each (n,) by the edits, for locks of "latent" and "picture"."""
    changes = {"free": [], "latent": [], "picture": []}  # of (locked, wanted), as the judge reads them
    for name in SLIDERS:
        for face in z:
            strengths = {name: STRENGTH}
            lock = editor.side_effects(face, strengths)[0].name
            latents = {"free": editor.shift(face, strengths), "picture": editor.shift(face, strengths, [lock]),
                       "latent": face[None] + editor.directions.shift(strengths, [lock])}
            columns = [judge.names.index(lock), judge.names.index(name)]
            before = read(editor, judge, face[None])[columns]
            for kind, latent in latents.items():
                changes[kind].append(read(editor, judge, latent)[columns] - before)
    changes = {kind: torch.stack(rows) for kind, rows in changes.items()}
    free = changes.pop("free")
    return {kind: (rows * free.sign(), free.abs()) for kind, rows in changes.items()}


@torch.inference_mode()
def read(editor: Editor, judge: Classifier, z: Tensor) -> Tensor:
    """The judge's readings (k,) of the picture of one latent (1, d)."""
    return judge.standard(editor.model.decode(z))[0]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--judge", type=Path, required=True, help="a classifier's file, of another seed than the model's own")
    parser.add_argument("--model", help="a model folder; left out: the shipped model")
    parser.add_argument("--faces", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    editor = Editor.from_pretrained(options.model, device="cpu")
    z = editor.sample(options.faces, options.seed, TEMPERATURE, source="mixture")
    for kind, (change, free) in measure(editor, Classifier.load(options.judge), z).items():
        locked, middle = change[:, 0].abs().sum() / free[:, 0].sum(), (change.abs() / free)[:, 0].median()
        wanted, kept = change[:, 1].sum() / free[:, 1].sum(), (change / free)[:, 1].median()
        print(
            f"{kind:8} locked {locked:.2f} ({middle:.2f}), wanted {wanted:.2f} ({kept:.2f}), of {len(change)} edits", flush=True
        )


if __name__ == "__main__":
    main()
