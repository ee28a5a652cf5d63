"""The outputs of a transformer during one run, kept in files so that a later run can begin alike.

What is kept is what the transformer gave, call by call, not the velocity that the pipeline made of
it: guidance and whatever else a pipeline does is then done again, on the same numbers, also where
it remembers earlier steps. So a replayed step hands the very same velocity to `scheduler.step`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers.utils import BaseOutput
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class _Kept:
    """Stands for a tensor of an output, which lies in the file of its call.

    Attributes:
        name: in the file.
        device: that it was on.
    """

    name: str
    device: torch.device


class OutputLog:
    """Outputs of one run at its computed steps, a file per call; on the accelerator nothing.

    Args:
        folder: where to; made when the first output is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._outputs: dict[int, list[Any]] = {}

    def clear(self) -> None:
        """Begin anew, for another run."""
        self._outputs.clear()

    def calls(self, step: int) -> int:
        """Return how many transformer calls were written of a step."""
        return len(self._outputs.get(step, ()))

    def write(self, step: int, output: Any) -> None:
        """Keep what the next call of a step gave: a tensor, or tensors in sequences and outputs."""
        calls = self._outputs.setdefault(step, [])
        tensors: dict[str, torch.Tensor] = {}

        def kept(tensor: torch.Tensor) -> _Kept:
            name = str(len(tensors))
            tensors[name] = tensor.detach().cpu().contiguous()
            return _Kept(name, tensor.device)

        skeleton = _mapped(output, torch.Tensor, kept)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(step, len(calls))
        # Older safetensors write into the file, which a reader may have mapped into memory.
        path.unlink(missing_ok=True)
        save_file(tensors, path)
        calls.append(skeleton)

    def read(self, step: int, call: int) -> Any:
        """Return what a call of a step gave, as it was given."""
        tensors = load_file(self._path(step, call))

        def read(kept: _Kept) -> torch.Tensor:
            return tensors[kept.name].to(kept.device)

        return _mapped(self._outputs[step][call], _Kept, read)

    def _path(self, step: int, call: int) -> Path:
        return self.folder / f"step-{step:04}-call-{call}.safetensors"


@dataclass(frozen=True)
class Replay:
    """Steps that are not computed, because an earlier run that began alike has computed them.

    Attributes:
        log: of that run, on the same pipeline with the same arguments.
        steps: computed steps up to which both runs are the same.
    """

    log: OutputLog
    steps: frozenset[int]

    def has(self, step: int, call: int) -> bool:
        """Return whether a transformer call is answered from the log."""
        return step in self.steps and call < self.log.calls(step)


def _mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Return an output with everything of a kind in it changed."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, BaseOutput):
        return type(value)(**{name: _mapped(part, kind, change) for name, part in value.items()})
    if isinstance(value, (tuple, list)):
        return type(value)(_mapped(part, kind, change) for part in value)
    return value
