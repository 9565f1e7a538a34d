"""Publishing to a Hub on loopback by the real client: what is there afterwards, and after everything that can go wrong."""

import io
import json

import pytest
import torch
from fake_hub import Fault
from huggingface_hub import ModelCard
from PIL import Image
from test_repository import files

from betavae import Editor, hub
from betavae.release import PublishError, publish, release
from betavae.repository import HubError
from betavae.sharp import SharpConfig, Sharpener
from train import run as training
from train.directions.simple import simple_directions
from train.evaluation import evaluate

REPO = "someone/faces"


@pytest.fixture
def run(tiny, tmp_path):
    """A finished run of an untrained model on made-up pixels."""
    folder = tmp_path / "run"
    hub.save(tiny, folder)
    pixels = torch.randint(0, 256, (40, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    figures = evaluate(tiny, pixels, "val", torch.device("cpu"))
    (folder / "metrics.json").write_text(json.dumps(
        {"preset": "celeba64", "images_seen": 640, "seed": 0, "val": figures, "test": figures | {"bce": 1234.5}}))
    mu = torch.randn(100, 8)
    simple_directions(mu, {"Smiling": (mu[:, 0] > 0).numpy()}, {}).save(folder / "directions.safetensors")
    (folder / "atlas.json").write_text("{}")
    (folder / "figures").mkdir()
    for name in ("edits", "reconstructions"):
        Image.new("RGB", (8, 8)).save(folder / "figures" / f"{name}.png")
    return folder


def test_what_is_published_opens_as_the_same_model_and_has_no_celeba_image(run, fake_hub, tiny):
    before = files(run)
    assert publish(run, REPO) == f"{fake_hub.url}/{REPO}"
    there = fake_hub.repositories[REPO]
    assert set(there.files) == {
        ".gitattributes",
        *hub.FILES,
        "atlas.json",
        "README.md",
        "figures/edits.png",
        "directions/Smiling.pt",
    }
    assert [commit.title for commit in there.commits] == ["initial commit", "Publish faces"] and not there.private
    assert files(run) == before
    editor = Editor.from_pretrained(REPO)
    z = torch.randn(2, 8)
    assert torch.equal(editor.model.decode(z), hub.load_model(run).decode(z)) and editor.hash == hub.model_hash(tiny)
    # The plain tensor is what the published model's code reads.
    vector = torch.load(io.BytesIO(there.files["directions/Smiling.pt"]), weights_only=True)
    assert torch.equal(vector, editor.directions["Smiling"].vector)


def test_the_card_is_one_that_the_library_reads(run, fake_hub):
    publish(run, REPO)
    card = ModelCard(fake_hub.repositories[REPO].files["README.md"].decode())
    assert card.data.license == "other" and card.data.license_link and card.data.datasets == ["flwrlabs/celeba"]
    assert card.data.library_name == "betavae" and "arxiv:1804.03599" in card.data.tags
    result = next(r for r in card.data.eval_results if r.metric_type == "bce" and r.dataset_split == "test")
    assert result.metric_value == 1234.5 and result.dataset_args["images"] == 40
    assert "1,234.5" in card.text and f'from_pretrained("{REPO}")' in card.text and "640 images" in card.text
    assert "figures/edits.png" in card.text and "samples.png" not in card.text


def test_a_second_decoder_is_published_and_the_card_says_what_it_is(run, fake_hub, tiny):
    publish(run, REPO)
    there = fake_hub.repositories[REPO]
    assert "second decoder" not in there.files["README.md"].decode() and Editor.from_pretrained(REPO).sharpener is None
    sharpener = Sharpener(SharpConfig(8, 64, width=16, blocks=1))
    torch.nn.init.normal_(sharpener.last.weight, std=0.05)
    sharpener.save(run / "sharp.safetensors", hub.model_hash(tiny))
    (run / "sharp.json").write_text(json.dumps({"weights": hub.model_hash(tiny), "lowpass": 1.5}))
    publish(run, REPO)
    assert {"sharp.safetensors", "sharp.json"} <= set(there.files)
    assert "not encoded in z" in there.files["README.md"].decode()
    z = torch.randn(1, 8)
    (expected,), (opened,) = (Editor.from_pretrained(place, "cpu").decode(z, sharp=True) for place in (run, REPO))
    assert opened.size == (128, 128) and opened.tobytes() == expected.tobytes()
    # One of other weights is not published, and one that is gone here goes there.
    sharpener.save(run / "sharp.safetensors", "0123456789ab")
    with pytest.raises(PublishError, match=r"sharp.safetensors' is of the weights 0123456789ab"):
        publish(run, REPO)
    (run / "sharp.safetensors").unlink()
    (run / "sharp.json").unlink()
    publish(run, REPO)
    assert not {"sharp.safetensors", "sharp.json"} & set(there.files)


def test_a_second_version_takes_away_what_it_no_longer_has_and_leaves_what_is_others(run, fake_hub):
    publish(run, REPO)
    there = fake_hub.repositories[REPO]
    there.commit("Add a licence", there.files | {"LICENSE": b"theirs"})
    assert publish(run, REPO) == f"{fake_hub.url}/{REPO}" and len(there.commits) == 3  # nothing new, no commit
    (run / "atlas.json").unlink()
    (run / "figures" / "edits.png").unlink()
    (run / "README.md").write_text("---\nlicense: other\n---\nA card of my own.\n")
    publish(run, REPO)
    assert len(there.commits) == 4
    assert set(there.files) == {".gitattributes", "LICENSE", *hub.FILES, "README.md", "directions/Smiling.pt"}
    assert b"of my own" in there.files["README.md"] and "of my own" in (run / "README.md").read_text()


def test_the_shipped_model_can_be_published(fake_hub):
    publish(hub.SHIPPED, "someone/shipped")
    editor = Editor.from_pretrained("someone/shipped")
    assert editor.hash == Editor.from_pretrained().hash and len(editor.directions) == 49 and editor.classifier


def test_visibility_and_pull_requests(run, fake_hub):
    publish(run, "someone/secret", private=True)
    assert fake_hub.repositories["someone/secret"].private
    fake_hub.add(REPO, {"config.json": b"{}"})
    with pytest.raises(HubError, match="'someone/faces' is public, and --private is asked for"):
        publish(run, REPO, private=True)
    there = fake_hub.repositories[REPO]
    assert there.files["config.json"] == b"{}"
    assert publish(run, REPO, create_pr=True).endswith("/someone/faces/discussions/1")
    assert there.files["config.json"] == b"{}" and "model.safetensors" in there.pulls[0].files


def test_an_unfinished_run_is_not_published(run, fake_hub):
    (run / "metrics.json").unlink()
    with pytest.raises(PublishError, match=r"has no metrics.json; run the stage evaluate first"):
        publish(run, REPO)
    assert not fake_hub.repositories


def test_files_of_other_weights_are_not_published(run, fake_hub):
    hub.stamp(run / "directions.safetensors", "0123456789ab")
    with pytest.raises(PublishError, match="is of the weights 0123456789ab"):
        publish(run, REPO)
    assert not fake_hub.repositories


FAULTS = [
    (Fault("GET", "whoami", 401), "the Hub token is not valid"),
    (Fault("GET", "whoami", 503), r"out of order \(HTTP 503\)"),
    (Fault("POST", "create", 403), "no right to do that"),
    (Fault("POST", "create", 402), "needs PRO"),
    (Fault("POST", "create", 500), r"out of order \(HTTP 500\)"),
    (Fault("POST", "preupload", 404), "does not find it"),
    (Fault("POST", "validate-yaml", 502), "out of order"),
    (Fault("POST", "batch", 429, {"Retry-After": "7"}), "try again in 7 seconds"),
    (Fault("POST", "batch", 503), "out of order"),
    (Fault("POST", "batch"), "the connection to .* failed"),
    (Fault("PUT", "/lfs/", 500), "out of order"),
    (Fault("PUT", "/lfs/"), "the connection to .* failed"),
    (Fault("POST", "/commit/", 409), "in conflict"),
    (Fault("POST", "/commit/", 412), "somebody else committed meanwhile"),
    (Fault("POST", "/commit/", 413), "too large"),
    (Fault("POST", "/commit/", 429, {"ratelimit": '"api";r=0;t=90'}), "try again in 90 seconds"),
    (Fault("POST", "/commit/", 504), "out of order"),
    (Fault("POST", "/commit/"), "the connection to .* failed"),
]


CASES = [(*case, False) for case in FAULTS] + [(*case, True) for case in FAULTS if case[0].path in ("batch", "/commit/")]


@pytest.mark.parametrize("fault, sentence, exists", CASES, ids=[
    f"{fault.path.strip('/')}-{fault.status or 'cut'}-{'there' if exists else 'new'}" for fault, _, exists in CASES])
def test_every_fault_is_one_sentence_and_leaves_the_repository_as_it_was(run, fake_hub, fault, sentence, exists):
    if exists:
        fake_hub.add(REPO, {"config.json": b"{}"})
    before = {name: dict(repository.files) for name, repository in fake_hub.repositories.items()}
    fake_hub.faults.append(Fault(**vars(fault)))
    with pytest.raises(HubError, match=sentence) as caught:
        publish(run, REPO)
    said = str(caught.value)
    assert "\n" not in said and said.endswith(".") and "hf_owner" not in said
    assert {name: repository.files for name, repository in fake_hub.repositories.items()} == before


def test_by_xet_it_is_one_commit_as_well_and_the_same_pixels(run, xet_hub, tiny):
    publish(run, REPO)
    there = xet_hub.repositories[REPO]
    assert len(there.commits) == 2 and there.files["model.safetensors"] == (run / "model.safetensors").read_bytes()
    assert publish(run, REPO).endswith(REPO) and len(there.commits) == 2
    editor = Editor.from_pretrained(REPO)
    z = torch.randn(2, 8)
    assert torch.equal(editor.model.decode(z), hub.load_model(run).decode(z))
    asked = [path for _, path, _, _ in xet_hub.asked]
    assert any("xet-write-token" in path for path in asked) and not any("lfs" in path for path in asked)


@pytest.mark.parametrize("fault, sentence", [
    (Fault("GET", "xet-write", 403), "needs the role 'write'"),
    (Fault("GET", "xet-write", 503), r"out of order \(HTTP 503\)"),
    (Fault("GET", "xet-write"), "the connection to .* failed"),
    (Fault("POST", "/commit/", 500), r"out of order \(HTTP 500\)"),
    (Fault("POST", "/commit/"), "the connection to .* failed"),
], ids=["token-403", "token-503", "token-cut", "commit-500", "commit-cut"])
def test_faults_by_xet(run, xet_hub, fault, sentence):
    xet_hub.faults.append(fault)
    with pytest.raises(HubError, match=sentence) as caught:
        publish(run, REPO)
    said = str(caught.value)
    assert "'someone/faces'" in said and "\n" not in said and said.endswith(".") and "hf_owner" not in said
    assert not xet_hub.repositories


def test_a_lost_reply_by_xet_is_recognised(run, xet_hub):
    xet_hub.faults.append(Fault("POST", "/commit/", after=True, times=1))
    assert publish(run, REPO) == f"{xet_hub.url}/{REPO}" and len(xet_hub.repositories[REPO].commits) == 2


def test_a_token_that_is_missing_or_may_not_write(run, fake_hub, monkeypatch, tmp_path):
    fake_hub.read_only.add("hf_owner")
    with pytest.raises(HubError, match="needs the role 'write'"):
        publish(run, REPO)
    fake_hub.asked.clear()
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(HubError, match="hf auth login"):
        publish(run, REPO)
    with pytest.raises(HubError, match="the Hub token is not valid"):
        publish(run, REPO, token="hf_nobody")
    assert [path for method, path, _, _ in fake_hub.asked if method != "GET"] == [] and not fake_hub.repositories


@pytest.mark.parametrize("path", ["/commit/", "create"])
@pytest.mark.parametrize("create_pr", [False, True])
def test_a_reply_that_is_lost_after_the_fact_is_recognised(run, fake_hub, path, create_pr):
    fake_hub.faults.append(Fault("POST", path, after=True, times=1))
    address = publish(run, REPO, create_pr=create_pr)
    there = fake_hub.repositories[REPO]
    assert len(there.commits) + len(there.pulls) == 2
    assert address.endswith("/discussions/1" if create_pr else REPO)


def test_rate_limits_are_waited_for(run, fake_hub):
    fake_hub.faults += [Fault("GET", "whoami", 429, {"Retry-After": "3"}, times=2),
                        Fault("POST", "create", 429, {"ratelimit": '"api";r=0;t=11'}, times=1)]
    publish(run, REPO)
    assert fake_hub.waited == [3, 3, 11] and "model.safetensors" in fake_hub.repositories[REPO].files


def test_where_the_new_repository_cannot_be_removed_it_is_said(run, fake_hub):
    fake_hub.faults += [Fault("POST", "/commit/", 500), Fault("DELETE", "delete", 500)]
    with pytest.raises(HubError, match="could not be removed"):
        publish(run, REPO)


@pytest.mark.parametrize("unknown", ["preset", "images_seen", "seed"])
def test_a_model_without_its_provenance_is_published_and_the_card_says_so(run, fake_hub, unknown):
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({key: value for key, value in metrics.items() if key != unknown}))
    publish(run, REPO)
    text = fake_hub.repositories[REPO].files["README.md"].decode()
    assert "How it was trained is not recorded with it." in text and "Trained with" not in text


def test_the_card_of_a_model_of_other_data_says_nothing_of_celeba(run):
    metrics = json.loads((run / "metrics.json").read_text())
    for name, datasets in (("someone/faces", ["someone/faces"]), ("pictures of the maker's own", None)):
        (run / "metrics.json").write_text(json.dumps(metrics | {"data": name} | {
            split: metrics[split] | {"protocol": metrics[split]["protocol"] | {"data": name}} for split in ("val", "test")}))
        card = ModelCard(release(run, REPO)["README.md"].decode())
        assert card.data.datasets == datasets and not card.data.license and name in card.text
        assert "CelebA" not in card.text and {result.dataset_name for result in card.data.eval_results} == {name}


def test_an_editor_is_saved_and_pushed_as_others_are(run, fake_hub, tmp_path):
    editor = Editor.from_pretrained(run)
    editor.save_pretrained(tmp_path / "copy")
    again = Editor.from_pretrained(tmp_path / "copy")
    assert again.hash == editor.hash and again.metrics["test"]["bce"] == 1234.5
    assert hub.stamped(tmp_path / "copy" / "directions.safetensors") == editor.hash
    assert editor.push_to_hub(REPO, commit_message="As it is") == f"{fake_hub.url}/{REPO}"
    assert fake_hub.repositories[REPO].commits[-1].title == "As it is"
    assert Editor.from_pretrained(REPO).hash == editor.hash


def test_from_the_command_line(run, fake_hub, capsys):
    assert training.main(["--stages", "publish", "--out", str(run), "--repo", REPO, "--dry-run"]) == 0
    assert "opens: 8 latents, 1 directions" in capsys.readouterr().out and not fake_hub.repositories
    assert (run / "publish" / "README.md").is_file()
    assert training.main(["--stages", "publish", "--out", str(run), "--repo", REPO, "--private"]) == 0
    assert capsys.readouterr().out == f"{fake_hub.url}/{REPO}\n" and fake_hub.repositories[REPO].private
    assert training.main(["--stages", "publish", "--out", str(run), "--repo", "nobody"]) == 1
    assert capsys.readouterr().err == "error: The repository is 'nobody'; it must be user/name.\n"
    # What can be known before the training is said before it.
    assert training.main(["--push-to-hub", "--out", str(run), "--repo", "nobody", "--data", "nowhere"]) == 1
    assert "must be user/name" in capsys.readouterr().err
