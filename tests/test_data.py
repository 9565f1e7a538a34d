"""CelebA on disk, its cache, and training batches, on real faces."""

import csv
import dataclasses
import os
import re
import shutil

import kagglehub
import numpy as np
import pytest
import requests
import torch
from conftest import TINY
from PIL import Image

from train import lists
from train.batches import Batches
from train.cache import load
from train.celeba import CelebA
from train.lists import DataError
from train.run import main
from train.sources import open_data

CPU = torch.device("cpu")


def test_the_lists_tell_splits_and_attributes(subset):
    celeba = CelebA.open(subset)
    assert len(celeba.lists.names) == 1200 and celeba.lists.missing == 0
    assert [(celeba.lists.split == split).sum() for split in ("train", "val", "test")] == [1000, 100, 100]
    assert len(celeba.lists.attributes) == 40


def test_images_that_the_lists_name_and_the_disk_lacks_are_counted(work):
    for path in sorted((work / "img_align_celeba").iterdir())[:20]:
        path.unlink()
    celeba = CelebA.open(work)
    assert len(celeba.lists.names) == 240 and celeba.lists.missing == 20


def test_kaggles_layout_reads_the_same(work, tmp_path):
    celeba = CelebA.open(work)
    (tmp_path / "img_align_celeba").mkdir()
    (tmp_path / "img_align_celeba" / "img_align_celeba").symlink_to(work / "img_align_celeba")
    with open(tmp_path / "list_attr_celeba.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image_id", *celeba.lists.attributes])
        rows.writerows([name, *(2 * int(values[i]) - 1 for values in celeba.lists.attributes.values())]
                       for i, name in enumerate(celeba.lists.names))
    with open(tmp_path / "list_eval_partition.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image_id", "partition"])
        rows.writerows(
            [name, ("train", "val", "test").index(split)]
            for name, split in zip(celeba.lists.names, celeba.lists.split, strict=True)
        )
    kaggle = CelebA.open(tmp_path)
    assert np.array_equal(kaggle.lists.names, celeba.lists.names) and np.array_equal(kaggle.lists.split, celeba.lists.split)
    assert all(np.array_equal(kaggle.lists.attributes[name], values) for name, values in celeba.lists.attributes.items())
    assert kaggle.masks is None and kaggle.lists.geometry == {}


def test_columns_measured_from_geometry_and_masks(dataset, subset):
    numeric = dataset.numeric()
    assert set(numeric) == {"yaw", "pitch", "mouth_open", "eye_open", "background_brightness", "background_warmth",
                            "background_tint", "face_brightness", "light_side"}
    rows = {row["image_id"]: row for row in csv.DictReader((subset / "list_face_geometry.csv").open())}
    name = dataset.lists.names[11]
    assert numeric["yaw"][11] == pytest.approx(float(rows[name]["yaw_deg"]))
    # The background's brightness, from the picture and the mask themselves.
    outside = dataset.person[11].numpy() < 128
    luma = dataset.pixels[11].numpy()[outside].astype(float) @ (0.299, 0.587, 0.114) / 255
    assert numeric["background_brightness"][11] == pytest.approx(luma.mean(), abs=1e-4)
    # The middle of the face, and its two halves.
    luma = dataset.pixels[11].numpy().astype(float) @ (0.299, 0.587, 0.114) / 255
    left, right = luma[29:51, 19:32].mean(), luma[29:51, 32:45].mean()
    assert numeric["face_brightness"][11] == pytest.approx((left + right) / 2, abs=1e-4)
    assert numeric["light_side"][11] == pytest.approx(left - right, abs=1e-4)


@pytest.fixture
def work(few, tmp_path, monkeypatch):
    """260 faces, to change."""
    monkeypatch.setattr(lists, "MIN_IMAGES", 50)
    shutil.copytree(few, tmp_path / "celeba")
    return tmp_path / "celeba"


def pixels(folder, cache, config=TINY):
    return load(CelebA.open(folder), config, cache).pixels


