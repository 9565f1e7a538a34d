"""Figures of a run: curves, grids and strips as PNG files, and a GIF of traversals.

Figures with "reconstructions" in their name show CelebA's own images, which may not be redistributed. All others are made by
the model.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import EngFormatter
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from betavae import Editor
from betavae.attributes import attribute
from betavae.directions import Directions
from betavae.image import from_uint8, to_pil
from betavae.latent import traverse
from betavae.model import VAE
from train.atlas import correlations as latent_correlations
from train.directions.compare import REPORTED, effect_matrix
from train.directions.evaluator import Evaluator
from train.evaluation import REACH, collapse_sentence, encode_all

SIDE = 128           # of a picture in a figure, in pixels, unless there are many
SMALL = 64
GAP = 4
FACES, STEPS = 5, 7  # of a grid of traversals
MOST_ROWS = 128      # latents drawn, those of most KL, where a model has more
MOST_BARS = 256
MOST_CELLS = 64      # latents of a heat map or a GIF
FRAMES = 16          # of a GIF, there; as many back
LINES = {"C": "capacity C (nats)", "bce": "BCE (nats)", "mse": "squared error", "psnr": "PSNR (dB)",
         "bce_gap": "BCE above the floor (nats)", "kl": "KL (nats)", "beta": "weight of the KL", "lr": "learning rate",
         "active_0.1": "latents > 0.1 nat", "active_1": "latents > 1 nat"}


def grid(rows: list[list[Image.Image]], labels: list[str] | None = None, header: list[str] | None = None,
         side: int = SIDE, captions: list[str] | None = None) -> Image.Image:
    """Pictures in rows, each ``side`` pixels square.

    ``labels`` stand before the rows, ``header`` over the columns, and ``captions`` in the pictures, in reading order.
    """
    size = max(13, side // 8)
    font = ImageFont.load_default(size)
    left = GAP + max((round(font.getlength(label)) for label in labels), default=0) + 2 * GAP if labels else GAP
    top = GAP + (size + 2 * GAP if header else 0)
    sheet = Image.new("RGB", (left + max(map(len, rows)) * (side + GAP), top + len(rows) * (side + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    told = iter(captions or [])
    for i, text in enumerate(header or []):
        draw.text((left + i * (side + GAP) + side / 2, top / 2), text, fill="black", font=font, anchor="mm")
    for j, row in enumerate(rows):
        y = top + j * (side + GAP)
        if labels:
            draw.text((left - 2 * GAP, y + side / 2), labels[j], fill="black", font=font, anchor="rm")
        for i, image in enumerate(row):
            x = left + i * (side + GAP)
            sheet.paste(image.resize((side, side), Image.Resampling.BICUBIC), (x, y))
            draw.text((x + GAP, y + side - GAP), next(told, ""), fill="white", stroke_fill="black", stroke_width=2,
                      font=font, anchor="lb")
    return sheet


def edits(editor: Editor, z: Tensor, names: Sequence[str] = REPORTED, steps: int = 7) -> Image.Image:
    """Edits of one face (d,): a row per direction, from one end of the data to the other."""
    names = [name for name in names if name in editor.directions]
    rows = [editor.decode(editor.spectrum(z, name, steps)[0]) for name in names]
    return grid(rows, [attribute(name).label for name in names])


def samples(editor: Editor, rows: int = 4, columns: int = 8, seed: int = 0) -> Image.Image:
    """Random faces from N(0, I)."""
    faces = editor.decode(editor.sample(rows * columns, seed))
    return grid([faces[i:i + columns] for i in range(0, len(faces), columns)])


def by_kl(report: Mapping, split: str = "test") -> list[int]:
    """The latents of a run's ``metrics.json`` in the order of their KL, most first."""
    values = report[split]["kl_per_latent"]
    return sorted(range(len(values)), key=lambda latent: -values[latent])


def name_of(latent: int, report: Mapping, split: str = "test") -> str:
    """The label of a latent: its number and KL, and whether it is collapsed."""
    collapsed = latent in report["collapse"]["latents"]
    return f"{latent}: " + ("collapsed" if collapsed else f"{report[split]['kl_per_latent'][latent]:.1f} nats")


def traversals(editor: Editor, z: Tensor, report: Mapping) -> Image.Image:
    """Faces z (n, d) beside each other, a row per latent in the order of its KL, the latent going from -3 to 3."""
    values = torch.linspace(-REACH, REACH, STEPS)
    order = by_kl(report)[:MOST_ROWS]
    rows = [editor.decode(torch.cat([traverse(face, latent, values) for face in z])) for latent in order]
    header = [f"{value:+.0f}" if value else "0" for value in values] * len(z)
    return grid(rows, [name_of(latent, report) for latent in order], header, SMALL)


def traversal_frames(editor: Editor, z: Tensor, report: Mapping, columns: int = 8) -> list[Image.Image]:
    """Frames of one face (d,), copied for each latent by falling KL; each copy moves in its latent from -3 to 3 and back."""
    order = by_kl(report)[:MOST_CELLS]
    there = torch.linspace(-REACH, REACH, FRAMES)
    frames = []
    for value in there:
        faces = editor.decode(torch.cat([traverse(z, latent, value[None]) for latent in order]))
        frames.append(grid([faces[i:i + columns] for i in range(0, len(faces), columns)], side=96,
                           captions=[name_of(latent, report) for latent in order]))
    return frames + frames[-2:0:-1]


