"""Everything stateful of a run in one object, and the slim model folder that a run leaves."""

import os
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn


class CheckpointError(ValueError):
    """A checkpoint that this run cannot go on from. The message is one sentence."""


class Checkpoint:
    """The parts of a run that change: anything with ``state_dict`` and ``load_state_dict``, and the step reached.

    Noise, mirroring and data order need no state: they are functions of the seed and the step.
    """

    def __init__(self, path: str | Path, config: str, **parts):
        self.path, self.config, self.parts, self.step = Path(path), config, parts, 0

    def save(self) -> None:
        """Write aside, then rename: a run killed here leaves the previous checkpoint whole."""
        part = self.path.with_suffix(".part")
        torch.save({"config": self.config, "step": self.step,
                    **{name: value.state_dict() for name, value in self.parts.items()}}, part)
        os.replace(part, self.path)

    def load(self) -> bool:
        """Go on from ``path`` if it exists.

        Raises
        ------
        CheckpointError
            It was made with another configuration, or cannot be read.
        """
        if not self.path.exists():
            return False
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, LookupError, UnpicklingError) as error:
            raise CheckpointError(f"The checkpoint {str(self.path)!r} cannot be read; remove it to start again.") from error
        if state["config"] != self.config:
            raise CheckpointError(f"The checkpoint {str(self.path)!r} is of a run with other settings; "
                                  "give the same flags to go on, or another --out to start anew.")
        for name, value in self.parts.items():
            value.load_state_dict(state[name])
        self.step = state["step"]
        return True


class Averaged:
    """Exponential moving average of a model's weights, its half-life counted in images seen."""

    def __init__(self, model: nn.Module, halflife: float):
        self.model, self.halflife = model, halflife
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, images_seen: int, batch: int) -> None:
        # Young runs forget faster, so that the random start is not averaged in (Karras et al. 2022).
        halflife = min(self.halflife, images_seen * 0.1)
        decay = 0.5 ** (batch / halflife) if halflife else 0.0
        current = self.model.state_dict()
        averaged = [name for name, value in self.weights.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.weights[name] for name in averaged], [current[name] for name in averaged], 1 - decay)
        for name in self.weights.keys() - averaged:  # BatchNorm's count of batches
            self.weights[name].copy_(current[name])

    def state_dict(self) -> dict[str, Tensor]:
        return self.weights

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            self.weights[name].copy_(value)