def test_the_cache_is_built_once_for_each_crop(work, tmp_path, capsys):
    cache = tmp_path / "cache"
    first = pixels(work, cache)
    built = [path.stat().st_mtime_ns for path in sorted(cache.glob("*/*"))]
    assert torch.equal(pixels(work, cache), first)
    assert [path.stat().st_mtime_ns for path in sorted(cache.glob("*/*"))] == built
    assert not torch.equal(pixels(work, cache, dataclasses.replace(TINY, crop=(0.1, 0.1, 0.9, 0.9))), first)
    assert len(list(cache.glob("*/meta.json"))) == 2 and not list(cache.glob("*.part"))
    assert "decoded again" not in capsys.readouterr().out


def overwrite(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        value = file.read(1)[0]
        file.seek(at)
        file.write(bytes([value ^ 1]))


@pytest.mark.parametrize(("harm", "reason"), [
    (lambda path: os.truncate(path / "pixels.npy", 500_000), "incomplete"),
    (lambda path: (path / "masks.npy").unlink(), "incomplete"),
    (lambda path: (path / "meta.json").write_text("{"), "incomplete"),
    (lambda path: overwrite(path / "pixels.npy", at=1_000_000), "damaged"),
    (lambda path: os.utime(next(path.parent.parent.glob("celeba/masks/*"))), "other images"),
])
def test_a_damaged_or_stale_cache_is_said_and_built_again(work, tmp_path, capsys, harm, reason):
    cache = tmp_path / "cache"
    whole = pixels(work, cache).clone()
    harm(next(cache.glob("*/")))
    assert torch.equal(pixels(work, cache), whole)
    said = capsys.readouterr().out
    assert reason in said and "decoded again" in said
    assert torch.equal(pixels(work, cache), whole) and not capsys.readouterr().out


def test_damaged_images_are_named_and_left_out(work, tmp_path, capsys):
    victim = sorted((work / "img_align_celeba").iterdir())[5]
    victim.unlink()
    victim.write_bytes(b"not a jpeg")
    dataset = load(CelebA.open(work), TINY, tmp_path / "cache")
    assert victim.name in capsys.readouterr().out
    assert victim.name not in dataset.lists.names
    assert len(dataset.pixels) == len(dataset.lists.names) == len(dataset.person) == 259
    assert len(dataset.lists.attributes["Smiling"]) == len(dataset.numeric()["yaw"]) == 259


def test_every_epoch_shows_every_image_once():
    pixels = torch.arange(50, dtype=torch.uint8)[:, None, None, None].expand(50, 2, 2, 3).contiguous()
    batches = Batches(pixels, batch=8, seed=0, flip=False, device=CPU)
    seen = torch.cat([batches(step)[0][:, 0, 0, 0] for step in range(25)]) * 255  # 4 epochs
    for epoch in seen.round().int().split(50):
        assert sorted(epoch.tolist()) == list(range(50))
    assert seen[:50].tolist() != seen[50:100].tolist()
    assert torch.equal(batches(3)[0], Batches(pixels, 8, 0, False, CPU)(3)[0])
    shares = [Batches(pixels, 8, 0, True, CPU, share)(3)[0] for share in (slice(0, 4), slice(4, 8))]
    assert torch.equal(torch.cat(shares), Batches(pixels, 8, 0, True, CPU)(3)[0])


def test_masks_are_framed_as_their_images_and_mirrored_with_them(dataset):
    images, masks = dataset.images("train"), dataset.masks("train")
    assert masks.shape == images.shape[:3] and masks.dtype == torch.uint8
    source = dataset.training(dataclasses.replace(TINY, mask=True))
    plain, flipped = Batches(source, 16, 0, False, CPU), Batches(source, 16, 0, True, CPU)
    (x, mask), (y, mirrored) = plain(3), flipped(3)
    assert mask.shape == (16, 1, 64, 64) and mask.min() >= 0 and mask.max() <= 1
    unmasked, nothing = Batches(images, 16, 0, False, CPU)(3)
    assert torch.equal(x, unmasked) and nothing is None
    turned = [not torch.equal(a, b) for a, b in zip(x, y, strict=True)]
    assert 0 < sum(turned) < 16
    for i, turn in enumerate(turned):
        assert torch.equal(mirrored[i], mask[i].flip(2) if turn else mask[i])
    rows = plain.rows(3)
    assert torch.equal((mask[:, 0] * 255).round().to(torch.uint8), masks[rows])


def test_a_mask_of_another_resolution_covers_the_same_part_of_the_frame(work, tmp_path):
    # A mask that is white where the image is: both must come out white in the same places.
    config = dataclasses.replace(TINY, crop=(0.2, 0.3, 0.7, 0.8))
    name = CelebA.open(work).lists.names[0]
    for part, file, size in (("img_align_celeba", name, (178, 218)), ("masks", name.replace("jpg", "png"), (89, 109))):
        path = work / part / file
        path.unlink()
        box = [round(edge * side / 178) for edge, side in zip((60, 100, 100, 160), [size[0]] * 4, strict=True)]
        picture = Image.new("L", size)
        picture.paste(255, tuple(box))
        picture.convert("RGB" if part != "masks" else "L").save(path, "PNG")
    dataset = load(CelebA.open(work), config, tmp_path / "cache")
    image, mask = dataset.pixels[0, :, :, 0].float(), dataset.person[0].float()
    assert image.max() == mask.max() == 255
    for axis in (0, 1):
        positions = torch.arange(64, dtype=torch.float)
        centres = [(a.mean(1 - axis) * positions).sum() / a.mean(1 - axis).sum() for a in (image, mask)]
        assert centres[0].item() == pytest.approx(centres[1].item(), abs=0.05)


def test_without_all_masks_none_is_used_and_the_sentence_names_the_command(work, tmp_path):
    sorted((work / "masks").iterdir())[7].unlink()
    celeba = CelebA.open(work)
    assert "1 have no mask" in str(celeba) and celeba.masks is None
    with pytest.raises(DataError, match=r"1 of 260 images have no mask.*python -m train.annotate"):
        load(celeba, TINY, tmp_path / "cache").masks("train")


def test_half_of_the_images_are_mirrored():
    pixels = torch.zeros(64, 2, 2, 3, dtype=torch.uint8)
    pixels[:, :, 0] = 255
    left = torch.stack([Batches(pixels, 64, seed, True, CPU)(0)[0][:, 0, 0, 0] for seed in range(40)])
    assert left.mean().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("remove", "sentence"), [
    ("img_align_celeba", "no folder img_align_celeba"),
    ("list_attr_celeba.txt", "no list list_attr_celeba.txt"),
    ("list_eval_partition.txt", "no list list_eval_partition.txt"),
])
def test_a_partial_data_folder_is_one_sentence_before_any_work(work, remove, sentence):
    shutil.rmtree(work / remove) if (work / remove).is_dir() else (work / remove).unlink()
    with pytest.raises(DataError, match=sentence):
        CelebA.open(work)