def interpolations(editor: Editor, mu: Tensor, steps: int = 9) -> Image.Image:
    """Interpolations on great arcs, a row for each pair of faces: mu (2 n, d), pairs beside each other."""
    rows = [editor.interpolate(mu[i], mu[i + 1], steps, "slerp") for i in range(0, len(mu) - 1, 2)]
    return grid(rows, header=[f"{t:.2f}".rstrip("0").rstrip(".") for t in np.linspace(0, 1, steps)])


def reconstructions(model: VAE, pixels: Tensor, device: torch.device, columns: int = 8) -> Image.Image:
    """Pairs of rows: uint8 images (n, s, s, 3) and their reconstructions from the posterior mean."""
    mu, _ = encode_all(model, pixels, device)
    with torch.inference_mode():
        images, made = to_pil(from_uint8(pixels)), to_pil(model.decode(mu.to(device)))
    pairs = [(images[i:i + columns], made[i:i + columns]) for i in range(0, len(images), columns)]
    return grid([row for pair in pairs for row in pair])


def progress(pixels: Tensor, out: Path, device: torch.device) -> Callable[[VAE, int], None]:
    """A callback for validation that writes ``reconstructions`` of the same images, one file for each call."""
    folder = out / "figures" / "progress"
    folder.mkdir(parents=True, exist_ok=True)

    def draw_progress(model: VAE, images_seen: int) -> None:
        reconstructions(model, pixels, device).save(folder / f"reconstructions-{images_seen:09d}.png")

    return draw_progress


