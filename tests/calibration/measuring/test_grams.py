"""The quadratic form of a schedule's error, against runs whose model answers what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from otcache_policies import EdgeTable, Schedule
from otcache_policies.gram import GramTable
from otcache_policies.gram_edges import l2_edges
from tiny_pipelines import FLUX, WAN, make_flux, make_wan, unipc_scheduler

from otcache_plugin.calibration.measuring.grams import gram_matrices, scheduler_response
from otcache_plugin.calibration.measuring.trajectories import Trajectory, record
from otcache_plugin.executors.estimator import LogEntry, estimate_velocity
from otcache_plugin.executors.velocity import VelocityExecutor
from otcache_plugin.pipelines.attaching import attached
from otcache_plugin.runs.plan import SchedulePlan

STEPS = 12


def latents_of(
    pipe: Any, case: Any, trajectory: Trajectory, schedule: Schedule, **call: Any
) -> Any:
    """Return the last latents of a cached run whose computed steps answer what was recorded."""
    taken: list[torch.Tensor] = []

    class Answering:
        """Begins calls of the executor in which every step is handed what was recorded of it."""

        def begin(self, pipe: Any, setup: Any) -> Any:
            begun = activation.begin(pipe, setup)
            own_step = begun.step

            def step(original: Any, model_output: Any, *args: Any, **kwargs: Any) -> Any:
                result = own_step(original, trajectory.v(len(taken)), *args, **kwargs)
                taken.append(result[0])
                return result

            begun.step = step
            return begun

    activation = VelocityExecutor().prepare(pipe, SchedulePlan(schedule), {})
    with attached(pipe, Answering()):
        case.run(pipe, **call)
    return taken[-1]


def random_schedule(rng: np.random.Generator, steps: int, max_look_back: int) -> Schedule:
    budget = int(rng.integers(3, steps - 2))
    inner = rng.choice(np.arange(1, steps - 1), budget - 2, replace=False)
    look_backs = rng.integers(1, max_look_back + 1, budget - 1)
    return Schedule([0, *sorted(inner.tolist()), steps - 1], steps, look_backs.tolist())


@pytest.mark.parametrize(
    ("case", "make", "call", "max_look_back"),
    [
        pytest.param(FLUX, make_flux, {"num_inference_steps": STEPS}, 6, id="flux"),
        pytest.param(
            FLUX,
            make_flux,
            {"sigmas": [1.0, 0.93, 0.9, 0.7, 0.55, 0.5, 0.31, 0.2, 0.12, 0.1, 0.05, 0.02]},
            6,
            id="flux-custom-sigmas",
        ),
        pytest.param(
            WAN,
            lambda: make_wan(scheduler=unipc_scheduler()),
            {"num_inference_steps": STEPS},
            1,
            id="wan-unipc",
        ),
    ],
)
def test_the_form_is_the_displacement_of_a_run(
    case: Any, make: Any, call: dict[str, Any], max_look_back: int, tmp_path: Path
) -> None:
    pipe = make()
    with record(pipe, tmp_path) as trajectory:
        case.run(pipe, **call)
    sigmas = trajectory.sigmas.double().numpy()
    table = GramTable(
        gram_matrices(trajectory).astype(np.float32), sigmas, scheduler_response(trajectory)
    )
    rng = np.random.default_rng(0)
    for _ in range(8):
        schedule = random_schedule(rng, STEPS, max_look_back)
        x = latents_of(pipe, case, trajectory, schedule, **call)
        displacement = (x.double() - trajectory.x(STEPS).double()).flatten(1)
        squares = displacement.square().mean(1).numpy()
        # Latents and matrices are float32; displacements of 1e-3 and less drown in its rounding.
        np.testing.assert_allclose(table.errors(schedule), squares, rtol=2e-3, atol=1e-9)


def test_the_response_to_euler_steps_is_the_change_of_sigma(tmp_path: Path) -> None:
    pipe = make_flux()
    with record(pipe, tmp_path) as trajectory:
        FLUX.run(pipe, num_inference_steps=STEPS)
    expected = np.diff(trajectory.sigmas.double().numpy())
    np.testing.assert_allclose(scheduler_response(trajectory), expected, atol=1e-6)


def test_matrices_are_inner_products(tmp_path: Path) -> None:
    pipe = make_flux()
    with record(pipe, tmp_path) as trajectory:
        FLUX.run(pipe, num_inference_steps=STEPS)
    grams = gram_matrices(trajectory)
    for s, t in ((0, 0), (2, 9), (11, 4)):
        for pair in range(len(grams)):
            product = (trajectory.v(s)[pair].double() * trajectory.v(t)[pair].double()).mean()
            assert grams[pair, s, t] == pytest.approx(float(product), rel=1e-12)


def rolled_out(trajectory: Trajectory, start: int, look_back: int) -> list[torch.Tensor]:
    """Return the latents before each step after `start`, with nothing computed after it."""
    sigmas = trajectory.sigmas
    log = [
        LogEntry(
            trajectory.x(step),
            trajectory.x(step + 1),
            trajectory.v(step),
            sigmas[step],
            sigmas[step + 1],
        )
        for step in range(start + 1)
    ]
    for step in range(start + 1, trajectory.num_inference_steps):
        v = estimate_velocity(log, look_back, sigmas[step], sigmas[step + 1])
        x = log[-1].x_after
        after = x + (sigmas[step + 1] - sigmas[step]) * v
        log.append(LogEntry(x, after, v, sigmas[step], sigmas[step + 1]))
    return [entry.x_before for entry in log[start + 1 :]]


def test_edges_of_the_matrices_are_those_of_rolled_out_latents(tmp_path: Path) -> None:
    pipe = make_flux()
    with record(pipe, tmp_path) as trajectory:
        FLUX.run(pipe, num_inference_steps=STEPS)
    sigmas = trajectory.sigmas.double().numpy()
    edges = l2_edges(GramTable(gram_matrices(trajectory).astype(np.float32), sigmas), 6)
    assert edges.shape == (STEPS, STEPS, 6)
    for start in range(STEPS):
        assert np.isinf(edges[start, : start + 1]).all()
        for look_back in range(1, 7):
            for end, x in enumerate(rolled_out(trajectory, start, look_back), start + 1):
                wrong = (x.double() - trajectory.x(end).double()).square().mean().sqrt()
                expected = float(wrong) / abs(sigmas[end] - sigmas[start])
                assert edges[start, end, look_back - 1] == pytest.approx(
                    expected, rel=2e-3, abs=1e-4
                )
    # They are the velocity errors of an edge table.
    EdgeTable(edges, sigmas)
