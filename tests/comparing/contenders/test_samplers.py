"""Fewer steps: the solvers take the pipeline's noise levels, and its scheduler comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from contender_runs import latents
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from otcache_plugin.comparing.contenders.samplers import DPMSolver, FewerSteps, UniPC
from otcache_plugin.comparing.methods import Bench, Variant
from otcache_plugin.models.setups import ModelSetup

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # DPM-Solver's own

DYNAMIC = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}


@pytest.mark.parametrize("method", [UniPC(), DPMSolver()])
@pytest.mark.parametrize("config", [{"shift": 1.0}, {"shift": 3.0}, DYNAMIC])
def test_a_solver_takes_the_noise_levels_of_the_euler_scheduler(
    method: UniPC, config: dict[str, Any]
) -> None:
    euler = FlowMatchEulerDiscreteScheduler(**config)
    mu = {"mu": 0.8} if euler.config.use_dynamic_shifting else {}
    euler.set_timesteps(sigmas=np.linspace(1, 1 / 20, 20), **mu)
    solver = method.solver(euler.config)
    solver.set_timesteps(20, **mu)
    # They begin and space theirs as if the flow had a thousandth less, times the shift's slope.
    assert (solver.sigmas - euler.sigmas).abs().max() < 0.001 * max(3.0, np.exp(0.8))


@pytest.mark.parametrize("method", [UniPC(), DPMSolver()])
def test_a_shift_that_a_pipeline_hands_over_is_the_schedulers(method: UniPC) -> None:
    """FluxPipeline hands every scheduler the shift of its size, of whatever the config says."""
    euler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    solver = method.solver(euler.config)
    handed = solver.config.get("base_shift") if isinstance(method, DPMSolver) else 0.7
    solver.set_timesteps(20, mu=handed)
    euler.set_timesteps(sigmas=np.linspace(1, 1 / 20, 20))
    assert (solver.sigmas - euler.sigmas).abs().max() < 0.003


@pytest.mark.parametrize("method", [UniPC(), DPMSolver()])
def test_a_full_run_of_a_solver_is_nearer_the_flow_than_eulers(
    method: UniPC, exact_flow: ModelSetup, bench_of: Callable[..., Bench]
) -> None:
    bench = bench_of(exact_flow, steps=50)
    fine = latents(bench, num_inference_steps=1000)
    euler = latents(bench)
    with method.enabled(bench, Variant(method.name, "50 steps", 50)) as changes:
        solved = latents(bench, **changes)
    assert (solved - fine).square().mean() < 0.1 * (euler - fine).square().mean()


@pytest.mark.parametrize("method", [FewerSteps(), UniPC(), DPMSolver()])
def test_the_pipeline_is_as_it_was(method: FewerSteps, bench: Bench) -> None:
    scheduler, full = bench.pipe.scheduler, latents(bench)
    (variant,) = method.variants(bench)
    with method.enabled(bench, variant) as changes:
        assert changes == {"num_inference_steps": 3}
        assert not torch.equal(latents(bench, **changes), full)
    assert bench.pipe.scheduler is scheduler
    with pytest.raises(RuntimeError, match="stop"), method.enabled(bench, variant):
        raise RuntimeError("stop")
    assert bench.pipe.scheduler is scheduler
    assert torch.equal(latents(bench), full)


@pytest.mark.parametrize(
    ("scheduler", "method", "reason"),
    [
        (UniPCMultistepScheduler(), UniPC(), "is a UniPCMultistepScheduler"),
        (FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True), UniPC(), "use_karras_sigmas"),
        (FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), UniPC(), "add noise"),
        (FlowMatchEulerDiscreteScheduler(shift_terminal=0.02), DPMSolver(), "shift_terminal"),
        (
            FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="linear"),
            DPMSolver(),
            "shifts by 'linear'",
        ),
    ],
)
def test_other_noise_levels_are_refused(
    scheduler: Any, method: UniPC, reason: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.pipe, "scheduler", scheduler)
    assert reason in (method.refusal(bench) or "")
    assert FewerSteps().refusal(bench) is None


def test_unipc_takes_a_terminal_shift(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift_terminal=0.02)
    monkeypatch.setattr(bench.pipe, "scheduler", scheduler)
    assert UniPC().refusal(bench) is None
