"""The faces of a data set by number, for ``app.py --data DIR``."""

from pathlib import Path

IMAGES = "img_align_celeba"  # CelebA's own folder, which has its pictures aligned
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class GalleryError(ValueError):
    """The folder has no picture, or none of this number. The message is one sentence."""


class Gallery:
    """Numbered pictures: a CelebA folder, official or Kaggle's, or any folder of pictures.

    If all names are numbers, as CelebA's are, they are the pictures' numbers; else the pictures are counted from 1 in the order
    of their names. ``crop`` is their framing: "aligned" for CelebA's.

    Raises
    ------
    GalleryError
        There is no picture in the folder.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        # Kaggle's archive has a folder in a folder of the same name.
        images = next((path for path in (folder / IMAGES / IMAGES, folder / IMAGES) if path.is_dir()), folder)
        paths = sorted(path for path in images.glob("*") if path.suffix.lower() in SUFFIXES) if images.is_dir() else []
        if not paths:
            raise GalleryError(f"There is no picture in {str(folder)!r}; --data is CelebA's folder, or one of pictures.")
        named = all(path.stem.isdecimal() for path in paths)
        self._paths = {int(path.stem): path for path in paths} if named else dict(enumerate(paths, 1))
        self.crop = "aligned" if images.name == IMAGES else "auto"

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def numbers(self) -> tuple[int, int]:
        """The lowest and the highest number."""
        return min(self._paths), max(self._paths)

    def path(self, number: float) -> Path:
        """The picture with that number.

        Raises
        ------
        GalleryError
            There is no such picture.
        """
        if number not in self._paths:
            shown = f"{number:g}" if isinstance(number, (int, float)) else repr(number)
            low, high = self.numbers
            raise GalleryError(f"There is no face number {shown} here; there are {len(self):,}, from {low} to {high}.")
        return self._paths[int(number)]
