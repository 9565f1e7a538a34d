"""The whole state of a run in one object, kept on disk twice; and the averaged weights."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn
from tqdm import tqdm

from train import private
from train.ranks import Ranks


class CheckpointError(ValueError):
    """The run cannot resume from this checkpoint. The message is one sentence."""


class Checkpoint:
    """The stateful parts of a run (with ``state_dict`` and ``load_state_dict``), and its step.

    Noise, mirroring and data order need no state: they are functions of the seed and the step. ``save`` keeps the last
    two: ``folder/checkpoint.pt``, and the one before it as ``folder/checkpoint.previous.pt``.

    ``config`` is the run's settings as text, and ``parse`` reads it. A checkpoint that lacks a newer setting belongs to the
    same run if its settings, with the default of the newer one, are equal.
    """

    def __init__(self, folder: str | Path, config: str, parse: Callable[[str], object] = str, **parts):
        self.newest, self.previous = (Path(folder) / name for name in ("checkpoint.pt", "checkpoint.previous.pt"))
        self.config, self.parse, self.parts, self.step = config, parse, parts, 0
        self._chosen = False

    def save(self) -> None:
        """Write aside, flush to the disk, then rename: whenever the run or machine stops, a whole checkpoint is left.

        Raises
        ------
        OSError
            The disk is full or gone; what was saved before is untouched.
        """
        file = io.BytesIO()
        torch.save({"config": self.config, "step": self.step,
                    **{name: value.state_dict() for name, value in self.parts.items()}}, file)
        write_durably(self.newest, file.getbuffer(), keep=self.previous)
        self._chosen = False

    def load(self, ranks: Ranks) -> bool:
        """Resume from the newest checkpoint, or from the one before it if the newest is damaged.

        Returns False, and changes nothing, if there is none. Only rank 0 reads: the others need not see its disk.

        Raises
        ------
        CheckpointError
            It was made with other settings, or none can be read.
        """
        state = ranks.from_first(self._read() if ranks.first else None)
        if state is None:
            return False
        for name, value in self.parts.items():
            value.load_state_dict(state[name])
        self.step = state["step"]
        return True

    def _read(self) -> dict | None:
        found = [path for path in (self.newest, self.previous) if path.exists()]
        for path in found:
            try:
                state = _verified(path)
                break
            except (OSError, RuntimeError, EOFError, ValueError, LookupError, UnpicklingError, zipfile.BadZipFile):
                tqdm.write(f"The checkpoint {str(path)!r} is damaged.")
        else:
            if found:
                raise CheckpointError(f"The checkpoint {str(self.newest)!r} cannot be read; remove it to start again.")
            return None
        if not self._same_settings(state.get("config")) or not state.keys() >= self.parts.keys():
            raise CheckpointError(f"The checkpoint {str(path)!r} is of a run with other settings; "
                                  "give the same flags to go on, or another --out to start anew.")
        if path != self.newest:
            tqdm.write(f"Going on from the one before it, {str(path)!r}.")
            os.replace(path, self.newest)
        return state

    def _same_settings(self, config: str | None) -> bool:
        try:
            return config is not None and self.parse(config) == self.parse(self.config)
        except (ValueError, TypeError):
            return False

    def rewind(self) -> None:
        """Choose the checkpoint for ``load``: the newest, or the one before if nothing was saved since the last rewind."""
        if self._chosen and self.previous.exists():
            os.replace(self.previous, self.newest)
        self._chosen = True


def _verified(path: Path) -> dict:
    # torch.save writes a checksum of every record, and torch.load does not check it.
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            raise zipfile.BadZipFile(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def write_durably(path: Path, content: bytes | memoryview, keep: Path | None = None) -> None:
    """Replace a file's content atomically, even if the machine stops; the old content goes to ``keep``.

    Raises
    ------
    OSError
        Nothing can be written there; the old file is untouched, and nothing half written is left.
    """
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        # Renames are durable only when the folder is flushed too.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Averaged:
    """Exponential moving average of a model's weights, its half-life counted in images seen."""

    def __init__(self, model: nn.Module, halflife: float):
        self.halflife = halflife
        self.current = {name: value.detach() for name, value in model.state_dict().items()}
        self.weights = {name: value.clone() for name, value in self.current.items()}

    @torch.no_grad()
    def update(self, images_seen: int, batch: int) -> None:
        """Move the average towards the weights after a batch."""
        # Young runs forget faster, so that the random start is not averaged in (Karras et al. 2022).
        halflife = min(self.halflife, images_seen * 0.1)
        decay = 0.5 ** (batch / halflife) if halflife else 0.0
        means: list[tuple[Tensor, Tensor]] = []
        counts: list[tuple[Tensor, Tensor]] = []  # a BatchNorm counts its batches in whole numbers: there is nothing to average
        for name, value in self.weights.items():
            (means if value.is_floating_point() else counts).append((value, self.current[name]))
        private.move_([average for average, _ in means], [value for _, value in means], 1 - decay)
        for value, current in counts:
            value.copy_(current)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights."""
        return self.weights

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore averaged weights."""
        for name, value in state.items():
            self.weights[name].copy_(value)
