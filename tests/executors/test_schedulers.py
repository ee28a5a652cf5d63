"""Schedulers other than Euler's: told apart, refused with a remedy, or run by plain reuse.

What a multistep run has to give is worked out in a loop of its own: the transformers at the
computed steps, and at the cached ones the last velocity for the scheduler once more.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers.schedulers
import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SASolverScheduler,
    UniPCMultistepScheduler,
)
from otcache_policies import Schedule, UniformPolicy
from tiny_documents import sampling, tiny_flux_sigmas, write_document
from tiny_pipelines import (
    FLUX,
    WAN,
    count_forwards,
    dpm_scheduler,
    euler_scheduler,
    flux_arguments,
    make_flux,
    make_wan,
    unipc_scheduler,
    wan_arguments,
)

import otcache_plugin
from otcache_plugin.calibration.errors import RecordingError
from otcache_plugin.calibration.measuring.edges import edge_errors
from otcache_plugin.calibration.measuring.trajectories import Trajectory, record
from otcache_plugin.errors import PipelineError
from otcache_plugin.executors.schedulers import Substitute, copy_scheduler, supported_substitute
from otcache_plugin.runs.notices import RunWarning

# diffusers reads tensors with numpy in a way that numpy 2 objects to.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

STEPS = 14
COMPUTED = [0, 1, 2, 5, 9, 10, 13]
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}

MULTISTEP = {
    "wan": lambda: unipc_scheduler(flow_shift=5.0),
    "skyreels": lambda: unipc_scheduler(flow_shift=8.0, solver_order=3),
    "cosmos": lambda: unipc_scheduler(
        use_karras_sigmas=True, sigma_max=200.0, sigma_min=0.01, flow_shift=1.0
    ),
    "sana": dpm_scheduler,
    "sana-heun": lambda: dpm_scheduler(solver_type="heun", lower_order_final=False),
    "third-order": lambda: dpm_scheduler(solver_order=3, euler_at_final=True),
}
"""Deterministic multistep solvers of flow-matching velocities, by what they are used for."""


@pytest.fixture(params=MULTISTEP)
def multistep(request: pytest.FixtureRequest) -> Any:
    """Each of them."""
    return MULTISTEP[request.param]()


# What can stand in, of all the schedulers that diffusers has.


def test_euler_steps_of_a_velocity() -> None:
    for config in ({}, {"use_dynamic_shifting": True}, {"use_karras_sigmas": True}):
        scheduler = FlowMatchEulerDiscreteScheduler(**config)
        assert supported_substitute(scheduler) is Substitute.AVERAGE_VELOCITY


def test_multistep_solvers_of_a_velocity(multistep: Any) -> None:
    assert supported_substitute(multistep) is Substitute.PLAIN_REUSE


ARGUMENTS = {
    "AmusedScheduler": {"mask_token_id": 5},
    "VQDiffusionScheduler": {"num_vec_classes": 5},
    "RFD4ProteinaScheduler": {
        "schedule_mode": "log",
        "noise_mode": "tan",
        "tsr_k": 1.0,
        "tsr_sigma": 1.0,
    },
}
OTHERS = sorted(
    name
    for name in dir(diffusers.schedulers)
    if name.endswith("Scheduler") and name != "FlowMatchEulerDiscreteScheduler"
)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.filterwarnings("ignore")
def test_every_other_scheduler_is_refused_as_it_comes(name: str) -> None:
    try:
        scheduler = getattr(diffusers.schedulers, name)(**ARGUMENTS.get(name, {}))
    except ImportError as error:
        pytest.skip(str(error))
    with pytest.raises(PipelineError) as caught:
        supported_substitute(scheduler)
    assert (caught.value.field, caught.value.value) == ("scheduler", name)
    # Whatever is recommended instead has to be possible.
    pipe = make_flux()
    pipe.scheduler = scheduler
    with pytest.raises(PipelineError) as caught:
        otcache_plugin.enable_cache(pipe, policy="uniform")
    blocks = hasattr(scheduler, "sigmas") and scheduler.order == 1
    assert ("executor='blocks'" in caught.value.remedy) == blocks
    assert ("cache-dit's own cache, without policy=" in caught.value.remedy) != blocks
    if blocks:
        otcache_plugin.enable_cache(pipe, policy="uniform", executor="blocks")
        otcache_plugin.disable_cache(pipe)
    else:
        with pytest.raises(PipelineError, match=r"it has no sigmas|at sigmas that repeat"):
            otcache_plugin.enable_cache(pipe, policy="uniform", executor="blocks")


class OwnStep(FlowMatchEulerDiscreteScheduler):
    """Takes other steps, whatever it is a kind of."""

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Like none other."""
        raise NotImplementedError


