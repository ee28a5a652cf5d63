"""The blocks executor: cache-dit computes the blocks of just the planned steps."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cache_dit
import pytest
import torch
from cache_dit import DBCacheConfig, TaylorSeerCalibratorConfig
from diffusers import DDIMScheduler, FluxPipeline
from otcache_policies import Schedule, UniformPolicy
from tiny_pipelines import (
    FLUX,
    FLUX_GUIDED,
    QWEN,
    STEPS,
    WAN,
    Case,
    euler_scheduler,
    make_flux,
    make_qwen,
    qwen_arguments,
)
from tiny_pipelines.flux_family import ROWS as FLUX_ROWS

import otcache_plugin
from otcache_plugin.errors import ArgumentError, ExecutionError, PipelineError
from otcache_plugin.models.exact_flow import ExactFlowSettings

QWEN_WITHOUT_GUIDANCE = Case(
    "qwen-image-unguided", make_qwen, qwen_arguments, 1, "img_in", {"true_cfg": False}
)


def make_blocks() -> Any:
    """A tiny Flux of three double blocks and two single ones."""
    return make_flux(num_layers=3, num_single_layers=2)


@contextmanager
def steps_of(pipe: Any, block: torch.nn.Module) -> Iterator[list[int]]:
    """The steps in which a block really runs, by the number of steps taken before."""
    steps: list[int] = []
    taken = 0

    def before_call(*_: Any) -> None:
        steps.append(taken)

    def step(*args: Any, **kwargs: Any) -> Any:
        nonlocal taken
        taken += 1
        return original(*args, **kwargs)

    original = pipe.scheduler.step
    pipe.scheduler.step = step
    handle = block.register_forward_pre_hook(before_call)
    try:
        yield steps
    finally:
        handle.remove()
        pipe.scheduler.step = original


def test_later_blocks_run_on_the_planned_steps_only(enable: Any) -> None:
    pipe = make_blocks()
    enable(pipe, policy="uniform", budget=10, executor="blocks")
    transformer = pipe.transformer
    with (
        steps_of(pipe, transformer.transformer_blocks[0]) as first,
        steps_of(pipe, transformer.transformer_blocks[1]) as second,
        steps_of(pipe, transformer.transformer_blocks[2]) as third,
        steps_of(pipe, transformer.single_transformer_blocks[1]) as last,
    ):
        FLUX.run(pipe)
    planned = list(UniformPolicy(STEPS).schedule(10).computed_steps)
    assert second == third == last == planned
    assert first == list(range(STEPS))  # what cache-dit always computes, Fn_compute_blocks=1
    report = otcache_plugin.summary(pipe)
    assert report.executor == "blocks"
    assert report.computed_steps == report.planned_steps == tuple(planned)
    assert report.finished_steps == report.num_inference_steps == STEPS
    assert report.transformer_calls == STEPS  # in part: the docstring says so
    assert report.as_planned


def test_an_uneven_schedule(enable: Any) -> None:
    planned = (0, 1, 2, 3, 5, 9, 15, 22, 29, 36, 43, 47, 49)  # Z-Image, budget 13
    pipe = make_blocks()
    enable(pipe, policy=Schedule(planned, STEPS), executor="blocks")
    with steps_of(pipe, pipe.transformer.transformer_blocks[2]) as steps:
        FLUX.run(pipe)
    assert tuple(steps) == planned
    assert otcache_plugin.summary(pipe).as_planned


def test_another_number_of_steps_follows(enable: Any) -> None:
    pipe = make_blocks()
    enable(pipe, policy="uniform", speedup=4.0, executor="blocks")
    for total, budget in ((20, 5), (30, 8), (12, 3), (20, 5)):
        with steps_of(pipe, pipe.transformer.transformer_blocks[2]) as steps:
            FLUX.run(pipe, num_inference_steps=total)
        assert tuple(steps) == UniformPolicy(total).schedule(budget).computed_steps
        report = otcache_plugin.summary(pipe)
        assert (report.num_inference_steps, report.as_planned) == (total, True)


def test_no_run_depends_on_the_run_before(enable: Any) -> None:
    fresh = make_blocks()
    enable(fresh, policy="uniform", budget=10, executor="blocks")
    expected = FLUX.run(fresh)
    assert torch.equal(FLUX.run(fresh), expected)

    def interrupt(pipe: Any, index: int, timestep: Any, tensors: Any) -> Any:
        if index == 23:
            raise KeyboardInterrupt
        return tensors

    with pytest.raises(KeyboardInterrupt):
        FLUX.run(fresh, seed=1, callback_on_step_end=interrupt)
    report = otcache_plugin.summary(fresh)
    assert (report.finished_steps, report.as_planned) == (24, False)
    assert torch.equal(FLUX.run(fresh), expected)
    FLUX.run(fresh, num_inference_steps=13, seed=2)
    assert torch.equal(FLUX.run(fresh), expected)


def test_full_budget_and_disabling_give_the_untouched_output() -> None:
    expected = FLUX.run(make_blocks())
    pipe = make_blocks()
    cache_dit.enable_cache(pipe, policy="uniform", budget=STEPS, executor="blocks")
    assert torch.equal(FLUX.run(pipe), expected)
    cache_dit.enable_cache(pipe, policy="uniform", budget=10, executor="blocks")
    assert not torch.equal(FLUX.run(pipe), expected)
    cache_dit.disable_cache(pipe)
    with steps_of(pipe, pipe.transformer.transformer_blocks[2]) as steps:
        assert torch.equal(FLUX.run(pipe), expected)
    assert steps == list(range(STEPS))


def test_two_calls_per_step_need_a_word(enable: Any) -> None:
    pipe = make_blocks()
    enable(pipe, policy="uniform", budget=10, executor="blocks")
    with pytest.raises(ExecutionError, match="enable_separate_cfg=True") as caught:
        FLUX_GUIDED.run(pipe)
    # The remedy, to the letter.
    config = eval(str(caught.value).partition("cache_config=")[2].removesuffix("."))
    assert config == DBCacheConfig(Fn_compute_blocks=1, enable_separate_cfg=True)
    enable(pipe, policy="uniform", budget=10, executor="blocks", cache_config=config)
    with steps_of(pipe, pipe.transformer.transformer_blocks[2]) as steps:
        FLUX_GUIDED.run(pipe)
    planned = UniformPolicy(STEPS).schedule(10).computed_steps
    assert steps == [step for step in planned for _ in range(2)]
    report = otcache_plugin.summary(pipe)
    assert report.computed_steps == planned
    assert report.transformer_calls == 2 * STEPS
    assert report.as_planned


def test_one_call_per_step_where_cache_dit_counts_on_two(enable: Any) -> None:
    # cache-dit knows Qwen-Image as a pipeline of two calls, and then takes two steps for one.
    pipe = make_qwen()
    enable(pipe, policy="uniform", budget=10, executor="blocks")
    QWEN.run(pipe)
    report = otcache_plugin.summary(pipe)
    assert (report.as_planned, report.transformer_calls) == (True, 2 * STEPS)
    with pytest.raises(ExecutionError, match="enable_separate_cfg=False"):
        QWEN_WITHOUT_GUIDANCE.run(pipe)
    config = DBCacheConfig(Fn_compute_blocks=1, enable_separate_cfg=False)
    enable(pipe, policy="uniform", budget=10, executor="blocks", cache_config=config)
    QWEN_WITHOUT_GUIDANCE.run(pipe)
    report = otcache_plugin.summary(pipe)
    assert (report.as_planned, report.transformer_calls) == (True, STEPS)


def test_the_rest_of_the_cache_config_counts_and_is_not_changed(enable: Any) -> None:
    config = DBCacheConfig(Fn_compute_blocks=2, max_warmup_steps=20)
    given = copy.deepcopy(config)
    pipe = make_blocks()
    enable(pipe, config, policy="uniform", budget=10, executor="blocks")
    with (
        steps_of(pipe, pipe.transformer.transformer_blocks[1]) as second,
        steps_of(pipe, pipe.transformer.transformer_blocks[2]) as third,
    ):
        FLUX.run(pipe)
    assert second == list(range(STEPS))
    assert len(third) == 10
    assert config == given


def test_calibrators_of_cache_dit_count(enable: Any) -> None:
    outputs = []
    for calibrator in (None, TaylorSeerCalibratorConfig(taylorseer_order=1)):
        pipe = make_blocks()
        enable(
            pipe,
            policy="uniform",
            budget=10,
            executor="blocks",
            calibrator_config=calibrator,
        )
        outputs.append(FLUX.run(pipe))
        assert otcache_plugin.summary(pipe).as_planned
        cache_dit.disable_cache(pipe)
    assert not torch.equal(*outputs)


@pytest.mark.parametrize("field", ["steps_computation_mask", "num_inference_steps"])
def test_a_cache_config_that_says_itself_what_to_compute(field: str) -> None:
    value: Any = [1, 0, 1] if field == "steps_computation_mask" else 28
    with pytest.raises(ArgumentError, match=f"cache_config.{field}=.*contradicts policy="):
        cache_dit.enable_cache(
            make_blocks(),
            policy="uniform",
            executor="blocks",
            cache_config=DBCacheConfig(**{field: value}),
        )


def test_only_one_pipeline_is_patched() -> None:
    expected = FLUX.run(make_blocks())
    call = FluxPipeline.__call__
    content = dict(vars(FluxPipeline))
    accelerated, other = make_blocks(), make_blocks()
    cache_dit.enable_cache(accelerated, policy="uniform", budget=10, executor="blocks")
    assert FluxPipeline.__call__ is call
    assert dict(vars(FluxPipeline)) == content
    assert isinstance(accelerated, FluxPipeline)
    cached = FLUX.run(accelerated)
    report = otcache_plugin.summary(accelerated)
    assert torch.equal(FLUX.run(other), expected)
    assert otcache_plugin.summary(accelerated) == report
    assert torch.equal(FLUX.run(accelerated), cached)
    cache_dit.disable_cache(accelerated)
    assert type(accelerated) is FluxPipeline
    assert torch.equal(FLUX.run(accelerated), expected)


@pytest.mark.parametrize("first_off", [0, 1])
def test_two_accelerated_pipelines_of_one_class(first_off: int) -> None:
    pipes = [make_blocks(), make_blocks()]
    for pipe, budget in zip(pipes, (10, 5), strict=True):
        cache_dit.enable_cache(pipe, policy="uniform", budget=budget, executor="blocks")
    for pipe in pipes:
        FLUX.run(pipe, num_inference_steps=12)
    for pipe, budget in zip(pipes, (10, 5), strict=True):
        report = otcache_plugin.summary(pipe)
        assert (len(report.computed_steps), report.as_planned) == (budget, True)
    expected = FLUX.run(make_blocks(), num_inference_steps=12)
    cache_dit.disable_cache(pipes[first_off])
    assert torch.equal(FLUX.run(pipes[first_off], num_inference_steps=12), expected)
    FLUX.run(pipes[1 - first_off], num_inference_steps=12)
    assert otcache_plugin.summary(pipes[1 - first_off]).as_planned
    cache_dit.disable_cache(pipes[1 - first_off])
    assert torch.equal(FLUX.run(pipes[1 - first_off], num_inference_steps=12), expected)


def test_two_transformers_are_refused() -> None:
    with pytest.raises(PipelineError, match=r"WanPipeline.*executor='velocity'"):
        cache_dit.enable_cache(WAN.make(), policy="uniform", executor="blocks")


def test_a_pipeline_that_cache_dit_does_not_know() -> None:
    pipe = otcache_plugin.load_exact_flow_pipeline(ExactFlowSettings(scenes=60))
    with pytest.raises(PipelineError, match=r"ExactFlowPipeline.*executor='velocity'"):
        cache_dit.enable_cache(pipe, policy="uniform", executor="blocks")


def test_a_scheduler_without_sigmas() -> None:
    pipe = make_blocks()
    pipe.scheduler = DDIMScheduler()
    with pytest.raises(PipelineError, match=r"scheduler='DDIMScheduler': it has no sigmas"):
        cache_dit.enable_cache(pipe, policy="uniform", executor="blocks")
    assert type(pipe) is FluxPipeline


def test_parts_that_are_replaced_after_enabling(enable: Any) -> None:
    pipe, fresh = make_blocks(), make_flux(num_layers=4, scheduler=euler_scheduler(shift=2.0))
    enable(pipe, policy="uniform", budget=8, executor="blocks")
    FLUX.run(pipe, num_inference_steps=9)
    pipe.scheduler = euler_scheduler(shift=2.0)
    pipe.transformer = make_flux(num_layers=4).transformer
    enable(fresh, policy="uniform", budget=8, executor="blocks")
    assert torch.equal(FLUX.run(pipe), FLUX.run(fresh))
    assert otcache_plugin.summary(pipe).as_planned


@pytest.mark.parametrize("part", ["scheduler", "transformer"])
def test_parts_that_are_replaced_during_a_call_are_noticed(part: str, enable: Any) -> None:
    def replace(pipe: Any, index: int, timestep: Any, tensors: Any) -> Any:
        setattr(pipe, part, getattr(make_blocks(), part))
        return tensors

    pipe = make_blocks()
    enable(pipe, policy="uniform", budget=8, executor="blocks")
    with pytest.raises(ExecutionError, match=f"{part} was replaced during its call"):
        FLUX.run(pipe, callback_on_step_end=replace)


def test_a_schedule_for_another_number_of_steps(enable: Any) -> None:
    pipe = make_blocks()
    enable(pipe, policy=Schedule([0, 4, 9], 10), executor="blocks")
    with (
        steps_of(pipe, pipe.transformer.transformer_blocks[0]) as steps,
        pytest.raises(ValueError, match="num_inference_steps=50: the schedule is for 10 steps"),
    ):
        FLUX.run(pipe)
    assert steps == []
    FLUX.run(pipe, num_inference_steps=10)
    assert otcache_plugin.summary(pipe).as_planned


def test_summary_of_cache_dit_names_the_policy(
    enable: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = make_blocks()
    enable(pipe, policy="uniform", budget=10, executor="blocks")
    FLUX.run(pipe)
    stats = cache_dit.summary(pipe, logging=False)
    assert stats[0].cache_options == {"policy": "uniform", "executor": "blocks"}
    assert len(stats[0].cached_steps) == 40
    assert len(stats) > 1  # cache-dit's own
    assert any(own.cached_steps == stats[0].cached_steps for own in stats[1:])


# diffusers' ControlNet uses what diffusers deprecates.
@pytest.mark.filterwarnings("ignore:.FluxPosEmbed:FutureWarning")
def test_a_controlnet_is_refused() -> None:
    # With all steps computed the latents would be 28 % off: cache-dit drops its residuals.
    (row,) = (row for row in FLUX_ROWS if row.pipeline == "FluxControlNetPipeline")
    pipe = row.make()
    with pytest.raises(PipelineError, match=r"controlnet='FluxControlNetModel'.*'velocity'"):
        cache_dit.enable_cache(pipe, policy="uniform", budget=5, executor="blocks")
