"""What every effort is: a procedure with its costs, and the part of a document that it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from otcache_policies import MeanCachePolicy, OTCachePolicy, Schedule
from otcache_policies.displacement import Candidates

from otcache_plugin.calibration.racing.candidates import BASE_DAMPING, Recorded
from otcache_plugin.calibration.searching.graph_and_rho import graph_candidates
from otcache_plugin.parameters.edge_tables import tables_of
from otcache_plugin.parameters.gram_tables import tables_of as gram_tables_of
from otcache_plugin.parameters.otcache import OTCacheParameters
from otcache_plugin.parameters.served import ServedBudget
from otcache_plugin.plugins.calibrating import Calibrated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otcache_policies import Gains

    from otcache_plugin.calibration.searching.search_algorithm import SearchAlgorithm
    from otcache_plugin.calibration.settings import OTCacheOptions
    from otcache_plugin.plugins.calibrating import CalibrationContext
    from otcache_plugin.plugins.costs import StageCost, Workload


class Procedure(Protocol):
    """A way to calibrate OTCache."""

    @property
    def outcome(self) -> str:
        """What to expect of it."""
        ...

    @property
    def fewest_pairs(self) -> int:
        """Fewest calibration pairs that it can do with."""
        ...

    @property
    def usual_pairs(self) -> int:
        """Calibration pairs where none are asked for."""
        ...

    def costs(
        self, options: OTCacheOptions, algorithm: SearchAlgorithm, workload: Workload
    ) -> Sequence[StageCost]:
        """Return what each stage takes at most."""
        ...

    def calibrate(
        self, options: OTCacheOptions, algorithm: SearchAlgorithm, context: CalibrationContext
    ) -> Calibrated:
        """Calibrate."""
        ...


@dataclass(frozen=True, eq=False)
class Choice:
    """What serves every budget from the anchor's to the reference's.

    Attributes:
        schedules: by budget.
        served: how each was found, by increasing budget.
        gains: fitted to real runs; None where there were none.
    """

    schedules: Mapping[int, Schedule]
    served: Sequence[ServedBudget]
    gains: Gains | None = None


def recorded(context: CalibrationContext, pairs: range | None) -> Recorded:
    """Return what the recording of some pairs says, or of all."""
    return Recorded(context.grams(pairs), graph_candidates(context.edges(pairs)))


def likeliest_reading(found: Recorded, budgets: Sequence[int]) -> MeanCachePolicy:
    """Return the graph policy with the reading that the quadratic form likes best."""
    form = found.form(BASE_DAMPING)
    values = np.zeros(len(found.readings))
    for budget in budgets:
        schedules = [reading.schedule(budget) for reading in found.readings]
        values += form.pooled(Candidates.of(schedules))
    return found.readings[int(values.argmin())]


def calibrated(
    options: OTCacheOptions, choice: Choice, found: Recorded, context: CalibrationContext
) -> Calibrated:
    """Return the part of a document of what was chosen.

    Args:
        options: of the calibration.
        choice: what serves every budget.
        found: what the recording of all pairs says; its tables are the document's.
        context: of the calibration.
    """
    budgets = sorted(choice.schedules)
    graph = likeliest_reading(found, budgets)
    anchor, *between, reference = (choice.schedules[budget] for budget in budgets)
    policy = OTCachePolicy(
        anchor, reference, 1.0, graph.edges, graph.settings, waypoints=tuple(between)
    )
    parameters = OTCacheParameters.of(policy, BASE_DAMPING, choice.served)
    settings = {
        "effort": options.effort,
        "reference_budget": options.budget_reference,
        "anchor_budget": options.budget_anchor,
    }
    if choice.gains is not None:
        settings |= {
            "gains": [round(float(gain), 4) for gain in choice.gains.values],
            "unexplained": round(choice.gains.unexplained, 4),
            "unexplained_without_gains": round(choice.gains.unexplained_before, 4),
        }
    return Calibrated(
        parameters=parameters.model_dump(),
        tables={**tables_of(graph.edges), **gram_tables_of(found.table)},
        budgets=tuple(budgets),
        default_budget=options.default_budget or max(context.usual_budget, options.budget_anchor),
        settings=settings,
    )
