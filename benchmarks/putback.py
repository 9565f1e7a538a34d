"""What an edit that is put back into a photo shows, and what it leaves of the photo.

    python benchmarks/putback.py --data DIR --judge judge.safetensors                  the first faces of val
    python benchmarks/putback.py --data DIR --judge judge.safetensors --split test     once, for the report
    python benchmarks/putback.py --data DIR --judge judge.safetensors --directions     every direction: what is left of it
    python benchmarks/putback.py --figure assets/put-back.jpg                          a portrait, edited

DIR is a CelebA folder. The photos are aligned frames of 178 x 218 pixels. The judge is a classifier of pixels that nothing of
the model was made with: where the file is missing it is trained, from another seed than the project's own, and written there.

Laplacian energy is the mean square of the Laplacian of the grey picture where the mask is whole, as a share of the photo's own.
Likeness is the cosine between the classifier's penultimate features of the photo and of the result.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import cv2
import numpy as np
import torch
from PIL import Image
from skimage.data import astronaut
from torch import Tensor
from torch.nn.functional import cosine_similarity

from betavae import Editor
from betavae.classifier import Classifier
from betavae.displacement import BORDER, SHARE, put_back, total, touch
from betavae.image import crop_box, preprocess, to_tensor
from betavae.person import Person, matte
from train.cache import load
from train.celeba import CelebA
from train.classifier import fit_classifier

ALIGNED = np.array([[1.0, 0, 0], [0, 1, 0]])  # the photo is the frame
STRENGTHS = (1.5, 2.0, 3.0)
SHARP = (("Smiling", 2.0), ("Smiling", -2.0), ("yaw", 1.0), ("yaw", -1.0))
BATCH = 50
# Of scikit-image's portrait of Eileen Collins by NASA: the part that is drawn, and what is done to it.
SHOWN = (slice(4, 284), slice(96, 366))
EDITS = ({}, {"Smiling": -2.0}, {"Smiling": 2.0}, {"yaw": -1.2}, {"yaw": 1.2}, {"Young": -3.0}, {"Blond_Hair": 1.5})
JUDGE_SEED = 1


class Faces:
    """Aligned photos of one split with what is computed of each once: latents, decodes, mattes."""

    def __init__(self, editor: Editor, celeba: CelebA, rows: np.ndarray):
        self.editor = editor
        self.photos = [np.asarray(Image.open(celeba.images / name).convert("RGB")) for name in celeba.lists.names[rows]]
        self.inputs = inputs(editor, self.photos)
        self.z = torch.cat([editor.model.encode(part)[0] for part in self.inputs.split(BATCH)])
        self.before = decode(editor, self.z)
        network = Person.load()
        self.mattes = [matte(network, photo, ALIGNED, editor.config) for photo in self.photos]

    def edited(self, name: str, strength: float) -> tuple[Tensor, list[np.ndarray]]:
        """The decodes (n, 3, s, s) of an edit, and the photos with it put back."""
        strengths = {name: strength}
        after = decode(self.editor, self.editor.shift(self.z, strengths))
        field = total(self.editor.directions, strengths)
        return after, [
            put_back(photo, ALIGNED, self.editor.config, before[None], decoded[None], field, touch(person, strengths))[0]
            for photo, before, decoded, person in zip(self.photos, self.before, after, self.mattes, strict=True)
        ]


def inputs(editor: Editor, photos: list[np.ndarray]) -> Tensor:
    """What the model and the judge see of aligned photos: (n, 3, s, s)."""
    return to_tensor([preprocess(Image.fromarray(photo), editor.config) for photo in photos])


def decode(editor: Editor, z: Tensor) -> Tensor:
    """Pictures (n, 3, s, s) of latents (n, d)."""
    return torch.cat([editor.model.decode(part) for part in z.split(BATCH)])


def read(judge: Classifier, pictures: Tensor, name: str) -> Tensor:
    """What pictures show of one name: (n,), logits or deviations."""
    return torch.cat([judge.standard(part)[:, judge.names.index(name)] for part in pictures.split(BATCH)])


def features(judge: Classifier, pictures: Tensor) -> Tensor:
    """The judge's features (n, c) of pictures."""
    return torch.cat([judge.features(part) for part in pictures.split(BATCH)])


def laplacian_energy(photo: np.ndarray, config) -> float:
    """Of the part of an aligned photo where the mask is 1."""
    left, top, right, bottom = crop_box(config)
    rim = round(BORDER * (right - left))
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.square(cv2.Laplacian(grey, cv2.CV_32F)[top + rim:bottom - rim, left + rim:right - rim]).mean())


