"""Imports go down only: betavae knows nothing of train or app, and only its user interface knows gradio."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT


def imported(path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "betavae").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_betavae_imports_downwards(path):
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & {"train", "app"}
    if "ui" not in path.relative_to(ROOT / "betavae").parts:
        assert "gradio" not in roots
        assert not any(name.startswith("betavae.ui") for name in imported(path))


@pytest.mark.parametrize("path", sorted((ROOT / "train").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_train_needs_no_front_end(path):
    assert not {name.split(".")[0] for name in imported(path)} & {"gradio", "app"}


def test_importing_betavae_loads_neither_gradio_nor_train():
    code = "import sys, betavae; sys.exit(any(m.split('.')[0] in ('gradio', 'train') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
