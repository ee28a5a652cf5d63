"""How far a cached run ends from the full one, against plain loops over latents."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from otcache_policies import Schedule
from otcache_policies.displacement import Candidates, euler_response, increments
from plain_runs import plain_run, uneven_sigmas


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    total = draw(st.integers(3, 16))
    inner = draw(st.sets(st.integers(1, total - 2)))
    steps = [0, *sorted(inner), total - 1]
    look_backs = [draw(st.integers(1, 6)) for _ in steps[1:]]
    return Schedule(steps, total, look_backs)


@given(schedules(), st.integers(0, 1000))
def test_displacement_of_a_run_on_latents(schedule: Schedule, seed: int) -> None:
    total = schedule.num_inference_steps
    sigmas = uneven_sigmas(seed, total)
    recorded = np.random.default_rng(seed).normal(size=(total, 3))
    full = plain_run(Schedule.full(total), recorded, sigmas)
    cached = plain_run(schedule, recorded, sigmas)
    own = increments(Candidates.of([schedule]), sigmas, euler_response(sigmas))[0]
    scale = max(np.abs(cached[-1]).max(), 1.0)
    np.testing.assert_allclose(
        own.sum(axis=0) @ recorded, cached[-1] - full[-1], atol=1e-9 * scale, rtol=1e-9
    )
    # A segment's share is what is added between its two ends.
    displaced = [ours - theirs for ours, theirs in zip(cached, full, strict=True)]
    for segment, increment in zip(schedule.segments, own, strict=True):
        added = displaced[segment.end] - displaced[segment.start]
        np.testing.assert_allclose(increment @ recorded, added, atol=1e-9 * scale, rtol=1e-9)


def test_one_cached_step_by_hand() -> None:
    """Step 1 of 0, 2 repeats v[0] with look-back 1: it adds its width times v[0] - v[1]."""
    sigmas = np.array([1.0, 0.6, 0.3, 0.0])
    own = increments(Candidates.of([Schedule([0, 2], 3)]), sigmas, euler_response(sigmas))
    np.testing.assert_allclose(own, [[[-0.3, 0.3, 0.0]]], atol=1e-15)


def test_schedules_side_by_side_are_those_alone() -> None:
    sigmas = uneven_sigmas(0, 8)
    several = [Schedule([0, 2, 5, 7], 8, [1, 2, 3]), Schedule([0, 1, 3, 7], 8, [1, 1, 6])]
    together = increments(Candidates.of(several), sigmas, euler_response(sigmas))
    for schedule, own in zip(several, together, strict=True):
        alone = increments(Candidates.of([schedule]), sigmas, euler_response(sigmas))[0]
        np.testing.assert_array_equal(own, alone)


def test_a_computed_run_is_displaced_nowhere() -> None:
    sigmas = uneven_sigmas(3, 6)
    own = increments(Candidates.of([Schedule.full(6)]), sigmas, euler_response(sigmas))
    assert not own.any()


def test_candidates_are_the_schedules_again() -> None:
    schedule = Schedule([0, 1, 4, 5], 6, [1, 3, 1])
    assert Candidates.of([schedule]).schedule(0) == schedule


@pytest.mark.parametrize("weight", [0.5, -2.0])
def test_the_response_scales_what_a_step_adds(weight: float) -> None:
    sigmas = np.array([1.0, 0.6, 0.3, 0.0])
    response = np.array([9.0, weight, 9.0])
    own = increments(Candidates.of([Schedule([0, 2], 3)]), sigmas, response)
    np.testing.assert_allclose(own, [[[weight, -weight, 0.0]]], atol=1e-15)
