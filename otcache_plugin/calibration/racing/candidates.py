"""Who runs in a race: schedules of several families, found without a single run of the model.

The simplest comes first: where two are equally good it stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from otcache_policies import Schedule, optimise
from otcache_policies.displacement import Candidates
from otcache_policies.prediction import vanishing_warp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from otcache_policies import GramTable, MeanCachePolicy, QuadraticForm

    from otcache_plugin.parameters.served import Family

GRAPH: Final = "graph"
PREDICTED: Final = "predicted"
OPTIMISED: Final = "optimised"
SEARCHED: Final = "searched"

BASE_DAMPING = 0.1
"""Of what is minimised where no real run can say how firmly."""

DAMPINGS = (BASE_DAMPING, 0.3, 0.03)
"""Of the forms that are minimised before anything was run, the most trusted first."""

FITTED_DAMPING = 0.03
"""Likewise with the gains of real runs, which say themselves how far segments make up."""


@dataclass(frozen=True)
class Candidate:
    """A schedule that runs in a race.

    Attributes:
        family: how it was found.
        schedule: what is run.
    """

    family: Family
    schedule: Schedule


@dataclass(frozen=True, eq=False)
class Recorded:
    """What the recording says.

    Attributes:
        table: the Gram matrices; in a race those of the searching pairs alone.
        readings: the graph policy with each reading of the edge table; in a race of all pairs.
    """

    table: GramTable
    readings: Sequence[MeanCachePolicy]

    @property
    def largest_look_back(self) -> int:
        """Where the solver is not Euler's only the last velocity can stand in."""
        return self.readings[0].edges.max_look_back

    def form(self, damping: float, gains: NDArray[np.float64] | None = None) -> QuadraticForm:
        """Return the quadratic form of the pairs."""
        return replace(self.table.form(damping), gains=gains)

    def graph(self, budget: int) -> list[Schedule]:
        """Return the distinct schedules of all readings, by what the form says of them."""
        found = list(dict.fromkeys(reading.schedule(budget) for reading in self.readings))
        values = self.form(BASE_DAMPING).pooled(Candidates.of(found))
        return [found[index] for index in np.argsort(values, kind="stable")]

    def optimised(self, budget: int, form: QuadraticForm, starts: Sequence[Schedule]) -> Schedule:
        """Return the schedule of a budget that minimises a form, searched from given ones too."""
        return optimise(form, budget, self.largest_look_back, starts=starts)

    def from_recording(self, budget: int, count: int) -> list[Candidate]:
        """Return the candidates of a budget that take no run, the most promising first.

        They are the schedules that minimise the form at several dampings, and those of the graph
        policy that the form likes best, in turns.
        """
        graph = self.graph(budget)
        optimised: list[Schedule] = []
        for damping in DAMPINGS:
            starts = [*graph[:1], *optimised[:1]]
            optimised.append(self.optimised(budget, self.form(damping), starts))
        turns = [
            Candidate(GRAPH, graph[0]),
            Candidate(OPTIMISED, optimised[0]),
            *(Candidate(GRAPH, schedule) for schedule in graph[1:2]),
            *(Candidate(OPTIMISED, schedule) for schedule in optimised[1:]),
            *(Candidate(GRAPH, schedule) for schedule in graph[2:]),
        ]
        return distinct(by_the_simplest(turns, graph))[:count]

    def fitted(
        self,
        budget: int,
        gains: NDArray[np.float64] | None,
        leaders: Mapping[int, Schedule],
    ) -> list[Candidate]:
        """Return the candidates of a budget that follow from the first runs.

        Args:
            budget: computed steps.
            gains: of each step, fitted to the runs; None where these said nothing.
            leaders: the best schedule of each budget so far.
        """
        found = []
        if budget - 1 in leaders and budget + 1 in leaders:
            predicted = vanishing_warp(leaders[budget - 1], leaders[budget + 1], budget, 1.0)
            found.append(Candidate(PREDICTED, predicted))
        if gains is not None:
            starts = [leaders[budget]]
            half = self.form(BASE_DAMPING, (1 + gains) / 2)
            whole = self.form(FITTED_DAMPING, gains)
            for form in (half, whole):
                found.append(Candidate(OPTIMISED, self.optimised(budget, form, starts)))
        return by_the_simplest(found, self.graph(budget))


def by_the_simplest(candidates: Sequence[Candidate], graph: Sequence[Schedule]) -> list[Candidate]:
    """Return the candidates, those that are schedules of the graph policy as such."""
    return [
        Candidate(GRAPH, each.schedule) if each.schedule in graph else each for each in candidates
    ]


def distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the first candidate of each schedule."""
    found: dict[Schedule, Candidate] = {}
    for candidate in candidates:
        found.setdefault(candidate.schedule, candidate)
    return list(found.values())
