"""Policies that decide while a run is under way, in real pipelines.

The test's policy computes every step whose latents are further than a threshold from those of the
last computed step. What it must have decided is worked out here from latents that somebody else
wrote down: by hand where the velocity is constant, from a callback of the pipeline elsewhere.
"""

from __future__ import annotations

import io
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import cache_dit
import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from moved_latents import MovedLatents
from otcache_policies import RunConditions, Schedule
from reference_runs import InterruptedRunError, interrupt_at, reference_run
from tiny_pipelines import (
    FLUX,
    FLUX_GUIDED,
    QWEN,
    WAN,
    Z_IMAGE,
    Case,
    count_forwards,
    euler_scheduler,
    flux_velocity,
    make_flux,
    make_flux_img2img,
    make_wan,
    unipc_scheduler,
)

import otcache_plugin
from otcache_plugin.errors import ExecutionError, PipelineError

STEPS = 20
NAME = MovedLatents.name


@contextmanager
def latents_before_steps(pipe: Any) -> Iterator[list[torch.Tensor]]:
    """The latents that the pipeline hands to each step, written down beneath all hooks."""
    latents: list[torch.Tensor] = []
    original = pipe.scheduler.step

    def step(output: torch.Tensor, timestep: Any, sample: torch.Tensor, **kwargs: Any) -> Any:
        latents.append(sample.clone())
        return original(output, timestep, sample, **kwargs)

    pipe.scheduler.step = step
    try:
        yield latents
    finally:
        del pipe.scheduler.step


def decided_by(latents: Sequence[torch.Tensor], threshold: float) -> tuple[int, ...]:
    """The steps that are to be computed, by the latents before each of them."""
    computed = [0]
    for step in range(1, len(latents) - 1):
        if (latents[step] - latents[computed[-1]]).abs().mean() > threshold:
            computed.append(step)
    return (*computed, len(latents) - 1)


def constant_velocity(pipe: Any) -> None:
    """The transformer answers ones: each step moves the latents by its width in sigma."""
    pipe.transformer.forward = lambda hidden_states, **_: (torch.ones_like(hidden_states),)


def test_by_hand(use: Any, enable: Any) -> None:
    # Widths 0.1, 0.1, 0.3, 0.05, 0.05, 0.3, 0.05 and 0.05. Before step 2 the latents have moved
    # by 0.2 since step 0, before step 3 by 0.5, then from there by 0.05, 0.1 and 0.4.
    sigmas = [1.0, 0.9, 0.8, 0.5, 0.45, 0.4, 0.1, 0.05]
    pipe = make_flux(scheduler=euler_scheduler(shift=1.0))
    constant_velocity(pipe)
    policy = use(MovedLatents(0.25))
    enable(pipe, policy=NAME)
    FLUX.run(pipe, sigmas=sigmas, num_inference_steps=8)
    report = otcache_plugin.summary(pipe)
    assert report.computed_steps == (0, 3, 6, 7)
    assert report.transformer_calls == 4
    assert policy.asked == [1, 2, 3, 4, 5, 6]  # not about the first and the last
    np.testing.assert_allclose(policy.begun[0].sigmas, [*sigmas, 0.0], rtol=0, atol=1e-7)

    use(MovedLatents(0.15))
    enable(pipe, policy=NAME)
    FLUX.run(pipe, sigmas=sigmas, num_inference_steps=8)
    # Now step 2 is computed; from there the latents move by 0.3, then 0.05, 0.1 and 0.4.
    assert otcache_plugin.summary(pipe).computed_steps == (0, 2, 3, 6, 7)


@pytest.mark.parametrize("case", [FLUX, FLUX_GUIDED, QWEN, Z_IMAGE], ids=str)
def test_what_was_decided_follows_from_the_latents(case: Case, use: Any, enable: Any) -> None:
    pipe = case.make()
    with latents_before_steps(pipe) as full:
        case.run(pipe, num_inference_steps=STEPS)
    policy = use(MovedLatents(float((full[-1] - full[0]).abs().mean()) / 5))
    with latents_before_steps(pipe) as latents:
        cache_dit.enable_cache(pipe, policy=NAME)
        with count_forwards(pipe.transformer.get_submodule(case.probe)) as forwards:
            result = case.run(pipe, num_inference_steps=STEPS)
        report = otcache_plugin.summary(pipe)
        cache_dit.disable_cache(pipe)
    assert report.computed_steps == decided_by(latents, policy.threshold)
    assert 3 < len(report.computed_steps) < STEPS - 3  # there was something to decide
    # Once per step, however often the transformer is called for one.
    assert policy.asked == list(range(1, STEPS - 1))
    assert len(forwards) == report.transformer_calls
    assert len(forwards) == len(report.computed_steps) * case.calls_per_step

    # What was decided is a schedule like any other: plain reuse on what lies between.
    steps, look_backs = report.computed_steps, report.look_backs
    assert look_backs == (1,) * (len(steps) - 1)
    expected = reference_run(case, case.make(), steps, look_backs, num_inference_steps=STEPS)
    assert torch.equal(result, expected)
    enable(pipe, policy=Schedule(steps, STEPS, look_backs))
    assert torch.equal(case.run(pipe, num_inference_steps=STEPS), result)


