"""Evidence: held-out figures of a calibrated policy beside its peers, on the same pairs.

Each method is compared to the one before it, from plain runs of fewer steps to the policy itself.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from otcache_policies import Policy, Schedule
from otcache_registry import EvidenceRow

from otcache_plugin.evaluation.statistics import paired_difference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from otcache_policies import AimingPolicy

    from otcache_plugin.calibration.measuring.units import Run
    from otcache_plugin.evaluation.metrics import Metric
    from otcache_plugin.plugins.calibrating import Calibrator

    Decided = Callable[[int], Run]
    """From a budget to the run of a policy that decides, aiming at it."""

Measurable = TypeVar("Measurable")

FEWER_STEPS = "fewer-steps"
"""Not a policy: a full run of only as many steps. What everything else is to be better than."""

COSTS = ("computed_steps", "block_share")
"""What is measured of a policy that decides besides its metrics, and its rows' fields of it."""


def methods_of(
    name: str,
    policy: Policy | AimingPolicy[Any],
    calibrator: Calibrator,
    decided: Decided | None = None,
) -> dict[str, Callable[[int], Run]]:
    """Return each method's run at a budget, the weakest first, the policy last.

    Args:
        name: of the policy.
        policy: as it was calibrated.
        calibrator: by which; it says who its peers are.
        decided: gives a run of the policy, where that decides.
    """
    own = policy.schedule if isinstance(policy, Policy) else decided
    assert own is not None, "a policy that decides has runs, not schedules"
    peers = {peer: calibrator.peer(peer, policy) for peer in calibrator.peers}
    return {FEWER_STEPS: Schedule.full, **peers, name: own}


def evidence_runs(
    methods: Mapping[str, Callable[[int], Measurable]], budgets: Sequence[int]
) -> dict[tuple[int, str], Measurable]:
    """Return what is measured, by budget and method."""
    return {(budget, name): methods[name](budget) for budget, name in product(budgets, methods)}


def evidence_rows(
    values: Mapping[tuple[int, str], Mapping[str, NDArray[np.float64]]], metrics: Sequence[Metric]
) -> tuple[EvidenceRow, ...]:
    """Return a row per budget, method and metric that has a finite value at every pair.

    What cannot be measured is not stated: leaving out the pairs at which a method fails would
    flatter it.

    Args:
        values: `(N,)` values by metric, of each budget and method, on the same pairs; methods in
            the order in which they are compared. Of one that decides also what it came to.
        metrics: in the order of the rows.
    """
    names = dict.fromkeys(name for _, name in values)
    rows = (
        evidence_row(
            name,
            budget,
            metric,
            {each: values[budget, each][metric.name] for each in names},
            {cost: float(own[cost].mean()) for cost in COSTS if cost in own},
        )
        for (budget, name), own in values.items()
        for metric in metrics
    )
    return tuple(row for row in rows if row is not None)


def evidence_row(
    name: str,
    budget: int,
    metric: Metric,
    values: Mapping[str, NDArray[np.float64]],
    costs: Mapping[str, float] = MappingProxyType({}),
) -> EvidenceRow | None:
    """Return one method's row, with its paired difference to the method before it.

    Args:
        name: of the method.
        budget: its computed steps.
        metric: what was measured.
        values: of all methods, in the order in which they are compared.
        costs: what it came to in the mean, where that was decided meanwhile.

    Returns:
        None where not all of its values are finite; no difference where not all of theirs are.
    """
    own, number = values[name], list(values).index(name)
    compared_to = None if number == 0 else list(values)[number - 1]
    if not np.isfinite(own).all():
        return None
    row = partial(
        EvidenceRow,
        policy=name,
        budget=budget,
        metric=metric.name,
        mean=float(own.mean()),
        standard_error=float(own.std(ddof=1) / np.sqrt(len(own))),
        pairs=len(own),
        computed_steps=costs.get("computed_steps"),
        block_share=costs.get("block_share"),
    )
    if compared_to is None or not np.isfinite(values[compared_to]).all():
        return row()
    difference = paired_difference(own, values[compared_to])
    better = difference.win_rate if metric.higher_is_better else 1 - difference.win_rate
    return row(
        compared_to=compared_to,
        difference_mean=difference.mean,
        difference_low=difference.low,
        difference_high=difference.high,
        win_rate=better,
    )
