"""Edit faces from the command line.

    python -m betavae edit photo.jpg --set Smiling=1.5 yaw=-1 --lock Male Young --out edited.png
    python -m betavae edit --recipe saved.png --out again.png
    python -m betavae spectrum photo.jpg --attribute Smiling --out smile.png
    python -m betavae interpolate a.jpg b.jpg --steps 9 --out strip.png
    python -m betavae interpolate a.jpg b.jpg c.jpg --steps 72 --closed --out loop.gif      # or .mp4
    python -m betavae sample --count 16 --seed 7 --out faces.png
    python -m betavae traverse photo.jpg --latent 3 --out latent.png
    python -m betavae make Hat --with a.jpg b.jpg c.jpg --without d.jpg e.jpg f.jpg --out hat.safetensors
    python -m betavae edit photo.jpg --directions hat.safetensors --set Hat=1 --out edited.png
    python -m betavae directions
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import torch
from PIL import Image

from betavae import custom
from betavae.animation import FORMATS
from betavae.attributes import attribute
from betavae.editor import SOURCES, Editor
from betavae.face import CROPS
from betavae.latent import EASINGS, INTERPOLATIONS, along, evenly, traverse
from betavae.recipe import Recipe

FPS = 24  # of a .gif or .mp4


def write(images: list[Image.Image], path: Path, scale: int) -> None:
    """Pictures into a file, one after the other in a .gif or .mp4, else side by side, each enlarged ``scale`` times."""
    side = images[0].width * scale
    images = [image.resize((side, side), Image.Resampling.BICUBIC) for image in images]
    if path.suffix[1:].lower() in FORMATS:
        film = FORMATS[path.suffix[1:].lower()](FPS)
        for image in images:
            film.add(image)
        path.write_bytes(film.finish())
        return
    sheet = Image.new("RGB", (side * len(images), side))
    for i, image in enumerate(images):
        sheet.paste(image, (i * side, 0))
    sheet.save(path)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        editor = Editor.from_pretrained(options.model, options.device)
        for path in options.directions:
            editor.directions |= custom.read(path, editor.directions)
        if options.command == "make":
            return _make(editor, options)
        if options.command == "directions":
            for name, direction in editor.directions.items():
                print(f"{name:24}{attribute(name).label:24}strength 1 = "
                      + (f"{direction.per_strength:.3g} {direction.unit}" if direction.unit != "strength" else
                         f"the gap between {direction.positives:,} faces with it and {direction.negatives:,} without"))
            return 0
        write(_pictures(editor, options), options.out, options.scale)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _make(editor: Editor, options: argparse.Namespace) -> int:
    space = editor.directions
    sides = (editor.encode(photos, options.crop) for photos in (options.positives, options.negatives))
    direction, report = custom.from_faces(options.name, *sides, space)
    space.having([editor.with_displacement(direction)]).save(options.out)
    if report.stability is not None:
        print(f"unseen faces on the right side: {report.leave_one_out:.0%}; stability: {report.stability:.2f}")
    print("most like: " + ", ".join(f"{name} ({cosine:+.2f})" for name, cosine in report.nearest))
    if report.warning:
        print(report.warning)
    return 0


def _pictures(editor: Editor, options: argparse.Namespace) -> list[Image.Image]:
    if options.command == "sample":
        return editor.decode(editor.sample(options.count, options.seed, options.temperature, options.truncation, options.source))
    if options.command == "edit":
        return _edit(editor, options)
    z = editor.encode(options.photos, options.crop)
    if options.command == "interpolate":
        return editor.decode(along(z, evenly(options.steps, options.closed), options.method, options.easing, options.closed))
    photo = editor.input(options.photos[0], options.crop)
    if options.command == "spectrum":
        return editor.decode(editor.spectrum(z[0], options.attribute, options.steps)[0], photo)
    if not 0 <= options.latent < editor.config.latents:
        raise ValueError(f"--latent is {options.latent}; this model's latents are 0 to {editor.config.latents - 1}.")
    values = torch.linspace(-options.reach, options.reach, options.steps)
    return editor.decode(traverse(z, options.latent, values), photo)


def _edit(editor: Editor, options: argparse.Namespace) -> list[Image.Image]:
    recipe = Recipe.read(options.recipe) if options.recipe else Recipe(editor.hash)
    if not options.photos and not options.recipe:
        raise ValueError("There is nothing to edit: give a photo, or a recipe that carries a face.")
    recipe = dataclasses.replace(recipe, strengths={**recipe.strengths, **_strengths(options.set)},
                                 locks=[*recipe.locks, *options.lock])
    if not options.photos:
        return editor.apply(recipe)
    return editor.apply(recipe, editor.encode(options.photos, options.crop), editor.input(options.photos, options.crop))


def _strengths(pairs: list[str]) -> dict[str, float]:
    strengths = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            strengths[name] = float(value)
        except ValueError:
            raise ValueError(f"--set has {pair!r}; write NAME=STRENGTH, for example Smiling=1.5.") from None
    return strengths


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m betavae", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--model", help="a model folder or a Hub repository user/repo (default: the shipped model)")
    common.add_argument("--device", help="cuda, mps or cpu (default: the first of these that is here)")
    common.add_argument("--directions", type=Path, nargs="+", default=[], metavar="FILE",
                        help="more directions: packs (.safetensors) or single vectors (.pt, .npy)")
    picture = argparse.ArgumentParser(add_help=False, parents=[common])
    picture.add_argument("--out", type=Path, required=True,
                         help="the file to write; pictures are side by side, or in motion in a .gif or .mp4")
    picture.add_argument("--scale", type=int, default=4, help="enlargement (default: 4)")
    framed = argparse.ArgumentParser(add_help=False, parents=[picture])
    framed.add_argument("--crop", choices=CROPS, default="auto", help="framing of the photo (default: auto)")
    stepped = argparse.ArgumentParser(add_help=False)
    stepped.add_argument("--steps", type=int, default=7, help="pictures (default: 7)")

    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    edit = commands.add_parser("edit", parents=[framed], help="a photo with directions added")
    edit.add_argument("--recipe", type=Path, metavar="FILE", help="an edit to start from: JSON, or a PNG saved with its recipe")
    edit.add_argument("--set", nargs="+", default=[], metavar="NAME=STRENGTH")
    edit.add_argument("--lock", nargs="+", default=[], metavar="NAME", help="directions that keep their place")
    spectrum = commands.add_parser("spectrum", parents=[framed, stepped],
                                   help="a photo along one direction, from one end of the data to the other")
    spectrum.add_argument("--attribute", required=True, metavar="NAME")
    interpolate = commands.add_parser("interpolate", parents=[framed, stepped], help="through two or more photos")
    interpolate.add_argument("--method", choices=INTERPOLATIONS, default="slerp")
    interpolate.add_argument("--easing", choices=EASINGS, default="linear", help="the speed between two (default: linear)")
    interpolate.add_argument("--closed", action="store_true", help="and back to the first, as a loop without a seam")
    sample = commands.add_parser("sample", parents=[picture], help="random faces")
    sample.add_argument("--count", type=int, default=8)
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--temperature", type=float, default=1.0)
    sample.add_argument("--truncation", type=float, help="bound of the noise, in deviations (default: none)")
    sample.add_argument("--source", choices=SOURCES, default="prior",
                        help="N(0, I), or the mixture fitted to where the faces are (default: prior)")
    walk = commands.add_parser("traverse", parents=[framed, stepped], help="a photo along one latent")
    walk.add_argument("--reach", type=float, default=3.0, help="from -REACH to +REACH (default: 3)")
    walk.add_argument("--latent", type=int, required=True)
    for command, count in ((edit, "?"), (spectrum, 1), (interpolate, "+"), (walk, 1)):
        command.add_argument("photos", nargs=count, type=Path, metavar="PHOTO")
    make = commands.add_parser("make", parents=[framed], help="a direction from faces with something and faces without")
    make.add_argument("name")
    make.add_argument("--with", dest="positives", nargs="+", type=Path, required=True, metavar="PHOTO")
    make.add_argument("--without", dest="negatives", nargs="+", type=Path, required=True, metavar="PHOTO")
    commands.add_parser("directions", parents=[common], help="what can be edited")
    return parser


if __name__ == "__main__":
    sys.exit(main())