class OwnTimesteps(FlowMatchEulerDiscreteScheduler):
    """Takes Euler steps between noise levels of its own."""

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        """Like none other."""


def test_a_subclass_is_known_by_its_step() -> None:
    assert supported_substitute(OwnTimesteps()) is Substitute.AVERAGE_VELOCITY
    with pytest.raises(PipelineError, match="'OwnStep': it overrides step"):
        supported_substitute(OwnStep())


@pytest.mark.parametrize(
    ("scheduler", "field", "problem", "remedy"),
    [
        (
            lambda: euler_scheduler(stochastic_sampling=True),
            "scheduler.stochastic_sampling",
            "its steps add noise",
            "Set stochastic_sampling=False",
        ),
        (
            lambda: dpm_scheduler(algorithm_type="sde-dpmsolver++"),
            "scheduler.algorithm_type",
            "its steps add noise",
            "Set algorithm_type='dpmsolver++'",
        ),
        (
            lambda: UniPCMultistepScheduler(prediction_type="flow_prediction"),
            "scheduler.use_flow_sigmas",
            "noise levels of this UniPCMultistepScheduler are not those of flow matching",
            "Set use_flow_sigmas=True",
        ),
        (
            lambda: UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="v_prediction"),
            "scheduler",
            "its prediction_type is 'v_prediction', not a flow-matching velocity",
            "Set a FlowMatchEulerDiscreteScheduler",
        ),
        (
            lambda: DPMSolverMultistepScheduler(prediction_type="sample"),
            "scheduler",
            "its prediction_type is 'sample'",
            "Set a FlowMatchEulerDiscreteScheduler",
        ),
        (
            lambda: unipc_scheduler(use_beta_sigmas=True),
            "scheduler.use_beta_sigmas",
            "it overrides use_flow_sigmas",
            "Set use_beta_sigmas=False",
        ),
        (
            lambda: dpm_scheduler(use_karras_sigmas=True),
            "scheduler.use_karras_sigmas",
            "it overrides use_flow_sigmas",
            "Set use_karras_sigmas=False",
        ),
        (
            lambda: unipc_scheduler(solver_p=DPMSolverMultistepScheduler()),
            "scheduler.solver_p",
            "another scheduler takes a part of its steps",
            "Set solver_p=None",
        ),
        (
            lambda: DPMSolverSinglestepScheduler(**FLOW),
            "scheduler",
            "not known to take one deterministic step",
            "Set a FlowMatchEulerDiscreteScheduler",
        ),
        (lambda: DEISMultistepScheduler(**FLOW), "scheduler", "not known", "Set a FlowMatch"),
        (lambda: SASolverScheduler(**FLOW), "scheduler", "not known", "Set a FlowMatch"),
        (lambda: EulerDiscreteScheduler(), "scheduler", "'epsilon'", "Set a FlowMatch"),
        (
            lambda: CogVideoXDDIMScheduler(prediction_type="v_prediction"),
            "scheduler",
            "'v_prediction'",
            "Set a FlowMatchEulerDiscreteScheduler",
        ),
    ],
)
def test_refusals_say_what_is_the_matter(
    scheduler: Any, field: str, problem: str, remedy: str
) -> None:
    with pytest.raises(PipelineError) as caught:
        supported_substitute(scheduler())
    assert caught.value.field == field
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


