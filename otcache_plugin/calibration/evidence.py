"""Evidence: held-out figures of a calibrated policy beside its peers, on the same pairs.

Peers run on the same executor with the look-back rule that was tuned for the graph policy, so that
what is compared is where the computed steps lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from otcache_policies import UniformPolicy
from otcache_registry import EvidenceRow

from otcache_plugin.evaluation.statistics import paired_difference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otcache_policies import MeanCachePolicy, OTCachePolicy, Schedule

    from otcache_plugin.evaluation.evaluator import Evaluator
    from otcache_plugin.evaluation.metrics import Metric


PEERS = ("uniform", "meancache", "otcache")


def peers(
    otcache: OTCachePolicy, meancache: MeanCachePolicy
) -> dict[str, Callable[[int], Schedule]]:
    """Each policy's schedule of a budget, weakest peer first; otcache is compared to the others."""
    edges, settings = meancache.edges, meancache.settings
    evenly = UniformPolicy(meancache.num_inference_steps)

    def uniform(budget: int) -> Schedule:
        schedule = evenly.schedule(budget)
        return schedule.with_look_backs(edges.look_backs(schedule.computed_steps, settings))

    return dict(zip(PEERS, (uniform, meancache.schedule, otcache.schedule), strict=True))


COMPARED_TO = {"meancache": "uniform", "otcache": "meancache"}
"""Whom each policy's paired differences are to."""


def gather_evidence(
    held_out: Evaluator,
    otcache: OTCachePolicy,
    meancache: MeanCachePolicy,
    budgets: Sequence[int],
    metrics: Sequence[Metric],
    on_measured: Callable[[], None] = lambda: None,
) -> tuple[EvidenceRow, ...]:
    """Measures every policy at every budget on pairs that the calibration has not seen."""
    schedules = peers(otcache, meancache)
    rows = []
    for budget in budgets:
        values = {}
        for name, schedule in schedules.items():
            values[name] = held_out.values(schedule(budget), *metrics)
            on_measured()
        rows += [
            evidence_row(name, budget, metric, {key: each[i] for key, each in values.items()})
            for name in schedules
            for i, metric in enumerate(metrics)
        ]
    return tuple(rows)


def evidence_row(
    name: str, budget: int, metric: Metric, values: dict[str, np.ndarray]
) -> EvidenceRow:
    """One policy's row, its paired difference to ``COMPARED_TO`` included."""
    own = values[name]
    row = {
        "policy": name,
        "budget": budget,
        "metric": metric.name,
        "mean": float(own.mean()),
        "standard_error": float(own.std(ddof=1) / np.sqrt(len(own))),
        "pairs": len(own),
    }
    if name not in COMPARED_TO:
        return EvidenceRow(**row)
    difference = paired_difference(own, values[COMPARED_TO[name]])
    better = difference.win_rate if metric.higher_is_better else 1 - difference.win_rate
    return EvidenceRow(
        **row,
        compared_to=COMPARED_TO[name],
        difference_mean=difference.mean,
        difference_low=difference.low,
        difference_high=difference.high,
        win_rate=better,
    )
