"""Animations: frames in, the bytes of a GIF or MP4 out. Frames are added one by one, so callers can report progress."""

import io
from collections.abc import Iterator, Sequence

import av
from PIL import Image
from torch import Tensor

from betavae.editor import Editor
from betavae.recipe import Recipe

BATCH = 8
QUALITY = "18"  # x264's constant rate factor; at 18 the loss is hardly visible


class Gif:
    """An endless GIF. Every frame has its own 256 colours; a frame lasts a whole number of hundredths of a second.

    The recipe is the file's comment (GIF89a, 24), which ``Recipe.in_picture`` reads.
    """

    def __init__(self, fps: int, recipe: Recipe | None = None):
        self.comment = {"comment": recipe.comment().encode("ascii")} if recipe else {}
        self.duration = 10 * max(2, round(100 / fps))  # milliseconds; browsers slow down frames shorter than 20
        self.frames: list[Image.Image] = []

    def add(self, frame: Image.Image) -> None:
        """Append an RGB frame, of the size of the others."""
        # For smooth pictures, colours chosen on a small copy are as good, and twenty times as fast.
        palette = frame.resize((64, 64)).quantize(256, Image.Quantize.MEDIANCUT)
        self.frames.append(frame.quantize(palette=palette, dither=Image.Dither.NONE))

    def finish(self) -> bytes:
        """The whole file."""
        file = io.BytesIO()
        self.frames[0].save(file, "GIF", save_all=True, append_images=self.frames[1:], duration=self.duration, loop=0,
                            **self.comment)
        return file.getvalue()


class Mp4:
    """H.264 in MP4, which every browser and phone plays; the frames' width and height must be even.

    The recipe is the file's comment, which players and ``ffprobe`` show.
    """

    def __init__(self, fps: int, recipe: Recipe | None = None):
        self.file = io.BytesIO()
        self.container = av.open(self.file, "w", format="mp4")
        if recipe:
            self.container.metadata["comment"] = recipe.comment()
        self.stream = self.container.add_stream("libx264", rate=fps, options={"crf": QUALITY})
        self.stream.pix_fmt = "yuv420p"

    def add(self, frame: Image.Image) -> None:
        """Append an RGB frame, of the size of the others."""
        if not self.stream.codec_context.is_open:
            self.stream.width, self.stream.height = frame.size
        self.container.mux(self.stream.encode(av.VideoFrame.from_image(frame)))

    def finish(self) -> bytes:
        """The whole file."""
        self.container.mux(self.stream.encode())
        self.container.close()
        return self.file.getvalue()


FORMATS: dict[str, type[Gif | Mp4]] = {"gif": Gif, "mp4": Mp4}
MIME = {"gif": "image/gif", "mp4": "video/mp4"}
LOOP_FPS = 20
REST = 8  # frames of the rest at both ends


def loop(way: Sequence[Image.Image], kind: str, recipe: Recipe | None = None) -> bytes:
    """The bytes of a loop in one of FORMATS: RGB frames of one size, forwards and backwards, with a rest at both ends."""
    writer = FORMATS[kind](LOOP_FPS, recipe)
    for frame in [*[way[0]] * REST, *way[1:-1], *[way[-1]] * REST, *way[-2:0:-1]]:
        writer.add(frame)
    return writer.finish()


def frames(editor: Editor, z: Tensor, size: int) -> Iterator[Image.Image]:
    """Latents (n, d) as pictures ``size`` pixels square, decoded a few at a time."""
    for part in z.split(BATCH):
        for image in editor.decode(part):
            yield image.resize((size, size), Image.Resampling.BICUBIC)