@pytest.mark.parametrize("case", [FLUX, FLUX_GUIDED, QWEN, Z_IMAGE], ids=str)
def test_thresholds_that_decide_everything(case: Case, use: Any, enable: Any) -> None:
    expected = case.run(case.make(), num_inference_steps=STEPS)
    pipe = case.make()
    use(MovedLatents(0.0))
    enable(pipe, policy=NAME)
    assert torch.equal(case.run(pipe, num_inference_steps=STEPS), expected)
    assert otcache_plugin.summary(pipe).computed_steps == tuple(range(STEPS))

    use(MovedLatents(float("inf")))
    enable(pipe, policy=NAME)
    with count_forwards(pipe.transformer.get_submodule(case.probe)) as forwards:
        cached = case.run(pipe, num_inference_steps=STEPS)
    assert len(forwards) == 2 * case.calls_per_step
    assert otcache_plugin.summary(pipe).computed_steps == (0, STEPS - 1)
    enable(pipe, policy=Schedule([0, STEPS - 1], STEPS))
    assert torch.equal(case.run(pipe, num_inference_steps=STEPS), cached)
    cache_dit.disable_cache(pipe)
    assert torch.equal(case.run(pipe, num_inference_steps=STEPS), expected)


@pytest.mark.parametrize("steps", [1, 2])
def test_nothing_to_decide(steps: int, use: Any, enable: Any) -> None:
    policy = use(MovedLatents(float("inf")))
    pipe = make_flux()
    expected = FLUX.run(pipe, num_inference_steps=steps)
    enable(pipe, policy=NAME)
    assert torch.equal(FLUX.run(pipe, num_inference_steps=steps), expected)
    report = otcache_plugin.summary(pipe)
    assert report.as_planned
    assert report.computed_steps == tuple(range(steps))
    assert policy.asked == []


def test_a_policy_that_looks_back(use: Any, enable: Any) -> None:
    use(MovedLatents(0.1, look_back=3))
    pipe = make_flux()
    enable(pipe, policy=NAME)
    result = FLUX.run(pipe, num_inference_steps=STEPS)
    report = otcache_plugin.summary(pipe)
    steps, look_backs = report.computed_steps, report.look_backs
    assert look_backs == (3,) * (len(steps) - 1)
    assert 3 < len(steps) < STEPS - 3
    expected = reference_run(FLUX, make_flux(), steps, look_backs, num_inference_steps=STEPS)
    assert torch.equal(result, expected)


@pytest.mark.parametrize("case", [FLUX, QWEN], ids=str)
def test_no_run_depends_on_the_run_before(case: Case, use: Any, enable: Any) -> None:
    policy = use(MovedLatents(0.1))
    pipe = case.make()
    enable(pipe, policy=NAME)
    expected = case.run(pipe, num_inference_steps=STEPS)
    decided = otcache_plugin.summary(pipe).computed_steps
    with pytest.raises(InterruptedRunError):
        case.run(pipe, num_inference_steps=STEPS, seed=1, callback_on_step_end=interrupt_at(7))
    report = otcache_plugin.summary(pipe)
    assert report.finished_steps == 8
    assert not report.as_planned
    assert "NOT AS PLANNED: finished 8 steps; planned to compute the first and the last" in str(
        report
    )
    assert torch.equal(case.run(pipe, num_inference_steps=STEPS), expected)
    report = otcache_plugin.summary(pipe)
    assert report.as_planned
    assert report.computed_steps == decided
    assert len(policy.begun) == 3


