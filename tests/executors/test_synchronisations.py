"""A step under a policy never waits for the device where an untouched one does not.

Asking a tensor for a number is what waits: on an accelerator it ends the queue of what was asked
of it before. Here the operations that do so are counted, on the CPU, where they are the same.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from tiny_pipelines.common import Case
from tiny_pipelines.flux import FLUX, FLUX_GUIDED
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero", "unique", "masked_select"}


class CountWaits(TorchDispatchMode):
    """Counts the operations that wait for the device, by step."""

    def __init__(self) -> None:
        super().__init__()
        self.step = 0
        self.waits: Counter[int] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket.__name__ in WAITING:
            self.waits[self.step] += 1
        return func(*args, **(kwargs or {}))

    def end_of_step(self, pipe: Any, step: int, timestep: Any, state: dict[str, Any]) -> Any:
        self.step = step + 1
        return state


def waits(case: Case, pipe: Any) -> Counter[int]:
    """Return how often each step of a run waits."""
    with CountWaits() as counting:
        case.run(pipe, callback_on_step_end=counting.end_of_step)
    return counting.waits


@pytest.mark.parametrize("case", [FLUX, FLUX_GUIDED], ids=str)
@pytest.mark.parametrize("budget", [3, 10])
def test_no_step_waits_more_often(enable: Any, case: Case, budget: int) -> None:
    pipe = case.make()
    untouched = waits(case, pipe)
    enable(pipe, policy="uniform", budget=budget)
    found = waits(case, pipe)
    # The sigmas are read where a run begins, before anything is computed.
    later = {step: count for step, count in found.items() if step > 0}
    assert later == {step: count for step, count in untouched.items() if step in later}


def test_what_waits_is_counted(enable: Any) -> None:
    with CountWaits() as counting:
        torch.ones(2).sum().item()
        torch.ones(2).nonzero()
    assert counting.waits == {0: 2}
