"""A step under a policy never waits for the device where an untouched one does not.

Asking a tensor for a number is what waits: on an accelerator it ends the queue of what was asked
of it before. Here what does so is counted, on the CPU: functions that bring values to main memory
by their names, and operations of which PyTorch itself needs a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_documents import write_document
from tiny_pipelines.common import Case
from tiny_pipelines.flux import FLUX, FLUX_GUIDED
from tiny_pipelines.qwen import QWEN
from tiny_pipelines.wan import WAN
from tiny_pipelines.z_image import Z_IMAGE
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

OPERATIONS = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero", "unique", "masked_select"}
FUNCTIONS = {"cpu", "numpy", "tolist"}
"""On the CPU they are no operations."""


class Waits:
    """How often each step of a run waits for the device."""

    def __init__(self) -> None:
        self.by_step: Counter[int] = Counter()
        self._step = 0

    def note(self) -> None:
        self.by_step[self._step] += 1

    def end_of_step(self, pipe: Any, step: int, timestep: Any, state: dict[str, Any]) -> Any:
        self._step = step + 1
        return state


class CountOperations(TorchDispatchMode):
    """Counts the operations that wait for the device."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket.__name__ in OPERATIONS:
            self._waits.note()
        return func(*args, **(kwargs or {}))


class CountFunctions(TorchFunctionMode):
    """Counts the functions that bring a tensor to main memory."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = [*args[1:], *(kwargs or {}).values()]
        moved = func is torch.Tensor.to and any(
            torch.device(each).type == "cpu"
            for each in given
            if isinstance(each, (str, torch.device))
        )
        if moved or getattr(func, "__name__", "") in FUNCTIONS:
            self._waits.note()
        return func(*args, **(kwargs or {}))


def waits_of(run: Callable[[Any], object]) -> Counter[int]:
    """Return how often each step waits of a run that is given a callback."""
    waits = Waits()
    with ExitStack() as counting:
        counting.enter_context(CountOperations(waits))
        counting.enter_context(CountFunctions(waits))
        run(waits.end_of_step)
    return waits.by_step


def require_no_more_waits(case: Case, pipe: Any, policy: Callable[[], None]) -> None:
    """Compare a run under a policy with an untouched one."""

    def run(callback: Any) -> None:
        case.run(pipe, callback_on_step_end=callback)

    untouched = waits_of(run)
    policy()
    # The sigmas are read where a run begins, before anything is computed.
    assert set(waits_of(run) - untouched) <= {0}


@pytest.mark.parametrize("case", [FLUX, FLUX_GUIDED, QWEN, WAN, Z_IMAGE], ids=str)
@pytest.mark.parametrize("budget", [3, 10])
def test_no_step_waits_more_often(enable: Any, case: Case, budget: int) -> None:
    pipe = case.make()
    require_no_more_waits(case, pipe, lambda: enable(pipe, policy="uniform", budget=budget))


def test_no_step_waits_for_a_documents_sake(enable: Any, tmp_path: Path) -> None:
    write_document(tmp_path / "policy")
    pipe = FLUX.make()
    require_no_more_waits(FLUX, pipe, lambda: enable(pipe, policy=tmp_path / "policy", budget=10))


@pytest.mark.parametrize(
    "wait",
    [
        torch.Tensor.item,
        torch.Tensor.nonzero,
        torch.Tensor.cpu,
        torch.Tensor.tolist,
        torch.Tensor.numpy,
        float,
        bool,
        lambda tensor: tensor.to("cpu"),
        lambda tensor: tensor.to(device=torch.device("cpu")),
        lambda tensor: torch.equal(tensor, tensor),
    ],
)
def test_what_waits_is_counted(wait: Callable[[torch.Tensor], object]) -> None:
    tensor = torch.ones(1)
    assert waits_of(lambda _: wait(tensor))[0] > 0


def test_what_does_not_wait_is_not_counted() -> None:
    assert not waits_of(lambda _: (torch.ones(2) * 2).to(torch.float64).sum())
