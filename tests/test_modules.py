"""The page's modules without a browser: node --test over tests/js, with the node that Playwright's package carries."""

import json
import os
import subprocess
from pathlib import Path

import playwright
import pytest
import torch

from betavae import Editor
from betavae.ui.tabs.edit import slider, space

HERE = Path(__file__).parent
NODE = Path(playwright.__file__).parent / "driver" / "node"

LOCKED = [({"Smiling": 1.5}, []), ({"Smiling": 1.5, "yaw": -1}, ["Male"]),
          ({"Young": -2, "Bangs": 1}, ["Male", "Smiling", "Male"])]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory) -> Path:
    """What betavae/directions.py makes of a few faces and edits, for space.js to agree with."""
    editor = Editor.from_pretrained(device="cpu")
    directions = editor.directions
    faces = editor.sample(3, seed=5)
    edits = []
    for strengths, locks in LOCKED:
        free, held = directions.shift(strengths), directions.shift(strengths, locks)
        left = directions.readings(strengths) @ torch.stack([held, free], 1)  # (names, 2): change of the scores
        edits += [{"z": z.tolist(), "strengths": strengths, "locks": locks, "edited": (z + held).tolist(),
                   "remaining": dict(zip(strengths, (left[:, 0] / left[:, 1]).tolist(), strict=True))} for z in faces]
    told = [{"z": z.tolist(), "scores": dict(zip(directions.names, directions.scores(z[None])[0].tolist(), strict=True)),
             "distance": float(directions.distance(z[None]))} for z in faces]
    path = tmp_path_factory.mktemp("vectors") / "vectors.json"
    path.write_text(json.dumps({"space": space(editor), "faces": told, "edits": edits,
                                "directions": [slider(direction, directions) for direction in directions.values()]}))
    return path


@pytest.mark.parametrize("name", [path.name for path in sorted((HERE / "js").glob("*.test.mjs"))])
def test_module(name, vectors):
    ended = subprocess.run([NODE, "--test", HERE / "js" / name], env=os.environ | {"VECTORS": str(vectors)},
                           capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
