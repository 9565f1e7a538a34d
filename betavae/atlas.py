"""The atlas: for every latent of a model its KL, and in words what correlates with it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from betavae.attributes import attribute
from betavae.editor import Editor
from betavae.image import extend, preprocess, to_tensor

# Correlations in words: (least absolute correlation, form of the phrase).
WORDS = ((0.6, "{}"), (0.35, "partly {}"), (0.2, "{}, a little"))
UNUSED = 0.1  # nats; a latent with less is not used

VERBS = {
    "yaw": "turns the head", "pitch": "nods", "mouth_open": "opens the mouth", "eye_open": "opens the eyes",
    "background_brightness": "brightens the background", "background_warmth": "warms the background",
    "background_tint": "tints the background", "face_brightness": "brightens the face",
    "light_side": "moves the light to one side", "Smiling": "smiles", "Mouth_Slightly_Open": "parts the lips",
    "Narrow_Eyes": "narrows the eyes", "High_Cheekbones": "raises the cheekbones", "Young": "changes the age",
    "Male": "goes between feminine and masculine", "Bald": "takes the hair away", "Pale_Skin": "pales the skin",
    "Chubby": "rounds the face", "Double_Chin": "rounds the chin", "Oval_Face": "lengthens the face",
    "No_Beard": "shaves", "Attractive": "changes what was labelled attractive", "Blurry": "blurs the picture",
    "Straight_Hair": "straightens the hair", "Wavy_Hair": "makes the hair wavy", "Blond_Hair": "makes the hair blond",
    "Black_Hair": "makes the hair black", "Brown_Hair": "makes the hair brown", "Gray_Hair": "makes the hair grey",
    "Eyeglasses": "puts glasses on", "Wearing_Hat": "puts a hat on",
}


@dataclass(frozen=True)
class Meaning:
    """A column that correlates with a latent: Pearson's ``r`` over the training faces, and its 95 % interval."""

    name: str
    label: str
    r: float
    low: float
    high: float


@dataclass(frozen=True)
class Latent:
    """One latent and what it does.

    Its index; its KL in nats, None if not measured; its effect in words; the meanings behind the words, best first.
    """

    index: int
    kl: float | None
    words: str
    meanings: tuple[Meaning, ...]


def latents(editor: Editor) -> list[Latent]:
    """Every latent of a model, by falling KL.

    Raises
    ------
    ValueError
        The model's atlas or figures are of another model.
    """
    count = editor.config.latents
    divergences = editor.metrics.get("val", {}).get("kl_per_latent") or [None] * count
    found = editor.atlas.get("latents") or [[]] * count
    if not len(divergences) == len(found) == count:
        raise ValueError(f"The model {editor.name!r} has {count} latents, and its metrics.json or atlas.json other numbers.")
    rows = []
    for index, (kl, entries) in enumerate(zip(divergences, found, strict=True)):
        meanings = tuple(Meaning(label=attribute(entry["name"]).label, **entry) for entry in entries)
        rows.append(Latent(index, kl, words(kl, meanings), meanings))
    return sorted(rows, key=lambda row: -(row.kl or 0))


def words(kl: float | None, meanings: tuple[Meaning, ...]) -> str:
    """The effect of a latent in words; "" if nothing was measured."""
    if kl is not None and kl < UNUSED:
        return "not used"
    if not meanings:
        return ""
    best = meanings[0]
    verb = VERBS.get(best.name, f"changes the {best.label[0].lower()}{best.label[1:]}")
    return next((form.format(verb) for least, form in WORDS if abs(best.r) >= least), "nothing that was measured")


def missing(editor: Editor) -> list[str]:
    """The stages of train/run.py whose files the model folder lacks."""
    return [stage for stage, there in (("evaluate", editor.metrics), ("directions", editor.atlas)) if not there]


def best(editor: Editor, name: str) -> tuple[Latent, Meaning] | None:
    """The latent that correlates most with a column; None if no latent has the column among its meanings."""
    pairs = [(latent, meaning) for latent in latents(editor) for meaning in latent.meanings if meaning.name == name]
    return max(pairs, key=lambda pair: abs(pair[1].r), default=None)


@torch.inference_mode()
def transfer(z: Tensor, editor: Editor, other: Editor) -> Tensor:
    """The latent (e,) of another model for the face z (d,) of this one: it encodes the decoded picture.

    If the other model's crop is wider, the picture is extended by its edges.
    """
    frame = extend(editor.decode(z)[0], editor.config)
    mu, _ = other.model.encode(to_tensor([preprocess(frame, other.config)]).to(other.device))
    return mu[0].cpu()
