"""Edit faces from the command line.

    python -m betavae edit photo.jpg --set Smiling=1.5 yaw=-1 --lock Male Young --out edited.jpg
    python -m betavae edit *.jpg --set Smiling=1.5 --out-dir edited/      # many photos, each at its own size
    python -m betavae edit photo.jpg --set Smiling=1.5 --plain --out model.png    # the model's picture instead
    python -m betavae edit --recipe saved.png --out again.png
    python -m betavae faces group.jpg                                     # who is in it; edit --face N takes another one
    python -m betavae spectrum photo.jpg --attribute Smiling --out smile.png
    python -m betavae interpolate a.jpg b.jpg --steps 9 --out strip.png
    python -m betavae interpolate a.jpg b.jpg c.jpg --steps 72 --closed --out loop.gif      # or .mp4
    python -m betavae sample --count 16 --seed 7 --out faces.png          # or --out-dir faces/, any number
    python -m betavae sample --count 4 --sharp --out faces.png            # by the second decoder, of a model that has one
    python -m betavae traverse photo.jpg --latent 3 --out latent.png
    python -m betavae make Hat --with a.jpg b.jpg c.jpg --without d.jpg e.jpg f.jpg --out hat.safetensors
    python -m betavae edit photo.jpg --directions hat.safetensors --set Hat=1 --out edited.png
    python -m betavae directions
    python -m betavae space user/face-latents

``--help`` after a command lists its options.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from betavae import custom, space
from betavae.animation import FORMATS
from betavae.attributes import attribute
from betavae.displacement import can_put_back
from betavae.editor import SOURCES, Editor
from betavae.face import CROPS
from betavae.latent import EASINGS, INTERPOLATIONS, along, evenly, traverse
from betavae.photo import save
from betavae.recipe import Recipe

FPS = 24   # of a .gif or .mp4
SHEET = 256  # pictures side by side, at most
GIF = 1000   # pictures in a .gif, which holds them all until it is whole
CHUNK = 64   # faces decoded at a time
PIXELS = 2**27  # of a picture that is written; more would fill the memory


def write(images: list[Image.Image], path: Path, scale: int, recipe: Recipe | None = None) -> None:
    """Pictures side by side into a file, each enlarged ``scale`` times.

    Raises
    ------
    ValueError
        The format is unknown, or the picture too large.
    """
    side = _side(images[0], scale, len(images))
    sheet = Image.new("RGB", (side * len(images), side))
    for i, image in enumerate(images):
        sheet.paste(image.resize((side, side), Image.Resampling.BICUBIC), (side * i, 0))
    save(sheet, path, recipe)


def write_film(images: Iterable[Image.Image], path: Path, scale: int, recipe: Recipe | None = None) -> None:
    """Pictures in motion into a .gif or .mp4, each enlarged ``scale`` times.

    Raises
    ------
    ValueError
        They are too large.
    """
    film = FORMATS[path.suffix[1:].lower()](FPS, recipe)
    for image in images:
        side = _side(image, scale)
        film.add(image.resize((side, side), Image.Resampling.BICUBIC))
    path.write_bytes(film.finish())


def _side(image: Image.Image, scale: int, count: int = 1) -> int:
    """Pixels along a side of ``image``, a square, enlarged; ``count`` of them make one picture."""
    side = image.width * scale
    if count * side * side > PIXELS:
        raise ValueError(f"--scale is {scale:,}, which makes a picture of {count * side:,} x {side:,} pixels; "
                         f"it can have {PIXELS:,} in all.")
    return side


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.command == "edit":
        options.plain |= options.sharp  # a photo's own pixels are never sharpened
    try:
        if options.command == "space":
            return space.main(options)
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
        if options.command == "faces":
            return _faces(editor, options)
        if options.command == "edit" and options.photos:
            return _edit(editor, options)
        if options.command == "sample" and options.out_dir:
            return _stream(editor, options)
        if options.out is None:
            raise ValueError("There is no place to write to: give --out FILE" + (
                ", or --out-dir FOLDER." if options.command in ("edit", "sample") else "."))
        wanted, kind = getattr(options, "steps", getattr(options, "count", 1)), options.out.suffix[1:].lower()
        if wanted > SHEET and kind not in FORMATS:
            raise ValueError(f"{wanted:,} pictures do not fit side by side, {SHEET} at most do; give a .gif or .mp4"
                             + (", or --out-dir FOLDER." if options.command == "sample" else "."))
        if wanted > GIF and kind == "gif":
            raise ValueError(f"{wanted:,} pictures are too many for a .gif, which has {GIF:,} at most; give a .mp4"
                             + (", or --out-dir FOLDER." if options.command == "sample" else "."))
        images, recipe = _pictures(editor, options)
        if wanted > 1 and kind in FORMATS:
            write_film(images, options.out, options.scale, recipe)
        else:
            write(list(images), options.out, options.scale, recipe)
    except KeyboardInterrupt:
        print("Stopped; files that were finished are kept.", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _make(editor: Editor, options: argparse.Namespace) -> int:
    space = editor.directions
    positives, negatives = (editor.encode(photos, options.crop) for photos in (options.positives, options.negatives))
    direction, report = custom.from_faces(options.name, positives, negatives, space)
    space.having([editor.with_displacement(direction)]).save(options.out)
    if report.stability is not None:
        print(f"unseen faces on the right side: {report.leave_one_out:.0%}; stability: {report.stability:.2f}")
    print("most like: " + ", ".join(f"{name} ({cosine:+.2f})" for name, cosine in report.nearest))
    if report.warning:
        print(report.warning)
    return 0


def _pictures(editor: Editor, options: argparse.Namespace) -> tuple[Iterable[Image.Image], Recipe | None]:
    """The pictures that a command makes, drawn when they are taken; and the recipe of an edit."""
    if options.command == "edit":
        recipe = _recipe(editor, options)
        return editor.apply(recipe), recipe
    if options.command == "sample":
        return _drawn(editor, _samples(editor, options), options.sharp), None
    z = editor.encode(options.photos, options.crop)
    if options.command == "interpolate":
        path = along(z, evenly(options.steps, options.closed), options.method, options.easing, options.closed)
        return _drawn(editor, path, options.sharp), None
    photo = editor.input(options.photos[0], options.crop)
    if options.command == "spectrum":
        return _drawn(editor, editor.spectrum(z[0], options.attribute, options.steps)[0], options.sharp, photo), None
    if not 0 <= options.latent < editor.config.latents:
        raise ValueError(f"--latent is {options.latent}; this model's latents are 0 to {editor.config.latents - 1}.")
    latents = traverse(z, options.latent, torch.linspace(-options.reach, options.reach, options.steps))
    return _drawn(editor, latents, options.sharp, photo), None


def _samples(editor: Editor, options: argparse.Namespace) -> Tensor:
    return editor.sample(options.count, options.seed, options.temperature, options.truncation, options.source)


def _drawn(editor: Editor, z: Tensor, sharp: bool, photo: Image.Image | None = None) -> Iterator[Image.Image]:
    """Latents (n, d) as pictures, any number of them, since no more than a chunk is held."""
    for part in z.split(CHUNK):
        yield from editor.decode(part, photo, sharp=sharp)


def _recipe(editor: Editor, options: argparse.Namespace) -> Recipe:
    """The recipe that --recipe, --set, --lock and --sharp make together."""
    if not options.photos and not options.recipe:
        raise ValueError("There is nothing to edit: give a photo, or a recipe that carries a face.")
    recipe = Recipe.read(options.recipe) if options.recipe else Recipe(editor.hash)
    editor.check(recipe)
    recipe = dataclasses.replace(recipe, strengths={**recipe.strengths, **_strengths(options.set)},
                                 locks=(*recipe.locks, *options.lock), sharp=recipe.sharp or options.sharp)
    # Report a mistake once, not for each photo.
    editor.directions.shift(recipe.strengths, recipe.locks)
    if recipe.sharp and (options.plain or not options.photos):
        editor.second_decoder()
    return recipe


def _edit(editor: Editor, options: argparse.Namespace) -> int:
    """Edit photos, each into a file. Failures are listed at the end and do not stop the others."""
    recipe = _recipe(editor, options)
    if (options.out is None) == (options.out_dir is None):
        raise ValueError("Give either --out FILE, for one photo, or --out-dir FOLDER, for any number.")
    if options.out and len(options.photos) > 1:
        raise ValueError(f"There are {len(options.photos)} photos and one --out; give --out-dir FOLDER.")
    if options.out_dir:
        options.out_dir.mkdir(parents=True, exist_ok=True)
    absent = [name for name, strength in recipe.strengths.items() if strength and not can_put_back(name)]
    if absent and not options.plain:
        print(
            f"note: {', '.join(absent)} cannot be put back into a photo, which is moved and shaded but never redrawn; "
            "--plain gives the model's own picture.",
            file=sys.stderr,
        )
    failed, written = [], set()
    for path in tqdm(options.photos, desc="edit", unit=" photos", disable=len(options.photos) == 1):
        out = options.out or options.out_dir / (f"{path.stem}.png" if options.plain else path.name)
        try:
            if out.resolve() == path.resolve():
                raise ValueError(f"{str(out)!r} is the photo itself; give another folder.")
            if out in written:
                raise ValueError(
                    f"{path.name!r} is the name of two photos; they would be one file in {str(options.out_dir)!r}."
                )
            _edit_one(editor, options, recipe, path, out)
            written.add(out)
        except (ValueError, OSError) as error:
            failed.append(str(error))
    for sentence in failed:
        print(f"error: {sentence}", file=sys.stderr)
    if len(options.photos) > 1:
        print(
            f"{len(written)} of {len(options.photos)} photos edited" + (f"; {len(failed)} failed" if failed else ""),
            file=sys.stderr,
        )
    return 1 if failed else 0


def _edit_one(editor: Editor, options: argparse.Namespace, recipe: Recipe, path: Path, out: Path) -> None:
    photo = editor.open(path, options.crop)
    if options.eyes:
        photo.frame_by_eyes(*(_place(text) for text in options.eyes))
    elif options.face:
        photo.choose(options.face)
    carried = dataclasses.replace(recipe, seed=None, latent=tuple(round(value, 5) for value in photo.z[0].tolist()))
    if options.plain:
        write(editor.apply(recipe, photo.z, editor.input(photo)), out, options.scale, carried)
    else:
        photo.save(editor.put_back(photo, recipe.strengths, recipe.locks), out, carried)


def _place(text: str) -> tuple[float, float]:
    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"--eyes has {text!r}; write both eyes as X,Y X,Y in pixels, for example 410,300 520,310.") from None
    return x, y


def _faces(editor: Editor, options: argparse.Namespace) -> int:
    """Print a line for each face: number, box, eyes, and the detector's score."""
    for path in options.photos:
        faces = editor.open(path).faces
        print(f"{path.name}: {len(faces)} face{'s' * (len(faces) != 1)}")
        for i, face in enumerate(faces):
            (left, top, right, bottom), eyes = face.box, face.landmarks[:2]
            print(f"  {i}: from ({left:.0f}, {top:.0f}) to ({right:.0f}, {bottom:.0f}), eyes "
                  + " ".join(f"{x:.0f},{y:.0f}" for x, y in eyes) + f", score {face.score:.2f}")
    return 0


