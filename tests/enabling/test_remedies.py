"""What an error of `enable_cache` or of a run says to do is done here, and works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cache_dit
import pytest
from advice import Advice, Deed, then
from cache_dit import DBCacheConfig
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from otcache_policies import OTCacheError, Schedule
from partial_runs import COSMOS, WAN_VIDEO_TO_VIDEO, make_wan_video_to_video
from tiny_pipelines import (
    FLUX,
    FLUX_GUIDED,
    QWEN,
    WAN,
    Case,
    dpm_scheduler,
    euler_scheduler,
    make_flux,
    make_qwen,
    make_wan,
    unipc_scheduler,
)

import otcache_plugin
from otcache_plugin.models.exact_flow import ExactFlowSettings

# diffusers reads tensors with numpy in a way that numpy 2 objects to.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

STEPS = 12
EULER = "et a FlowMatchEulerDiscreteScheduler"
LOOKING_BACK = Schedule([0, 5, 11], STEPS, [1, 3])
ONE_CALL = DBCacheConfig(Fn_compute_blocks=1, enable_separate_cfg=False)
TWO_CALLS = DBCacheConfig(Fn_compute_blocks=1, enable_separate_cfg=True)


def run(case: Case = FLUX, steps: int = STEPS, call: Any = None, **arguments: Any) -> Deed:
    """Enable a policy and call the pipeline."""

    def deed(pipe: Any) -> None:
        cache_dit.enable_cache(pipe, **{"policy": "uniform", **arguments})
        case.run(pipe, num_inference_steps=steps, **(call or {}))
        assert otcache_plugin.summary(pipe).as_planned

    return deed


def scheduler(make: Callable[..., Any], **config: Any) -> Callable[[Any], None]:
    """Set another scheduler."""
    return lambda pipe: setattr(pipe, "scheduler", make(**config))


def configured(**config: Any) -> Callable[[Any], None]:
    """Set the same scheduler with other options."""

    def change(pipe: Any) -> None:
        old = pipe.scheduler
        pipe.scheduler = type(old).from_config(old.config, **config)

    return change


def cache_dits_own(case: Case | None) -> Deed:
    """Enable cache-dit's own cache; and run, where the pipeline takes the scheduler at all."""

    def deed(pipe: Any) -> None:
        cache_dit.enable_cache(pipe, cache_config=DBCacheConfig(Fn_compute_blocks=1))
        if case is not None:
            case.run(pipe, num_inference_steps=STEPS)
        cache_dit.disable_cache(pipe)

    return deed


def guidance_switched_off(pipe: Any, index: int, timestep: Any, tensors: Any) -> Any:
    """A callback: guidance is for the first steps."""
    pipe._guidance_scale = 4.0 if index < 3 else 0.0
    return tensors


def pass_the_transformer(pipe: Any) -> None:
    cache_dit.enable_cache(pipe.transformer, policy="uniform")


def cache_the_transformer(pipe: Any) -> None:
    cache_dit.enable_cache(pipe.transformer)


def uncache_the_transformer(pipe: Any) -> None:
    cache_dit.disable_cache(pipe.transformer)


@dataclass(frozen=True)
class PipeAdvice(Advice):
    """What an error says to do with a pipeline, which it makes."""

    make: Callable[[], Any] = make_flux


SEPARATE = "Pass cache_config=DBCacheConfig(Fn_compute_blocks=1, enable_separate_cfg="

