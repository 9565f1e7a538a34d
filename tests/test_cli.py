"""``python -m betavae``, on an untrained model: what is written has the right shape and changes where it should."""

import av
import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from betavae import Editor, Recipe, hub
from betavae.__main__ import CHUNK, main
from betavae.latent import traverse
from train.directions.simple import simple_directions

PHOTO = str(ROOT / "assets" / "examples" / "astronaut.jpg")


@pytest.fixture
def model(tiny, tmp_path):
    mu = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    hub.save(tiny, tmp_path)
    simple_directions(mu, {"Smiling": (mu[:, 0] > 0).numpy()}, {"yaw": mu[:, 1].numpy() * 15}).save(
        tmp_path / "directions.safetensors")
    return str(tmp_path)


def run(model, tmp_path, command, *arguments) -> list[np.ndarray]:
    """The pictures that a command wrote beside each other, at the model's size."""
    out = tmp_path / "out.png"
    plain = ["--plain"] if command == "edit" else []
    assert main([command, "--model", model, "--device", "cpu", "--scale", "1", "--out", str(out), *plain, *arguments]) == 0
    sheet = np.asarray(Image.open(out)).astype(int)
    return np.split(sheet, sheet.shape[1] // 64, axis=1)


def differ(a, b) -> bool:
    return np.abs(a - b).max() > 1


def test_edit_changes_the_face(model, tmp_path):
    (plain,) = run(model, tmp_path, "edit", PHOTO, "--set", "Smiling=0")
    (edited,) = run(model, tmp_path, "edit", PHOTO, "--set", "Smiling=2", "yaw=-1")
    assert differ(plain, edited)


def test_spectrum_goes_from_one_end_of_the_data_to_the_other(model, tmp_path):
    row = run(model, tmp_path, "spectrum", PHOTO, "--attribute", "Smiling", "--steps", "5")
    editor = Editor.from_pretrained(model, "cpu")
    (z,), smile = editor.encode(PHOTO), editor.directions["Smiling"]
    own = float(editor.directions.scores(z[None])[0, editor.directions.names.index("Smiling")])
    (last,) = run(model, tmp_path, "edit", PHOTO, "--set", f"Smiling={smile.high - own}")
    assert len(row) == 5 and not differ(row[4], last) and differ(row[0], row[4])


def test_interpolate_goes_from_one_face_to_the_other(model, tmp_path):
    other = tmp_path / "other.png"
    Image.effect_noise((300, 300), 90).convert("RGB").save(other)
    row = run(model, tmp_path, "interpolate", PHOTO, str(other), "--steps", "4", "--method", "lerp", "--crop", "centre")
    assert len(row) == 4 and differ(row[0], row[3])


def test_a_loop_through_three_faces_in_motion(model, tmp_path):
    photos = [PHOTO]
    for i, deviation in enumerate((40, 90)):
        photos.append(str(tmp_path / f"{i}.png"))
        Image.effect_noise((300, 300), deviation).convert("RGB").save(photos[-1])
    row = run(
        model, tmp_path, "interpolate", *photos, "--steps", "6", "--closed", "--easing", "ease in-out", "--crop", "centre"
    )
    (plain,) = run(model, tmp_path, "edit", PHOTO, "--crop", "centre")
    assert len(row) == 6 and not differ(row[0], plain) and differ(row[5], plain)
    for name in ("loop.gif", "loop.mp4"):
        out = tmp_path / name
        assert main(["interpolate", *photos, "--model", model, "--steps", "6", "--closed", "--scale", "2", "--crop", "centre",
                     "--out", str(out)]) == 0
        if out.suffix == ".gif":
            film = Image.open(out)
            frames = [np.asarray(film.convert("RGB")) for _ in range(film.n_frames) if film.seek(_) is None]
        else:
            with av.open(str(out)) as film:
                frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert len(frames) == 6 and frames[0].shape == (128, 128, 3)
        # Compressed noise: each frame is nearest to its own picture.
        small = [np.asarray(Image.fromarray(frame).resize((64, 64), Image.Resampling.BOX), dtype=float) for frame in frames]
        assert [min(range(6), key=lambda i: np.abs(frame - row[i]).mean()) for frame in small] == list(range(6))


def test_sample_is_the_seeds(model, tmp_path):
    first = run(model, tmp_path, "sample", "--count", "3", "--seed", "5")
    again = run(model, tmp_path, "sample", "--count", "3", "--seed", "5")
    other = run(model, tmp_path, "sample", "--count", "3", "--seed", "6")
    tight = run(model, tmp_path, "sample", "--count", "3", "--seed", "5", "--truncation", "0.1")
    assert differ(tight[0], first[0])
    assert len(first) == 3 and np.array_equal(first, again) and differ(first[0], other[0])


def test_traverse_walks_one_latent(model, tmp_path):
    row = run(model, tmp_path, "traverse", PHOTO, "--latent", "3", "--steps", "3", "--reach", "5")
    assert len(row) == 3 and differ(row[0], row[2])


def test_a_direction_of_ones_own_is_made_and_used(model, tmp_path, capsys):
    noise = tmp_path / "noise.png"
    Image.effect_noise((300, 300), 90).convert("RGB").save(noise)
    pack = tmp_path / "noisy.safetensors"
    assert main(["make", "Noisy", "--with", str(noise), "--without", PHOTO, "--model", model, "--crop", "centre",
                 "--out", str(pack)]) == 0
    printed = capsys.readouterr().out
    assert "most like: " in printed and "One face on a side" in printed
    (other,) = run(model, tmp_path, "edit", str(noise), "--set", "Smiling=0", "--crop", "centre")
    (edited,) = run(model, tmp_path, "edit", PHOTO, "--directions", str(pack), "--set", "Noisy=1", "--crop", "centre")
    assert not differ(edited, other), "this face plus (that one minus this) is that one"


def test_a_lock_changes_the_edit(model, tmp_path):
    (free,) = run(model, tmp_path, "edit", PHOTO, "--set", "Smiling=3")
    (held,) = run(model, tmp_path, "edit", PHOTO, "--set", "Smiling=3", "--lock", "yaw")
    assert differ(free, held)


def test_directions_are_listed_in_words(model, capsys):
    assert main(["directions", "--model", model]) == 0
    smile, yaw = capsys.readouterr().out.splitlines()
    assert "Smiling" in smile and "Smile" in smile and "faces with it" in smile
    assert "Turn head" in yaw and "degrees" in yaw


def test_sharp_pictures_are_the_second_decoders(sharp_model, tmp_path):
    editor, out = Editor.from_pretrained(sharp_model, "cpu"), tmp_path / "out.png"

    def sharp(command, *arguments):
        assert main([command, *arguments, "--model", str(sharp_model), "--device", "cpu", "--sharp", "--scale", "1",
                     "--out", str(out)]) == 0
        sheet = np.asarray(Image.open(out)).astype(int)
        return np.split(sheet, sheet.shape[1] // 128, axis=1)

    z = editor.encode(PHOTO)
    ways = {
        ("sample", "--count", "2", "--seed", "5"): editor.sample(2, 5),
        ("edit", PHOTO, "--set", "Smiling=1"): editor.shift(z, {"Smiling": 1}),
        ("interpolate", PHOTO, PHOTO, "--steps", "2"): z.repeat(2, 1),
        ("traverse", PHOTO, "--latent", "3", "--steps", "2"): traverse(z, 3, torch.tensor([-3.0, 3.0])),
        ("spectrum", PHOTO, "--attribute", "yaw", "--steps", "2"): editor.spectrum(z[0], "yaw", 2)[0],
    }
    for arguments, latents in ways.items():
        expected = [np.asarray(image).astype(int) for image in editor.decode(latents, sharp=True)]
        for a, b in zip(sharp(*arguments), expected, strict=True):
            assert np.abs(a - b).max() <= 2, arguments
    # The picture of an edit carries that it was sharp, and is drawn so again.
    assert main(["edit", PHOTO, "--model", str(sharp_model), "--sharp", "--out", str(out)]) == 0
    assert Recipe.read(out).sharp
    assert main(["edit", "--recipe", str(out), "--model", str(sharp_model), "--scale", "1", "--out", str(out)]) == 0
    assert Image.open(out).size == (128, 128)
    assert main(["sample", "--model", str(sharp_model), "--count", "1", "--sharp", "--scale", "1",
                 "--out-dir", str(tmp_path / "faces")]) == 0
    assert Image.open(tmp_path / "faces" / "0.png").size == (128, 128)


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["edit", "nobody.jpg", "--set", "Smiling=1"], "no file 'nobody.jpg'"),
    (["edit", PHOTO, "--set", "Smile=1"], "'Smile'; choose from Smiling, yaw"),
    (["edit", PHOTO, "--set", "Smiling"], "'Smiling'; write NAME=STRENGTH"),
    (["traverse", PHOTO, "--latent", "8"], "0 to 7"),
    (["interpolate", PHOTO], "at least 2 faces"),
    (["edit", PHOTO, "--face", "3"], "'astronaut.jpg' has no face 3; choose from 0 to 0"),
    (["edit", PHOTO, "--eyes", "1", "2,3"], "'1'; write both eyes as X,Y X,Y"),
    (["sample", "--count", "100000"], "100,000 pictures do not fit side by side, 256 at most do"),
    (["sample", "--source", "mixture"], "no mixture"),
    (["sample", "--seed", str(2**64)], "The seed is 18446744073709551616; it must be from 0 to 9223372036854775807"),
    (["sample", "--seed", "-1"], "The seed is -1"),
    (["sample", "--scale", "100000"], "--scale is 100,000, which makes a picture of 51,200,000 x 6,400,000 pixels"),
    (["sample", "--sharp"], "no second decoder"),
    (["edit", PHOTO, PHOTO, "--sharp"], "no second decoder"),
    (["interpolate", PHOTO, PHOTO, "--sharp"], "no second decoder"),
    (["edit", PHOTO, "--set", "Smiling=1", "--lock", "Smile"], "'Smile'; choose from Smiling, yaw"),
    (["edit", PHOTO, "--set", "Smiling=1", "--directions", "gone.pt"], "no file 'gone.pt'"),
    (["make", "yaw", "--with", PHOTO, "--without", PHOTO], "'yaw' already"),
    (["edit", PHOTO, "--set", "Smiling=1", "--crop", "aligned"], None),
])
def test_mistakes_are_one_sentence(model, tmp_path, capsys, arguments, sentence):
    status = main([*arguments, "--model", model, "--out", str(tmp_path / "out.png")])
    message = capsys.readouterr().err
    if sentence is None:  # the portrait has the aligned shape
        assert (status, message) == (0, "")
    else:
        assert status == 1 and message.startswith("error: ") and sentence in message and message.count("\n") == 1


