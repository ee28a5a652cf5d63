"""Schedules as quantile functions, and the optimal transport between them.

OTCache (arXiv 2606.31026, section 3.3) lifts a schedule to a monotone curve from progress u in
[0, 1] to position in [0, 1]. In one dimension the Wasserstein geodesic between two such curves is
their weighted mean; sampling it at any number of points and rounding gives a schedule of any
budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from otcache_policies._validation import as_array, as_int, as_positive
from otcache_policies.errors import BudgetError, FieldError, ScheduleError
from otcache_policies.schedule import Schedule
from otcache_policies.sigmas import as_sigmas, same_sigmas

__all__ = [
    "geodesic_weights",
    "inherited_look_backs",
    "lift",
    "predict",
    "project_sum",
    "realise",
    "require_between",
    "require_endpoints",
    "transfer",
    "wasserstein_barycentre",
]

_RESOLUTION = 1001
_TOLERANCE = 1e-9  # What rounding may do to a sum of weights or to a spline's end.


def lift(schedule: Schedule, resolution: int = _RESOLUTION) -> NDArray[np.float64]:
    """Return the quantile function of a schedule, sampled at equal steps of progress.

    PCHIP through (i / (B-1), computed_steps[i] / (T-1)): strictly increasing from 0 to 1, without
    overshoot (OTCache, "continuous representation via monotonic splines").

    Args:
        schedule: A schedule of at least two steps.
        resolution: Number of samples, at least 2.

    Returns:
        float64 of shape (resolution,).

    Raises:
        ScheduleError: The schedule has one step only, or the resolution is too small.
    """
    remedy = "Use 2 or more"
    resolution = as_int("resolution", resolution, ScheduleError, remedy)
    if resolution < 2:
        raise ScheduleError("resolution", resolution, "a curve has two ends", remedy)
    last = schedule.num_inference_steps - 1
    if last < 1:
        raise ScheduleError("num_inference_steps", 1, "one step makes no curve", remedy)
    return _monotone_curve(np.array(schedule.computed_steps) / last, resolution)


def geodesic_weights(anchor_budget: int, reference_budget: int, budget: int) -> tuple[float, float]:
    """Return the weights of the anchor's and the reference's curve at a budget (OTCache, Eq. 9).

    Each is log(B_k) / (|B_k - B| + 1): near budgets and dense schedules count more. They sum to 1.
    At either calibrated budget the other one's weight is small but not 0.

    Raises:
        BudgetError: A budget is not an integer, or a calibrated one is below 2.
    """
    budget = as_int("budget", budget, BudgetError, "Use a whole number of computed steps")
    weights = []
    for field, calibrated in (
        ("anchor_budget", anchor_budget),
        ("reference_budget", reference_budget),
    ):
        calibrated = as_int(field, calibrated, BudgetError, "Use 2 or more")
        if calibrated < 2:
            raise BudgetError(field, calibrated, "below 2, its weight is 0", "Use 2 or more")
        weights.append(math.log(calibrated) / (abs(calibrated - budget) + 1))
    anchor, reference = weights
    return anchor / (anchor + reference), reference / (anchor + reference)


def project_sum(positions: ArrayLike) -> tuple[int, ...]:
    """Round rising positions to computed steps (OTCache, P_sum of Eq. 10).

    The gaps are rounded, not the positions: every gap becomes at least 1, and what is then missing
    from the sum T-1, or too much, goes to the largest gaps. Missing steps go one each to the
    largest gaps, of equal gaps to the later; there are never more of them than half the gaps.
    Surplus steps are taken one by one from whichever gap is the largest by then, of equal gaps from
    the earlier. Both ties keep the early steps dense. Integers with gaps of 1 or more stay as they
    are.

    Args:
        positions: Fractional steps of shape (B,), not decreasing, from 0 to the integer T-1, which
            is at least B-1.

    Raises:
        ScheduleError: Any of this does not hold.
    """
    values = _rising("positions", positions)
    last = round(float(values[-1]))
    if abs(values[-1] - last) > _TOLERANCE * max(last, 1) or last < len(values) - 1:
        problem = f"{len(values)} steps cannot end at step {values[-1]:g}"
        raise ScheduleError("positions", positions, problem, "End at the run's last step")
    # Rounded first, so that a half is a half whatever the platform made of its last bits.
    widths = np.diff(values).round(9)
    gaps = np.maximum(np.rint(widths), 1).astype(np.int64)
    missing = last - int(gaps.sum())
    if missing > 0:
        gaps[np.argsort(widths, kind="stable")[-missing:]] += 1
    for _ in range(-missing):
        gaps[gaps.argmax()] -= 1
    return (0, *(int(step) for step in gaps.cumsum()))


def realise(mu: ArrayLike, budget: int, num_inference_steps: int, rho: float) -> tuple[int, ...]:
    """Return the computed steps that sample a quantile function (OTCache, Eq. 10).

    t_i = P_sum((T-1) mu((i / (B-1))^rho)); rho above 1 puts more computed steps at the start. The
    curve is read between its samples by linear interpolation. With rho = 1 and the budget of the
    schedule that was lifted, the sampling points are the knots of the spline, and reading at 1001
    samples is off by at most 1.25e-6 gap (B-1)² steps, `gap` being the larger one beside the knot:
    the very schedule comes back for any run of up to a hundred steps.

    Args:
        mu: Quantile function at equal steps of progress, not decreasing, from 0 to 1.
        budget: Number of computed steps, 2 … T.
        num_inference_steps: Steps of the run, T.
        rho: Exponent of the warp, finite and above 0.

    Raises:
        BudgetError: The budget is outside 2 … T.
        FieldError: rho is not finite and above 0.
        ScheduleError: mu is not such a curve.
    """
    remedy = f"Use budget=2 … {num_inference_steps}"
    budget = as_int("budget", budget, BudgetError, remedy)
    if not 2 <= budget <= num_inference_steps:
        problem = f"a curve over {num_inference_steps} steps cannot be sampled so often"
        raise BudgetError("budget", budget, problem, remedy)
    rho = as_positive("rho", rho, FieldError, "Use a number such as rho=1.3")
    curve = _rising("mu", mu)
    if len(curve) < 2 or abs(curve[-1] - 1) > _TOLERANCE:
        raise ScheduleError("mu", mu, "does not end at 1", "Pass a mean of curves from lift")
    progress = np.linspace(0.0, 1.0, budget) ** rho
    sampled = np.interp(progress, np.linspace(0.0, 1.0, len(curve)), curve)
    return project_sum(sampled * (num_inference_steps - 1))


def predict(anchor: Schedule, reference: Schedule, budget: int, rho: float) -> tuple[int, ...]:
    """Return the computed steps that OTCache predicts between two schedules (Eqs. 8 to 10).

    At the two calibrated budgets these are the calibrated steps themselves, which Eq. 9 alone would
    not give.

    Args:
        anchor: Schedule at the smaller budget.
        reference: Schedule at the larger budget, for the same number of steps.
        budget: Any budget from the anchor's to the reference's.
        rho: Exponent of the warp, finite and above 0.

    Raises:
        ScheduleError: The schedules differ in steps, or the anchor's budget is not the smaller.
        BudgetError: The budget is outside the two.
        FieldError: rho is not finite and above 0.
    """
    budget = require_between(anchor, reference, budget)
    for endpoint in (anchor, reference):
        if budget == endpoint.budget:
            return endpoint.computed_steps
    to_anchor, to_reference = geodesic_weights(anchor.budget, reference.budget, budget)
    mu = to_anchor * lift(anchor) + to_reference * lift(reference)
    return realise(mu, budget, anchor.num_inference_steps, rho)


def require_endpoints(anchor: Schedule, reference: Schedule) -> None:
    """Refuse two schedules that nothing can be predicted between.

    Raises:
        ScheduleError: They differ in steps, or the anchor's budget is not the smaller.
    """
    total = anchor.num_inference_steps
    if reference.num_inference_steps != total:
        problem = f"it has {reference.num_inference_steps} steps, the anchor {total}"
        raise ScheduleError("reference", reference, problem, "Calibrate both for the same steps")
    if anchor.budget >= reference.budget:
        problem = f"its budget {anchor.budget} is not below the reference's {reference.budget}"
        raise ScheduleError("anchor", anchor, problem, "Use a smaller budget for the anchor")


def require_between(anchor: Schedule, reference: Schedule, budget: int) -> int:
    """Return a budget from the anchor's to the reference's.

    Raises:
        ScheduleError: Nothing can be predicted between the two (`require_endpoints`).
        BudgetError: The budget is outside them.
    """
    require_endpoints(anchor, reference)
    remedy = f"Use budget={anchor.budget} … {reference.budget}"
    budget = as_int("budget", budget, BudgetError, remedy)
    if not anchor.budget <= budget <= reference.budget:
        raise BudgetError("budget", budget, "outside the calibrated budgets", remedy)
    return budget


def wasserstein_barycentre(schedules: Sequence[Schedule], budget: int) -> tuple[int, ...]:
    """Return the mean of schedules: that of their quantile functions, realised with rho = 1.

    Raises:
        ScheduleError: There is no schedule, or they differ in steps.
        BudgetError: The budget is outside 2 … T.
    """
    totals = {schedule.num_inference_steps for schedule in schedules}
    if len(totals) != 1:
        problem = f"schedules of {len(totals)} different numbers of steps have no mean"
        remedy = "Pass one schedule or more, all of the same run"
        raise ScheduleError("schedules", list(schedules), problem, remedy)
    mu = np.mean([lift(schedule) for schedule in schedules], axis=0)
    return realise(mu, budget, totals.pop(), rho=1.0)


def transfer(
    schedule: Schedule, sigmas: ArrayLike, target_sigmas: ArrayLike, budget: int
) -> Schedule:
    """Carry a schedule over to another number of steps, or to other sigmas.

    What is kept is the noise level at which steps are computed. Every point of the lifted curve is
    a fractional step of the calibrated grid; its sigma is read off there, the fractional step of
    the same sigma on the target grid is found, both by linear interpolation and clipped to the
    grid, and the curve is stretched to run from the first step to the last before it is realised.
    A segment takes the look-back of the old segment that its midpoint falls in, by sigma; without
    cached steps it gets 1. Where sigmas (`same_sigmas`) and budget are the same already, the
    very schedule comes back.

    Args:
        schedule: The calibrated schedule, of T steps.
        sigmas: Noise schedule that it was calibrated on, shape (T+1,), strictly decreasing.
        target_sigmas: Noise schedule of the run, shape (T'+1,), strictly decreasing.
        budget: Computed steps wanted, 2 … T'.

    Raises:
        ScheduleError: A noise schedule cannot be used, or the two have no noise level in common.
        BudgetError: The budget is outside 2 … T'.
    """
    source = as_sigmas("sigmas", sigmas, schedule.num_inference_steps, ScheduleError)
    target = as_sigmas("target_sigmas", target_sigmas, None, ScheduleError)
    total = len(target) - 1
    budget = as_int("budget", budget, BudgetError, f"Use budget=2 … {total}")
    if same_sigmas(source, target) and budget == schedule.budget:
        return schedule
    last = schedule.num_inference_steps - 1
    curve = _same_sigma(lift(schedule) * last, source, target)
    if curve[0] >= curve[-1]:
        problem = "no noise level in common with the calibrated sigmas"
        raise ScheduleError("target_sigmas", target_sigmas, problem, "Calibrate for these sigmas")
    steps = realise((curve - curve[0]) / (curve[-1] - curve[0]), budget, total, rho=1.0)
    middle = (np.array(steps[:-1]) + np.array(steps[1:])) / 2
    look_backs = inherited_look_backs(steps, schedule, _same_sigma(middle, target, source))
    return Schedule(steps, total, look_backs)


def inherited_look_backs(
    computed_steps: Sequence[int], origin: Schedule, midpoints: ArrayLike
) -> tuple[int, ...]:
    """Return for each new segment the look-back of the old segment that its midpoint falls in.

    A midpoint on a computed step of the origin belongs to the segment that begins there. A segment
    of gap 1 has no cached step and gets 1.

    Args:
        computed_steps: The new steps, shape (B,).
        origin: The schedule to inherit from, of budget 2 or more.
        midpoints: Middle of each new segment as a fractional step of the origin, shape (B-1,).
    """
    found = np.searchsorted(origin.computed_steps, np.asarray(midpoints), side="right") - 1
    found = found.clip(0, len(origin.look_backs) - 1)
    gaps = np.diff(computed_steps)
    return tuple(
        origin.look_backs[index] if gap > 1 else 1 for gap, index in zip(gaps, found, strict=True)
    )


def _monotone_curve(knots: NDArray[np.float64], resolution: int) -> NDArray[np.float64]:
    """Sample the PCHIP interpolant of rising values at equal distances (Fritsch and Butland).

    That of scipy, for this one case: importing scipy.interpolate takes longer than all else that
    reading a document and drawing its schedules takes.
    """
    slopes = np.diff(knots)
    tangents = np.concatenate([slopes[:1], slopes])
    if len(slopes) > 1:
        tangents[1:-1] = 2 / (1 / slopes[:-1] + 1 / slopes[1:])
        ends = slopes[[0, -1]], slopes[[1, -2]]
        tangents[[0, -1]] = np.maximum((3 * ends[0] - ends[1]) / 2, 0)
    position = np.linspace(0, len(slopes), resolution)
    segment = np.minimum(position.astype(np.int64), len(slopes) - 1)
    t = position - segment
    start, slope = knots[segment], slopes[segment]
    before, after = tangents[segment], tangents[segment + 1]
    curve = start + t * (
        before + t * (3 * slope - 2 * before - after + t * (before + after - 2 * slope))
    )
    return np.asarray(curve, dtype=np.float64)


def _same_sigma(
    steps: NDArray[np.float64], source: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Map fractional steps of one noise schedule to those of another with the same sigma."""
    sigma = np.interp(steps, np.arange(len(source)), source)
    # numpy interpolates over rising abscissae only, hence the signs.
    return np.interp(-sigma, -target, np.arange(len(target)))


def _rising(field: str, values: ArrayLike) -> NDArray[np.float64]:
    remedy = "Pass one row of finite numbers that starts at 0 and never falls"
    rising = as_array(field, values, ScheduleError, remedy)
    if rising.ndim != 1 or not rising.size or not np.isfinite(rising).all():
        raise ScheduleError(field, values, "not one row of finite numbers", remedy)
    if abs(rising[0]) > _TOLERANCE:
        raise ScheduleError(field, values, "does not start at 0", remedy)
    if (np.diff(rising) < -_TOLERANCE).any():
        raise ScheduleError(field, values, "falls somewhere", remedy)
    return rising
