"""What a run looks like: curves, grids and strips, as PNG files.

``reconstructions.png`` shows CelebA's own images, which may not be redistributed: it is for whoever trains, not for
publication. Everything else is made by the model.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from betavae import Editor
from betavae.attributes import attribute
from betavae.directions import Directions
from betavae.image import from_uint8, to_pil
from betavae.latent import traverse
from train import selection
from train.evaluation import encode_all
from train.selection import Judge

SCALE = 2  # figures are drawn at twice the model's size
GAP = 4
HEADLINE = ("Smiling", "yaw", "pitch", "background_brightness", "Blond_Hair", "Bangs", "Young", "Male", "Eyeglasses", "Pale_Skin")


def grid(rows: list[list[Image.Image]], labels: list[str] | None = None, header: list[str] | None = None,
         scale: int = SCALE) -> Image.Image:
    """Pictures in rows, enlarged ``scale`` times, with a label before each row and a header over the columns."""
    side = rows[0][0].width * scale
    font = ImageFont.load_default(size=max(13, side // 8))
    left = GAP + max((round(font.getlength(label)) for label in labels), default=0) + GAP if labels else GAP
    top = GAP + (font.size + 2 * GAP if header else 0)
    sheet = Image.new("RGB", (left + max(map(len, rows)) * (side + GAP), top + len(rows) * (side + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, text in enumerate(header or []):
        draw.text((left + i * (side + GAP) + side / 2, top / 2), text, fill="black", font=font, anchor="mm")
    for j, row in enumerate(rows):
        y = top + j * (side + GAP)
        if labels:
            draw.text((left - 2 * GAP, y + side / 2), labels[j], fill="black", font=font, anchor="rm")
        for i, image in enumerate(row):
            sheet.paste(image.resize((side, side), Image.Resampling.BICUBIC), (left + i * (side + GAP), y))
    return sheet


def edits(editor: Editor, z: Tensor, strengths: tuple[float, ...] = (-3, -2, -1, 0, 1, 2, 3),
          names: tuple[str, ...] = HEADLINE) -> Image.Image:
    """One face (d,), a row per direction and a column per strength."""
    names = [name for name in names if name in editor.directions]
    rows = [editor.decode(torch.cat([editor.shift(z, {name: s}) for s in strengths])) for name in names]
    return grid(rows, [attribute(name).label for name in names], [f"{s:+g}" if s else "0" for s in strengths])


def samples(editor: Editor, rows: int = 4, columns: int = 8, seed: int = 0) -> Image.Image:
    """Random faces from N(0, I)."""
    faces = editor.decode(editor.sample(rows * columns, seed))
    return grid([faces[i:i + columns] for i in range(0, len(faces), columns)])


def traversals(editor: Editor, z: Tensor, kl_per_latent: list[float], steps: int = 7) -> Image.Image:
    """One face (d,), a row per latent in the order of its KL, the latent going from -3 to 3."""
    values = torch.linspace(-3, 3, steps)
    order = sorted(range(len(kl_per_latent)), key=lambda i: -kl_per_latent[i])
    rows = [editor.decode(traverse(z, latent, values)) for latent in order]
    return grid(rows, [f"{latent}: {kl_per_latent[latent]:.1f} nats" for latent in order],
                [f"{value:+.0f}" for value in values], scale=1)


def reconstructions(editor: Editor, pixels: Tensor, columns: int = 8) -> Image.Image:
    """Pairs of rows: uint8 images (n, s, s, 3) and their reconstructions from the posterior mean."""
    mu, _ = encode_all(editor.model, pixels, editor.device)
    images, made = to_pil(from_uint8(pixels)), editor.decode(mu)
    pairs = [(images[i:i + columns], made[i:i + columns]) for i in range(0, len(images), columns)]
    return grid([row for pair in pairs for row in pair])


def curves(log: Path) -> plt.Figure:
    """Reconstruction and KL over the images seen, on training batches and on val, from a run's ``log.jsonl``."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    for axis, term in zip(axes, ("bce", "kl")):
        for kind, style in (("train", "-"), ("val", "o-")):
            points = [(line["images"], line[term]) for line in lines if line["kind"] == kind]
            axis.plot(*zip(*points), style, label=kind, markersize=3)
        axis.set(xlabel="images seen", ylabel=f"{term.upper()} (nats)")
        axis.grid(alpha=0.3)
        axis.legend()
    # The first batches are far above everything that follows.
    values = sorted(line["bce"] for line in lines)
    axes[0].set_ylim(values[0] - 20, values[int(len(values) * 0.95)] + 20)
    return figure


def effects(judge: Judge, z: Tensor, directions: Directions) -> plt.Figure:
    """Heat map: what every direction, a row, changes of every output of the classifier, a column."""
    matrix = selection.effects(judge, z, directions)
    figure, axis = plt.subplots(figsize=(15, 14), layout="constrained")
    image = axis.imshow(matrix, cmap="RdBu_r", vmin=-3, vmax=3)
    axis.set_xticks(range(len(judge.names)), [attribute(name).label for name in judge.names], rotation=90)
    axis.set_yticks(range(len(matrix)), [attribute(name).label for name in directions])
    axis.set_title("Mean change, in logits or deviations, at the dose each direction was measured at")
    figure.colorbar(image, shrink=0.5)
    return figure


def draw(editor: Editor, test: Tensor, out: Path, seed: int = 0) -> list[Path]:
    """Every figure of a run into ``out/figures``; ``test`` is uint8 (n, s, s, 3)."""
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    face = editor.sample(1, seed)[0]
    pictures = {"edits": edits(editor, face), "directions": edits(editor, face, names=tuple(editor.directions)),
                "samples": samples(editor, seed=seed),
                "reconstructions": reconstructions(editor, test[:16]),
                "traversals": traversals(editor, face, editor.metrics["val"]["kl_per_latent"])}
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")
    if (out / "log.jsonl").exists():
        figure = curves(out / "log.jsonl")
        figure.savefig(folder / "curves.png", dpi=120)
        plt.close(figure)
    return sorted(folder.glob("*.png"))
