"""Full runs in which something is observed that policies decide by, and how far it changes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from otcache_policies import Decision

from otcache_plugin.errors import ArgumentError
from otcache_plugin.pipelines.method_hook import MethodHook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from otcache_policies import RunConditions


class Changes:
    """Relative changes of something from step to step, for each pair of a batch.

    Args:
        pairs: of the batch; what is observed may have several parts of each, as with guidance.
    """

    def __init__(self, pairs: int) -> None:
        self._pairs = pairs
        self._before: torch.Tensor | None = None
        self._values: list[NDArray[np.float64]] = []

    def see(self, value: torch.Tensor) -> None:
        """Take note of what there is at the next step.

        Raises:
            ArgumentError: its parts are not those of the pairs.
        """
        if value.shape[0] % self._pairs and self._pairs > 1:
            problem = f"what is observed comes in {value.shape[0]} parts"
            raise ArgumentError("batch_size", self._pairs, problem, "Use batch_size=1")
        if self._before is not None:
            change = self._norms(value - self._before) / self._norms(self._before)
            self._values.append(change.double().cpu().numpy())
        self._before = value

    def _norms(self, value: torch.Tensor) -> torch.Tensor:
        """Return the L1 norm of each pair's parts: guidance puts all pairs' parts in a row."""
        if self._pairs == 1:
            return value.float().abs().sum().unsqueeze(0)
        return value.float().abs().reshape(-1, self._pairs, value[0].numel()).sum((0, 2))

    @property
    def number(self) -> int:
        """How many changes there are."""
        return len(self._values)

    def array(self, steps: int) -> NDArray[np.float64]:
        """Return `(pairs, steps)` of the first changes."""
        return np.stack(self._values[:steps], axis=1)


class ChangeRecorder:
    """A policy that computes every step, and records how far what it observes has changed.

    Args:
        observes: what it is shown.
        pairs: of a run's batch.
    """

    name: ClassVar[str] = "change_recorder"
    look_back: ClassVar[int] = 1

    def __init__(self, observes: str, pairs: int) -> None:
        self.observes = observes
        self.changes = Changes(pairs)

    def begin(self, run: RunConditions, observation: torch.Tensor) -> ChangeRecorder:
        """Begin with what there is before the first step."""
        self.changes.see(observation)
        return self

    def decide(self, step: int, observation: torch.Tensor) -> Decision:
        """Record the step, and have it computed."""
        self.changes.see(observation)
        return Decision.COMPUTE


@contextmanager
def watched_outputs(scheduler: Any, pairs: int) -> Iterator[Changes]:
    """Record the changes of what a scheduler's steps are given, inside the block."""
    changes = Changes(pairs)

    def step(
        original: Callable[..., Any], model_output: torch.Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        changes.see(model_output)
        return original(model_output, *args, **kwargs)

    hook = MethodHook(scheduler, "step", step)
    try:
        yield changes
    finally:
        hook.remove()
