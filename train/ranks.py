"""The processes of one run: ``torchrun --nproc-per-node 8 train/run.py ...``, or ``accelerate launch``, or one alone."""

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
from torch import Tensor, distributed


class Ranks:
    """One process among ``size`` processes, and their collective operations. With size 1 they do nothing.

    ``rank`` 0 writes files and progress; ``local`` counts the processes of this machine.
    """

    def __init__(self, rank: int = 0, size: int = 1, local: int = 0):
        self.rank, self.size, self.local = rank, size, local

    @classmethod
    def join(cls) -> "Ranks":
        """The processes that torchrun (or accelerate) started, from its environment variables; else this one alone."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        # NCCL for tensors on GPUs; Gloo for small decisions on CPUs, which need not wait for a GPU.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        # Rank 0 may decode the data set while the others wait.
        distributed.init_process_group(backend, timeout=timedelta(hours=6))
        return cls(distributed.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))

    def device(self, device: torch.device) -> torch.device:
        """Choose this process's device among those of the machine, and make it the current one."""
        if self.size > 1 and device.type == "cuda":
            device = torch.device("cuda", self.local)
            torch.cuda.set_device(device)
        return device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """The part of this process of ``count`` things, which must be a multiple of ``size``."""
        part = count // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    @torch.no_grad()
    def mean_(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors of one type and device by their means over all processes, in one message."""
        if self.size > 1:
            tensors = list(tensors)
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            distributed.all_reduce(flat)
            for tensor, mean in zip(tensors, (flat / self.size).split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(mean.view_as(tensor))

    def mean(self, value: Tensor) -> Tensor:
        """The mean of ``value`` over all processes, without a gradient."""
        value = value.detach().clone()
        self.mean_([value])
        return value

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true in any process."""
        if self.size == 1:
            return flag
        flags = torch.tensor(float(flag))
        distributed.all_reduce(flags)
        return bool(flags)

    def from_first(self, value):
        """Rank 0's ``value``, in every process."""
        if self.size > 1:
            box = [value]
            distributed.broadcast_object_list(box)
            return box[0]
        return value

    def wait(self) -> None:
        """Return when every process is here."""
        self.any(False)

    def leave(self) -> None:
        """End the group of processes."""
        if self.size > 1:
            distributed.destroy_process_group()


ALONE = Ranks()