def curves(log: Path) -> plt.Figure:
    """Every term over the images seen, on training batches and on val, from a run's ``log.jsonl``."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    terms = [term for term in dict.fromkeys(term for line in lines for term in line)
             if term not in ("kind", "step", "images") and sum(isinstance(line.get(term), (int, float)) for line in lines) > 1]
    columns = min(3, len(terms))
    figure, axes = plt.subplots(-(-len(terms) // columns), columns, figsize=(4.5 * columns, 3 * -(-len(terms) // columns)),
                                layout="constrained", squeeze=False)
    for axis, term in zip(axes.flat, terms, strict=False):
        for kind, style in (("train", "-"), ("val", "o-")):
            points = [(line["images"], line[term]) for line in lines if line["kind"] == kind and term in line]
            if points:
                axis.plot(*zip(*points, strict=True), style, label=kind, markersize=3)
        values = [line[term] for line in lines if term in line]
        # The first batches may be far above all others.
        top, bottom = max(values[len(values) // 20:]), min(values)
        if top > bottom:
            axis.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))
        axis.set(xlabel="images seen", title=LINES.get(term, term))
        axis.xaxis.set_major_formatter(EngFormatter())
        axis.grid(alpha=0.3)
        axis.legend()
    for axis in axes.flat[len(terms):]:
        axis.set_visible(False)
    return figure


def kl_bars(report: Mapping) -> plt.Figure:
    """KL of each latent, most first, val and test, with the thresholds of active latents; collapsed ones are grey."""
    order = by_kl(report)[:MOST_BARS]
    figure, axis = plt.subplots(figsize=(max(8, 0.28 * min(len(order), MOST_CELLS)), 4), layout="constrained")
    colours = ["0.6" if latent in report["collapse"]["latents"] else "tab:blue" for latent in order]
    axis.bar(range(len(order)), [report["test"]["kl_per_latent"][latent] for latent in order], color=colours, label="test")
    axis.plot(range(len(order)), [report["val"]["kl_per_latent"][latent] for latent in order], "k.", markersize=4, label="val")
    for threshold, style in ((1.0, "--"), (0.1, ":")):
        axis.axhline(threshold, color="tab:red", linestyle=style, linewidth=1,
                     label=f"{threshold:g} nat ({report['test'][f'active_{threshold:g}']} above)")
    if len(order) <= MOST_CELLS:
        axis.set_xticks(range(len(order)), map(str, order), fontsize=8)
    axis.set(xlabel="latent" if len(order) <= MOST_CELLS else "latents by their KL", ylabel="KL (nats)",
             xlim=(-0.7, len(order) - 0.3))
    axis.set_title(collapse_sentence(report["collapse"], len(report["test"]["kl_per_latent"])), fontsize=10)
    axis.legend()
    return figure


def correlations(mu: Tensor, columns: Mapping[str, np.ndarray], report: Mapping) -> plt.Figure:
    """Heat map: correlation of each latent, a row in the order of its KL, with attributes and measured quantities."""
    order = by_kl(report)[:MOST_CELLS]
    r, _ = latent_correlations(mu[:, order], columns)
    figure, axis = plt.subplots(figsize=(15, 3.5 + 0.24 * len(order)), layout="constrained")
    image = axis.imshow(r.numpy(), cmap="RdBu_r", vmin=-0.8, vmax=0.8, aspect="auto")
    axis.set_xticks(range(len(columns)), [attribute(name).label for name in columns], rotation=90)
    axis.set_yticks(range(len(order)), [name_of(latent, report) for latent in order])
    protocol = report["test"]["protocol"]
    axis.set_title(f"Pearson correlation of posterior means with labels and measurements, {protocol['images']:,} test images")
    figure.colorbar(image, fraction=0.02)
    return figure


class Run(NamedTuple):
    """A run in a comparison: its name, model, ``metrics.json`` and uint8 test images (n, s, s, 3), the same faces for all."""

    name: str
    editor: Editor
    report: Mapping
    pixels: Tensor


def compare_runs(runs: list[Run], out: Path, seed: int = 0) -> list[Path]:
    """Runs beside each other, one row each, into ``out/figures``.

    Reconstructions and interpolations of the same faces, each run's own most informative latents, and its KL by latent.
    """
    faces = 8
    kept: dict[str, list[list[Image.Image]]] = {"reconstructions": [], "interpolations": [], "traversals": []}
    labels: dict[str, list[str]] = {name: [] for name in kept}
    seen = None
    for name, editor, report, pixels in runs:
        title = f"{name}: KL {report['test']['kl']:.0f}"
        mu, _ = encode_all(editor.model, pixels[:faces], editor.device)
        if (editor.config.crop, editor.config.image_size) != seen:
            # Models with another crop have another input.
            seen = (editor.config.crop, editor.config.image_size)
            kept["reconstructions"].append(to_pil(from_uint8(pixels[:faces])))
            labels["reconstructions"].append("input")
        kept["reconstructions"].append(editor.decode(mu))
        kept["interpolations"].append(editor.interpolate(mu[0], mu[1], faces, "slerp"))
        labels["reconstructions"].append(title)
        labels["interpolations"].append(title)
        face = editor.sample(1, seed)[0]
        for latent in by_kl(report)[:3]:
            kept["traversals"].append(editor.decode(traverse(face, latent, torch.linspace(-REACH, REACH, STEPS))))
            labels["traversals"].append(f"{name}, {name_of(latent, report)}")
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in kept.items():
        grid(rows, labels[name], side=96).save(folder / f"compare-{name}.png")
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    for name, _, report, _ in runs:
        axis.plot(range(1, len(by_kl(report)) + 1), sorted(report["test"]["kl_per_latent"], reverse=True), ".-", label=name)
    axis.axhline(0.1, color="tab:red", linestyle=":", linewidth=1, label="0.1 nat")
    axis.set(xlabel="latents by their KL", ylabel="KL (nats)")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(folder / "compare-kl.png", dpi=120)
    plt.close(figure)
    return sorted(folder.glob("compare-*.png"))


def effects(evaluator: Evaluator, z: Tensor, directions: Directions) -> plt.Figure:
    """Heat map: the change of every output of the classifier (columns) by every direction (rows)."""
    matrix = effect_matrix(evaluator, z, directions)
    figure, axis = plt.subplots(figsize=(15, 14), layout="constrained")
    image = axis.imshow(matrix, cmap="RdBu_r", vmin=-3, vmax=3)
    axis.set_xticks(range(len(evaluator.names)), [attribute(name).label for name in evaluator.names], rotation=90)
    axis.set_yticks(range(len(matrix)), [attribute(name).label for name in directions])
    axis.set_title("Mean change, in logits or deviations, at the strength each direction was measured at")
    figure.colorbar(image, shrink=0.5)
    return figure


def draw(editor: Editor, report: Mapping, test: Tensor, mu: Tensor, columns: Mapping[str, np.ndarray], out: Path,
         log: Path, seed: int = 0) -> list[Path]:
    """Every figure of a run into ``out/figures``.

    Parameters
    ----------
    report : mapping
        Its ``metrics.json``.
    test, mu, columns
        uint8 (n, s, s, 3), their posterior means (n, d), and their columns: name -> (n,), NaN if unknown.
    log : Path
        Its ``log.jsonl``, which may be missing.
    """
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    faces = editor.sample(FACES, seed)
    pictures = {"samples": samples(editor, seed=seed), "interpolations": interpolations(editor, mu[:6]),
                "reconstructions": reconstructions(editor.model, test[:16], editor.device),
                "traversals": traversals(editor, faces, report)}
    if editor.directions:
        pictures["directions"] = edits(editor, faces[0], names=tuple(editor.directions))
    if set(REPORTED) & set(editor.directions):
        pictures["edits"] = edits(editor, faces[0])
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")
    first, *rest = (frame.quantize(128, Image.Quantize.FASTOCTREE) for frame in traversal_frames(editor, faces[0], report))
    first.save(folder / "traversals.gif", save_all=True, append_images=rest, duration=80, loop=0)
    plots = {"kl": kl_bars(report), "correlations": correlations(mu, columns, report)}
    if log.exists():
        plots["curves"] = curves(log)
    for name, plot in plots.items():
        plot.savefig(folder / f"{name}.png", dpi=110)
        plt.close(plot)
    return sorted([*folder.glob("*.png"), *folder.glob("*.gif")])