def test_many_photos_are_edited_at_their_own_size_and_failures_stop_nobody(tmp_path, capsys):
    photo = Image.open(PHOTO)
    for name, image in (
        ("a.jpg", photo),
        ("b.png", photo.resize((356, 436))),
        ("wall.jpg", Image.new("RGB", (300, 300), "grey")),
    ):
        image.save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    names = ["a.jpg", "b.png", "wall.jpg", "notes.txt"]
    out = tmp_path / "edited"
    assert main(["edit", *(str(tmp_path / name) for name in names), "--set", "Smiling=2", "--out-dir", str(out)]) == 1
    said = capsys.readouterr().err
    assert "'wall.jpg': no face was found" in said and "'notes.txt' is not an image" in said
    assert "2 of 4 photos edited; 2 failed" in said
    assert sorted(path.name for path in out.iterdir()) == ["a.jpg", "b.png"]
    for name in ("a.jpg", "b.png"):
        before, after = Image.open(tmp_path / name), Image.open(out / name)
        assert before.size == after.size and np.abs(np.asarray(before).astype(int) - np.asarray(after)).max() > 10
    assert main(["edit", str(tmp_path / "a.jpg"), "--out-dir", str(tmp_path)]) == 1
    assert "is the photo itself" in capsys.readouterr().err


