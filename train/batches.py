"""Batches of training pictures on the device, as a function of the seed and the step."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from betavae.image import from_uint8

PREFETCH = 4  # batches read ahead of their step, if the pixels are not on the device


class Pictures:
    """Training images and their masks in memory, or mapped from disk.

    Parameters
    ----------
    pixels : Tensor
        uint8 (n, s, s, 3).
    masks : Tensor, optional
        uint8 (n, s, s).
    """

    def __init__(self, pixels: Tensor, masks: Tensor | None = None):
        self.tensors = (pixels,) if masks is None else (pixels, masks)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def order(self, random: np.random.Generator) -> np.ndarray:
        """The order of an epoch: (n,) positions, each once."""
        return random.permutation(len(self))

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, ...]:
        """uint8 (b, s, s, 3), and (b, s, s) with masks, of positions (b,) on the pictures' device."""
        return tuple(tensor[rows] for tensor in self.tensors)

    def to(self, device: torch.device) -> "Pictures | None":
        """The pictures on the device; None if they take more than half of a GPU's free memory, or are not in memory."""
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if sum(tensor.nbytes for tensor in self.tensors) > free / 2:
                return None
        return Pictures(*(tensor.to(device) for tensor in self.tensors))


class Batches:
    """Training batches as a pure function of (seed, step): any process can make the batch of any step, in any order.

    Every epoch shows all images once. Epochs are cut into batches without a gap, so the number of images seen is all that a
    resumed run needs. Bytes are mirrored and converted on the device. They lie there from the start if they fit; otherwise a
    thread reads the next batches ahead, and on CUDA copies them from pinned memory on a separate stream.

    Parameters
    ----------
    source : Tensor or Pictures
        Images, with or without masks; a tensor is uint8 (n, s, s, 3).
    share : slice
        The part of every batch that this process takes.
    """

    def __init__(self, source: Tensor | Pictures, batch: int, seed: int, flip: bool, device: torch.device,
                 share: slice = slice(None)):
        source = Pictures(source) if isinstance(source, Tensor) else source
        resident = source.to(device)
        self.source = resident or source
        self.batch, self.seed, self.flip, self.device, self.share = batch, seed, flip, device, share
        self._order = (-1, np.empty(0, int))
        self._thread = None if resident else ThreadPoolExecutor(1, "batches")
        self._pending: dict[int, Future] = {}
        self._stream = torch.cuda.Stream(device) if self._thread and device.type == "cuda" else None

    def order(self, epoch: int) -> np.ndarray:
        """The positions of an epoch's images, in the order in which they are shown."""
        if epoch != self._order[0]:
            self._order = epoch, self.source.order(np.random.default_rng((self.seed, epoch)))
        return self._order[1]

    def rows(self, step: int) -> Tensor:
        """The positions (b,) in the source of the images in a step's batch (this process's share)."""
        n = len(self.source)
        positions = np.arange(step * self.batch, (step + 1) * self.batch)
        index = np.concatenate([self.order(epoch)[positions[positions // n == epoch] % n]
                                for epoch in np.unique(positions // n)])
        return torch.from_numpy(index[self.share])

    def __call__(self, step: int) -> tuple[Tensor, Tensor | None]:
        """The batch of a step: x float32 (b, 3, s, s), and with masks (b, 1, s, s) or else None; both in [0, 1]."""
        if self._thread is None:
            parts = self.source[self._send(self.rows(step))]
        else:
            wanted = range(step, step + 1 + PREFETCH)
            self._pending = {ahead: self._pending.get(ahead) or self._thread.submit(self._read, ahead) for ahead in wanted}
            parts, copied = self._pending.pop(step).result()
            if copied:
                torch.cuda.current_stream(self.device).wait_event(copied)
                for part in parts:
                    part.record_stream(torch.cuda.current_stream(self.device))
        batch = [from_uint8(part if part.ndim == 4 else part[..., None]) for part in parts]
        if self.flip:
            drawn = np.random.default_rng((self.seed, 1, step)).random(self.batch)[self.share] < 0.5
            mirrored = self._send(torch.from_numpy(drawn))[:, None, None, None]
            batch = [torch.where(mirrored, x.flip(3), x) for x in batch]
        return batch[0], batch[1] if len(batch) > 1 else None

    def _read(self, step: int) -> tuple[tuple[Tensor, ...], "torch.cuda.Event | None"]:
        parts = self.source[self.rows(step)]
        if self._stream is None:
            return tuple(part.to(self.device) for part in parts), None
        with torch.cuda.stream(self._stream):
            return tuple(self._send(part) for part in parts), self._stream.record_event()

    def _send(self, tensor: Tensor) -> Tensor:
        # Only a copy from pinned memory is asynchronous; any other waits for all pending work of the GPU.
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor.to(self.device)
