"""The velocity executor against denoising loops that are written out here, from the formulas.

Nothing below calls the estimator or the executor to know what is right: the reference takes the
velocities that an untouched twin of the pipeline computes at the computed steps, and at the cached
ones works out u, jvp and v[i] itself. The outputs must not differ by a single bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cache_dit
import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from otcache_policies import Schedule, UniformPolicy
from published_schedules import PublishedSchedule, published_schedules
from reference_runs import InterruptedRunError, Reference, interrupt_at, reference_run
from tiny_pipelines import (
    CASES,
    FLUX,
    FLUX_GUIDED,
    QWEN,
    STEPS,
    WAN,
    Z_IMAGE,
    Case,
    count_forwards,
    euler_scheduler,
    flux_arguments,
    flux_velocity,
    make_flux,
    make_flux_img2img,
)

import otcache_plugin
from otcache_plugin.errors import ExecutionError, PipelineError
from otcache_plugin.executors import step_log
from otcache_plugin.pipelines.attaching import attachment


# The two other kinds of Flux are compared bit by bit in test_a_batch_….
@pytest.mark.parametrize("case", [FLUX, QWEN, Z_IMAGE], ids=str)
@pytest.mark.parametrize("published", published_schedules(), ids=str)
def test_published_schedules_bit_by_bit(
    case: Case, published: PublishedSchedule, enable: Any
) -> None:
    pipe = case.make()
    enable(pipe, policy=published.schedule)
    with count_forwards(pipe.transformer.get_submodule(case.probe)) as forwards:
        result = case.run(pipe)
    budget = len(published.steps)
    assert len(forwards) == budget * case.calls_per_step
    report = otcache_plugin.summary(pipe)
    assert report.transformer_calls == budget * case.calls_per_step
    assert report.planned_steps == report.computed_steps == published.steps
    assert report.look_backs == published.look_backs
    assert report.num_inference_steps == report.finished_steps == STEPS
    assert report.as_planned

    expected = reference_run(case, case.make(), published.steps, published.look_backs)
    assert (result - expected).abs().max().item() == 0.0
    assert torch.equal(result, expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_skipping_and_looking_back_both_change_the_output(case: Case, enable: Any) -> None:
    # Without this, the bit-identity above might be that of a model which ignores its input.
    pipe = case.make()
    full = case.run(pipe)
    outputs = [full]
    for look_back in (1, 3):
        enable(pipe, policy=UniformPolicy(STEPS, look_back).schedule(10))
        outputs.append(case.run(pipe))
    for one in range(3):
        for other in range(one):
            assert (outputs[one] - outputs[other]).abs().mean() > 1e-3


def hand_written_flux_loop(
    pipe: Any,
    arguments: dict[str, Any],
    steps: Sequence[int],
    look_backs: Sequence[int],
    shift: float,
) -> torch.Tensor:
    """Flux without pipeline and scheduler: the transformer is called at the computed steps only."""
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    # 2 × 2 patches of the latents become the channels of 4 × 4 tokens.
    x = latents.view(1, 4, 4, 2, 4, 2).permute(0, 2, 4, 1, 3, 5).reshape(1, 16, 16)
    image_ids = torch.zeros(4, 4, 3)
    image_ids[..., 1] += torch.arange(4)[:, None]
    image_ids[..., 2] += torch.arange(4)[None, :]
    text_ids = torch.zeros(arguments["prompt_embeds"].shape[1], 3)

    linear = np.linspace(1.0, 1 / STEPS, STEPS).astype(np.float32)
    shifted = shift * linear / (1 + (shift - 1) * linear)
    sigmas = torch.cat([torch.from_numpy(shifted).float(), torch.zeros(1)])

    reference = Reference(steps, look_backs, sigmas)
    for i in range(STEPS):
        if i in steps:
            v = pipe.transformer(
                hidden_states=x,
                timestep=(sigmas[i] * 1000 / 1000).expand(1),
                pooled_projections=arguments["pooled_prompt_embeds"],
                encoder_hidden_states=arguments["prompt_embeds"],
                txt_ids=text_ids,
                img_ids=image_ids.reshape(16, 3),
                return_dict=False,
            )[0]
        else:
            v = reference.velocity(i)
        x_next = x + (sigmas[i + 1] - sigmas[i]) * v
        reference.log(x, x_next, v)
        x = x_next
    return x


@pytest.mark.parametrize(
    ("steps", "look_backs"),
    [
        (list(range(STEPS)), [1] * (STEPS - 1)),
        ([0, 1, 3, 7, 14, 21, 28, 35, 42, 49], [1, 2, 1, 1, 1, 1, 1, 1, 4]),
        ([0, 1, 2, 3, 5, 9, 15, 22, 29, 36, 43, 47, 49], [1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 5, 2]),
        ([0, 49], [6]),  # looks back further than there is anything to look back on
    ],
    ids=["full", "qwen-image-10", "z-image-13", "two-steps"],
)
@torch.no_grad()
def test_a_flux_loop_written_by_hand(steps: list[int], look_backs: list[int], enable: Any) -> None:
    twin = make_flux(scheduler=euler_scheduler(shift=2.5))
    with count_forwards(twin.transformer.x_embedder) as forwards:
        expected = hand_written_flux_loop(twin, flux_arguments(), steps, look_backs, shift=2.5)
    assert len(forwards) == len(steps)
    pipe = make_flux(scheduler=euler_scheduler(shift=2.5))
    enable(pipe, policy=Schedule(steps, STEPS, look_backs))
    assert (FLUX.run(pipe) - expected).abs().max().item() == 0.0


@pytest.mark.parametrize("case", CASES, ids=str)
def test_full_budget_and_disabling_give_the_untouched_output(case: Case) -> None:
    expected = case.run(case.make())
    pipe = case.make()
    cache_dit.enable_cache(pipe, policy="uniform", budget=STEPS)
    with count_forwards(pipe.transformer.get_submodule(case.probe)) as forwards:
        assert torch.equal(case.run(pipe), expected)
    assert len(forwards) == STEPS * case.calls_per_step
    cache_dit.enable_cache(pipe, policy="uniform", budget=5)
    assert not torch.equal(case.run(pipe), expected)
    cache_dit.disable_cache(pipe)
    with count_forwards(pipe.transformer.get_submodule(case.probe)) as forwards:
        assert torch.equal(case.run(pipe), expected)
    assert len(forwards) == STEPS * case.calls_per_step


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_run_depends_on_the_run_before(case: Case, enable: Any) -> None:
    fresh = case.make()
    enable(fresh, policy="uniform", budget=9)
    expected = case.run(fresh)
    assert torch.equal(case.run(fresh), expected)

    pipe = case.make()
    enable(pipe, policy="uniform", budget=9)
    with pytest.raises(InterruptedRunError):
        case.run(pipe, seed=1, callback_on_step_end=interrupt_at(17))
    report = otcache_plugin.summary(pipe)
    assert report.finished_steps == 18  # steps 0 … 17
    assert not report.as_planned
    assert "NOT AS PLANNED" in str(report)
    assert torch.equal(case.run(pipe), expected)
    assert otcache_plugin.summary(pipe).as_planned

    case.run(pipe, num_inference_steps=13, seed=2)
    assert otcache_plugin.summary(pipe).num_inference_steps == 13
    assert torch.equal(case.run(pipe), expected)


def test_a_run_that_the_pipeline_stops_itself_is_not_as_planned(enable: Any) -> None:
    def stop(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = index == 20
        return tensors

    pipe = make_flux()
    enable(pipe, policy="uniform", budget=9)
    FLUX.run(pipe, callback_on_step_end=stop)
    report = otcache_plugin.summary(pipe)
    assert (report.finished_steps, report.as_planned) == (21, False)
    FLUX.run(pipe)
    assert otcache_plugin.summary(pipe).as_planned


class OverwritingFluxPipeline(FluxPipeline):
    """Writes the next latents into those that it handed to scheduler.step, as Kandinsky 5 does."""

    def __call__(self, **arguments: Any) -> Any:
        step = self.scheduler.step

        def overwrite(model_output: Any, timestep: Any, sample: torch.Tensor, **kw: Any) -> Any:
            return (sample.copy_(step(model_output, timestep, sample, **kw)[0]),)

        self.scheduler.step = overwrite
        try:
            return super().__call__(**arguments)
        finally:
            self.scheduler.step = step


@pytest.mark.parametrize("look_back", [1, 3])
def test_latents_that_the_pipeline_overwrites(look_back: int, enable: Any) -> None:
    schedule = UniformPolicy(STEPS, look_back).schedule(10)
    pipe = make_flux()
    enable(pipe, policy=schedule)
    expected = FLUX.run(pipe)
    pipe = make_flux(pipeline=OverwritingFluxPipeline)
    enable(pipe, policy=schedule)
    assert torch.equal(FLUX.run(pipe), expected)


def test_the_default_budget_scales_with_the_steps_of_the_run(enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy="uniform")
    for steps, budget in ((50, 15), (20, 6), (10, 3), (2, 2), (1, 1)):
        FLUX.run(pipe, num_inference_steps=steps)
        report = otcache_plugin.summary(pipe)
        assert len(report.computed_steps) == report.transformer_calls == budget
        assert report.as_planned


def test_a_speed_up_is_a_budget(enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy="uniform", speedup=4.0)
    for steps, budget in ((50, 12), (20, 5)):  # 12.5 is rounded to even
        FLUX.run(pipe, num_inference_steps=steps)
        assert otcache_plugin.summary(pipe).transformer_calls == budget


def test_custom_sigmas(enable: Any) -> None:
    sigmas = [1.0, 0.97, 0.9, 0.8, 0.5, 0.45, 0.2, 0.1]
    steps, look_backs = [0, 2, 7], [1, 3]
    pipe = make_flux()
    enable(pipe, policy=Schedule(steps, 8, look_backs))
    result = FLUX.run(pipe, sigmas=sigmas, num_inference_steps=8)
    expected = reference_run(
        FLUX, make_flux(), steps, look_backs, sigmas=sigmas, num_inference_steps=8
    )
    assert torch.equal(result, expected)
    assert not torch.equal(result, FLUX.run(pipe, num_inference_steps=8))


def test_sigmas_that_reach_zero_one_step_early(enable: Any) -> None:
    # What Z-Image's pipeline did up to diffusers 0.37: the last step has no width.
    sigmas = np.linspace(1.0, 0.0, STEPS).tolist()
    steps, look_backs = [0, 2, 4, 7, 14, 21, 28, 35, 42, 49], [1, 3, 1, 1, 1, 1, 1, 1, 4]
    pipe = Z_IMAGE.make()
    enable(pipe, policy=Schedule(steps, STEPS, look_backs))
    result = Z_IMAGE.run(pipe, sigmas=sigmas)
    assert pipe.scheduler.sigmas[-2:].tolist() == [0.0, 0.0]
    assert torch.isfinite(result).all()
    expected = reference_run(Z_IMAGE, Z_IMAGE.make(), steps, look_backs, sigmas=sigmas)
    assert torch.equal(result, expected)


def test_image_to_image_resolves_the_steps_that_are_really_run(enable: Any) -> None:
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    arguments = {"image": picture, "strength": 0.6}
    pipe = make_flux_img2img()
    enable(pipe, policy="uniform", budget=10)
    with count_forwards(pipe.transformer.x_embedder) as forwards:
        result = FLUX.run(pipe, **arguments)
    assert len(forwards) == 10
    report = otcache_plugin.summary(pipe)
    assert report.num_inference_steps == 30  # 0.6 of 50
    assert report.as_planned
    assert report.computed_steps == UniformPolicy(30).schedule(10).computed_steps

    schedule = UniformPolicy(30, look_back=2).schedule(10)
    expected = reference_run(
        FLUX, make_flux_img2img(), schedule.computed_steps, schedule.look_backs, **arguments
    )
    assert torch.equal(result, expected)


class LateFluxPipeline(FluxPipeline):
    """Begins in the middle, as some image-to-image pipelines do, without set_begin_index."""

    @torch.no_grad()
    def __call__(self, begin: int, **step_arguments: Any) -> torch.Tensor:
        x = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
        self.scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.05, 20))
        for t in self.scheduler.timesteps[begin:]:
            v = flux_velocity(self.transformer, x, t)
            x = self.scheduler.step(v, t, x, return_dict=False, **step_arguments)[0]
        return x


def make_late_flux() -> Any:
    return make_flux(pipeline=LateFluxPipeline)


class LateRun(Case):
    """A case whose call takes nothing but where it begins."""

    def run(self, pipe: Any, **overrides: Any) -> torch.Tensor:
        return pipe(overrides["begin"])


def test_a_pipeline_that_does_not_say_where_it_begins(enable: Any) -> None:
    schedule = UniformPolicy(14, look_back=2).schedule(6)
    pipe = make_late_flux()
    enable(pipe, policy="uniform", budget=6)
    with count_forwards(pipe.transformer.x_embedder) as forwards:
        result = pipe(begin=6)
    assert len(forwards) == 6
    report = otcache_plugin.summary(pipe)
    assert (report.num_inference_steps, report.transformer_calls) == (14, 6)
    assert report.as_planned

    twin = make_late_flux()
    original_set_timesteps = twin.scheduler.set_timesteps

    def set_timesteps(*args: Any, **kwargs: Any) -> None:
        original_set_timesteps(*args, **kwargs)
        twin.scheduler.set_begin_index(6)

    twin.scheduler.set_timesteps = set_timesteps
    expected = reference_run(
        LateRun("late", make_late_flux, flux_arguments, 1, "x_embedder"),
        twin,
        schedule.computed_steps,
        schedule.look_backs,
        begin=6,
    )
    assert torch.equal(result, expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_batch_is_the_runs_of_its_parts(case: Case, enable: Any) -> None:
    pipe = case.make()
    enable(pipe, policy="uniform", budget=8)
    both = case.run(pipe, batch=2)
    assert len(both) == 2
    assert otcache_plugin.summary(pipe).transformer_calls == 8 * case.calls_per_step
    schedule = UniformPolicy(STEPS, look_back=2).schedule(8)
    expected = reference_run(
        case, case.make(), schedule.computed_steps, schedule.look_backs, batch=2
    )
    assert torch.equal(both, expected)


def test_bfloat16(enable: Any) -> None:
    schedule = UniformPolicy(STEPS, look_back=3).schedule(10)
    pipe = make_flux(dtype=torch.bfloat16)
    enable(pipe, policy=schedule)
    arguments = flux_arguments(dtype=torch.bfloat16)
    result = FLUX.run(pipe, **arguments)
    assert result.dtype == torch.bfloat16
    assert torch.isfinite(result).all()
    assert otcache_plugin.summary(pipe).as_planned
    # The formulas say float32 for u and jvp, then the latents' dtype: the twin does just that.
    expected = reference_run(
        FLUX,
        make_flux(dtype=torch.bfloat16),
        schedule.computed_steps,
        schedule.look_backs,
        **arguments,
    )
    assert torch.equal(result, expected)


def test_two_transformers_share_the_steps(enable: Any) -> None:
    # Wan 2.2 denoises with one transformer above a noise level and with another one below it.
    schedule = Schedule([0, 1, 4, 9, 10, 14, 19], 20, [1, 2, 3, 1, 2, 2])
    pipe = WAN.make()
    enable(pipe, policy=schedule)
    with (
        count_forwards(pipe.transformer.patch_embedding) as high,
        count_forwards(pipe.transformer_2.patch_embedding) as low,
    ):
        result = WAN.run(pipe, num_inference_steps=20)
    boundary = sum(t >= 900 for t in pipe.scheduler.timesteps.tolist())
    assert 0 < boundary < 20
    assert len(high) == 2 * sum(step < boundary for step in schedule.computed_steps)
    assert len(low) == 2 * sum(step >= boundary for step in schedule.computed_steps)
    assert otcache_plugin.summary(pipe).transformer_calls == 14
    assert otcache_plugin.summary(pipe).as_planned
    assert torch.isfinite(result).all()


def test_a_scheduler_that_is_replaced_after_enabling(enable: Any) -> None:
    pipe = make_flux()
    former = pipe.scheduler
    enable(pipe, policy="uniform", budget=8)
    pipe.scheduler = euler_scheduler(shift=2.0)
    result = FLUX.run(pipe)
    assert otcache_plugin.summary(pipe).as_planned
    fresh = make_flux(scheduler=euler_scheduler(shift=2.0))
    enable(fresh, policy="uniform", budget=8)
    assert torch.equal(result, FLUX.run(fresh))
    assert vars(former).keys() == vars(euler_scheduler()).keys()


def test_a_scheduler_that_is_not_served_is_refused_at_the_next_call(enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy="uniform", budget=8)
    pipe.scheduler = FlowMatchHeunDiscreteScheduler()
    with (
        count_forwards(pipe.transformer.x_embedder) as forwards,
        pytest.raises(PipelineError, match="FlowMatchHeunDiscreteScheduler"),
    ):
        FLUX.run(pipe)
    assert not forwards


def test_a_scheduler_that_is_replaced_in_the_middle_of_a_call_is_noticed(enable: Any) -> None:
    def replace(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if index == 10:
            pipe.scheduler = euler_scheduler()
        return tensors

    pipe = make_flux()
    enable(pipe, policy="uniform", budget=8)
    with pytest.raises(ExecutionError, match="scheduler was replaced during its call"):
        FLUX.run(pipe, callback_on_step_end=replace)


def test_a_transformer_that_is_replaced_after_enabling(enable: Any) -> None:
    other = make_flux(num_layers=2).transformer
    expected_pipe = make_flux(num_layers=2)
    enable(expected_pipe, policy="uniform", budget=8)
    expected = FLUX.run(expected_pipe)
    pipe = make_flux()
    enable(pipe, policy="uniform", budget=8)
    assert not torch.equal(FLUX.run(pipe), expected)
    pipe.transformer = other
    with count_forwards(other.x_embedder) as forwards:
        assert torch.equal(FLUX.run(pipe), expected)
    assert len(forwards) == 8
    assert otcache_plugin.summary(pipe).as_planned
    del pipe.transformer
    assert "transformer" not in vars(pipe)


def test_a_transformer_that_is_replaced_in_the_middle_of_a_call(enable: Any) -> None:
    other = make_flux(num_layers=2).transformer

    def replace(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if index == 10:
            pipe.transformer = other
        return tensors

    pipe = make_flux()
    enable(pipe, policy=Schedule([0, 20, 49], STEPS))
    with (
        count_forwards(pipe.transformer.x_embedder) as before,
        count_forwards(other.x_embedder) as after,
    ):
        FLUX.run(pipe, callback_on_step_end=replace)
    assert (len(before), len(after)) == (1, 2)


def test_a_transformer_that_the_pipeline_does_not_call_is_noticed(enable: Any) -> None:
    class HiddenFluxPipeline(LateFluxPipeline):
        """Keeps its transformer elsewhere."""

        @torch.no_grad()
        def __call__(self) -> None:
            self.scheduler.set_timesteps(4)
            x = torch.zeros(1, 16, 16)
            for t in self.scheduler.timesteps:
                self.scheduler.step(x, t, x)

    pipe = make_flux(pipeline=HiddenFluxPipeline)
    enable(pipe, policy="uniform", budget=2)
    with pytest.raises(ExecutionError, match="step was called without the transformer"):
        pipe()


def test_steps_at_different_noise_levels_are_refused(enable: Any) -> None:
    pipe = make_late_flux()
    enable(pipe, policy="uniform", budget=2)
    with pytest.raises(ExecutionError, match="per_token_timesteps"):
        pipe(begin=0, per_token_timesteps=torch.ones(1, 16))


def state_of(pipe: Any) -> dict[str, dict[str, int]]:
    """What lies on the instances of a pipeline, by identity."""
    return {
        name: {key: id(value) for key, value in vars(part).items()}
        for name, part in (
            ("pipe", pipe),
            ("transformer", pipe.transformer),
            ("scheduler", pipe.scheduler),
        )
    }


def test_nothing_is_left_on_anything() -> None:
    pipe = make_flux()
    FLUX.run(pipe, num_inference_steps=4)
    classes = {
        cls: dict(vars(cls))
        for cls in (type(pipe), FluxTransformer2DModel, FlowMatchEulerDiscreteScheduler)
    }
    before = state_of(pipe)
    cache_dit.enable_cache(pipe, policy="uniform", budget=3)
    assert all(dict(vars(cls)) == content for cls, content in classes.items())
    enabled = state_of(pipe)
    assert enabled["pipe"] != before["pipe"]
    assert enabled["transformer"] == before["transformer"]
    assert enabled["scheduler"] == before["scheduler"]
    FLUX.run(pipe, num_inference_steps=4)
    assert all(dict(vars(cls)) == content for cls, content in classes.items())
    assert state_of(pipe)["transformer"] == before["transformer"]
    assert state_of(pipe)["scheduler"].keys() == before["scheduler"].keys()
    cache_dit.disable_cache(pipe)
    assert state_of(pipe)["pipe"].keys() == before["pipe"].keys()
    assert type(pipe) is FluxPipeline


def test_hooks_of_others_stay() -> None:
    from diffusers import FirstBlockCacheConfig

    pipe = make_flux(num_layers=2)
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.0))
    expected = FLUX.run(pipe, num_inference_steps=4)
    cache_dit.enable_cache(pipe, policy="uniform", budget=2)
    FLUX.run(pipe, num_inference_steps=4)
    assert otcache_plugin.summary(pipe).as_planned
    cache_dit.disable_cache(pipe)
    assert pipe.transformer.is_cache_enabled
    assert torch.equal(FLUX.run(pipe, num_inference_steps=4), expected)


def test_the_scheduler_keeps_its_signature(enable: Any) -> None:
    import inspect

    pipe = make_flux()
    plain = {name: inspect.signature(getattr(pipe.scheduler, name)) for name in HOOKED_METHODS}
    seen = []

    def look(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        for name in HOOKED_METHODS:
            assert name in vars(pipe.scheduler)
            seen.append(inspect.signature(getattr(pipe.scheduler, name)) == plain[name])
        return tensors

    enable(pipe, policy="uniform")
    FLUX.run(pipe, num_inference_steps=3, callback_on_step_end=look)
    assert seen == [True] * 6


HOOKED_METHODS = ("set_timesteps", "step")


@pytest.mark.parametrize("case", [FLUX, FLUX_GUIDED, QWEN], ids=str)
def test_the_log_is_as_long_as_the_largest_look_back(
    case: Case, enable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    kept: list[int] = []

    def watch(log: Any, look_back: int, *sigmas: Any) -> torch.Tensor:
        lengths.append(len(log))
        return estimate(log, look_back, *sigmas)

    def look(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        run = attachment(pipe)._call._run
        kept.append(len(run.stale.samples))
        lengths.append(len(run.log))
        return tensors

    estimate = step_log.estimate_velocity
    monkeypatch.setattr(step_log, "estimate_velocity", watch)
    pipe = case.make()
    enable(pipe, policy=Schedule([0, 10, 20, 49], STEPS, [2, 4, 3]))
    case.run(pipe, callback_on_step_end=look)
    assert len(kept) == STEPS
    assert max(lengths) == 4
    assert max(kept) == case.calls_per_step
    # The last step of a run is its end: nothing is held until the next one.
    assert (lengths[-1], kept[-1]) == (0, 0)


@pytest.mark.parametrize("compile_first", [True, False])
def test_a_compiled_transformer_stays_one_graph(compile_first: bool, enable: Any) -> None:
    expected_pipe = make_flux()
    enable(expected_pipe, policy="uniform", budget=6)
    expected = FLUX.run(expected_pipe, num_inference_steps=14)

    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    pipe = make_flux()
    if compile_first:
        pipe.transformer.compile(backend=backend)
    enable(pipe, policy="uniform", budget=6)
    if not compile_first:
        pipe.transformer.compile(backend=backend)
    assert torch.equal(FLUX.run(pipe, num_inference_steps=14), expected)
    assert otcache_plugin.summary(pipe).as_planned
    assert len(graphs) == 1
    torch.compiler.reset()


def test_other_arguments_of_cache_dit_still_count(enable: Any) -> None:
    pipe = make_flux()
    processor = pipe.transformer.transformer_blocks[0].attn.processor
    before = processor._attention_backend
    enable(pipe, policy="uniform", budget=6, attention_backend="native")
    assert processor._attention_backend != before
    with count_forwards(pipe.transformer.x_embedder) as forwards:
        FLUX.run(pipe)
    assert len(forwards) == 6