def _stream(editor: Editor, options: argparse.Namespace) -> int:
    """Write random faces, each into a file."""
    options.out_dir.mkdir(parents=True, exist_ok=True)
    digits = len(str(options.count - 1))
    images = _drawn(editor, _samples(editor, options), options.sharp)
    for i, image in enumerate(tqdm(images, total=options.count, desc="sample", unit=" faces")):
        write([image], options.out_dir / f"{i:0{digits}}.png", options.scale)
    return 0


def _strengths(pairs: list[str]) -> dict[str, float]:
    strengths = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            strengths[name] = float(value)
        except ValueError:
            raise ValueError(f"--set has {pair!r}; write NAME=STRENGTH, for example Smiling=1.5.") from None
    return strengths


def _positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text) if text.lstrip("-").isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m betavae", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--model", help="a model folder or a Hub repository user/repo (default: the shipped model)")
    common.add_argument("--device", help="cuda, mps or cpu (default: the first that is available)")
    common.add_argument("--directions", type=Path, nargs="+", default=[], metavar="FILE",
                        help="more directions: packs (.safetensors) or single vectors (.pt, .npy)")
    picture = argparse.ArgumentParser(add_help=False, parents=[common])
    picture.add_argument("--out", type=Path,
                         help="the file to write; pictures are side by side, or in motion in a .gif or .mp4")
    picture.add_argument("--scale", type=_positive, default=4, help="enlargement (default: 4)")
    framed = argparse.ArgumentParser(add_help=False, parents=[picture])
    framed.add_argument("--crop", choices=CROPS, default="auto", help="framing of the photo (default: auto)")
    stepped = argparse.ArgumentParser(add_help=False)
    stepped.add_argument("--steps", type=_positive, default=7, help="pictures (default: 7)")

    drawn = argparse.ArgumentParser(add_help=False)
    drawn.add_argument("--sharp", action="store_true",
                       help="the model's own picture by its second decoder, which adds detail that the latent does not hold")

    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    many = argparse.ArgumentParser(add_help=False)
    many.add_argument("--out-dir", type=Path, metavar="FOLDER", help="a folder to write to instead, a file for each picture")
    edit = commands.add_parser("edit", parents=[framed, many, drawn], help="photos with directions added, each at its own size")
    edit.add_argument("--plain", action="store_true", help="the model's own picture instead of the edited photo")
    edit.add_argument("--face", type=int, default=0, metavar="N", help="the N-th largest face, from 0 (default: 0)")
    edit.add_argument("--eyes", nargs=2, metavar="X,Y", help="where the eyes are, left and right in the photo, in pixels")
    edit.add_argument("--recipe", type=Path, metavar="FILE", help="an edit to start from: JSON, or a PNG saved with its recipe")
    edit.add_argument("--set", nargs="+", default=[], metavar="NAME=STRENGTH")
    edit.add_argument("--lock", nargs="+", default=[], metavar="NAME", help="directions that must not change")
    spectrum = commands.add_parser("spectrum", parents=[framed, stepped, drawn],
                                   help="a photo along one direction, from one end of the data to the other")
    spectrum.add_argument("--attribute", required=True, metavar="NAME")
    interpolate = commands.add_parser("interpolate", parents=[framed, stepped, drawn], help="through two or more photos")
    interpolate.add_argument("--method", choices=INTERPOLATIONS, default="slerp")
    interpolate.add_argument("--easing", choices=EASINGS, default="linear", help="the speed between two (default: linear)")
    interpolate.add_argument("--closed", action="store_true", help="and back to the first, as a loop without a seam")
    sample = commands.add_parser("sample", parents=[picture, many, drawn], help="random faces")
    sample.add_argument("--count", type=_positive, default=8)
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--temperature", type=float, default=1.0)
    sample.add_argument("--truncation", type=float, help="bound of the noise, in deviations (default: none)")
    sample.add_argument("--source", choices=SOURCES, default="prior",
                        help="N(0, I), or the mixture fitted to the training faces (default: prior)")
    walk = commands.add_parser("traverse", parents=[framed, stepped, drawn], help="a photo along one latent")
    walk.add_argument("--reach", type=float, default=3.0, help="from -REACH to +REACH (default: 3)")
    walk.add_argument("--latent", type=int, required=True)
    for command, count in ((edit, "*"), (spectrum, 1), (interpolate, "+"), (walk, 1)):
        command.add_argument("photos", nargs=count, type=Path, metavar="PHOTO")
    make = commands.add_parser("make", parents=[framed], help="a direction from faces with something and faces without")
    make.add_argument("name")
    make.add_argument("--with", dest="positives", nargs="+", type=Path, required=True, metavar="PHOTO")
    make.add_argument("--without", dest="negatives", nargs="+", type=Path, required=True, metavar="PHOTO")
    faces = commands.add_parser("faces", parents=[common], help="list the faces in a photo")
    faces.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    commands.add_parser("directions", parents=[common], help="list the directions")
    space.add_arguments(commands.add_parser("space", help="put the app on the Hugging Face Hub, as a Space"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