def test_too_few_images_stop_the_run(work):
    for path in sorted((work / "img_align_celeba").iterdir())[:220]:
        path.unlink()
    with pytest.raises(DataError, match=r"40 of the 260 images.*at least 50"):
        CelebA.open(work)


def test_without_data_kaggles_copy_is_downloaded(work, monkeypatch):
    asked = []
    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: asked.append(handle) or str(work))
    assert np.array_equal(open_data(None).lists.names, CelebA.open(work).lists.names)
    assert asked == ["jessicali9530/celeba-dataset"]


@pytest.mark.parametrize(("error", "sentence"), [
    (requests.ConnectionError("Failed to resolve 'api.kaggle.com'"), "failed .ConnectionError.: try again with a connection"),
    (kagglehub.exceptions.KaggleApiHTTPError("403"), "without credentials.*KAGGLE_API_TOKEN"),
    (kagglehub.exceptions.UnauthenticatedError(), "without credentials.*KAGGLE_API_TOKEN"),
    (kagglehub.exceptions.DataCorruptionError("crc"), "failed .DataCorruptionError."),
])
def test_a_failed_download_says_what_to_do(monkeypatch, error, sentence, capsys):
    def dataset_download(handle):
        raise error
    monkeypatch.setattr(kagglehub, "dataset_download", dataset_download)
    assert main(["--stages", "data"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "--data is missing" in message and "give its folder as --data" in message
    assert re.search(sentence, message)
