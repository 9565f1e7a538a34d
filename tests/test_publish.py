"""What goes to the Hub, with the Hub itself replaced by a list of what it was asked."""

import json

import pytest
import torch
from huggingface_hub.errors import LocalTokenNotFoundError
from PIL import Image

from betavae import Editor, hub
from train import publish
from train.evaluation import evaluate
from train.probes import simple_directions


@pytest.fixture
def run(tiny, tmp_path):
    """A finished run of an untrained model on made-up pixels."""
    hub.save(tiny, tmp_path)
    pixels = torch.randint(0, 256, (40, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    figures = evaluate(tiny, pixels, "val", torch.device("cpu"))
    (tmp_path / "metrics.json").write_text(json.dumps(
        {"preset": "celeba64", "images_seen": 640, "seed": 0, "val": figures, "test": figures | {"bce": 1234.5}}))
    mu = torch.randn(100, 8)
    simple_directions(mu, {"Smiling": (mu[:, 0] > 0).numpy()}, {}).save(tmp_path / "directions.safetensors")
    (tmp_path / "figures").mkdir()
    for name in ("edits", "reconstructions"):
        Image.new("RGB", (8, 8)).save(tmp_path / "figures" / f"{name}.png")
    return tmp_path


class Hub:
    def __init__(self, destination):
        self.destination, self.asked = destination, []

    def __call__(self):
        return self

    def whoami(self):
        self.asked.append("whoami")

    def create_repo(self, repo, private, exist_ok):
        self.asked.append((repo, private, exist_ok))

    def upload_folder(self, repo_id, folder_path, allow_patterns, commit_message):
        for name in allow_patterns:
            if (folder_path / name).exists():
                (self.destination / name).parent.mkdir(parents=True, exist_ok=True)
                (self.destination / name).write_bytes((folder_path / name).read_bytes())


def test_what_is_published_opens_and_has_no_celeba_image(run, tmp_path_factory, monkeypatch):
    there = Hub(tmp_path_factory.mktemp("hub"))
    monkeypatch.setattr(publish, "HfApi", there)
    assert publish.publish(run, "someone/faces", private=True).endswith("/someone/faces")
    assert there.asked == ["whoami", ("someone/faces", True, True)]
    names = {str(path.relative_to(there.destination)) for path in there.destination.rglob("*") if path.is_file()}
    assert names == {*hub.FILES, "README.md", "figures/edits.png"}
    editor = Editor.from_pretrained(there.destination)
    assert editor.directions.names == ["Smiling"]
    card = (there.destination / "README.md").read_text()
    assert "1,234.5" in card and "Smiling" in card and 'from_pretrained("someone/faces")' in card


def test_an_unfinished_run_is_not_published(run):
    (run / "metrics.json").unlink()
    with pytest.raises(publish.PublishError, match="no metrics.json"):
        publish.publish(run, "someone/faces")


def test_without_a_token_one_sentence_says_what_to_do(run, monkeypatch):
    def nobody(self):
        raise LocalTokenNotFoundError("none")

    monkeypatch.setattr(publish.HfApi, "whoami", nobody)
    with pytest.raises(publish.PublishError, match="hf auth login"):
        publish.publish(run, "someone/faces")