ARGUMENTS = {
    "unknown-policy": PipeAdvice(run(policy="unifrom"), "uniform", run()),
    "unknown-executor": PipeAdvice(run(executor="block"), "blocks", run(executor="blocks")),
    "unknown-keyword": PipeAdvice(run(budgets=4), "Known: policy, budget", run(budget=4)),
    "small-budget": PipeAdvice(run(budget=1), "Use an integer from 2 on", run(budget=2)),
    "large-budget": PipeAdvice(run(budget=13), "Use budget=2 … 12", run(budget=12)),
    "no-speed-up": PipeAdvice(run(speedup=0.5), "such as speedup=4.0", run(speedup=4.0)),
    "both-budget": PipeAdvice(run(budget=4, speedup=3.0), "Pass one of them", run(budget=4)),
    "both-speed-up": PipeAdvice(run(budget=4, speedup=3.0), "Pass one of them", run(speedup=3.0)),
    "no-policy": PipeAdvice(run(policy=None, budget=4), "or drop them", cache_dits_own(FLUX)),
    "schedule-budget": PipeAdvice(
        run(policy=LOOKING_BACK, budget=4), "Drop it", run(policy=LOOKING_BACK)
    ),
    "no-kind-of-policy": PipeAdvice(run(policy=17), "or a Schedule", run(policy=LOOKING_BACK)),
    "block-cache-drop": PipeAdvice(run(cache_config=ONE_CALL), "Drop it", run()),
    "block-cache-blocks": PipeAdvice(
        run(cache_config=ONE_CALL),
        "or pass executor='blocks'",
        run(cache_config=ONE_CALL, executor="blocks"),
    ),
    "mask": PipeAdvice(
        run(executor="blocks", cache_config=DBCacheConfig(steps_computation_mask=[1, 0, 1])),
        "Drop it from the cache_config",
        run(executor="blocks", cache_config=DBCacheConfig(Fn_compute_blocks=1)),
    ),
    "transformer": PipeAdvice(pass_the_transformer, "Pass the diffusers pipeline", run()),
    "cached-transformer": PipeAdvice(
        then(cache_the_transformer, run()),
        "Call cache_dit.disable_cache on that one first",
        then(uncache_the_transformer, run()),
    ),
}
"""What is said of arguments."""

STEPS_OF_THE_RUN = {
    "schedule-steps": PipeAdvice(
        run(policy=LOOKING_BACK, steps=10),
        "Call the pipeline with num_inference_steps=12",
        run(policy=LOOKING_BACK),
    ),
    "schedule-schedule": PipeAdvice(
        run(policy=LOOKING_BACK, steps=10),
        "pass a schedule for 10 steps",
        run(policy=Schedule([0, 9], 10), steps=10),
    ),
    "schedule-name": PipeAdvice(
        run(policy=LOOKING_BACK, steps=10), "or a policy by name", run(steps=10)
    ),
}
"""What is said of the run's number of steps."""

HEUN = scheduler(FlowMatchHeunDiscreteScheduler)
EPSILON = scheduler(UniPCMultistepScheduler)
WAN_FLOW = {"prediction_type": "flow_prediction", "flow_shift": 3.0}
V2V = WAN_VIDEO_TO_VIDEO
FULL = {"strength": 1.0}

SCHEDULERS = {
    "none": PipeAdvice(
        then(scheduler(lambda: None), run()),
        "Set pipe.scheduler, e.g. to a FlowMatchEulerDiscreteScheduler",
        then(scheduler(euler_scheduler), run()),
    ),
    "heun-euler": PipeAdvice(then(HEUN, run()), EULER, then(scheduler(euler_scheduler), run())),
    "heun-own": PipeAdvice(then(HEUN, run()), "cache-dit's own cache", cache_dits_own(None)),
    "heun-blocks-euler": PipeAdvice(
        then(HEUN, run(executor="blocks")),
        EULER,
        then(scheduler(euler_scheduler), run(executor="blocks")),
    ),
    "heun-blocks-own": PipeAdvice(
        then(HEUN, run(executor="blocks")), "cache-dit's own cache", cache_dits_own(None)
    ),
    "epsilon": PipeAdvice(
        then(EPSILON, run(V2V)), "executor='blocks'", run(V2V, executor="blocks"), V2V.make
    ),
    "cosmos-1": PipeAdvice(
        run(COSMOS), "executor='blocks'", run(COSMOS, executor="blocks"), COSMOS.make
    ),
    "two-transformers-epsilon": PipeAdvice(
        then(EPSILON, run(WAN)), "cache-dit's own cache", cache_dits_own(None), make_wan
    ),
    "two-transformers-epsilon-blocks": PipeAdvice(
        then(EPSILON, run(WAN, executor="blocks")),
        f"S{EULER} if the model predicts a flow-matching velocity and executor='velocity'",
        then(scheduler(euler_scheduler), run(WAN)),
        make_wan,
    ),
    "two-transformers": PipeAdvice(
        run(WAN, executor="blocks"), "Use executor='velocity'", run(WAN), make_wan
    ),
    "noise": PipeAdvice(
        then(configured(stochastic_sampling=True), run()),
        "Set stochastic_sampling=False",
        then(configured(stochastic_sampling=False), run()),
    ),
    "noise-blocks": PipeAdvice(
        then(configured(stochastic_sampling=True), run()),
        "executor='blocks'",
        run(executor="blocks"),
    ),
    "flow-sigmas": PipeAdvice(
        then(scheduler(UniPCMultistepScheduler, **WAN_FLOW), run(WAN)),
        "Set use_flow_sigmas=True",
        then(configured(use_flow_sigmas=True), run(WAN)),
        make_wan,
    ),
    "beta-sigmas": PipeAdvice(
        then(scheduler(unipc_scheduler, use_beta_sigmas=True), run(WAN)),
        "Set use_beta_sigmas=False",
        then(configured(use_beta_sigmas=False), run(WAN)),
        make_wan,
    ),
    "sde": PipeAdvice(
        then(scheduler(dpm_scheduler, algorithm_type="sde-dpmsolver++"), run(WAN)),
        "Set algorithm_type='dpmsolver++'",
        then(configured(algorithm_type="dpmsolver++"), run(WAN)),
        make_wan,
    ),
    "other-solver": PipeAdvice(
        then(scheduler(unipc_scheduler, solver_p=DPMSolverMultistepScheduler()), run(WAN)),
        "Set solver_p=None",
        then(lambda pipe: setattr(pipe.scheduler, "solver_p", None), run(WAN)),
        make_wan,
    ),
    "look-back-schedule": PipeAdvice(
        then(scheduler(unipc_scheduler), run(V2V, policy=LOOKING_BACK)),
        "Pass a schedule of look-back 1, policy=Schedule(computed_steps, 12)",
        run(V2V, policy=Schedule([0, 5, 11], 12), call=FULL),
        make_wan_video_to_video,
    ),
    "look-back-euler": PipeAdvice(
        then(scheduler(unipc_scheduler), run(V2V, policy=LOOKING_BACK)),
        f"or s{EULER}",
        then(scheduler(euler_scheduler), run(V2V, policy=LOOKING_BACK, call=FULL)),
        make_wan_video_to_video,
    ),
    "look-back-blocks": PipeAdvice(
        then(scheduler(unipc_scheduler), run(V2V, policy=LOOKING_BACK)),
        "executor='blocks'",
        run(V2V, policy=LOOKING_BACK, executor="blocks", call=FULL),
        make_wan_video_to_video,
    ),
}
"""What is said of schedulers."""

