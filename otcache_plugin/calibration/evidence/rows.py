"""Evidence: held-out figures of a calibrated policy beside its peers, on the same pairs.

Peers run on the same executor with the look-back rule that was tuned for the graph policy, so that
what is compared is where the computed steps lie.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, cast

import numpy as np
from otcache_policies import Schedule, UniformPolicy
from otcache_registry import EvidenceRow

from otcache_plugin.evaluation.statistics import paired_difference
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from otcache_policies import MeanCachePolicy, OTCachePolicy
    from otcache_registry import StoredPolicy

    from otcache_plugin.evaluation.metrics import Metric


PEERS = ("uniform", "meancache", "otcache")


def policies_of(stored: StoredPolicy) -> tuple[OTCachePolicy, MeanCachePolicy]:
    """Return the two policies that an OTCache document makes.

    Raises:
        DocumentError: it is none, or one of published schedules, which make no shortest path.
    """
    host = plugin_host()
    otcache, meancache = (host.policy_of(stored, name) for name in ("otcache", "meancache"))
    return cast("OTCachePolicy", otcache), cast("MeanCachePolicy", meancache)


def peers(
    otcache: OTCachePolicy, meancache: MeanCachePolicy
) -> dict[str, Callable[[int], Schedule]]:
    """Return each policy's schedule of a budget, weakest first; otcache is compared to them."""
    edges, settings = meancache.edges, meancache.settings
    evenly = UniformPolicy(meancache.num_inference_steps)

    def uniform(budget: int) -> Schedule:
        schedule = evenly.schedule(budget)
        return schedule.with_look_backs(edges.look_backs(schedule.computed_steps, settings))

    return dict(zip(PEERS, (uniform, meancache.schedule, otcache.schedule), strict=True))


FEWER_STEPS = "fewer-steps"
"""Not a policy: a full run of only as many steps."""

EVIDENCE_OF = (FEWER_STEPS, *PEERS)

COMPARED_TO = {"uniform": FEWER_STEPS, "meancache": "uniform", "otcache": "meancache"}
"""Whom each policy's paired differences are to."""


def evidence_schedules(
    otcache: OTCachePolicy, meancache: MeanCachePolicy, budgets: Sequence[int]
) -> dict[tuple[int, str], Schedule]:
    """Return what is measured, by budget and method."""
    schedules = {FEWER_STEPS: Schedule.full, **peers(otcache, meancache)}
    return {
        (budget, name): schedules[name](budget) for budget, name in product(budgets, EVIDENCE_OF)
    }


def evidence_rows(
    values: Mapping[tuple[int, str], Mapping[str, NDArray[np.float64]]], metrics: Sequence[Metric]
) -> tuple[EvidenceRow, ...]:
    """Return a row per budget, method and metric that has a finite value at every pair.

    What cannot be measured is not stated: leaving out the pairs at which a method fails would
    flatter it.

    Args:
        values: `(N,)` values by metric, of each budget and method, on the same pairs.
        metrics: in the order of the rows.
    """
    rows = (
        evidence_row(
            name,
            budget,
            metric,
            {each: values[budget, each][metric.name] for each in EVIDENCE_OF},
        )
        for budget, name in values
        for metric in metrics
    )
    return tuple(row for row in rows if row is not None)


def evidence_row(
    name: str, budget: int, metric: Metric, values: dict[str, np.ndarray]
) -> EvidenceRow | None:
    """Return one policy's row, its paired difference to `COMPARED_TO` included.

    None where not all of its values are finite, and no difference where not all of theirs are.
    """
    own = values[name]
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
    )
    if name not in COMPARED_TO or not np.isfinite(values[COMPARED_TO[name]]).all():
        return row()
    difference = paired_difference(own, values[COMPARED_TO[name]])
    better = difference.win_rate if metric.higher_is_better else 1 - difference.win_rate
    return row(
        compared_to=COMPARED_TO[name],
        difference_mean=difference.mean,
        difference_low=difference.low,
        difference_high=difference.high,
        win_rate=better,
    )
