"""Masks and head pose: the geometry on faces whose pose is known, the lists, and MediaPipe itself where it is."""

import csv
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from train.annotate import (
    CHIN,
    FOREHEAD,
    GEOMETRY,
    LANDMARKS,
    LEFT_EYE,
    LIPS,
    MOUTH,
    NOSE,
    RIGHT_EYE,
    Lists,
    main,
    measure,
    pose,
)

EYE = np.array([(-10, 0), (-4, -3), (4, -3), (10, 0), (4, 3), (-4, 3)])  # 6 high, 20 wide: aspect ratio 0.3


def face(yaw=0.0, pitch=0.0, roll=0.0):
    """A mesh with the points that are measured, turned about its middle by degrees and moved into a picture."""
    mesh = np.zeros((468, 3))
    for eye, x in ((LEFT_EYE, -30), (RIGHT_EYE, 30)):
        mesh[list(eye), :2] = EYE + np.array([x, -20])
    mesh[[FOREHEAD, CHIN, NOSE]] = (0, -70, 0), (0, 80, 0), (0, 10, -25)
    mesh[list(LIPS), :2] = (0, 38), (0, 46)
    mesh[list(MOUTH), :2] = (-20, 42), (20, 42)
    a, b, c = np.radians((yaw, pitch, roll))
    about_y = np.array([(np.cos(a), 0, np.sin(a)), (0, 1, 0), (-np.sin(a), 0, np.cos(a))])
    about_x = np.array([(1, 0, 0), (0, np.cos(b), -np.sin(b)), (0, np.sin(b), np.cos(b))])
    about_z = np.array([(np.cos(c), -np.sin(c), 0), (np.sin(c), np.cos(c), 0), (0, 0, 1)])
    return mesh @ (about_z @ about_y @ about_x).T + (89, 109, 0)


@pytest.mark.parametrize("turn", [(0, 0, 0), (25, 0, 0), (-40, 0, 0), (0, 15, 0), (0, -20, 0), (0, 0, 12), (30, -10, 0)])
def test_the_pose_of_a_turned_face_is_the_turn(turn):
    np.testing.assert_allclose(pose(face(*turn)), turn, atol=1e-9)


def test_a_face_that_turns_to_the_left_edge_has_its_nose_there_and_one_that_looks_down_below():
    straight = measure(face())
    assert measure(face(yaw=20))["nose_x"] < straight["nose_x"]
    assert measure(face(pitch=20))["nose_y"] > straight["nose_y"]
    assert measure(face(roll=20))["righteye_y"] > straight["righteye_y"]


@pytest.mark.parametrize("turn", [(0, 0, 0), (35, 10, -8)])
def test_mouth_and_eyes_are_measured_in_space(turn):
    values = measure(face(*turn))
    assert tuple(values) == GEOMETRY + LANDMARKS
    assert values["mouth_open"] == pytest.approx(8 / 40)
    assert values["mouth_width"] == pytest.approx(40 / 60)
    assert values["eye_open"] == pytest.approx(6 / 20)


def test_the_five_points_are_celebas():
    values = measure(face())
    expected = (89 - 30, 89, 89 + 30, 89, 89, 119, 89 - 20, 151, 89 + 20, 151)
    assert [values[name] for name in LANDMARKS] == pytest.approx(expected)


def rows(path):
    return {row["image_id"]: row for row in csv.DictReader(path.open())}


def test_lists_grow_over_interrupted_runs(tmp_path):
    lists = Lists(tmp_path)
    lists.add("000002.jpg", measure(face(yaw=10)))
    lists.add("000003.jpg", None)
    with open(tmp_path / "list_face_geometry.part", "a") as journal:
        journal.write("000004.jpg,1.0,2.")  # killed while writing; close() was never called
    again = Lists(tmp_path)
    assert again.done == {"000002.jpg", "000003.jpg"}
    again.add("000001.jpg", measure(face(yaw=-5)))
    again.close()
    geometry = rows(tmp_path / "list_face_geometry.csv")
    assert list(geometry) == ["000001.jpg", "000002.jpg"]
    assert [float(row["yaw_deg"]) for row in geometry.values()] == [-5, 10]
    lines = (tmp_path / "list_landmarks_align_celeba.txt").read_text().splitlines()
    assert lines[0] == "2" and lines[1].split() == list(LANDMARKS) and len(lines) == 4
    assert not (tmp_path / "list_face_geometry.part").exists()
    more = Lists(tmp_path)
    more.add("000005.jpg", measure(face()))
    more.close()
    assert list(rows(tmp_path / "list_face_geometry.csv")) == ["000001.jpg", "000002.jpg", "000005.jpg"]


def test_celebas_own_landmarks_are_left_alone(tmp_path):
    own = f"1\n{' '.join(LANDMARKS)}\n000001.jpg {' '.join(map(str, range(10)))}\n"
    (tmp_path / "list_landmarks_align_celeba.txt").write_text(own)
    lists = Lists(tmp_path)
    lists.add("000001.jpg", measure(face()))
    lists.close()
    assert (tmp_path / "list_landmarks_align_celeba.txt").read_text() == own


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--data", "nowhere"], "'nowhere' has no folder img_align_celeba"),
    (["--data", ".", "--workers", "0"], "--workers is 0"),
])
def test_mistakes_are_one_sentence(arguments, sentence, capsys):
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1 and sentence in message


@pytest.mark.skipif(find_spec("mediapipe") is not None, reason="MediaPipe is installed here")
def test_without_mediapipe_the_sentence_says_how_to_get_it(tmp_path, capsys):
    (tmp_path / "img_align_celeba").mkdir()
    assert main(["--data", str(tmp_path)]) == 1
    assert "pip install -r requirements-annotate.txt" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["img_align_celeba"]


def test_real_faces_are_annotated_as_they_were(celeba, tmp_path):
    # MediaPipe lives in an environment of its own.
    python = os.environ.get("ANNOTATE_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import mediapipe.python.solutions"], capture_output=True, check=False).returncode:
        pytest.skip("needs MediaPipe: ANNOTATE_PYTHON must name the Python of an environment with requirements-annotate.txt")
    (tmp_path / "img_align_celeba").mkdir()
    known = rows(celeba / "list_face_geometry.csv")
    names = list(known)[:20]
    for name in names:
        shutil.copyfile(celeba / "img_align_celeba" / name, tmp_path / "img_align_celeba" / name)
    (tmp_path / "img_align_celeba" / "damaged.jpg").write_bytes(b"not a jpeg")
    command = [python, "-m", "train.annotate", "--data", str(tmp_path)]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "21 images: 20 masks made, 20 faces measured, 0 without a face that was found, 1 damaged" in first.stdout
    measured = rows(tmp_path / "list_face_geometry.csv")
    yaw = np.array([[float(table[name]["yaw_deg"]) for name in names] for table in (measured, known)])
    assert np.corrcoef(yaw)[0, 1] > 0.99
    for name in names:
        file = name.replace(".jpg", ".png")
        mine, theirs = (np.asarray(Image.open(folder / "masks" / file)) for folder in (tmp_path, celeba))
        assert (mine & theirs).sum() > 0.98 * (mine | theirs).sum()
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "0 masks made, 0 faces measured" in second.stdout
