"""Train the classifier that measures edits: 40 attributes and the measured quantities, from pixels."""

import math

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur
from tqdm import tqdm

from betavae.classifier import Classifier
from betavae.image import from_uint8
from train.batches import Batches
from train.cache import Dataset

EPOCHS, BATCH, LEARNING_RATE = 6, 128, 2e-3
MIRRORED = ("yaw", "light_side")  # quantities whose sign a mirror turns
BLUR = 1.5  # pixels; the largest deviation of the Gaussian that training pictures are blurred with


def targets(dataset: Dataset) -> tuple[list[str], list[str], Tensor]:
    """Attribute names, quantity names, and both as columns (n, k), NaN where a quantity is unknown."""
    numeric = dataset.numeric()
    columns = [*dataset.lists.attributes.values(), *numeric.values()]
    return list(dataset.lists.attributes), list(numeric), torch.from_numpy(np.stack(columns, 1).astype(np.float32))


def fit_classifier(dataset: Dataset, device: torch.device, seed: int = 0, epochs: int = EPOCHS) -> Classifier:
    """Train on the training split: binary cross-entropy of the attributes, squared error of the standardised quantities.

    Every batch is mirrored (with the yaw's sign) and blurred by a random width: reconstructions and edits are smoother than
    photos, and a classifier trained on sharp photos alone would misjudge them.
    """
    attributes, quantities, y = targets(dataset)
    index = torch.from_numpy(dataset.indices("train"))
    y = y[index].to(device)
    torch.manual_seed(seed)
    model = Classifier(attributes, quantities).to(device).to(memory_format=torch.channels_last)
    count = len(attributes)
    known = y[:, count:].isfinite()
    values = y[:, count:].nan_to_num()
    mean = values.sum(0) / known.sum(0)
    deviation = (((values - mean) * known).square().sum(0) / known.sum(0)).sqrt()
    model.mean[count:], model.deviation[count:] = mean, deviation
    turns = torch.tensor([-1.0 if name in MIRRORED else 1.0 for name in quantities], device=device)
    batches = Batches(dataset.images("train"), BATCH, seed, False, device)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.05)
    steps = epochs * len(index) // BATCH
    random = np.random.default_rng(seed)
    for step in tqdm(range(steps), desc="classifier", unit=" batches"):
        for group in optimizer.param_groups:
            warmup = min(1.0, (step + 1) / (0.1 * steps))
            group["lr"] = LEARNING_RATE * warmup * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = batches.rows(step)
        (x, _), target = batches(step), y[rows]
        labels, numbers = target[:, :count], target[:, count:]
        if random.random() < 0.5:
            x, numbers = x.flip(3), numbers * turns
        blur = random.uniform(0, BLUR)
        if blur > 0.3:
            x = gaussian_blur(x, [7, 7], [blur, blur])
        out = model.standard(x)
        seen = numbers.isfinite()
        # Unknown numbers are replaced before the difference: 0 times the gradient at NaN would be NaN.
        error = (out[:, count:] - torch.where(seen, (numbers - mean) / deviation, 0.0)).square() * seen
        loss = F.binary_cross_entropy_with_logits(out[:, :count], labels) + 0.5 * error.sum() / seen.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.inference_mode()
def score(model: Classifier, dataset: Dataset, split: str, device: torch.device) -> dict[str, dict[str, float]]:
    """The "auroc" of each attribute and the "correlation" of each quantity on one split."""
    index = dataset.indices(split)
    _, _, y = targets(dataset)
    values = y[index].numpy()
    pixels = dataset.images(split)
    out = torch.cat([model(from_uint8(pixels[i:i + 250]).to(device)).cpu() for i in range(0, len(pixels), 250)]).numpy()
    figures: dict[str, dict[str, float]] = {"auroc": {}, "correlation": {}}
    for i, name in enumerate(model.names):
        known = np.isfinite(values[:, i])
        if name in model.attributes:
            figures["auroc"][name] = (
                float(roc_auc_score(values[:, i], out[:, i])) if 0 < values[:, i].sum() < len(values) else float("nan")
            )
        else:
            figures["correlation"][name] = float(np.corrcoef(out[known, i], values[known, i])[0, 1])
    return figures
