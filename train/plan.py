"""The plan of a run, made without data: its size, memory and speed on this device."""

import dataclasses
import time

import torch

from train.batches import Pictures
from train.loop import Training
from train.presets import TrainConfig

CPU_BATCH = 8    # images a step on CPUs, whose time per image hardly depends on it
SECONDS = 2.0    # of steps timed


def plan(config: TrainConfig, device: torch.device, bf16: bool = False) -> dict:
    """A run's configuration and its cost, measured in a few steps on noise.

    Returns
    -------
    dict
        ``config``; ``steps``; ``device``; ``parameters`` of the network; ``memory_bytes``, the weights, their gradients,
        moments and averages, and the activations kept for the backward pass (without the data set and the libraries' scratch
        space); ``images_per_second`` of this process, timed.
    """
    trial = dataclasses.replace(config, batch=config.batch if device.type == "cuda" else min(config.batch, CPU_BATCH))
    size = config.model.image_size
    pixels = torch.randint(256, (trial.batch, size, size, 3), dtype=torch.uint8)
    training = Training(trial, Pictures(pixels, pixels[..., 0] if config.model.mask else None), device, bf16=bf16)
    parameters = sum(p.numel() for p in training.model.parameters())
    state = 4 * sum(p.nbytes for p in training.parameters) + sum(v.nbytes for v in training.average.weights.values())
    memory = state + _kept(training) * config.batch // trial.batch
    training.step(0)  # the first one plans its convolutions
    steps, start = 0, _now(device)
    while steps < 2 or _now(device) - start < SECONDS:
        steps += 1
        training.step(steps)
    speed = steps * trial.batch / (_now(device) - start)
    return {"config": dataclasses.asdict(config), "steps": config.steps, "device": str(device), "parameters": parameters,
            "memory_bytes": memory, "images_per_second": round(speed, 1)}


def _kept(training: Training) -> int:
    """Bytes of a batch that autograd keeps for the backward pass, besides the weights."""
    weights = {p.untyped_storage().data_ptr() for p in training.parameters}
    kept = {}  # storages by address: what two functions keep is there once; held here, so that no address comes twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    x, mask = training.batches(0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with training.autocast:
            output = training.model(x)
        training.objective(output, x, mask, training.config.level(0.0))
    return sum(storage.nbytes() for storage in kept.values())


def _now(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()
