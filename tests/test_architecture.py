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


def test_no_import_cycles():
    """Imports inside functions count too: a cycle that is broken by hiding one is still a cycle."""
    modules = {}
    for path in [*(ROOT / "betavae").rglob("*.py"), *(ROOT / "train").rglob("*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for name, path in modules.items():
        targets = imported(path) & modules.keys()
        # "from betavae import hub" asks for the module hub, not for what the package's __init__ imports.
        packages = {target for target in targets if any(other.startswith(target + ".") for other in targets)}
        graph[name] = targets - packages - {name}

    def circle(name, trail):
        if name in trail:
            return [*trail[trail.index(name):], name]
        if name in done:
            return None
        found = next(filter(None, (circle(other, [*trail, name]) for other in sorted(graph[name]))), None)
        done.add(name)
        return found

    done = set()
    assert not list(filter(None, (circle(name, []) for name in sorted(graph))))