# Copies.


def test_a_copy_is_in_the_same_state_and_on_its_own(multistep: Any) -> None:
    multistep.set_timesteps(6)
    multistep.set_begin_index(0)
    x, v = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for timestep in multistep.timesteps[:3]:
        x = multistep.step(v, timestep, x, return_dict=False)[0]
    twin = copy_scheduler(multistep)
    ends = []
    for scheduler in (multistep, twin):
        end = x
        for timestep in scheduler.timesteps[3:]:
            end = scheduler.step(v, timestep, end, return_dict=False)[0]
        ends.append(end)
    assert torch.equal(ends[0], ends[1])
    assert twin.step_index == multistep.step_index == 6


def test_a_copy_has_no_hooks(enable: Any, tmp_path: Path) -> None:
    pipe = make_flux()
    enable(pipe, policy="uniform", budget=3)
    for make_copy in (copy_scheduler, copy.deepcopy):
        with record(pipe, tmp_path):
            twin = make_copy(pipe.scheduler)
        for name in ("step", "set_timesteps"):
            method = getattr(twin, name)
            assert method.__self__ is twin
            assert method.__func__ is getattr(FlowMatchEulerDiscreteScheduler, name)
    pipe.scheduler.step = lambda *args: None
    assert "step" not in vars(copy_scheduler(pipe.scheduler))
    del pipe.scheduler.step


# Runs.


