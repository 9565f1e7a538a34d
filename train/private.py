"""Private names of PyTorch, which may change with any version. No other module uses one.

tests/test_private.py tests each of them, so that a version of PyTorch that changes one fails there.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norms of tensors, (len(tensors),), by one kernel."""
    return torch.stack(torch._foreach_norm(list(tensors)))


def scale_(tensors: Sequence[Tensor], factors: Tensor) -> None:
    """Multiply each tensor by its factor, (len(tensors),), in place and by one kernel."""
    torch._foreach_mul_(list(tensors), list(factors))


def move_(averages: Sequence[Tensor], values: Sequence[Tensor], share: float) -> None:
    """Move each average by a share of the way to its value, in place and by one kernel."""
    torch._foreach_lerp_(list(averages), list(values), share)


def guarded_step(optimizer: Optimizer, bad: Tensor, divisor: Tensor | None = None) -> None:
    """A step of a fused optimizer with gradients divided by ``divisor``; no step if ``bad``, a bool (), is true.

    The fused kernels check this on the device, as for ``torch.amp.GradScaler``, so the host does not wait for it.
    """
    optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
    if divisor is not None:
        optimizer.grad_scale = divisor  # type: ignore[attr-defined]
    optimizer.step()
