"""Pictures of one's own as a data set: folders, imagefolders, tables, and data sets of the Hub."""

import csv
import json
import shutil

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from conftest import ROOT, TINY
from PIL import Image

from betavae import Editor, hub
from betavae.image import preprocess
from betavae.photo import Photo
from train import lists
from train.cache import framed, load
from train.lists import DataError
from train.run import main
from train.sources import open_data

PORTRAIT = ROOT / "assets" / "examples" / "astronaut.jpg"  # 178 x 218, framed as CelebA's


@pytest.fixture
def drawn(few, monkeypatch) -> list:
    """The drawn or real faces of ``few``: aligned pictures."""
    monkeypatch.setattr(lists, "MIN_IMAGES", 50)
    return sorted((few / "img_align_celeba").iterdir())


def shares(source) -> dict[str, int]:
    return {split: int((source.lists.split == split).sum()) for split in lists.SPLITS}


@pytest.fixture
def aligned(drawn, tmp_path):
    """A folder of 260 aligned pictures, some of them deeper."""
    folder = tmp_path / "mine"
    (folder / "more").mkdir(parents=True)
    for number, path in enumerate(drawn):
        shutil.copyfile(path, folder / ("more" if number % 2 else "") / path.name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_splits_are_by_name_and_stay_when_pictures_come(aligned):
    first = open_data(aligned, aligned=True)
    counts = shares(first)
    assert sum(counts.values()) == 260 and 12 <= counts["val"] <= 42 and 12 <= counts["test"] <= 42
    assert not first.lists.attributes and not first.lists.masked and "no attributes" in str(first)
    for extra in range(40):
        shutil.copyfile(PORTRAIT, aligned / f"extra{extra}.jpg")
    then = open_data(aligned, aligned=True)
    before, after = (dict(zip(source.lists.names, source.lists.split, strict=True)) for source in (first, then))
    assert len(after) == 300 and all(after[name] == split for name, split in before.items())


def test_aligned_pictures_are_taken_as_they_are(aligned, tmp_path):
    dataset = load(open_data(aligned, aligned=True), TINY, tmp_path / "cache")
    for row in (0, 130, 259):
        (expected,) = framed(aligned / dataset.lists.names[row], None, TINY)
        np.testing.assert_array_equal(dataset.pixels[row].numpy(), expected)


def test_faces_are_found_and_framed_and_pictures_without_one_are_left_out(drawn, tmp_path, capsys):
    folder, portrait = tmp_path / "mine", Image.open(PORTRAIT)
    folder.mkdir()
    for number in range(50):
        # The same portrait at another place and size of a larger picture.
        side, at = 178 + number, (10 + 2 * number, 60 - number)
        wall = Image.new("RGB", (480, 420), (number, 90, 120))
        wall.paste(portrait.resize((side, round(side * 218 / 178))), at)
        wall.save(folder / f"{number:02}.png")
    Image.new("RGB", (300, 300), "grey").save(folder / "wall.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    dataset = load(open_data(folder), TINY, tmp_path / "cache")
    assert len(dataset.lists.names) == 50
    said = capsys.readouterr()
    assert "2 images that are damaged or without a face are left out" in said.out + said.err
    assert "wall.png" in said.out + said.err and "broken.jpg" in said.out + said.err
    expected = np.asarray(preprocess(Photo(PORTRAIT, None).aligned(), TINY), dtype=float)
    # Wherever the face was, it is framed as the library frames the portrait; resizing in between costs a little sharpness.
    errors = [np.abs(pixels.numpy() - expected)[8:-8, 8:-8].mean() for pixels in dataset.pixels]
    centre = np.asarray(preprocess(Image.open(folder / "49.png").resize((178, 218)), TINY), dtype=float)
    assert max(errors) < 6 and np.abs(centre - expected).mean() > 30, errors


@pytest.fixture
def imagefolder(drawn, tmp_path):
    """The layout of Hugging Face's imagefolder: a folder for each split, and a list in each."""
    folder = tmp_path / "faces"
    for split, names in (("train", drawn[:200]), ("validation", drawn[200:230]), ("test", drawn[230:])):
        (folder / split).mkdir(parents=True)
        with open(folder / split / "metadata.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file_name", "Smiling", "caption", "Beard"])
            for number, path in enumerate(names):
                shutil.copyfile(path, folder / split / path.name)
                writer.writerow([path.name, number % 2, "a face", ("True", "False")[number % 3 > 0]])
    return folder


def test_an_imagefolder_has_its_splits_and_attributes(imagefolder):
    source = open_data(imagefolder, aligned=True)
    assert shares(source) == {"train": 200, "val": 30, "test": 30}
    assert set(source.lists.attributes) == {"Smiling", "Beard"}, "a caption says neither yes nor no"
    assert source.lists.attributes["Smiling"].tolist() == [n % 2 for count in (200, 30, 30) for n in range(count)]
    assert source.lists.attributes["Beard"].tolist() == [int(n % 3 == 0) for count in (200, 30, 30) for n in range(count)]


def test_one_list_of_json_lines_and_a_missing_split(imagefolder):
    rows = []
    for split in ("train", "validation", "test"):
        (imagefolder / split / "metadata.csv").unlink()
        rows += [{"file_name": f"{split}/{path.name}", "Smiling": split == "train"} for path in (imagefolder / split).iterdir()]
    shutil.rmtree(imagefolder / "test")
    (imagefolder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    source = open_data(imagefolder, aligned=True)
    counts = shares(source)
    assert counts["val"] == 30 and counts["train"] + counts["test"] == 200 and 8 <= counts["test"] <= 36
    np.testing.assert_array_equal(source.lists.attributes["Smiling"], source.lists.split != "val")
    (imagefolder / "train" / "stranger.jpg").write_bytes(PORTRAIT.read_bytes())
    with pytest.raises(DataError, match=r"does not name 'train/stranger.jpg'\.$"):
        open_data(imagefolder, aligned=True)


def write_tables(drawn, folder):
    """Tables as the Hub has them, in groups of rows."""
    folder.mkdir()
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    for name, paths in (("train-00000-of-00002", drawn[:120]), ("train-00001-of-00002", drawn[120:220]),
                        ("validation-00000-of-00001", drawn[220:])):
        table = pyarrow.table({
            "image": pyarrow.array([{"bytes": path.read_bytes(), "path": path.name} for path in paths], kind),
            "Smiling": pyarrow.array([number % 2 == 0 for number in range(len(paths))]),
            "celeb_id": pyarrow.array(range(len(paths)))})
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet", row_group_size=50)


def test_tables_give_the_pixels_of_their_pictures(drawn, tmp_path):
    write_tables(drawn, tmp_path / "tables")
    source = open_data(tmp_path / "tables", aligned=True)
    counts = shares(source)
    assert counts["val"] == 40 and counts["train"] + counts["test"] == 220 and set(source.lists.attributes) == {"Smiling"}
    dataset = load(source, TINY, tmp_path / "cache")
    for row, name in enumerate(dataset.lists.names[::30].tolist()):
        file, group, place = name.split(":")
        start = {"train-00000": 0, "train-00001": 120, "validation-00000": 220}[file.partition("-of")[0]]
        number = 50 * int(group) + int(place)
        (expected,) = framed(drawn[start + number], None, TINY)
        np.testing.assert_array_equal(dataset.pixels[30 * row].numpy(), expected)
        assert dataset.lists.attributes["Smiling"][30 * row] == (number % 2 == 0)


def test_a_data_set_of_the_hub_is_the_folder_that_it_holds(imagefolder, fake_hub):
    files = {path.relative_to(imagefolder).as_posix(): path.read_bytes() for path in imagefolder.rglob("*") if path.is_file()}
    fake_hub.add("someone/faces", files, kind="dataset")
    source, here = open_data("someone/faces", aligned=True), open_data(imagefolder, aligned=True)
    assert source.lists.names.tolist() == here.lists.names.tolist() and shares(source) == shares(here)
    with pytest.raises(DataError, match=r"no data folder 'someone/nothing', and on the Hub: .*no such repository.*\.$"):
        open_data("someone/nothing")


def test_a_run_on_pictures_without_labels_makes_what_needs_none(aligned, tmp_path, monkeypatch, capsys):
    common = ["--data", str(aligned), "--aligned", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run"),
              "--device", "cpu", "--preset", "celeba64", "--images", "64", "--batch", "16", "--features", "none"]
    small = ["--model.latents", "8", "--model.encoder", "8,8,16,16", "--model.decoder", "16,16,8,8", "--model.groups", "4"]
    assert main([*common, *small, "--stages", "fit,evaluate,directions,figures"]) == 0
    said = capsys.readouterr().out
    assert "attributes is absent: The data has no labels" in said and "so directions of attributes are left out" in said
    editor = Editor.from_pretrained(tmp_path / "run", "cpu")
    assert editor.directions.names == ["face_brightness", "light_side"] and editor.atlas["faces"] > 150
    assert (tmp_path / "run" / "figures" / "correlations.png").exists()
    assert hub.load(tmp_path / "run").folder.metrics["test"]["protocol"]["images"] == shares(open_data(aligned))["test"]
    for more, named in ((["--stages", "compare"], "the stage compare"),
                        (["--stages", "directions", "--choose"], "--method refined"),
                        (["--stages", "sharpen"], "the stage sharpen"),
                        (["--stages", "evaluate", "--features", "classifier"], "--features classifier")):
        assert main([*common, *small, *more]) == 1
        message = capsys.readouterr().err
        assert f"The data has no labels, without which there is no {named}." in message and message.count("\n") == 1


def test_mistakes_are_one_sentence(drawn, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"no data folder '.*nowhere'"):
        open_data(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither img_align_celeba/ nor shards, and 0 pictures; at least 50 are needed"):
        open_data(tmp_path / "empty")
    square = tmp_path / "square"
    square.mkdir()
    for number in range(50):
        Image.new("RGB", (128, 128)).save(square / f"{number}.png")
    with pytest.raises(DataError, match=r"--aligned, and '\d+.png' is no aligned frame: The image is 128 x 128"):
        open_data(square, aligned=True)
    (square / "metadata.csv").write_text("name,Smiling\n0.png,1\n")
    with pytest.raises(DataError, match=r"metadata.csv' cannot be read; every row needs file_name"):
        open_data(square)
    (square / "train.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match=r"train.parquet' is damaged"):
        open_data(square)