def test_what_cannot_be_put_back_is_said(tmp_path, capsys):
    edit = ["edit", PHOTO, "--set", "Eyeglasses=1", "Smiling=1", "--out", str(tmp_path / "edited.png")]
    assert main(edit) == 0
    said = capsys.readouterr().err
    assert said.startswith("note: Eyeglasses cannot be put back into a photo") and "--plain" in said
    assert main([*edit, "--plain"]) == 0
    assert capsys.readouterr().err == ""


def test_what_edit_writes_is_a_recipe_for_the_next_edit(tmp_path, capsys):
    edited, again, other = (tmp_path / name for name in ("edited.png", "again.png", "other.jpg"))
    assert main(["edit", PHOTO, "--set", "Smiling=2", "--out", str(edited)]) == 0
    # With a photo the recipe's edit is that photo's; without one it is of the face that the recipe carries.
    assert main(["edit", PHOTO, "--recipe", str(edited), "--out", str(other)]) == 0
    assert main(["edit", "--recipe", str(edited), "--out", str(again)]) == 0
    assert Recipe.read(other).strengths == Recipe.read(edited).strengths == {"Smiling": 2.0}
    editor = Editor.from_pretrained()
    expected = editor.edit(editor.encode(PHOTO), {"Smiling": 2})[0].resize((256, 256), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(Image.open(again)).astype(int) - np.asarray(expected)).max() <= 2


