"""Animations, read back by Pillow and FFmpeg."""

import io

import av
import numpy as np
import pytest
import torch
from PIL import Image

from betavae import Directions, Editor, Recipe
from betavae.animation import FORMATS, frames
from betavae.latent import along

FPS = 25


@pytest.fixture
def pictures():
    """Twelve smooth pictures, each a little brighter than the last."""
    ramp = Image.linear_gradient("L").resize((64, 64))
    return [Image.merge("RGB", [ramp.point(lambda v, i=i, c=c: v // 2 + 8 * i + 10 * c) for c in range(3)]) for i in range(12)]


def made(kind, pictures, recipe=None) -> bytes:
    writer = FORMATS[kind](FPS, recipe)
    for picture in pictures:
        writer.add(picture)
    return writer.finish()


def test_a_gif_shows_every_frame_forever(pictures):
    image = Image.open(io.BytesIO(made("gif", pictures)))
    assert image.n_frames == 12 and image.info["loop"] == 0 and image.info["duration"] == 40
    for i, picture in enumerate(pictures):
        image.seek(i)
        assert np.abs(np.asarray(image.convert("RGB"), dtype=int) - np.asarray(picture)).mean() < 2


def test_an_mp4_is_what_browsers_play(pictures):
    with av.open(io.BytesIO(made("mp4", pictures))) as video:
        (stream,) = video.streams
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == FPS and (stream.width, stream.height) == (64, 64)
        shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in video.decode(stream)]
    assert len(shown) == 12
    # Colours are stored at half the resolution, and compressed.
    assert max(np.abs(a - np.asarray(b)).mean() for a, b in zip(shown, pictures, strict=True)) < 4


def test_both_carry_a_recipe(pictures):
    recipe = Recipe("0123456789ab", {"Smiling": 1.5, "é": -1}, ("Male",), latent=[0.1] * 128)
    gif = made("gif", pictures, recipe)
    assert Recipe.in_picture(io.BytesIO(gif)) == recipe
    assert gif.count(b"betavae.recipe") == 1 and Recipe.in_picture(io.BytesIO(made("gif", pictures))) is None
    with av.open(io.BytesIO(made("mp4", pictures, recipe))) as video:
        assert video.metadata["comment"] == recipe.comment()


def test_frames_are_the_decoded_path_enlarged(tiny):
    editor = Editor(tiny, Directions([], 8), device="cpu")
    path = along(editor.sample(2, seed=0), torch.linspace(0, 1, 11))
    assert [frame.size for frame in frames(editor, path, 96)] == [(96, 96)] * 11
    for frame, picture in zip(frames(editor, path, 64), editor.decode(path), strict=True):
        # One level of rounding: a batch of another size is summed in another order.
        assert np.abs(np.asarray(frame, dtype=int) - np.asarray(picture)).max() <= 1
