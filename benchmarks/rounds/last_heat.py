"""A last heat in rounds of newcomers, each of which learns from all runs before it.

A surrogate of the real errors is fitted to every run of the heats, and descended on at each budget;
where that leads runs on the pairs of the first heat, and the next round knows of it. Who does
better than a winner there meets it as in any last heat.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from otcache_policies import Schedule, fit_gains
from otcache_policies.displacement import Candidates

from benchmarks.rounds.block_moves import descend_blocks
from benchmarks.rounds.surrogate import Surrogate, fit_surrogate
from otcache_plugin.calibration import stages
from otcache_plugin.calibration.racing.candidates import (
    FITTED_DAMPING,
    OPTIMISED,
    Candidate,
    by_the_simplest,
)
from otcache_plugin.calibration.racing.finals import Winner
from otcache_plugin.calibration.racing.last_heat import LastHeat

RESERVED = 0.5
"""Share of the steps that the last heat begins with that is left for its finals."""

DESCENTS = 3
"""Descents that a newcomer is the best of, at most."""


class RoundsByASurrogate(LastHeat):
    """Rounds of one newcomer at each budget, until steps run out or descents lead nowhere new."""

    def newcomers(self, winners: Mapping[int, Winner]) -> Mapping[int, Sequence[Candidate]]:
        """Run what may do better than the winners, and return it by budget."""
        found: dict[int, list[Candidate]] = defaultdict(list)
        first = dict.fromkeys(winners, self.plan.first_heat)
        reserved = int(RESERVED * self.plan.left(self.spent))
        while proposed := self._proposed(winners, self.plan.left(self.spent) - reserved):
            own = {budget: [each] for budget, each in proposed.items()}
            self.heats.run(stages.LAST_HEAT, own, first)
            for budget, each in proposed.items():
                found[budget].append(each)
        return found

    def _proposed(self, winners: Mapping[int, Winner], spare: int) -> dict[int, Candidate]:
        """Return a candidate of each budget that has not run, where there is one to be tried.

        Args:
            winners: who serve so far.
            spare: denoising steps that they may take, the smallest budgets first.
        """
        costs = {budget: budget * len(self.plan.first_heat) for budget in winners}
        found: dict[int, Candidate] = {}
        surrogate = self._surrogate() if spare >= min(costs.values()) else None
        if surrogate is None:
            return found
        for budget, winner in winners.items():
            if costs[budget] > spare:
                break
            schedule = self._descended(surrogate, budget, winner.candidate.schedule)
            if schedule is not None:
                graph = self.recorded.graph(budget)
                (found[budget],) = by_the_simplest([Candidate(OPTIMISED, schedule)], graph)
                spare -= costs[budget]
        return found

    def _surrogate(self) -> Surrogate | None:
        """Return what all runs of the heats say of schedules that have not run."""
        runs = self.heats.real_runs()
        gains = fit_gains(self.recorded.table, runs)
        if gains is None:
            return None
        return fit_surrogate(self.recorded.form(FITTED_DAMPING, gains.values), runs)

    def _descended(self, surrogate: Surrogate, budget: int, leader: Schedule) -> Schedule | None:
        """Return the best schedule that descents lead to; None where all of them have run.

        They begin at the leader, and at those that ran and look best by the surrogate, which
        knows of chance more than their own means do.
        """
        known = [each for each in self.heats.runs if each.budget == budget]
        usable = [each for each in known if np.isfinite(self.heats.losses(each)).all()]
        order = np.argsort(surrogate.predicted(Candidates.of(usable)), kind="stable")
        starts = [leader, *(usable[index] for index in order[: DESCENTS - 1].tolist())]
        largest = self.recorded.largest_look_back
        value = surrogate.predicted
        ends = [descend_blocks(value, each, largest) for each in dict.fromkeys(starts)]
        fresh = [each for each in dict.fromkeys(ends) if each not in known]
        if not fresh:
            return None
        return fresh[int(value(Candidates.of(fresh)).argmin())]
