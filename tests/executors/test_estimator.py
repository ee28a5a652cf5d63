"""The average-velocity estimator, by numbers that are worked out in the comments."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from otcache_plugin.executors.estimator import LogEntry, estimate_velocity


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float32)


def euler_log(x: float, velocities: Sequence[float], sigmas: Sequence[float]) -> list[LogEntry]:
    """The log of Euler steps of these velocities from x."""
    log = []
    position = torch.tensor([x], dtype=torch.float64)
    for i, velocity in enumerate(velocities):
        after = position + (sigmas[i + 1] - sigmas[i]) * velocity
        log.append(
            LogEntry(
                position.float(),
                after.float(),
                torch.tensor([velocity]),
                scalar(sigmas[i]),
                scalar(sigmas[i + 1]),
            )
        )
        position = after
    return log


def test_look_back_two_by_hand() -> None:
    # sigma 1.0 → 0.9 → 0.8, then the cached step 0.8 → 0.7.
    # x = 2.00, v = 1.00:  x after the first step is 2.00 - 0.1 * 1.00 = 1.90
    #           v = 0.60:  x after the second step is 1.90 - 0.1 * 0.60 = 1.84
    # u   = (1.84 - 2.00) / (0.8 - 1.0)  =  0.80
    # jvp = (1.00 - 0.80) / (0.8 - 1.0)  = -1.00
    # v   = 0.60 - (-1.00) * (0.7 - 0.8) =  0.50
    log = euler_log(2.00, [1.00, 0.60], [1.0, 0.9, 0.8])
    assert log[1].x_after.item() == pytest.approx(1.84, abs=1e-6)
    velocity = estimate_velocity(log, 2, scalar(0.8), scalar(0.7))
    assert velocity.item() == pytest.approx(0.50, abs=1e-5)


def test_look_back_three_by_hand() -> None:
    # sigma 1.0 → 0.8 → 0.7 → 0.5, then 0.5 → 0.3.
    # x = 1.000, v = 2.0: x = 0.600;  v = 1.0: x = 0.500;  v = 0.5: x = 0.400
    # u   = (0.400 - 1.000) / (0.5 - 1.0) =  1.20
    # jvp = (2.0 - 1.20) / (0.5 - 1.0)    = -1.60
    # v   = 0.5 - (-1.60) * (0.3 - 0.5)   =  0.18
    log = euler_log(1.0, [2.0, 1.0, 0.5], [1.0, 0.8, 0.7, 0.5])
    velocity = estimate_velocity(log, 3, scalar(0.5), scalar(0.3))
    assert velocity.item() == pytest.approx(0.18, abs=1e-5)


def test_look_back_one_is_reuse_up_to_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    x, v = torch.randn(2, 4, 8, 8, generator=generator)
    sigma, sigma_next = scalar(0.71), scalar(0.69)
    log = [LogEntry(x, x + (sigma_next - sigma) * v, v, sigma, sigma_next)]
    velocity = estimate_velocity(log, 1, sigma_next, scalar(0.67))
    torch.testing.assert_close(velocity, v, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("v", "slope"), [(0.3, 2.0), (-1.2, 0.5), (0.0, -3.0)])
def test_a_linear_velocity_is_extrapolated_exactly(v: float, slope: float) -> None:
    # Two Euler steps of the same width h have u = (v0 + v1) / 2, so over K = 2
    #     jvp = (v0 - u) / (2h) = -(v1 - v0) / (4h) = -slope / 4.
    # A velocity that is linear in sigma changes by slope * h from step to step; the estimate
    # changes it by slope / 4 times the width of the cached step. They agree at a width of 4h:
    # sigma 1.0, 0.9, 0.8, then 0.4.
    velocities = [v + slope * (sigma - 1.0) for sigma in (1.0, 0.9, 0.8)]
    log = euler_log(1.0, velocities[:2], [1.0, 0.9, 0.8])
    estimate = estimate_velocity(log, 2, scalar(0.8), scalar(0.4))
    assert estimate.item() == pytest.approx(velocities[2], abs=1e-5)


@pytest.mark.parametrize("look_back", range(1, 7))
def test_a_constant_velocity_stays(look_back: int) -> None:
    log = euler_log(0.5, [0.7] * 4, [1.0, 0.9, 0.7, 0.6, 0.2])
    estimate = estimate_velocity(log, look_back, scalar(0.2), scalar(0.1))
    assert estimate.item() == pytest.approx(0.7, abs=1e-5)


def test_the_window_is_cut_at_the_beginning() -> None:
    log = euler_log(2.00, [1.00, 0.60], [1.0, 0.9, 0.8])
    two = estimate_velocity(log, 2, scalar(0.8), scalar(0.7))
    assert torch.equal(estimate_velocity(log, 6, scalar(0.8), scalar(0.7)), two)
    assert not torch.equal(estimate_velocity(log, 1, scalar(0.8), scalar(0.7)), two)


def test_entries_before_the_window_are_never_read() -> None:
    log = euler_log(2.00, [1.00, 0.60], [1.0, 0.9, 0.8])
    nothing = torch.full((1,), torch.nan)
    older = LogEntry(nothing, nothing, nothing, scalar(torch.nan), scalar(torch.nan))
    expected = estimate_velocity(log, 2, scalar(0.8), scalar(0.7))
    assert torch.equal(estimate_velocity([older, *log], 2, scalar(0.8), scalar(0.7)), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_shape_and_dtype_are_those_of_the_last_velocity(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 2, 3, 5, generator=generator).to(dtype)
    sigmas = [scalar(sigma) for sigma in (0.9, 0.8, 0.7, 0.6)]
    log = [LogEntry(x[i], x[i + 1], x[3 - i], sigmas[i], sigmas[i + 1]) for i in range(2)]
    velocity = estimate_velocity(log, 2, sigmas[2], sigmas[3])
    assert velocity.shape == (2, 3, 5)
    assert velocity.dtype == dtype
    assert torch.isfinite(velocity).all()


def test_differences_are_taken_in_single_precision() -> None:
    # Between 256 and 512 bfloat16 knows even numbers only: 258 - 1 = 257 would become 256.
    # u   = (258 - 1) / (0.5 - 1.0)         = -514
    # jvp = (2 - (-514)) / (0.5 - 1.0)      = -1032, a multiple of 8 and so a bfloat16
    # v   = 3 - (-1032) * (0.375 - 0.5)     = -126
    one, middle, last, two, three = (
        torch.tensor([value], dtype=torch.bfloat16) for value in (1.0, 128.0, 258.0, 2.0, 3.0)
    )
    log = [
        LogEntry(one, middle, two, scalar(1.0), scalar(0.75)),
        LogEntry(middle, last, three, scalar(0.75), scalar(0.5)),
    ]
    velocity = estimate_velocity(log, 2, scalar(0.5), scalar(0.375))
    assert velocity.item() == -126.0
