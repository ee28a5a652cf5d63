"""Replayed steps: a run that begins like one that was kept is the ordinary run, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from otcache_policies import Schedule
from tiny_pipelines import (
    FLUX,
    FLUX_GUIDED,
    QWEN,
    WAN,
    Z_IMAGE,
    Case,
    count_forwards,
    make_flux,
    make_wan,
    unipc_scheduler,
)

from otcache_plugin.executors.output_log import OutputLog, Replay
from otcache_plugin.executors.velocity import VelocityExecutor
from otcache_plugin.pipelines.attaching import attached
from otcache_plugin.pipelines.parts import find_denoisers
from otcache_plugin.runs.plan import SchedulePlan
from otcache_plugin.runs.report import RunReport

TOTAL = 12
SHARED = (0, 1, 3, 4)


@dataclass(frozen=True)
class Setting:
    """A pipeline and how it is called, with the look-backs that its scheduler allows."""

    case: Case
    arguments: dict[str, Any] = field(default_factory=dict)
    look_backs: tuple[tuple[int, ...], tuple[int, ...]] = ((1, 2, 1, 2, 1, 3), (1, 2, 1, 2, 2, 1))

    @property
    def schedules(self) -> tuple[Schedule, Schedule]:
        """One that is kept, and one that differs from it at step 6 for the first time."""
        kept, other = self.look_backs
        return (
            Schedule([*SHARED, 6, 8, 11], TOTAL, kept),
            Schedule([*SHARED, 7, 9, 11], TOTAL, other),
        )


BF16 = {"dtype": torch.bfloat16}
SETTINGS = {
    "flux": Setting(FLUX),
    "two calls": Setting(FLUX_GUIDED),
    "qwen": Setting(QWEN),
    "outputs in lists": Setting(Z_IMAGE),
    "two transformers": Setting(WAN),
    "unipc": Setting(
        replace(WAN, make=lambda: make_wan(scheduler=unipc_scheduler())),
        look_backs=((1,) * 6, (1,) * 6),
    ),
    "custom sigmas": Setting(
        FLUX, {"sigmas": [1.0, 0.97, 0.9, 0.85, 0.8, 0.6, 0.5, 0.45, 0.3, 0.2, 0.1, 0.04]}
    ),
    "bf16": Setting(replace(FLUX_GUIDED, make=lambda: make_flux(**BF16)), BF16),
    "a batch": Setting(FLUX, {"batch": 3}),
}


class Runs:
    """Runs of one pipeline under the executor, their real forwards counted."""

    def __init__(self, setting: Setting) -> None:
        self.case, self.pipe = setting.case, setting.case.make()
        options = dict(self.case.options)
        arguments = dict(setting.arguments)
        if "dtype" in arguments:
            options["dtype"] = arguments.pop("dtype")
        self.case = replace(self.case, options=options)
        self.arguments = {"num_inference_steps": TOTAL, **arguments}

    def __call__(self, schedule: Schedule, **executor: Any) -> tuple[torch.Tensor, RunReport]:
        activation = VelocityExecutor(**executor).prepare(self.pipe, SchedulePlan(schedule), {})
        probes = [each.get_submodule(self.case.probe) for each in find_denoisers(self.pipe)]
        with (
            attached(self.pipe, activation),
            count_forwards(probes[0]) as first,
            count_forwards(probes[-1]) as last,
        ):
            result = self.case.run(self.pipe, **self.arguments)
        forwards = len(first) + (len(last) if len(probes) > 1 else 0)
        assert activation.report().transformer_calls == forwards
        return result, activation.report()


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_a_replayed_run_is_the_ordinary_run(setting: Setting, tmp_path: Path) -> None:
    kept, other = setting.schedules
    run, calls = Runs(setting), setting.case.calls_per_step
    first, second = OutputLog(tmp_path / "first"), OutputLog(tmp_path / "second")
    expected, ordinary = Runs(setting)(other)
    assert ordinary.transformer_calls == 7 * calls
    beginning, report = run(kept, log=first)
    assert report.transformer_calls == 7 * calls
    assert not torch.equal(beginning, expected)

    replay = Replay(first, frozenset(kept.shared_steps(other)))
    result, report = run(other, replay=replay, log=second)
    assert torch.equal(result, expected)
    assert report.transformer_calls == (7 - len(SHARED)) * calls
    assert report.as_planned
    assert report.computed_steps == other.computed_steps

    # What was kept of it is all of it: nothing is left to compute, on another pipeline too.
    again, report = Runs(setting)(other, replay=Replay(second, frozenset(other.computed_steps)))
    assert torch.equal(again, expected)
    assert (report.transformer_calls, report.as_planned) == (0, True)


def test_keeping_changes_nothing(tmp_path: Path) -> None:
    schedule, _ = SETTINGS["two calls"].schedules
    plain, _ = Runs(SETTINGS["two calls"])(schedule)
    kept, _ = Runs(SETTINGS["two calls"])(schedule, log=OutputLog(tmp_path))
    assert torch.equal(kept, plain)


def test_a_log_is_of_the_latest_run(tmp_path: Path) -> None:
    setting = SETTINGS["flux"]
    one, other = setting.schedules
    run, log = Runs(setting), OutputLog(tmp_path)
    run(one, log=log)
    expected, _ = run(other, log=log)
    again, report = run(other, replay=Replay(log, frozenset(range(TOTAL))))
    assert torch.equal(again, expected)
    assert report.transformer_calls == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda each: each,
        lambda each: (each, None),
        lambda each: [each, each + 1],
        lambda each: ([each, each * 2],),
    ],
    ids=["tensor", "tuple", "list", "nested"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_outputs_are_given_back_as_they_were(
    make: Callable[[torch.Tensor], Any], dtype: torch.dtype, tmp_path: Path
) -> None:
    given = make(torch.linspace(-3, 70_000, 24).to(dtype).view(2, 3, 4).transpose(0, 2))
    log = OutputLog(tmp_path / "log")
    log.write(3, make(torch.zeros(1)))
    log.write(3, given)
    found = log.read(3, 1)
    torch.testing.assert_close(found, given, rtol=0, atol=0, equal_nan=True)
    assert type(found) is type(given)
    assert (log.calls(3), log.calls(2)) == (2, 0)