CALLS = {
    "two-calls": PipeAdvice(
        run(FLUX_GUIDED, executor="blocks"),
        f"{SEPARATE}True)",
        run(FLUX_GUIDED, executor="blocks", cache_config=TWO_CALLS),
    ),
    "one-call": PipeAdvice(
        run(QWEN, executor="blocks", call={"true_cfg_scale": 1.0}),
        f"{SEPARATE}False)",
        run(QWEN, executor="blocks", cache_config=ONE_CALL, call={"true_cfg_scale": 1.0}),
        make_qwen,
    ),
    "fewer-calls-later": PipeAdvice(
        run(V2V, executor="blocks", call={"callback_on_step_end": guidance_switched_off}),
        "Pass executor='velocity'",
        run(V2V, call={"callback_on_step_end": guidance_switched_off}),
        V2V.make,
    ),
}
"""What is said of the transformer's calls."""

ADVICE = {**ARGUMENTS, **STEPS_OF_THE_RUN, **SCHEDULERS, **CALLS}


@pytest.mark.parametrize("name", ADVICE)
def test_what_an_error_says_to_do_works(name: str) -> None:
    advice = ADVICE[name]
    advice.require_true(advice.make())


@pytest.mark.parametrize("name", ADVICE)
def test_no_executor_is_named_that_would_name_another(name: str) -> None:
    """Whatever executor an error names takes the pipeline as it is, but for what is set first."""
    advice = ADVICE[name]
    pipe = advice.make()
    with pytest.raises(OTCacheError) as caught:
        advice.wrong(pipe)
    for executor in ("velocity", "blocks"):
        if f"or use executor='{executor}'" in str(caught.value):
            otcache_plugin.enable_cache(pipe, policy="uniform", executor=executor)


def test_a_pipeline_that_cache_dit_does_not_know() -> None:
    pipe = otcache_plugin.load_exact_flow_pipeline(ExactFlowSettings(scenes=60))
    with pytest.raises(OTCacheError, match="Use executor='velocity'"):
        cache_dit.enable_cache(pipe, policy="uniform", executor="blocks")
    otcache_plugin.enable_cache(pipe, policy="uniform", executor="velocity")
    pipe.scheduler = FlowMatchHeunDiscreteScheduler()
    with pytest.raises(OTCacheError, match="it calls the transformer twice") as caught:
        otcache_plugin.enable_cache(pipe, policy="uniform")
    assert str(caught.value).endswith("if the model predicts a flow-matching velocity.")
