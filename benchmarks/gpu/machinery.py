"""What the machinery costs on a device: time per step, memory of the log, synchronisations."""

from __future__ import annotations

import statistics
import time
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from otcache_plugin.pipelines.method_hook import MethodHook

from .contenders import policy
from .timing import call, synchronize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .bench import Bench

SYNCHRONIZING = "synchronizing CUDA operation"


class Mark:
    """A moment, by the device's clock where it has one, and by the host's."""

    def __init__(self, device: torch.device) -> None:
        self.host = time.perf_counter()
        self.event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self.event = torch.cuda.Event(enable_timing=True)
            self.event.record()

    def until(self, later: Mark) -> float:
        """Milliseconds to a later moment, once the device has passed both."""
        if self.event is None or later.event is None:
            return self.host_until(later)
        return float(self.event.elapsed_time(later.event))

    def host_until(self, later: Mark) -> float:
        """Milliseconds between the host's asking for both."""
        return (later.host - self.host) * 1000.0


@dataclass
class StepMarks:
    """Where the parts of each step begin and end, the transformer's by the steps that call it."""

    transformer_began: dict[int, Mark] = field(default_factory=dict)
    transformer_ended: dict[int, Mark] = field(default_factory=dict)
    step_began: list[Mark] = field(default_factory=list)
    step_ended: list[Mark] = field(default_factory=list)

    def transformer(self, step: int) -> float:
        """Milliseconds of the transformer's call in a step."""
        return self.transformer_began[step].until(self.transformer_ended[step])

    def scheduler(self, step: int) -> float:
        """Milliseconds of `scheduler.step`."""
        return self.step_began[step].until(self.step_ended[step])

    def whole(self, step: int) -> float:
        """Milliseconds from the end of the step before to this one's."""
        return self.step_ended[step - 1].until(self.step_ended[step])

    def whole_on_host(self, step: int) -> float:
        """Likewise by the host's clock, which as a rule is ahead of the device."""
        return self.step_ended[step - 1].host_until(self.step_ended[step])


def step_costs(bench: Bench, budget: int, steps: int) -> Mapping[str, Any]:
    """Measure what a cached step costs beyond the scheduler's, a computed one beyond the model's.

    Args:
        bench: with a pipeline of one transformer call per step.
        budget: steps that the policy computes.
        steps: of both runs.
    """
    untouched = _marks(bench, steps)
    enabled = policy(budget)
    enabled.enable(bench.pipe)
    try:
        marks = _marks(bench, steps)
        computed = set(enabled.facts(bench.pipe)["planned_steps"])
    finally:
        enabled.disable(bench.pipe)
    later = range(1, steps)
    before = {step: untouched.whole(step) - untouched.transformer(step) for step in later}
    beside = statistics.median(before.values())
    cached = [step for step in later if step not in computed]
    again = [step for step in later if step in computed]
    return {
        "transformer_ms": _median(untouched.transformer(step) for step in later),
        "scheduler_ms": _median(untouched.scheduler(step) for step in later),
        "untouched_step_beside_transformer_ms": beside,
        "cached_step_ms": _median(marks.whole(step) for step in cached),
        "cached_step_host_ms": _median(marks.whole_on_host(step) for step in cached),
        "cached_step_beyond_untouched_ms": _median(marks.whole(step) - beside for step in cached),
        "computed_step_beyond_untouched_ms": _median(
            marks.whole(step) - marks.transformer(step) - beside for step in again
        ),
        "cached_steps": len(cached),
        "computed_steps_after_the_first": len(again),
    }


def log_memory(bench: Bench, budget: int, steps: int) -> Mapping[str, Any]:
    """Measure how much more a run by the policy allocates at its peak, without decoding."""
    untouched = bench.run(steps, decode=False).peak_memory_gib
    enabled = policy(budget)
    enabled.enable(bench.pipe)
    try:
        cached = bench.run(steps, decode=False).peak_memory_gib
    finally:
        enabled.disable(bench.pipe)
    values: dict[str, Any] = {"untouched_peak_gib": untouched, "policy_peak_gib": cached}
    if untouched is not None and cached is not None:
        values["policy_beyond_untouched_mib"] = (cached - untouched) * 1024
    return values


def synchronizations(bench: Bench, budget: int, steps: int) -> Mapping[str, Any]:
    """Count the operations of each step that wait for the device, without and with the policy."""
    untouched = _synchronizations(bench, steps)
    enabled = policy(budget)
    enabled.enable(bench.pipe)
    try:
        cached = _synchronizations(bench, steps)
        computed = enabled.facts(bench.pipe)["planned_steps"]
    finally:
        enabled.disable(bench.pipe)
    return {"untouched": untouched, "policy": cached, "computed": computed}


def _median(values: Any) -> float | None:
    found = list(values)
    return statistics.median(found) if found else None


def _marks(bench: Bench, steps: int) -> StepMarks:
    with _marked(bench.pipe, bench.device) as marks:
        call(bench.pipe, bench.arguments, steps, bench.device, decode=False)
        synchronize(bench.device)
    return marks


@contextmanager
def _marked(pipe: Any, device: torch.device) -> Iterator[StepMarks]:
    marks = StepMarks()

    def step(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        marks.step_began.append(Mark(device))
        result = original(*args, **kwargs)
        marks.step_ended.append(Mark(device))
        return result

    hook = MethodHook(pipe.scheduler, "step", step)
    handles = (
        pipe.transformer.register_forward_pre_hook(
            lambda *_: marks.transformer_began.update({len(marks.step_began): Mark(device)})
        ),
        pipe.transformer.register_forward_hook(
            lambda *_: marks.transformer_ended.update({len(marks.step_began): Mark(device)})
        ),
    )
    try:
        yield marks
    finally:
        hook.remove()
        for handle in handles:
            handle.remove()


class _WarningBar:
    """Stands in for a progress bar: within the loop, synchronisations are warned of."""

    def __enter__(self) -> _WarningBar:
        torch.cuda.set_sync_debug_mode("warn")
        return self

    def __exit__(self, *_: object) -> None:
        torch.cuda.set_sync_debug_mode("default")

    def update(self, *_: object) -> None:
        """Do nothing."""


def _synchronizations(bench: Bench, steps: int) -> dict[str, Any]:
    pipe = bench.pipe
    after_steps: list[int] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        def places() -> list[str]:
            told = [each for each in caught if SYNCHRONIZING in str(each.message)]
            return [f"{Path(each.filename).name}:{each.lineno}" for each in told]

        def step(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            after_steps.append(len(places()))
            return result

        hook = MethodHook(pipe.scheduler, "step", step)
        pipe.progress_bar = lambda *_, **__: _WarningBar()
        try:
            call(pipe, bench.arguments, steps, bench.device, decode=False)
        finally:
            del pipe.progress_bar
            hook.remove()
        found = places()
    per_step = [now - then for then, now in zip([0, *after_steps], after_steps, strict=False)]
    return {"in_loop": len(found), "by_step": per_step, "places": dict(Counter(found))}
