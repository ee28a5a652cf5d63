"""What stands in for a transformer's outputs on a cached step: those of the last computed one.

What they hold does not matter, because the pipeline's result of them is replaced by the estimate;
but for guidance that remembers what it was given (ACE-Step's momentum), which is given them again.
Their form does matter: a pipeline that switches guidance on or off within a run doubles its batch,
or halves it, and takes what it gets apart by that.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.utils import BaseOutput


def samples_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """Return how many samples a call is for, by its first batch: a tensor, or a list of them."""
    for argument in (*args, *kwargs.values()):
        if isinstance(argument, list) or (isinstance(argument, torch.Tensor) and argument.ndim > 0):
            return len(argument)
    return None


class StaleOutputs:
    """The outputs of the last computed step, call by call, for as many samples as is asked."""

    def __init__(self) -> None:
        self._outputs: list[Any] = []
        self._samples: list[int | None] = []

    @property
    def samples(self) -> tuple[int | None, ...]:
        """How many samples each call of the step was for."""
        return tuple(self._samples)

    def keep(self, call: int, samples: int | None, output: Any) -> None:
        """Keep what a call of a computed step gave; its first call drops those of an earlier."""
        if call == 0:
            self.clear()
        self._outputs.append(output)
        self._samples.append(samples)

    def answer(self, call: int, samples: int | None) -> Any:
        """Return an output for a call of a cached step; of the last one where there were fewer."""
        call = min(call, len(self._outputs) - 1)
        known = self._samples[call]
        output = self._outputs[call]
        if samples is None or known is None or samples == known:
            return output
        return _for_samples(output, known, samples)

    def clear(self) -> None:
        """Drop the tensors."""
        self._outputs.clear()
        self._samples.clear()


def _for_samples(value: Any, known: int, wanted: int) -> Any:
    """Return an output as if for another number of samples: those there are, in turn."""
    turns = [index % known for index in range(wanted)]
    if isinstance(value, torch.Tensor):
        return value[turns] if value.ndim > 0 and len(value) == known else value
    if isinstance(value, BaseOutput):
        parts = {name: _for_samples(part, known, wanted) for name, part in value.items()}
        return type(value)(**parts)
    if isinstance(value, list) and len(value) == known:
        return [value[index] for index in turns]
    if isinstance(value, (tuple, list)):
        return type(value)(_for_samples(part, known, wanted) for part in value)
    return value
