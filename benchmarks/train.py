"""Images a second of a training step: ours against the plain way, on the same network, in one run.

    python benchmarks/train.py --data DIR                 three rounds of each, the best of them
    python benchmarks/train.py --data DIR --threads 1

(a) ``plain``: the recipe `capacity` as one writes it down: float32, default memory layout, upsampling before the
convolutions, a DataLoader that decodes, crops and resizes the JPEGs of each batch in two workers, Adam.
(b) ``ours``: the same network, initial weights and objective in ``train.loop.Training``, from the decoded cache.
(c) ``celeba64``: the recipe of the shipped model.
"""

import argparse
import dataclasses
import multiprocessing
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Pictures
from torch.utils.flop_counter import FlopCounterMode

from betavae.editor import pick_device
from betavae.image import preprocess, read, to_tensor
from train.cache import Dataset, load
from train.celeba import CelebA
from train.loop import Training
from train.presets import PRESETS

# Dense bfloat16 operations and bytes a second, from the makers' data sheets.
LIMITS = {"H200": (989e12, 4.8e12), "H100": (989e12, 3.35e12), "A100": (312e12, 2.04e12)}


class PlainBlock(nn.Module):
    """A residual block as the source writes it."""

    def __init__(self, channels: int, width: int, stride: int = 1, upsample: bool = False):
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=2) if upsample else nn.Identity()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False, padding_mode="reflect")
        self.norm1 = nn.GroupNorm(32, width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False, padding_mode="reflect")
        self.norm2 = nn.GroupNorm(32, width)
        self.shortcut = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.GroupNorm(32, width))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, width, ...)."""
        x = self.upsample(x)
        h = F.leaky_relu(self.norm1(self.conv1(x)), 0.2)
        return F.leaky_relu(self.norm2(self.conv2(h)) + self.shortcut(x), 0.2)


class PlainVAE(nn.Module):
    """The published network of `capacity`, layer after layer."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 64, 4, 2, 1, bias=False, padding_mode="reflect"), nn.GroupNorm(32, 64), nn.LeakyReLU(0.2),
            PlainBlock(64, 128, 2), PlainBlock(128, 256, 2), PlainBlock(256, 256, 2), nn.Flatten())
        self.mu, self.logvar = nn.Linear(4096, 32), nn.Linear(4096, 32)
        self.decoder = nn.Sequential(
            nn.Linear(32, 4096), nn.Unflatten(1, (256, 4, 4)), PlainBlock(256, 128, upsample=True),
            PlainBlock(128, 64, upsample=True), PlainBlock(64, 64, upsample=True), PlainBlock(64, 64, upsample=True),
            nn.Conv2d(64, 3, 3, 1, 1))

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures and noise -> logits, mu, logvar."""
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        return self.decoder(mu + torch.exp(0.5 * logvar) * noise), mu, logvar


class JPEGs(Pictures):
    """The training split from its files: what a DataLoader's workers decode, crop and resize."""

    def __init__(self, celeba: CelebA):
        self.paths = [celeba.images / name for name in celeba.lists.names[celeba.lists.split == "train"]]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Tensor:
        return to_tensor([preprocess(read(self.paths[i]), PRESETS["capacity"].model)])[0].contiguous()


def plain(dataset: Dataset, batch: int, device: torch.device) -> Callable[[], None]:
    """A step of the plain way."""
    config = PRESETS["capacity"]
    torch.manual_seed(config.seed)
    model = PlainVAE().to(device)
    optimizer = torch.optim.Adam(model.parameters(), config.lr)
    workers = DataLoader(JPEGs(dataset.source), batch, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True,
                         multiprocessing_context="fork")
    batches = iter(workers)

    def step() -> None:
        x = next(batches).to(device)
        logits, mu, logvar = model(x, torch.randn(batch, 32, device=device))
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / batch
        kl = (0.5 * (mu ** 2 + logvar.exp() - 1 - logvar)).sum(1).mean()
        loss = reconstruction + config.gamma * (kl - config.C_start).abs()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def ours(preset: str, dataset: Dataset, batch: int, device: torch.device) -> Callable[[], None]:
    """A step of ``Training``."""
    training, number = Training(dataclasses.replace(PRESETS[preset], batch=batch),
                                dataset.images("train"), device), iter(range(10 ** 9))
    return lambda: training.step(next(number))


def seconds(step: Callable[[], None], steps: int, device: torch.device) -> float:
    """Wall-clock seconds of one step."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


WAYS = {"plain": plain, "ours": partial(ours, "capacity"), "celeba64": partial(ours, "celeba64")}


def serve(pipe, way: str, dataset: Dataset, batch: int, device: torch.device, threads: int | None) -> None:
    """Answer numbers of steps with the seconds that one of them took, until asked for none."""
    if threads:
        torch.set_num_threads(threads)
    step = WAYS[way](dataset, batch, device)
    while steps := pipe.recv():
        pipe.send(seconds(step, steps, device))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", required=True, help="CelebA")
    parser.add_argument("--cache", metavar="DIR", default="runs/cache", help="decoded images (default: runs/cache)")
    parser.add_argument("--device", metavar="D", help="cuda, mps or cpu (default: the first of these that is here)")
    parser.add_argument("--threads", metavar="N", type=int, help="of PyTorch on CPUs (default: PyTorch's)")
    parser.add_argument("--batch", metavar="N", type=int, default=128)
    parser.add_argument("--rounds", metavar="N", type=int, default=3, help="of each way, in turn (default: 3)")
    parser.add_argument("--profile", action="store_true", help="also where the time of (b) goes")
    options = parser.parse_args()
    device = pick_device(options.device)
    dataset = load(CelebA.open(options.data), PRESETS["capacity"].model, options.cache)
    # Each way in a process of its own, or one would profit from what another sets; in turn, so that all see the same machine.
    spawn, ways = multiprocessing.get_context("spawn"), {}
    for name in WAYS:
        ways[name], theirs = spawn.Pipe()
        spawn.Process(target=serve, args=(theirs, name, dataset, options.batch, device, options.threads)).start()
    steps = 50 if device.type == "cuda" else 1
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(options.rounds + 1):
        for name, way in ways.items():
            way.send(steps)
            time_of_step = way.recv()
            if turn:  # the first is to warm up
                best[name] = min(best[name], time_of_step)
    for way in ways.values():
        way.send(0)
    for name, time_of_step in best.items():
        print(f"{name:10}{options.batch / time_of_step:12,.1f} images/s{best['plain'] / time_of_step:8.2f} x plain")
    if options.threads:
        torch.set_num_threads(options.threads)
    step = ours("capacity", dataset, options.batch, device) if options.profile or device.type == "cuda" else None
    name = torch.cuda.get_device_name() if device.type == "cuda" else ""
    limits = next((limit for key, limit in LIMITS.items() if key in name), None)
    if limits:
        with FlopCounterMode(display=False) as counter:
            step()
        print(
            f"arithmetic: {counter.get_total_flops() / best['ours'] / limits[0]:.1%} of {limits[0] / 1e12:.0f} Tflop/s (bf16)"
        )
    if step:
        with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")) as profiled:
            seconds(step, 3, device)
        key = f"self_{device.type}_time_total" if device.type != "mps" else "self_cpu_time_total"
        print(profiled.key_averages().table(sort_by=key, row_limit=15, max_name_column_width=50))


if __name__ == "__main__":
    main()