def test_faces_of_a_photo_are_listed(capsys):
    assert main(["faces", PHOTO]) == 0
    first, face = capsys.readouterr().out.splitlines()
    assert first == "astronaut.jpg: 1 face" and face.startswith("  0: from (") and "eyes" in face


def test_any_number_of_samples_goes_into_a_folder(model, tmp_path):
    assert (
        main(["sample", "--model", model, "--count", "130", "--seed", "5", "--scale", "1", "--out-dir", str(tmp_path / "f")])
        == 0
    )
    files = sorted((tmp_path / "f").iterdir())
    assert len(files) == 130 and files[0].name == "000.png"
    row = run(model, tmp_path, "sample", "--count", "130", "--seed", "5")
    assert not differ(np.asarray(Image.open(files[129])).astype(int), row[129])


@pytest.mark.parametrize("out", [["--out-dir", "faces"], ["--out", "faces.mp4"]], ids=["folder", "film"])
def test_any_number_of_samples_takes_the_memory_of_a_few(model, tmp_path, monkeypatch, out):
    decode, held = Editor.decode, []

    def counted(self, z, *arguments, **options):
        held.append(len(z))
        return decode(self, z, *arguments, **options)

    monkeypatch.setattr(Editor, "decode", counted)
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "--model", model, "--count", "130", "--scale", "1", *out]) == 0
    assert sum(held) == 130 and max(held) <= CHUNK
    if out[0] == "--out":
        with av.open("faces.mp4") as film:
            assert sum(1 for _ in film.decode(video=0)) == 130


def test_a_gif_holds_all_its_pictures_so_there_is_a_most(model, tmp_path, capsys):
    assert main(["sample", "--model", model, "--count", "100000", "--out", str(tmp_path / "x.gif")]) == 1
    assert "100,000 pictures are too many for a .gif, which has 1,000 at most; give a .mp4" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["sample", "--count", "0"], ["sample", "--count", "-3"], ["sample", "--scale", "x"],
                                       ["traverse", PHOTO, "--latent", "3", "--steps", "0"],
                                       ["interpolate", PHOTO, PHOTO, "--steps", "0"],
                                       ["spectrum", PHOTO, "--attribute", "yaw", "--steps", "0"]])
def test_there_is_no_picture_of_nothing(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--out", str(tmp_path / "out.png")])
    said = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and f"argument {arguments[-2]}: {arguments[-1]!r} is no whole number of at least 1" in said


def test_ctrl_c_is_one_sentence(model, tmp_path, monkeypatch, capsys):
    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Editor, "decode", stopped)
    assert main(["sample", "--model", model, "--out", str(tmp_path / "out.png")]) == 130
    assert capsys.readouterr().err == "Stopped; files that were finished are kept.\n"