def smiles(faces: Faces, judge: Classifier) -> Iterator[str]:
    """How probable the judge finds a smile on those who do not smile, and how like themselves they stay."""
    own = features(judge, faces.inputs)
    unedited = read(judge, faces.inputs, "Smiling").sigmoid().mean()
    yield f"P(smile) of {len(faces.photos)} faces labelled as not smiling; in the photo {unedited:.2f}"
    yield f"{'strength':>10}{'put back':>10}{'decode':>10}{'likeness':>12}{'of decode':>12}"
    for strength in STRENGTHS:
        after, results = faces.edited("Smiling", strength)
        shown = inputs(faces.editor, results)
        probable = [read(judge, pictures, "Smiling").sigmoid().mean() for pictures in (shown, after)]
        alike = [cosine_similarity(own, features(judge, pictures)).mean() for pictures in (shown, after)]
        yield f"{strength:>10g}{probable[0]:>10.2f}{probable[1]:>10.2f}{alike[0]:>12.3f}{alike[1]:>12.3f}"


def sharpness(faces: Faces) -> Iterator[str]:
    """What share of the photos' Laplacian energy is left."""
    own = [laplacian_energy(photo, faces.editor.config) for photo in faces.photos]
    yield f"\nLaplacian energy of {len(own)} faces, as a share of the photo's: mean, and the 10 % with the least"
    for name, strength in SHARP:
        _, results = faces.edited(name, strength)
        shares = [laplacian_energy(result, faces.editor.config) / energy for result, energy in zip(results, own, strict=True)]
        yield f"{name:>10} {strength:+g}{np.mean(shares):>10.2f}{np.quantile(shares, 0.1):>10.2f}"


def directions(faces: Faces, judge: Classifier) -> Iterator[str]:
    """Of every direction that the judge reads: what it does to the decode, and the share of it that the photo shows."""
    yield (
        f"\nEffect over both ways from -{SHARE:g} to +{SHARE:g} of the data's range, in logits or deviations, "
        f"on {len(faces.photos)} faces"
    )
    yield f"{'direction':<24}{'strength':>10}{'decode':>10}{'put back':>10}{'share':>10}"
    for name, direction in faces.editor.directions.items():
        if name not in judge.names:
            continue
        dose = SHARE * min(-direction.low, direction.high)
        (low, back_low), (high, back_high) = (faces.edited(name, sign * dose) for sign in (-1, 1))
        effect = float((read(judge, high, name) - read(judge, low, name)).mean())
        left = float(
            (read(judge, inputs(faces.editor, back_high), name) - read(judge, inputs(faces.editor, back_low), name)).mean()
        )
        yield f"{name:<24}{dose:>10.2f}{effect:>10.2f}{left:>10.2f}{left / effect:>10.2f}"


def figure(editor: Editor) -> Image.Image:
    """A portrait as it is and with edits put back, above the model's own pictures."""
    photo = editor.open(Image.fromarray(astronaut()))
    edited = [np.asarray(editor.put_back(photo, edit))[SHOWN] for edit in EDITS]
    width = edited[0].shape[1]
    drawn = [editor.edit(photo.z, edit)[0].resize((width, width), Image.Resampling.BICUBIC) for edit in EDITS]
    return Image.fromarray(np.vstack([np.hstack(edited), np.hstack([np.asarray(picture) for picture in drawn])]))


def the_judge(path: Path, celeba: CelebA, editor: Editor, cache: str) -> Classifier:
    """The classifier in a file, trained and written where there is none."""
    if not path.exists():
        fit_classifier(load(celeba, editor.config, cache), editor.device, JUDGE_SEED).save(path)
    return Classifier.load(path)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a CelebA folder")
    parser.add_argument("--judge", type=Path, help="the judge's file; trained where it is missing")
    parser.add_argument("--model", help="a model folder; left out: the shipped model")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--faces", type=int, default=150)
    parser.add_argument("--directions", action="store_true", help="measure every direction instead")
    parser.add_argument("--cache", default="data/cache", help="where decoded images are kept, to train the judge")
    parser.add_argument("--figure", type=Path, help="draw a portrait into this file instead")
    options = parser.parse_args()
    editor = Editor.from_pretrained(options.model, device="cpu")
    if options.figure:
        figure(editor).save(options.figure, quality=90)
        return
    if not (options.data and options.judge):
        parser.error("--data and --judge are needed to measure")
    celeba = CelebA.open(options.data)
    judge = the_judge(options.judge, celeba, editor, options.cache)
    torch.set_grad_enabled(False)
    split = celeba.lists.split == options.split
    if options.directions:
        reports = [directions(Faces(editor, celeba, np.flatnonzero(split)[:options.faces]), judge)]
    else:
        faces = Faces(editor, celeba, np.flatnonzero(split & (celeba.lists.attributes["Smiling"] == 0))[:options.faces])
        reports = [smiles(faces, judge), sharpness(faces)]
    print(f"{options.split} split, Laplacian and judge at 178 x 218 aligned frames")
    for report in reports:
        for line in report:
            print(line, flush=True)


if __name__ == "__main__":
    main()