def test_image_to_image_begins_where_the_run_does(use: Any, enable: Any) -> None:
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    policy = use(MovedLatents(0.1))
    pipe = make_flux_img2img()
    with latents_before_steps(pipe) as latents:
        cache_dit.enable_cache(pipe, policy=NAME)
        FLUX.run(pipe, image=picture, strength=0.6, num_inference_steps=STEPS)
        report = otcache_plugin.summary(pipe)
        cache_dit.disable_cache(pipe)
    assert report.num_inference_steps == len(latents) == 12  # 0.6 of 20
    assert report.computed_steps == decided_by(latents, 0.1)
    assert policy.asked == list(range(1, 11))
    assert len(policy.begun[0].sigmas) == 13
    np.testing.assert_array_equal(policy.begun[0].sigmas, pipe.scheduler.sigmas[8:].double())


def test_a_scheduler_whose_steps_are_no_euler_steps(use: Any, enable: Any) -> None:
    use(MovedLatents(0.1))
    pipe = make_wan(scheduler=unipc_scheduler())
    with latents_before_steps(pipe) as latents:
        cache_dit.enable_cache(pipe, policy=NAME)
        WAN.run(pipe, num_inference_steps=STEPS)
        report = otcache_plugin.summary(pipe)
        cache_dit.disable_cache(pipe)
    assert report.computed_steps == decided_by(latents, 0.1)
    use(MovedLatents(0.1, look_back=2))
    with pytest.raises(PipelineError, match="and the policy has a look-back of 2"):
        enable(pipe, policy=NAME)


class ForgetfulFluxPipeline(FluxPipeline):
    """Does not call its transformer for step 11, but takes the step with what it had before."""

    @torch.no_grad()
    def __call__(self) -> None:
        self.scheduler.set_timesteps(STEPS)
        x = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
        for index, t in enumerate(self.scheduler.timesteps):
            if index != 11:
                v = flux_velocity(self.transformer, x, t)
            x = self.scheduler.step(v, t, x, return_dict=False)[0]


def test_a_transformer_that_is_not_called_is_noticed(use: Any, enable: Any) -> None:
    use(MovedLatents(0.0))
    pipe = make_flux(pipeline=ForgetfulFluxPipeline)
    enable(pipe, policy=NAME)
    with pytest.raises(ExecutionError, match=r"step 11 is to be computed, but .* not call"):
        pipe()


def test_the_report_says_that_it_was_decided(use: Any, enable: Any) -> None:
    use(MovedLatents(0.25))
    pipe = make_flux(scheduler=euler_scheduler(shift=1.0))
    constant_velocity(pipe)
    enable(pipe, policy=NAME)
    assert otcache_plugin.summary(pipe).decided
    assert "no run yet" in str(otcache_plugin.summary(pipe))
    FLUX.run(pipe, sigmas=[1.0, 0.9, 0.8, 0.5, 0.45, 0.4, 0.1, 0.05], num_inference_steps=8)
    report = otcache_plugin.summary(pipe)
    assert report.as_planned
    assert report.planned_steps == ()
    assert str(report) == (
        "policy moved_latents, executor velocity\n"
        "computed 4 of 8 steps (4 transformer calls), decided at run time: 0 3 6 7"
    )
    printed = io.StringIO()
    with redirect_stdout(printed):
        own, *_ = cache_dit.summary(pipe)
    assert str(report) in printed.getvalue()
    assert own.cached_steps == [1, 2, 4, 5]
    assert own.cache_options == {"policy": NAME, "executor": "velocity"}

    data = report.to_dict()
    assert (data["decided"], data["as_planned"]) == (True, True)
    enable(pipe, policy="uniform", budget=3)
    assert not otcache_plugin.summary(pipe).decided


def test_nothing_of_a_run_stays(use: Any, enable: Any) -> None:
    seen: list[weakref.ref[torch.Tensor]] = []

    class Watched(MovedLatents):
        def begin(self, run: RunConditions, observation: torch.Tensor) -> Any:
            seen.append(weakref.ref(observation))
            return super().begin(run, observation)

    use(Watched(float("inf")))  # so that its runs keep their first latents to the end
    pipe = make_flux()
    enable(pipe, policy=NAME)
    FLUX.run(pipe, num_inference_steps=STEPS)
    assert [each() for each in seen] == [None]


def test_a_compiled_transformer_stays_one_graph(use: Any, enable: Any) -> None:
    use(MovedLatents(0.1))
    expected_pipe = make_flux()
    enable(expected_pipe, policy=NAME)
    expected = FLUX.run(expected_pipe, num_inference_steps=14)
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    pipe = make_flux()
    enable(pipe, policy=NAME)
    pipe.transformer.compile(backend=backend)
    assert torch.equal(FLUX.run(pipe, num_inference_steps=14), expected)
    assert len(graphs) == 1
    torch.compiler.reset()
