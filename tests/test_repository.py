"""Repositories of a Hub on loopback, by the real client: what is fetched, by whom, and what is said where that fails."""

import pytest
from anyio.from_thread import start_blocking_portal
from fake_hub import Fault
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.routing import Mount

from betavae import Editor, ModelError, hub
from betavae.ui.shelf import PREFIX, Shelf


def files(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def opened(shelf: Shelf, name: str) -> str:
    """``shelf.open`` in a loop of its own: the browser tests' is this thread's."""
    with start_blocking_portal() as portal:
        return portal.call(shelf.open, name)


@pytest.fixture
def model(tiny, tmp_path) -> dict[str, bytes]:
    """What a repository with a model holds."""
    hub.save(tiny, tmp_path / "model")
    return files(tmp_path / "model")


def test_a_repository_is_downloaded_opened_and_kept(fake_hub, model, tiny):
    fake_hub.add("someone/faces", model | {"other.bin": b"not a model's"})
    editor = Editor.from_pretrained("someone/faces")
    assert editor.hash == hub.model_hash(tiny)
    assert not [path for _, path, _, _ in fake_hub.asked if "other.bin" in path]
    # (One list the client fetches for itself.)
    assert [ask for ask in fake_hub.asked if "betavae/" not in ask[3] and "agent-harnesses" not in ask[1]] == []
    fake_hub.faults.append(Fault("GET", ".", 503))
    assert Editor.from_pretrained("someone/faces").hash == editor.hash
    assert hub.download("someone/faces", local_files_only=True).is_dir()


@pytest.mark.parametrize("options", [{"private": True}, {"gated": True}])
def test_a_visitor_opens_nothing_that_only_the_servers_token_may(fake_hub, model, options, tmp_path):
    fake_hub.add("someone/secret", model, **options)
    fake_hub.add("someone/public", model)
    built = []

    def build(name, folder):
        built.append(name)
        raise ValueError("That is enough for this test.")

    shelf = Shelf([], build, {})
    client = TestClient(FastAPI(routes=[Mount(PREFIX, shelf)], lifespan=shelf.lifespan))
    for _ in ("not cached", "cached"):
        fake_hub.asked.clear()
        answer = client.get(f"{PREFIX}/someone--secret/")
        assert answer.status_code == 404 and "someone/secret&#x27; cannot be opened" in answer.text
        with pytest.raises(ModelError, match="'someone/secret' cannot be opened"):
            opened(shelf, "someone/secret")
        assert fake_hub.asked and {token for _, _, token, _ in fake_hub.asked} == {None}
        # The owner may; after that its files lie in the cache, from which a visitor must not get them either.
        assert hub.download("someone/secret").is_dir()
    fake_hub.faults.append(Fault("GET", ".", 503))
    with pytest.raises(ModelError, match="out of order"):
        opened(shelf, "someone/secret")
    fake_hub.faults.clear()
    assert built == []
    client.get(f"{PREFIX}/someone--public/")
    assert built == ["someone/public"]


@pytest.mark.parametrize("token, options, fault, sentence", [
    (False, {"private": True}, None, "there is no such repository, or it is private"),
    ("hf_stranger", {"gated": True}, None, "it is gated; accept its terms"),
    ("hf_wrong", {}, None, "the Hub token is not valid"),
    (None, {}, Fault("GET", ".", 429, {"Retry-After": "30"}), "try again in 30 seconds"),
    (None, {}, Fault("GET", ".", 502), r"out of order \(HTTP 502\)"),
    (None, {}, Fault("GET", "."), "the connection to http://127.0.0.1:.* failed"),
    (None, {}, Fault("GET", "resolve"), "the connection to http://127.0.0.1:.* failed"),
])
def test_why_a_repository_cannot_be_had_is_one_sentence(fake_hub, model, token, options, fault, sentence):
    fake_hub.tokens["hf_stranger"] = "stranger"
    fake_hub.add("someone/faces", model, **options)
    if fault:
        fake_hub.faults.append(fault)
    with pytest.raises(ModelError, match=sentence) as caught:
        Editor.from_pretrained("someone/faces", token=token)
    said = str(caught.value)
    assert "'someone/faces'" in said and "\n" not in said and said.endswith(".") and "hf_" not in said


def test_revisions_and_other_caches(fake_hub, model, tmp_path):
    there = fake_hub.add("someone/faces", model)
    old = there.commits[-1].sha
    there.commit("Break it", {"config.json": b"{}"})
    with pytest.raises(ModelError):
        Editor.from_pretrained("someone/faces")
    assert Editor.from_pretrained("someone/faces", revision=old, cache_dir=tmp_path / "elsewhere").config.latents == 8
    assert (tmp_path / "elsewhere").is_dir()
    with pytest.raises(ModelError, match="no such revision"):
        Editor.from_pretrained("someone/faces", revision="v9")


def test_a_repository_that_is_no_model_is_not_downloaded(fake_hub, model, monkeypatch):
    fake_hub.add("someone/everything", model)
    monkeypatch.setattr(hub, "MAX_BYTES", 100)
    with pytest.raises(ModelError, match="'someone/everything' holds"):
        Editor.from_pretrained("someone/everything")
    assert not [path for _, path, _, _ in fake_hub.asked if "resolve" in path]


def test_a_hub_that_is_switched_off_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ModelError, match="'someone/faces' is not in the local cache and cannot be reached: HF_HUB_OFFLINE is set"
    ):
        Editor.from_pretrained("someone/faces", cache_dir=tmp_path)
