"""Recorded runs and the edge table, against formulas written out here and real cached runs."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from otcache_policies import Schedule

import otcache_plugin
from otcache_plugin.calibration.calibrate import CalibrationSettings, record_pairs
from otcache_plugin.calibration.recording import (
    EdgeAccumulator,
    Trajectory,
    record,
    velocity_errors,
)
from otcache_plugin.errors import PipelineError
from otcache_plugin.evaluation.pairs import generate
from otcache_plugin.models.exact_flow import ExactFlowPipeline
from otcache_plugin.models.setups import ModelSetup

STEPS = 10
PROMPTS = [f"kind {number}" for number in range(5)]


class Silent:
    """Progress that nobody looks at."""

    def start(self, stage: str, total: int) -> None: ...

    def advance(self) -> None: ...


def run(pipe: ExactFlowPipeline, prompts: list[str] = PROMPTS[:2], first: int = 0) -> torch.Tensor:
    """Final latents; the first prompt is drawn with seed ``first``, the next ones with the next."""
    generators = [torch.Generator().manual_seed(first + i) for i in range(len(prompts))]
    latents: torch.Tensor = pipe(
        prompts, num_inference_steps=STEPS, generator=generators, output_type="latent"
    ).images
    return latents


def recorded(pipe: ExactFlowPipeline, *args: Any) -> Trajectory:
    with record(pipe) as trajectory:
        run(pipe, *args)
    return trajectory


def test_a_recorded_run_takes_euler_steps_of_its_velocities(pipe: ExactFlowPipeline) -> None:
    with record(pipe) as trajectory:
        final = run(pipe)
    x, v, s = trajectory.x, trajectory.v, trajectory.sigmas
    assert (len(x), len(v), len(s)) == (STEPS + 1, STEPS, STEPS + 1)
    noise = [torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]
    assert torch.equal(x[0], torch.cat(noise))
    assert torch.equal(x[-1], final)
    assert s[0] == 1
    assert s[-1] == 0
    for i in range(STEPS):
        assert s[i + 1] < s[i]
        assert torch.equal(x[i + 1], x[i] + (s[i + 1] - s[i]) * v[i])


def test_the_recorded_velocities_are_the_transformers(pipe: ExactFlowPipeline) -> None:
    trajectory = recorded(pipe)
    conditions = [pipe.transformer.condition(prompt) for prompt in PROMPTS[:2]]
    for x, v, sigma in zip(trajectory.x[:-1], trajectory.v, trajectory.sigmas[:-1], strict=True):
        torch.testing.assert_close(v, pipe.transformer(x, sigma, conditions), rtol=1e-4, atol=1e-4)


def test_recording_changes_nothing_and_leaves_no_trace(pipe: ExactFlowPipeline) -> None:
    plain = run(pipe)
    attributes = set(vars(pipe.scheduler))
    with record(pipe):
        signature = inspect.signature(pipe.scheduler.step)
        assert torch.equal(run(pipe), plain)
    assert set(vars(pipe.scheduler)) == attributes
    assert signature == inspect.signature(pipe.scheduler.step)
    assert torch.equal(run(pipe), plain)


def test_an_exception_inside_leaves_no_trace(pipe: ExactFlowPipeline) -> None:
    with pytest.raises(ValueError, match="none of the flow's scenes"), record(pipe):  # noqa: PT012
        run(pipe)
        run(pipe, ["nothing the flow knows"])
    assert "step" not in vars(pipe.scheduler)


def test_a_scheduler_that_takes_no_euler_steps_is_refused(pipe: ExactFlowPipeline) -> None:
    pipe.scheduler.register_to_config(stochastic_sampling=True)
    with pytest.raises(PipelineError, match="stochastic_sampling"), record(pipe):
        pass
    assert "step" not in vars(pipe.scheduler)


SCHEDULE = Schedule([0, 1, 4, 7, 9], STEPS, [1, 2, 3, 2])


def assert_untouched(pipe: ExactFlowPipeline, plain: torch.Tensor) -> None:
    assert not {"step", "set_timesteps"} & set(vars(pipe.scheduler))
    assert torch.equal(run(pipe), plain)


def test_recording_an_accelerated_pipeline(pipe: ExactFlowPipeline) -> None:
    plain = run(pipe)
    otcache_plugin.enable_cache(pipe, policy=SCHEDULE)
    cached = run(pipe)
    assert not torch.equal(cached, plain)
    trajectory = recorded(pipe)
    assert torch.equal(trajectory.x[-1], cached)
    # The policy is as much at work as before.
    assert torch.equal(run(pipe), cached)
    assert otcache_plugin.summary(pipe).as_planned
    otcache_plugin.disable_cache(pipe)
    assert_untouched(pipe, plain)


def test_enabling_a_policy_while_recording(pipe: ExactFlowPipeline) -> None:
    plain = run(pipe)
    with record(pipe) as trajectory:
        otcache_plugin.enable_cache(pipe, policy=SCHEDULE)
        cached = run(pipe)
    for i in range(STEPS):  # below the policy: what is recorded are the velocities it put in
        step = (trajectory.sigmas[i + 1] - trajectory.sigmas[i]) * trajectory.v[i]
        assert torch.equal(trajectory.x[i + 1], trajectory.x[i] + step)
    # The recording went first, from under the policy.
    assert torch.equal(run(pipe), cached)
    assert len(trajectory.v) == STEPS
    otcache_plugin.disable_cache(pipe)
    assert_untouched(pipe, plain)


def test_disabling_a_policy_while_recording(pipe: ExactFlowPipeline) -> None:
    plain = run(pipe)
    otcache_plugin.enable_cache(pipe, policy=SCHEDULE)
    with record(pipe) as trajectory:
        otcache_plugin.disable_cache(pipe)
        assert torch.equal(run(pipe), plain)
    assert torch.equal(trajectory.x[-1], plain)
    assert_untouched(pipe, plain)


def test_what_somebody_else_put_on_the_scheduler_stays(pipe: ExactFlowPipeline) -> None:
    calls = []
    own = pipe.scheduler.step

    def step(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return own(*args, **kwargs)

    pipe.scheduler.step = step
    recorded(pipe)
    otcache_plugin.enable_cache(pipe, policy=SCHEDULE)
    recorded(pipe)
    otcache_plugin.disable_cache(pipe)
    assert pipe.scheduler.step is step
    assert len(calls) == 2 * STEPS


def roll_out(trajectory: Trajectory, i: int, j: int, k: int) -> torch.Tensor:
    """The latents before step j when i+1 … j-1 are cached with look-back k, from the formulas."""
    s = trajectory.sigmas
    x_before, x_after = trajectory.x[: i + 1], trajectory.x[1 : i + 2]
    sigma_before, sigma_after = list(s[: i + 1]), list(s[1 : i + 2])
    v = trajectory.v[: i + 1]
    for step in range(i + 1, j):
        length = len(v)
        assert length == step
        r = length - min(k, length)
        window = sigma_after[length - 1] - sigma_before[r]
        u = (x_after[length - 1] - x_before[r]) / window
        jvp = (v[r] - u) / window
        velocity = v[length - 1] - jvp * (s[step + 1] - s[step])
        x = x_after[length - 1]
        x_before, x_after = [*x_before, x], [*x_after, x + (s[step + 1] - s[step]) * velocity]
        sigma_before, sigma_after = [*sigma_before, s[step]], [*sigma_after, s[step + 1]]
        v = [*v, velocity]
    return x_after[j - 1]


def error_of(trajectory: Trajectory, x_hat: torch.Tensor, i: int, j: int) -> float:
    """``mean |u_hat - u|`` of latents before step j that ought to have been the recorded ones."""
    span = trajectory.sigmas[j] - trajectory.sigmas[i]
    u_hat = (x_hat - trajectory.x[i]) / span
    u = (trajectory.x[j] - trajectory.x[i]) / span
    return float((u_hat - u).abs().mean())


def test_edges_cost_what_the_formulas_say(pipe: ExactFlowPipeline) -> None:
    trajectory = recorded(pipe)
    errors = velocity_errors(trajectory)
    assert errors.dtype == np.float32
    assert errors.shape == (STEPS, STEPS, 6)
    for i in range(STEPS):
        assert np.all(errors[i, : i + 1] == np.inf)
        assert np.all(errors[i, i + 1 : i + 2] == 0)
        for j in range(i + 2, STEPS):
            expected = [
                error_of(trajectory, roll_out(trajectory, i, j, k), i, j) for k in range(1, 7)
            ]
            np.testing.assert_allclose(errors[i, j], expected, rtol=1e-4, atol=1e-6)


def test_fewer_look_backs(pipe: ExactFlowPipeline) -> None:
    trajectory = recorded(pipe)
    few = velocity_errors(trajectory, max_look_back=2)
    np.testing.assert_array_equal(few, velocity_errors(trajectory)[:, :, :2])


@pytest.mark.parametrize(
    ("i", "j", "k"),
    [(0, 2, 1), (0, 9, 4), (1, 4, 2), (2, 7, 1), (2, 9, 3), (4, 6, 2), (4, 9, 6), (7, 9, 5)],
)
def test_edges_cost_what_a_cached_run_does(pipe: ExactFlowPipeline, i: int, j: int, k: int) -> None:
    full = recorded(pipe)
    steps = [*range(i + 1), *range(j, STEPS)]
    look_backs = [k if start == i else 1 for start in steps[:-1]]
    otcache_plugin.enable_cache(pipe, policy=Schedule(steps, STEPS, look_backs))
    cached = recorded(pipe)
    assert otcache_plugin.summary(pipe).computed_steps == tuple(steps)
    assert torch.equal(cached.x[i + 1], full.x[i + 1])
    expected = error_of(full, cached.x[j], i, j)
    np.testing.assert_allclose(velocity_errors(full)[i, j, k - 1], expected, rtol=1e-5)


def test_batches_count_by_their_pairs(pipe: ExactFlowPipeline) -> None:
    together, batched = EdgeAccumulator(), EdgeAccumulator()
    together.add(recorded(pipe, PROMPTS, 0))
    batched.add(recorded(pipe, PROMPTS[:4], 0))
    batched.add(recorded(pipe, PROMPTS[4:], 4))
    expected = together.table()
    table = batched.table()
    np.testing.assert_allclose(
        table.velocity_errors, expected.velocity_errors, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_array_equal(table.sigmas, expected.sigmas)
    np.testing.assert_allclose(table.sigmas, pipe.scheduler.sigmas.numpy(), rtol=1e-6)


def test_recording_pairs(setup: ModelSetup) -> None:
    pairs = setup.calibration_pairs(5)
    arguments = {"num_inference_steps": STEPS}
    table, pictures = record_pairs(
        setup, pairs, arguments, CalibrationSettings(batch_size=2), Silent()
    )
    assert torch.equal(pictures, generate(setup.pipe, pairs, arguments, 2))
    together, _ = record_pairs(setup, pairs, arguments, CalibrationSettings(batch_size=5), Silent())
    np.testing.assert_allclose(
        table.velocity_errors, together.velocity_errors, rtol=1e-4, atol=1e-6
    )
