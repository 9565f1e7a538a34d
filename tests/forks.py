"""A process that imports everything once and forks others from itself.

A test can so start, and kill, many runs without waiting for the imports of each. A line of the input is a JSON list of a
function's name, its arguments, and a number of processes that are to share the work, found by each as torchrun tells it.
For each the output has a line of process numbers at the start, and one of exit statuses at the end (negative: the signal
that ended it).
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from conftest import TINY

from train.loop import Training
from train.presets import PRESETS, TrainConfig
from train.ranks import Ranks
from train.run import main

# 120 steps, so small that a run's start takes as long as they do.
PRESETS["tiny"] = dataclasses.replace(PRESETS["celeba64"], preset="tiny", model=TINY, images=480, batch=4)
CPU = torch.device("cpu")


def run(*arguments: str) -> int:
    """The command line."""
    return main(list(arguments))


def steps(pixels: str, settings: dict, out: str) -> int:
    """Two steps of a run on images in a file; leaves in ``out``, for each rank, gradients, weights, beta and means."""
    ranks = Ranks.join()
    training = Training(shared(settings), torch.load(pixels, weights_only=True), CPU, ranks)
    for step in range(2):
        training.step(step)
    torch.save(state(training), f"{out}/{ranks.rank}.pt")
    ranks.leave()
    return 0


def shared(settings: dict) -> TrainConfig:
    return dataclasses.replace(PRESETS["celeba64"], model=TINY, images=320, batch=8, schedule="constant", **settings)


def state(training: Training) -> dict:
    return {"gradients": [parameter.grad for parameter in training.parameters],
            "weights": [parameter.detach() for parameter in training.parameters],
            "objective": training.objective.state_dict(), "means": training.meter.take()[0]}


if __name__ == "__main__":
    for number, line in enumerate(sys.stdin):
        name, arguments, size = json.loads(line)
        started = []
        for rank in range(size):
            if child := os.fork():
                started.append(child)
                continue
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
                           "MASTER_PORT": str(20_000 + (os.getppid() + number) % 10_000)}
            os._exit(globals()[name](*arguments))
        print(*started, flush=True)
        print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in started), flush=True)
