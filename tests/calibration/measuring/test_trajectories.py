"""Recorded runs: what they hold, and that recording one changes nothing."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded_runs import PROMPTS, SCHEDULE, STEPS, Recorded, run
from torch.multiprocessing.reductions import StorageWeakRef

import otcache_plugin
from otcache_plugin.calibration.errors import RecordingError
from otcache_plugin.calibration.measuring.edges import edge_errors
from otcache_plugin.calibration.measuring.trajectories import Trajectory, record
from otcache_plugin.errors import PipelineError
from otcache_plugin.models.exact_flow import ExactFlowPipeline


def test_a_recorded_run_takes_euler_steps_of_its_velocities(
    pipe: ExactFlowPipeline, tmp_path: Path
) -> None:
    with record(pipe, tmp_path / "new" / "folder") as trajectory:
        final = run(pipe)
    x, v, s = trajectory.x, trajectory.v, trajectory.sigmas
    assert trajectory.num_inference_steps == len(trajectory.timesteps) == STEPS
    assert (s.shape, s.dtype) == ((STEPS + 1,), torch.float32)
    noise = [torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]
    assert torch.equal(x(0), torch.cat(noise))
    assert torch.equal(x(STEPS), final)
    assert s[0] == 1
    assert s[-1] == 0
    for i in range(STEPS):
        assert s[i + 1] < s[i]
        assert torch.equal(x(i + 1), x(i) + (s[i + 1] - s[i]) * v(i))
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 2 * STEPS + 1


def test_the_recorded_velocities_are_the_transformers(
    pipe: ExactFlowPipeline, recorded: Recorded
) -> None:
    trajectory = recorded(pipe)
    conditions = [pipe.transformer.condition(prompt) for prompt in PROMPTS[:2]]
    for i in range(STEPS):
        expected = pipe.transformer(trajectory.x(i), trajectory.sigmas[i], conditions)
        torch.testing.assert_close(trajectory.v(i), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tensors_are_kept_as_they_are(dtype: torch.dtype, tmp_path: Path) -> None:
    trajectory = Trajectory(tmp_path)
    tensor = torch.randn(2, 3, 4).to(dtype).transpose(1, 2)
    trajectory.write("x", 7, tensor)
    assert trajectory.x(7).dtype == dtype
    assert torch.equal(trajectory.x(7), tensor)


def test_a_folder_can_be_recorded_to_again(pipe: ExactFlowPipeline, tmp_path: Path) -> None:
    for first in (0, 7):
        with record(pipe, tmp_path) as trajectory:
            run(pipe, PROMPTS[:1], first)
        noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(first))
        assert torch.equal(trajectory.x(0), noise)
        if first == 0:
            kept = trajectory.x(STEPS)
            expected = kept.clone()
    # What was read before lies in a file that is gone by now, not in one that was overwritten.
    assert torch.equal(kept, expected)
    assert not torch.equal(trajectory.x(STEPS), expected)


def test_nothing_is_kept_from_step_to_step(pipe: ExactFlowPipeline, tmp_path: Path) -> None:
    own, outputs, alive = pipe.scheduler.step, [], []

    def step(*args: Any, **kwargs: Any) -> Any:
        alive.append(sum(not reference.expired() for reference in outputs))
        result = own(*args, **kwargs)
        outputs.extend(StorageWeakRef(tensor.untyped_storage()) for tensor in (args[0], result[0]))
        return result

    pipe.scheduler.step = step
    with record(pipe, tmp_path) as trajectory:
        run(pipe)
        assert len(outputs) == 2 * STEPS
        assert all(reference.expired() for reference in outputs)
    # Of all earlier steps only the latents that the next one begins with.
    assert alive == [0] + [1] * (STEPS - 1)
    assert edge_errors(trajectory).shape == (2, STEPS, STEPS, 6)


def test_recording_changes_nothing_and_leaves_no_trace(
    pipe: ExactFlowPipeline, tmp_path: Path
) -> None:
    plain = run(pipe)
    attributes = set(vars(pipe.scheduler))
    with record(pipe, tmp_path):
        signature = inspect.signature(pipe.scheduler.step)
        assert torch.equal(run(pipe), plain)
    assert set(vars(pipe.scheduler)) == attributes
    assert signature == inspect.signature(pipe.scheduler.step)
    assert torch.equal(run(pipe), plain)


def test_an_exception_inside_leaves_no_trace(pipe: ExactFlowPipeline, tmp_path: Path) -> None:
    unknown = pytest.raises(ValueError, match="none of the flow's scenes")
    with unknown, record(pipe, tmp_path):
        run(pipe)
        run(pipe, ["nothing the flow knows"])
    assert "step" not in vars(pipe.scheduler)


def test_a_scheduler_whose_steps_add_noise_is_refused(
    pipe: ExactFlowPipeline, tmp_path: Path
) -> None:
    pipe.scheduler.register_to_config(stochastic_sampling=True)
    refused = pytest.raises(PipelineError, match="stochastic_sampling")
    with refused, record(pipe, tmp_path / "new"):
        pass
    assert "step" not in vars(pipe.scheduler)
    assert not (tmp_path / "new").exists()


def test_latents_that_change_between_steps_are_refused(
    pipe: ExactFlowPipeline, tmp_path: Path
) -> None:
    def change(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        if arguments[1] < 0.5:
            arguments[0][0, 0, 0, 0] += 1e-3

    pipe.transformer.register_forward_pre_hook(change)
    changed = pytest.raises(RecordingError, match="not those that the step before gave")
    with changed as caught, record(pipe, tmp_path) as trajectory:
        run(pipe)
    step = caught.value.value
    assert trajectory.sigmas[step] < 0.5 <= trajectory.sigmas[step - 1]
    assert "step" not in vars(pipe.scheduler)


def test_two_runs_in_one_recording_are_refused(pipe: ExactFlowPipeline, tmp_path: Path) -> None:
    second = pytest.raises(RecordingError, match="a second run in one recording")
    with second, record(pipe, tmp_path):
        run(pipe)
        run(pipe)


def assert_untouched(pipe: ExactFlowPipeline, plain: torch.Tensor) -> None:
    assert not {"step", "set_timesteps"} & set(vars(pipe.scheduler))
    assert torch.equal(run(pipe), plain)


def test_recording_an_accelerated_pipeline(pipe: ExactFlowPipeline, recorded: Recorded) -> None:
    plain = run(pipe)
    otcache_plugin.enable_cache(pipe, policy=SCHEDULE)
    cached = run(pipe)
    assert not torch.equal(cached, plain)
    trajectory = recorded(pipe)
    assert torch.equal(trajectory.x(STEPS), cached)
    # The policy is as much at work as before.
    assert torch.equal(run(pipe), cached)
    assert otcache_plugin.summary(pipe).as_planned
    otcache_plugin.disable_cache(pipe)
    assert_untouched(pipe, plain)


def test_enabling_a_policy_while_recording(pipe: ExactFlowPipeline, tmp_path: Path) -> None:
    plain = run(pipe)
    with record(pipe, tmp_path) as trajectory:
        otcache_plugin.enable_cache(pipe, policy=SCHEDULE)
        cached = run(pipe)
    for i in range(STEPS):  # below the policy: what is recorded are the velocities it put in
        step = (trajectory.sigmas[i + 1] - trajectory.sigmas[i]) * trajectory.v(i)
        assert torch.equal(trajectory.x(i + 1), trajectory.x(i) + step)
    # The recording went first, from under the policy.
    assert torch.equal(run(pipe), cached)
    assert len(trajectory.timesteps) == STEPS
    otcache_plugin.disable_cache(pipe)
    assert_untouched(pipe, plain)


def test_disabling_a_policy_while_recording(pipe: ExactFlowPipeline, tmp_path: Path) -> None:
    plain = run(pipe)
    otcache_plugin.enable_cache(pipe, policy=SCHEDULE)
    with record(pipe, tmp_path) as trajectory:
        otcache_plugin.disable_cache(pipe)
        assert torch.equal(run(pipe), plain)
    assert torch.equal(trajectory.x(STEPS), plain)
    assert_untouched(pipe, plain)


def test_what_somebody_else_put_on_the_scheduler_stays(
    pipe: ExactFlowPipeline, recorded: Recorded
) -> None:
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
