"""What others do between the steps of a run: latents changed, guidance switched on and off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from otcache_policies import Schedule
from tiny_pipelines import FLUX, Z_IMAGE, count_forwards, make_flux, make_z_image

import otcache_plugin
from otcache_plugin.executors.estimator import LogEntry, estimate_velocity

STEPS = 12
SCHEDULE = Schedule([0, 1, 2, 3, 8, 11], STEPS, [1, 1, 1, 4, 2])


def made(latents: torch.Tensor) -> torch.Tensor:
    """Other latents."""
    return latents * 1.1 + 0.05


def in_place(latents: torch.Tensor) -> torch.Tensor:
    """The same object with other content."""
    return latents.mul_(1.1).add_(0.05)


def untouched(latents: torch.Tensor) -> torch.Tensor:
    """The very same."""
    return latents


class Run:
    """A FLUX run whose callback changes the latents, and what its scheduler was given and gave."""

    def __init__(self, pipe: Any, change: Callable[[Any], Any], at: tuple[int, ...]) -> None:
        self.velocities: list[torch.Tensor] = []
        self.samples: list[torch.Tensor] = []
        self.results: list[torch.Tensor] = []
        original = pipe.scheduler.step

        def step(velocity: Any, timestep: Any, sample: Any, **arguments: Any) -> Any:
            result = original(velocity, timestep, sample, **arguments)
            self.velocities.append(velocity.clone())
            self.samples.append(sample.clone())
            self.results.append(result[0].clone())
            return result

        def callback(pipe: Any, index: int, timestep: Any, tensors: Any) -> Any:
            return {"latents": change(tensors["latents"])} if index in at else tensors

        pipe.scheduler.step = step
        self.latents = FLUX.run(pipe, num_inference_steps=STEPS, callback_on_step_end=callback)
        del pipe.scheduler.step
        self.sigmas = pipe.scheduler.sigmas

    def estimate(self, step: int, look_back: int) -> torch.Tensor:
        """The velocity of a cached step: what MeanCache's formula gives for the steps alone."""
        first = step - look_back
        widths = self.sigmas[1:] - self.sigmas[:-1]
        travelled = sum(self.results[each] - self.samples[each] for each in range(first, step))
        window = self.sigmas[step] - self.sigmas[first]
        slope = (self.velocities[first] - travelled / window) / window
        return self.velocities[step - 1] - slope * widths[step]


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("at", [(3,), (4,), (3, 6), tuple(range(STEPS))])
@pytest.mark.parametrize("change", [made, in_place])
def test_changed_latents_are_no_part_of_the_average(
    change: Any, at: tuple[int, ...], inference: bool, enable: Any
) -> None:
    pipe = make_flux()
    enable(pipe, policy=SCHEDULE)
    with torch.inference_mode(inference):
        run = Run(pipe, change, at)
    for step in (4, 5, 6, 7):
        torch.testing.assert_close(
            run.velocities[step], run.estimate(step, 4), rtol=1e-4, atol=1e-4
        )
    for step in (9, 10):
        torch.testing.assert_close(
            run.velocities[step], run.estimate(step, 2), rtol=1e-4, atol=1e-4
        )
    assert otcache_plugin.summary(pipe).as_planned


def test_a_change_made_in_place_is_the_same_as_any(enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy=SCHEDULE)
    anew, same = (Run(pipe, change, (3, 6)).latents for change in (made, in_place))
    assert torch.equal(anew, same)


def test_untouched_latents_are_averaged_as_in_the_paper(enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy=SCHEDULE)
    assert torch.equal(
        Run(pipe, untouched, tuple(range(STEPS))).latents, FLUX.run(pipe, num_inference_steps=STEPS)
    )


