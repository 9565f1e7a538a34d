"""What README.md and docs/ show runs, and leads somewhere."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance, ImageOps

from betavae.__main__ import main
from betavae.hub import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^(?:<!-- not run: (?P<why>.+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page, without those that a comment above them exempts."""
    return [block["text"] for block in BLOCK.finditer(page.read_text()) if block["language"] == language and not block["why"]]


@pytest.fixture
def photos(tmp_path, portrait) -> Path:
    """A folder with the photos that the examples name."""
    for index, name in enumerate(("photo", *"abcdef")):
        face = ImageEnhance.Brightness(ImageOps.mirror(portrait) if index % 2 else portrait).enhance(1 - index / 15)
        face.save(tmp_path / f"{name}.jpg")
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_examples_run_one_after_the_other(page, photos, monkeypatch):
    monkeypatch.chdir(photos)
    names = {}
    for text in blocks(page, "python"):
        exec(compile(text, page.name, "exec"), names)
    assert any(Image.open(path).size for path in photos.glob("edited.*"))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=lambda page: page.name)
def test_shell_examples_run_one_after_the_other(page, photos, monkeypatch):
    monkeypatch.chdir(photos)
    for line in "".join(blocks(page, "sh")).splitlines():
        python, m, module, *arguments = shlex.split(line, comments=True)
        assert [python, m, module] == ["python", "-m", "betavae"], f"{line}: run it here too, or say in a comment why not"
        assert main(arguments) == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_are_there(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)|src=\"([^\":]+)\"", page.read_text()):
        path = page.parent / "".join(target)
        assert path.exists(), f"{page.name} leads to {''.join(target)}, which is not there"


def test_the_readme_is_short_and_the_site_has_every_page():
    assert len(PAGES[0].read_text().splitlines()) <= 150
    named = re.findall(r": (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(named) == [page.name for page in PAGES[1:]]
