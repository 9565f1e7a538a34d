"""Give the directions of a model their displacement fields, which put an edit back into a photo.

    python -m train.displacement                          the shipped model's directions
    python -m train.displacement --model runs/capacity    those of a run, or of any model folder

The stage "directions" of train/run.py does so too; the command is for older directions.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable

from torch import Tensor
from tqdm import tqdm

from betavae import Editor, hub
from betavae.directions import Directions
from betavae.displacement import FACES, estimate

# Light and colour move nothing, but optical flow takes their shading for motion.
STILL = ("face_brightness", "light_side", "background_brightness", "background_warmth", "background_tint", "Pale_Skin",
         "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")


def with_displacements(directions: Directions, decode: Callable[[Tensor], Tensor], z: Tensor) -> Directions:
    """The same directions, each with its displacement field, estimated on the pictures of faces z (n, d)."""
    return directions.having([
        dataclasses.replace(direction, displacement=None if direction.name in STILL else estimate(decode, direction, z))
        for direction in tqdm(directions.values(), desc="displacement")])


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model folder with directions; left out: the shipped model")
    parser.add_argument("--seed", type=int, default=0, help="of the random faces between whose pictures flow is sought")
    options = parser.parse_args(arguments)
    try:
        folder = hub.resolve(options.model)
        editor = Editor.from_pretrained(folder)
        path = hub.directions_path(folder)
        if path is None:
            raise ValueError(
                f"{str(folder)!r} has no directions.safetensors; python train/run.py --stages directions makes it."
            )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    z = editor.sample(FACES, options.seed, source="mixture" if editor.mixture else "prior")
    directions = with_displacements(editor.directions, editor.model.decode, z.to(editor.device))
    directions.save(path)
    hub.stamp(path, editor.hash)
    moving = [name for name, direction in directions.items() if direction.displacement is not None]
    print(f"{path}: {len(moving)} of {len(directions)} directions move what they show: {', '.join(moving)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
