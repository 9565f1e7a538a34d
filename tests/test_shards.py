"""Training from shards, on real faces: what is streamed is what is in the folder."""

import dataclasses
import json
import shutil
import signal

import numpy as np
import pytest
import torch
from conftest import TINY

from train import lists, loop, shards
from train.batches import Batches
from train.cache import load
from train.celeba import CelebA
from train.lists import DataError
from train.loop import Interrupted, fit
from train.presets import PRESETS
from train.shards import Shards, Stream, main
from train.sources import open_data

CPU = torch.device("cpu")
MASKED = dataclasses.replace(TINY, mask=True)


@pytest.fixture(scope="module")
def folder(few, tmp_path_factory):
    """260 faces in shards of 20, by the command."""
    folder = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "MIN_IMAGES", 50)
        assert main(["--data", str(few), "--out", str(folder), "--shard-images", "20"]) == 0
    return folder


@pytest.fixture
def opened(folder, monkeypatch):
    """Those shards, with 60 training images kept."""
    monkeypatch.setattr(shards, "RESIDENT", 60)
    monkeypatch.setattr(shards, "WINDOW", 2)
    monkeypatch.setattr(lists, "MIN_IMAGES", 50)
    return open_data(folder)


def numbers(dataset, split):
    return [int(name.split(".")[0]) for name in dataset.lists.names[dataset.indices(split)]]


def test_what_is_kept_has_the_folders_pixels_masks_and_attributes(opened, dataset, cache):
    kept = load(opened, TINY, cache)
    assert [len(kept.indices(split)) for split in ("train", "val", "test")] == [60, 30, 30]
    assert "200 training images are streamed from 10 shards" in str(opened)
    for split in ("train", "val", "test"):
        place = {number: i for i, number in enumerate(numbers(dataset, split))}
        rows = [place[number] for number in numbers(kept, split)]
        assert torch.equal(kept.images(split), dataset.images(split)[rows])
        assert torch.equal(kept.masks(split), dataset.masks(split)[rows])
        theirs = dataset.indices(split)[rows]
        for name, values in kept.lists.attributes.items():
            assert np.array_equal(values[kept.indices(split)], dataset.lists.attributes[name][theirs])
        np.testing.assert_array_equal(kept.numeric()["yaw"][kept.indices(split)], dataset.numeric()["yaw"][theirs])
    assert numbers(kept, "train") != sorted(numbers(kept, "train")), "the first shards are a sample of all"


def test_an_epoch_streams_every_training_image_and_mask_once(opened, dataset):
    batches = Batches(opened.stream(MASKED, 0), 25, 0, False, CPU)
    epochs = [[batches(step) for step in range(start, start + 8)] for start in (0, 8)]
    whole = torch.cat([dataset.images("train"), dataset.masks("train")[..., None]], 3)[:200].flatten(1).numpy()
    expected = sorted(picture.tobytes() for picture in whole)
    orders = []
    for epoch in epochs:
        seen = torch.cat([torch.cat([x, mask], 1) for x, mask in epoch])
        seen = (seen * 255).round().to(torch.uint8).permute(0, 2, 3, 1).flatten(1).numpy()
        orders.append([picture.tobytes() for picture in seen])
        assert sorted(orders[-1]) == expected
    assert orders[0] != orders[1]


def test_shuffling_reaches_across_shards_and_holds_few_of_them(opened):
    stream = opened.stream(TINY, 0)
    order = stream.order(np.random.default_rng(0))
    shard = np.searchsorted(stream.starts, order, "right") - 1
    assert sorted(order) == list(range(200))
    assert np.mean([len(set(part)) for part in np.split(shard, 10)]) > 2
    place = {number: np.flatnonzero(shard == number) for number in range(10)}
    assert max(sum(rows[0] <= i <= rows[-1] for rows in place.values()) for i in range(200)) <= 3
    for rows in torch.from_numpy(order).split(20):
        stream[rows]
    assert len(stream._held) <= 6


def test_any_step_can_be_the_first(opened):
    def fresh():
        return Batches(opened.stream(TINY, 0), 24, 7, True, CPU)
    going = fresh()
    first = [going(step)[0] for step in range(12)]  # past the end of an epoch
    for step in (11, 7, 0, 8):
        assert torch.equal(fresh()(step)[0], first[step])
        assert torch.equal(going(step)[0], first[step]), "a step back"


def test_a_run_on_shards_resumes_exactly_and_a_subset_is_its_first_shards(opened, cache, tmp_path, monkeypatch):
    run = dataclasses.replace(PRESETS["celeba64"], model=TINY, images=160, batch=16)
    kept = load(opened, TINY, cache)
    train, val = kept.training(TINY, subset=50), kept.images("val")
    assert isinstance(train, Stream) and len(train) == 60
    undisturbed = fit(run, train, val, tmp_path / "a", CPU)

    class Stopped(Batches):
        def __call__(self, step):
            if step == 4:
                signal.raise_signal(signal.SIGTERM)
            return super().__call__(step)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(loop, "Batches", Stopped)
        fit(run, kept.training(TINY, subset=50), val, tmp_path / "b", CPU)
    resumed = fit(run, kept.training(TINY, subset=50), val, tmp_path / "b", CPU)
    for a, b in zip(resumed.state_dict().values(), undisturbed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_damaged_images_in_a_shard_are_named_and_passed_over(few, opened, tmp_path, capsys):
    shutil.copytree(few, tmp_path / "celeba")
    celeba = CelebA.open(tmp_path / "celeba")
    (celeba.images / celeba.lists.names[5]).write_bytes(b"not a jpeg")
    shards.write(celeba, tmp_path / "shards", 50)
    pixels, = Shards.open(tmp_path / "shards").stream(TINY, 0)[torch.arange(200)]
    assert pixels.shape == (200, 64, 64, 3)
    assert capsys.readouterr().out.count(f"{celeba.lists.names[5][:6]} is damaged") == 1


def test_shards_without_an_index_are_counted(opened, folder, tmp_path):
    for path in folder.glob("*.tar"):
        (tmp_path / path.name).symlink_to(path)
    assert [count for _, count in Shards.open(tmp_path).train] == [count for _, count in opened.train]


@pytest.mark.parametrize(("harm", "sentence"), [
    (lambda folder: [path.unlink() for path in folder.glob("val-*")], "no val-"),
    (lambda folder: (folder / "val-000000.tar").write_bytes(b"not a tar"), "val-000000.tar.*damaged"),
    (lambda folder: [path.unlink() for path in folder.glob("train-00000[1-9]*")], "hold 20 images"),
])
def test_shards_that_cannot_be_used_are_one_sentence(folder, opened, tmp_path, harm, sentence):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    harm(tmp_path)
    with pytest.raises(DataError, match=sentence):
        open_data(tmp_path)


def test_the_index_is_webdatasets(folder):
    index = json.loads((folder / "index.json").read_text())
    assert index["__kind__"] == "wids-shard-index-v1"
    assert sum(shard["nsamples"] for shard in index["shardlist"]) == 260
