"""Who runs in a race: schedules of several families, found without a single run of the model.

The simplest comes first: where two are equally good it stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from otcache_policies import Schedule, minima, optimise
from otcache_policies.displacement import Candidates
from otcache_policies.prediction import vanishing_warp

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

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

APART = 6
"""How many steps, all moves of computed steps together, newcomers lie apart."""


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
            whole, half = self._with(gains)
            for form in (half, whole):
                schedule = self.optimised(budget, form, [leaders[budget]])
                found.append(Candidate(OPTIMISED, schedule))
        return by_the_simplest(found, self.graph(budget))

    def newcomers(
        self,
        budget: int,
        gains: NDArray[np.float64],
        leader: Schedule,
        known: Collection[Schedule],
        count: int,
    ) -> list[Candidate]:
        """Return candidates of a budget that follow from all runs so far, the most promising first.

        They are the schedules that minimise the form with these gains, and then other minima of
        it, which lie apart from each other and from the leader: the runs so far say the less of a
        schedule the further it lies from those that ran.

        Args:
            budget: computed steps.
            gains: of each step, fitted to the runs.
            leader: the best schedule of the budget so far.
            known: schedules that have run.
            count: how many at most.
        """
        whole, half = self._with(gains)
        found = [self.optimised(budget, form, [leader]) for form in (whole, half)]
        for each in minima(whole, budget, self.largest_look_back, leader):
            if all(_moved(each, other) > APART for other in (leader, *found)):
                found.append(each)
        fresh = [each for each in dict.fromkeys(found) if each not in known]
        candidates = [Candidate(OPTIMISED, each) for each in fresh[:count]]
        return by_the_simplest(candidates, self.graph(budget))

    def _with(self, gains: NDArray[np.float64]) -> tuple[QuadraticForm, QuadraticForm]:
        """Return the form with gains, and with half of what they change, which is damped more."""
        return self.form(FITTED_DAMPING, gains), self.form(BASE_DAMPING, (1 + gains) / 2)


def _moved(one: Schedule, other: Schedule) -> int:
    """Return by how many steps the computed steps of two schedules differ, all together."""
    pairs = zip(one.computed_steps, other.computed_steps, strict=True)
    return sum(abs(first - second) for first, second in pairs)


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
