"""A process that imports everything once and forks a run for every command line that it reads.

A test can so start, and kill, many runs without waiting for each one's imports. Each line of the input is a JSON list of
arguments of ``train/run.py``; the output is the run's process number when it starts and its exit status when it ends
(negative: the signal that ended it).
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from conftest import TINY

from train.presets import PRESETS
from train.run import main

# 160 steps, so small that a run's start takes as long as they do.
PRESETS["tiny"] = dataclasses.replace(PRESETS["celeba64"], preset="tiny", model=TINY, images=640, batch=4)

if __name__ == "__main__":
    for line in sys.stdin:
        run = os.fork()
        if not run:
            os._exit(main(json.loads(line)))
        print(run, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(run, 0)[1]), flush=True)