def wan_run(
    pipe: Any, scheduler: Any, computed: Sequence[int], steps: int = STEPS
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """A Wan run without its pipeline: the latents before every step and at the end, and every v."""
    arguments = wan_arguments()
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(steps)
    x = [torch.randn(1, 4, 2, 8, 8, generator=torch.Generator().manual_seed(0))]
    v: list[torch.Tensor] = []
    for step, timestep in enumerate(scheduler.timesteps):
        if step in computed:
            transformer = pipe.transformer if timestep >= 900 else pipe.transformer_2
            positive, negative = (
                transformer(
                    hidden_states=x[-1],
                    timestep=timestep.expand(1),
                    encoder_hidden_states=arguments[name],
                    return_dict=False,
                )[0]
                for name in ("prompt_embeds", "negative_prompt_embeds")
            )
            v.append(negative + arguments["guidance_scale"] * (positive - negative))
        else:
            v.append(v[-1])
        x.append(scheduler.step(v[-1], timestep, x[-1], return_dict=False)[0])
    return x, v


@torch.no_grad()
def test_plain_reuse_bit_by_bit(multistep: Any, enable: Any) -> None:
    expected, _ = wan_run(make_wan(), multistep, COMPUTED)
    pipe = make_wan(scheduler=multistep)
    plain = WAN.run(pipe, num_inference_steps=STEPS)
    assert torch.equal(plain, wan_run(make_wan(), multistep, range(STEPS))[0][-1])
    enable(pipe, policy=Schedule(COMPUTED, STEPS))
    with (
        count_forwards(pipe.transformer.patch_embedding) as high,
        count_forwards(pipe.transformer_2.patch_embedding) as low,
    ):
        result = WAN.run(pipe, num_inference_steps=STEPS)
    assert len(high) + len(low) == 2 * len(COMPUTED)
    assert result.dtype == torch.float32
    assert (result - expected[-1]).abs().max().item() == 0.0
    assert (result - plain).abs().mean() > 1e-3
    report = otcache_plugin.summary(pipe)
    assert report.as_planned
    assert report.computed_steps == tuple(COMPUTED)
    assert torch.equal(WAN.run(pipe, num_inference_steps=STEPS), result)


def test_look_backs_without_cached_steps_are_allowed(enable: Any) -> None:
    pipe = make_wan(scheduler=unipc_scheduler())
    expected = WAN.run(pipe, num_inference_steps=4)
    enable(pipe, policy=Schedule([0, 1, 2, 3], 4, [3, 3, 3]))
    assert torch.equal(WAN.run(pipe, num_inference_steps=4), expected)


@pytest.mark.parametrize("make_scheduler", [unipc_scheduler, dpm_scheduler])
def test_a_schedule_that_looks_back_is_refused_at_once(make_scheduler: Any, enable: Any) -> None:
    pipe = make_wan(scheduler=make_scheduler())
    expected = WAN.run(pipe, num_inference_steps=STEPS)
    schedule = Schedule([0, 4, 13], STEPS, [1, 3])
    with pytest.raises(PipelineError) as caught:
        enable(pipe, policy=schedule)
    message = str(caught.value)
    assert message.startswith(f"scheduler='{type(pipe.scheduler).__name__}': its steps are not")
    assert "the schedule has a look-back of 3" in message
    assert "policy=Schedule(computed_steps, 14)" in message
    assert "set a FlowMatchEulerDiscreteScheduler" in message
    assert "executor=" not in message  # two transformers
    assert torch.equal(WAN.run(pipe, num_inference_steps=STEPS), expected)


@pytest.mark.parametrize("make_scheduler", [unipc_scheduler, dpm_scheduler])
def test_uniform_does_not_look_back_there(make_scheduler: Any, enable: Any) -> None:
    pipe = make_wan(scheduler=make_scheduler())
    enable(pipe, policy="uniform", budget=5)
    result = WAN.run(pipe, num_inference_steps=STEPS)
    report = otcache_plugin.summary(pipe)
    planned = UniformPolicy(STEPS).schedule(5)
    assert (report.planned_steps, report.as_planned) == (planned.computed_steps, True)
    assert report.look_backs == (1, 1, 1, 1)
    enable(pipe, policy=planned)
    assert torch.equal(WAN.run(pipe, num_inference_steps=STEPS), result)
    # As everywhere, it looks back where that is served.
    pipe.scheduler = euler_scheduler()
    enable(pipe, policy="uniform", budget=5)
    WAN.run(pipe, num_inference_steps=STEPS)
    assert otcache_plugin.summary(pipe).look_backs == (2, 2, 2, 2)


def test_a_document_that_looks_back_is_refused_too(enable: Any, tmp_path: Path) -> None:
    set_up = {"pipeline": "WanPipeline", "guidance": {"guidance_scale": 4.0}}
    write_document(tmp_path, sampling=sampling(tiny_flux_sigmas(), **set_up))
    refused = pytest.raises(PipelineError, match="or a policy calibrated with this scheduler")
    pipe = make_wan(scheduler=unipc_scheduler())
    with refused as caught:
        enable(pipe, policy=tmp_path)
    assert "the policy's schedule for 50 steps has a look-back of" in str(caught.value)
    # A budget of other steps than the pipeline's usual ones tells nothing before the run.
    enable(pipe, policy=tmp_path, budget=5)
    other = pytest.warns(RunWarning, match="scheduler UniPCMultistepScheduler instead of")
    with other, refused:
        WAN.run(pipe, num_inference_steps=STEPS)


# Edges.


def recorded(pipe: Any, folder: Path, steps: int = STEPS, **arguments: Any) -> Trajectory:
    with record(pipe, folder) as trajectory:
        WAN.run(pipe, num_inference_steps=steps, **arguments)
    return trajectory


@torch.no_grad()
def test_the_recorded_run_taken_again_is_the_same(multistep: Any, tmp_path: Path) -> None:
    trajectory = recorded(make_wan(scheduler=multistep), tmp_path)
    x, v = wan_run(make_wan(), multistep, range(STEPS))
    assert torch.equal(trajectory.sigmas, multistep.sigmas)
    assert trajectory.scheduler.step_index is None
    scheduler = copy_scheduler(trajectory.scheduler)
    again = trajectory.x(0)
    for i in range(STEPS):
        assert torch.equal(trajectory.x(i), x[i])
        assert torch.equal(trajectory.v(i), v[i])
        again = scheduler.step(v[i], trajectory.timesteps[i], again, return_dict=False)[0]
        assert torch.equal(trajectory.x(i + 1), again)


@torch.no_grad()
def test_an_edge_is_the_error_of_the_cached_run(multistep: Any, tmp_path: Path) -> None:
    pipe = make_wan(scheduler=multistep)
    trajectory = recorded(pipe, tmp_path)
    errors = edge_errors(trajectory)
    assert errors.shape == (1, STEPS, STEPS, 1)
    sigmas = trajectory.sigmas
    for i, j in ((0, 2), (0, 13), (1, 4), (3, 9), (6, 8), (8, 13), (11, 13)):
        cached, _ = wan_run(pipe, multistep, [*range(i + 1), *range(j, STEPS)])
        difference = (cached[j] - trajectory.x(j)).abs().flatten(1).mean(1)
        expected = (difference / (sigmas[i] - sigmas[j])).numpy()
        assert expected > 0
        np.testing.assert_array_equal(errors[:, i, j, 0], expected)
    start, end = np.indices((STEPS, STEPS))
    assert np.all(errors[0, end <= start] == np.inf)
    assert np.all(errors[0, end == start + 1] == 0)
    assert np.all((errors[0, end > start + 1] > 0) & np.isfinite(errors[0, end > start + 1]))


def test_pairs_are_told_apart(tmp_path: Path) -> None:
    pipe = make_wan(scheduler=unipc_scheduler())
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    together = recorded(pipe, tmp_path / "both", batch=2, generator=generators)
    errors = edge_errors(together)
    assert errors.shape == (2, STEPS, STEPS, 1)
    edges = np.isfinite(errors[0])
    assert np.abs(errors[0, edges] - errors[1, edges]).max() > 1e-3
    alone = edge_errors(recorded(pipe, tmp_path / "first", latents=together.x(0)[:1]))
    np.testing.assert_allclose(errors[:1], alone, rtol=1e-3, atol=1e-5)


def test_a_multistep_solver_that_is_not_repeatable_has_no_edges(tmp_path: Path) -> None:
    pipe = make_wan(scheduler=unipc_scheduler())
    solve = pipe.scheduler.multistep_uni_p_bh_update
    calls = []

    def noisy(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(1)
        return solve(*args, **kwargs) + 1e-6 * (len(calls) == 9)

    pipe.scheduler.multistep_uni_p_bh_update = noisy
    trajectory = recorded(pipe, tmp_path)
    with pytest.raises(RecordingError, match="velocity of step 8 again, it does not give"):
        edge_errors(trajectory)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_latents_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    # diffusers' UniPC of type bh1 divides by zero where the last noise level is zero.
    pipe = make_wan(scheduler=unipc_scheduler(solver_type="bh1"))
    assert not WAN.run(pipe, num_inference_steps=STEPS).isfinite().all()
    with pytest.raises(RecordingError, match="step=13: the latents after it are not finite"):
        recorded(pipe, tmp_path)


def test_half_precision_edges_are_those_of_the_executor(enable: Any, tmp_path: Path) -> None:
    pipe = make_flux(dtype=torch.bfloat16)
    arguments = {"num_inference_steps": STEPS, **flux_arguments(dtype=torch.bfloat16)}

    def run(name: str) -> Trajectory:
        with record(pipe, tmp_path / name) as trajectory:
            FLUX.run(pipe, **arguments)
        return trajectory

    full = run("full")
    assert full.v(3).dtype == full.x(3).dtype == torch.bfloat16
    errors = edge_errors(full)
    for i, j, k in ((0, 5, 1), (2, 7, 3), (5, 13, 6)):
        steps = [*range(i + 1), *range(j, STEPS)]
        look_backs = [k if step == i else 1 for step in steps[:-1]]
        enable(pipe, policy=Schedule(steps, STEPS, look_backs))
        difference = (run("cached").x(j).float() - full.x(j).float()).abs().mean()
        expected = float(difference / (full.sigmas[i] - full.sigmas[j]))
        assert errors[0, i, j, k - 1] == pytest.approx(expected, rel=1e-6)
        otcache_plugin.disable_cache(pipe)
