"""Runs of a part of the timesteps, and steps that a pipeline takes twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from otcache_policies import BudgetError, Schedule, ScheduleError, UniformPolicy
from partial_runs import COSMOS, WAN_VIDEO_TO_VIDEO, make_wan_video_to_video
from tiny_pipelines import count_forwards, dpm_scheduler, unipc_scheduler

import otcache_plugin

# diffusers reads tensors with numpy in a way that numpy 2 objects to.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

STEPS, RUN = 12, 9
"""Of the call, and of its run at a strength of three quarters."""

EXECUTORS = ("velocity", "blocks")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_begin_index_is_never_set(executor: str, enable: Any) -> None:
    """Else there were nothing to find out, and the tests here would test nothing."""
    pipe = WAN_VIDEO_TO_VIDEO.make()
    begins = []

    def look(pipe: Any, step: int, timestep: Any, tensors: Any) -> Any:
        begins.append((pipe.scheduler.begin_index, pipe.scheduler.step_index))
        return tensors

    enable(pipe, policy="uniform", budget=3, executor=executor)
    WAN_VIDEO_TO_VIDEO.run(pipe, num_inference_steps=STEPS, callback_on_step_end=look)
    assert begins == [(None, step + 1) for step in range(STEPS - RUN, STEPS)]


@pytest.mark.parametrize("scheduler", [None, unipc_scheduler, dpm_scheduler])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_steps_are_those_of_the_run(scheduler: Any, executor: str, enable: Any) -> None:
    pipe = make_wan_video_to_video(scheduler and scheduler())
    expected = WAN_VIDEO_TO_VIDEO.run(pipe, num_inference_steps=STEPS)
    schedule = Schedule([0, 1, 3, 8], RUN)
    enable(pipe, policy=schedule, executor=executor)
    with count_forwards(pipe.transformer.blocks[1]) as forwards:
        WAN_VIDEO_TO_VIDEO.run(pipe, num_inference_steps=STEPS)
    assert len(forwards) == 2 * 4
    report = otcache_plugin.summary(pipe)
    assert report.as_planned
    assert (report.computed_steps, report.finished_steps) == ((0, 1, 3, 8), RUN)
    enable(pipe, policy=Schedule.full(RUN), executor=executor)
    assert torch.equal(WAN_VIDEO_TO_VIDEO.run(pipe, num_inference_steps=STEPS), expected)
    otcache_plugin.disable_cache(pipe)
    assert torch.equal(WAN_VIDEO_TO_VIDEO.run(pipe, num_inference_steps=STEPS), expected)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_budgets_are_of_the_run(executor: str, enable: Any) -> None:
    pipe = WAN_VIDEO_TO_VIDEO.make()
    for request, budget in (({"budget": 4}, 4), ({"speedup": 3.0}, 3), ({}, 3)):
        enable(pipe, policy="uniform", executor=executor, **request)
        WAN_VIDEO_TO_VIDEO.run(pipe, num_inference_steps=STEPS)
        planned = UniformPolicy(RUN).schedule(budget).computed_steps
        report = otcache_plugin.summary(pipe)
        assert (report.computed_steps, report.as_planned) == (planned, True)
    WAN_VIDEO_TO_VIDEO.run(pipe, num_inference_steps=STEPS, strength=1.0)
    assert otcache_plugin.summary(pipe).num_inference_steps == STEPS


@pytest.mark.parametrize("executor", EXECUTORS)
def test_refusals_speak_of_the_steps_of_the_run(executor: str, enable: Any) -> None:
    pipe = WAN_VIDEO_TO_VIDEO.make()
    enable(pipe, policy=Schedule([0, 5, 11], STEPS), executor=executor)
    with pytest.raises(ScheduleError) as caught:
        WAN_VIDEO_TO_VIDEO.run(pipe, num_inference_steps=STEPS)
    assert str(caught.value).startswith("num_inference_steps=9: the schedule is for 12 steps.")
    # Either remedy: as many steps of the call as leave that many, or a schedule for the run's.
    assert "num_inference_steps=12 (of which a strength below 1 leaves a part)" in str(caught.value)
    WAN_VIDEO_TO_VIDEO.run(pipe, num_inference_steps=STEPS * STEPS // RUN)
    assert otcache_plugin.summary(pipe).as_planned
    assert "pass a schedule for 9 steps" in str(caught.value)
    enable(pipe, policy="uniform", budget=10, executor=executor)
    with pytest.raises(BudgetError, match="budget=10: the run has 9 steps"):
        WAN_VIDEO_TO_VIDEO.run(pipe, num_inference_steps=STEPS)


def test_a_run_that_ends_within_its_first_step_is_none(enable: Any) -> None:
    """The transformer has been called by then, and what it is to follow is not known."""
    pipe = WAN_VIDEO_TO_VIDEO.make()

    class StopError(Exception):
        """Whatever may happen between the transformer and the scheduler."""

    def stop(*args: Any, **kwargs: Any) -> None:
        raise StopError

    for executor in EXECUTORS:
        enable(pipe, policy="uniform", budget=3, executor=executor)
        pipe.scheduler.step = stop
        with pytest.raises(StopError):
            WAN_VIDEO_TO_VIDEO.run(pipe, num_inference_steps=STEPS)
        del pipe.scheduler.step
        WAN_VIDEO_TO_VIDEO.run(pipe, num_inference_steps=STEPS)
        assert otcache_plugin.summary(pipe).as_planned


def test_steps_that_are_taken_twice(enable: Any) -> None:
    pipe = COSMOS.make()
    taken: list[int] = []
    original = pipe.scheduler.step

    def step(*args: Any, **kwargs: Any) -> Any:
        taken.append(1)
        return original(*args, **kwargs)

    pipe.scheduler.step = step
    expected = COSMOS.run(pipe, num_inference_steps=STEPS)
    assert len(taken) == 2 * STEPS
    enable(pipe, policy=Schedule.full(STEPS), executor="blocks")
    assert torch.equal(COSMOS.run(pipe, num_inference_steps=STEPS), expected)
    enable(pipe, policy=Schedule([0, 2, 11], STEPS), executor="blocks")
    with count_forwards(pipe.transformer.transformer_blocks[1]) as forwards:
        result = COSMOS.run(pipe, num_inference_steps=STEPS)
    assert len(forwards) == 2 * 3
    report = otcache_plugin.summary(pipe)
    assert (report.computed_steps, report.as_planned) == ((0, 2, 11), True)
    assert not torch.equal(result, expected)