def test_the_average_by_hand() -> None:
    """Velocities 4 and 2 over half a unit of sigma each, and 100 added in between."""

    def entry(x: float, v: float, sigma: float, **said: Any) -> LogEntry:
        latents = torch.tensor([x])
        after = latents - 0.5 * v
        return LogEntry(
            latents,
            after,
            torch.tensor([v]),
            torch.tensor(sigma),
            torch.tensor(sigma - 0.5),
            **said,
        )

    log = [entry(10.0, 4.0, 2.0), entry(108.0, 2.0, 1.5, shift=torch.tensor([100.0]))]
    # The average is 3 and the window -1, so the slope is -1: 2 - (-1)(-0.5) = 1.5.
    estimate = estimate_velocity(log, 2, torch.tensor(1.0), torch.tensor(0.5))
    assert estimate.tolist() == [1.5]
    log = [entry(10.0, 4.0, 2.0), entry(8.0, 2.0, 1.5)]
    assert estimate_velocity(log, 2, torch.tensor(1.0), torch.tensor(0.5)).tolist() == [1.5]


def z_image_run(pipe: Any, scales: dict[int, float]) -> torch.Tensor:
    """A run whose callback sets the guidance scale after some steps."""

    def callback(pipe: Any, index: int, timestep: Any, tensors: Any) -> Any:
        pipe._guidance_scale = scales.get(index, pipe._guidance_scale)
        return tensors

    return Z_IMAGE.run(pipe, num_inference_steps=STEPS, callback_on_step_end=callback)


@pytest.mark.parametrize(
    "scales", [{0: 0.0, 4: 4.0}, {0: 0.0, 3: 4.0}, {4: 0.0}, {2: 0.0, 5: 4.0, 6: 0.0, 8: 4.0}]
)
def test_guidance_is_switched_within_a_run(scales: dict[int, float], enable: Any) -> None:
    pipe = make_z_image()
    expected = z_image_run(pipe, scales)
    enable(pipe, policy=Schedule.full(STEPS))
    assert torch.equal(z_image_run(pipe, scales), expected)
    enable(pipe, policy=SCHEDULE)
    with count_forwards(pipe.transformer.all_x_embedder["2-1"]) as forwards:
        result = z_image_run(pipe, scales)
    assert len(forwards) == SCHEDULE.budget
    assert otcache_plugin.summary(pipe).as_planned
    assert result.isfinite().all()


@pytest.mark.parametrize("scales", [{0: 0.0, 7: 4.0}, {7: 8.0}])
def test_no_slope_is_taken_over_a_change_of_guidance(scales: dict[int, float], enable: Any) -> None:
    """Otherwise guided from step 8 on, which is computed: a window may span one past step alone."""
    pipe = make_z_image()
    enable(pipe, policy=Schedule([0, 1, 2, 3, 8, 11], STEPS, [1, 1, 1, 1, 2]))
    looking_back = z_image_run(pipe, scales)
    velocities: list[torch.Tensor] = []
    original = pipe.scheduler.step

    def step(velocity: Any, *args: Any, **arguments: Any) -> Any:
        velocities.append(velocity)
        return original(velocity, *args, **arguments)

    pipe.scheduler.step = step
    assert torch.equal(z_image_run(pipe, scales), looking_back)
    del pipe.scheduler.step
    torch.testing.assert_close(velocities[9], velocities[8], rtol=1e-4, atol=1e-4)
    assert otcache_plugin.summary(pipe).notes == ()


@pytest.mark.parametrize(
    ("scales", "late"), [({4: 8.0}, "5"), ({3: 8.0, 5: 2.0, 7: 4.0}, "4, 6"), ({4: 4.0}, "")]
)
def test_a_report_says_where_guidance_changes_too_late(
    scales: dict[int, float], late: str, enable: Any
) -> None:
    """Steps 4 to 7 are cached, and step 8 is computed."""
    pipe = make_z_image()
    enable(pipe, policy=SCHEDULE)
    z_image_run(pipe, scales)
    report = otcache_plugin.summary(pipe)
    assert report.as_planned
    said = f"The guidance was changed before {late}, where nothing is computed"
    assert [note.startswith(said) for note in report.notes] == ([True] if late else [])
    z_image_run(pipe, {})
    assert otcache_plugin.summary(pipe).notes == ()
