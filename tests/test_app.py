"""The web app as a whole: on a phone, and with a model that cannot be used."""

import shutil
import subprocess
import sys

import pytest

import app
from betavae.hub import ROOT, SHIPPED


def test_phone(visit):
    page = visit(390, 844)
    for tab in ("Interpolate", "Sample", "Edit"):
        page.get_by_role("tab", name=tab).click()
        page.locator(f"#{tab.lower()}").locator("visible=true").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
    page.eval_on_selector("[data-slider=background_brightness]", "row => row.scrollIntoView({ block: 'end' })")
    box = page.locator("[data-canvas=edit]").bounding_box()
    row = page.locator("[data-slider=background_brightness]").bounding_box()
    assert page.evaluate("window.scrollY") > 500
    assert box["y"] >= 0 and box["y"] + box["height"] < row["y"] < 844 - 52
    thumb = page.eval_on_selector(".track", "track => getComputedStyle(track).getPropertyValue('--thumb')")
    assert thumb.strip() == "24px"


def damaged(folder, name, content):
    """A copy of the model folder in which one file has only that content, or is missing."""
    shutil.copytree(SHIPPED, folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    return str(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_unusable_model_is_named_in_one_sentence(tmp_path, capsys, name, content):
    assert app.main(["--model", damaged(tmp_path / "model", name, content)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and name in said


def test_unusable_model_ends_the_process_with_1(tmp_path):
    folder = damaged(tmp_path / "model", "model.safetensors", (SHIPPED / "model.safetensors").read_bytes()[:1000])
    ended = subprocess.run([sys.executable, "app.py", "--model", folder], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1


def test_opening_a_model_does_not_import_pytorchs_compiler():
    code = (
        "import sys; from betavae import Editor; Editor.from_pretrained(device='cpu'); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0, "its import takes longer than all else"
