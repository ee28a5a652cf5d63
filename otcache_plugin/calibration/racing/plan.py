"""What a race spends: how many candidates run at each budget, and on how many pairs.

Every budget gets the same denoising steps, so that small budgets, where a run may tip into another
picture, get the most runs. All of it follows from the numbers of steps and pairs alone, but for the
last heat: candidates are often the same, and runs that begin alike are begun once. What that has
saved is spent there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.racing.candidates import DAMPINGS
from otcache_plugin.plugins.costs import Runs, StageCost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_plugin.plugins.costs import Workload

SHARE = 5.6
"""Steps that are spent, as a multiple of those of all full runs, in equal parts for all budgets."""

HEAT_PAIRS = 4
"""Pairs of a heat: enough to tell good from bad, not good from better."""

HEAT_SHARE = 0.25
"""Share of a budget's steps that the candidates of the recording alone get."""

MOST_CANDIDATES, FEWEST_CANDIDATES = 9, 3
"""Of the recording alone, at one budget."""

FITTED = 3
"""Candidates that follow at each budget from the gains and from the neighbouring budgets."""

MINIMISED_BY_GAINS = 2
"""Those of them that follow from the gains."""

MINIMISED_AGAIN = 2 + 2
"""Searches that the newcomers of a budget take: two, and one for many minima, twice as long."""

SURVIVING_GRAPH, SURVIVING_OTHERS = 2, 2
"""Candidates that run in the second heat: schedules of the graph policy, and of other families."""

SURVIVING = SURVIVING_GRAPH + SURVIVING_OTHERS

MANY_RUNS = 100
"""From so many runs of one pair on that a budget can afford, its second heat is longer."""

NEWCOMERS = 6
"""Most candidates of the last heat at one budget."""

FINALISTS = 2
"""The best of the graph policy's schedules, and the best of the others."""

FEWEST_FINAL_PAIRS = 8


@dataclass(frozen=True)
class RacePlan:
    """The runs of a race.

    Attributes:
        num_inference_steps: T.
        pairs: all calibration pairs.
        budgets: increasing.
    """

    num_inference_steps: int
    pairs: int
    budgets: range

    @property
    def searching(self) -> range:
        """The pairs that a form is minimised on, and gains are fitted to: the first half."""
        return range(self.pairs // 2)

    @property
    def selecting(self) -> range:
        """The pairs that the final is run on, which nothing was minimised on."""
        return range(self.pairs // 2, self.pairs)

    @property
    def first_heat(self) -> range:
        """Pairs of the first heat."""
        return range(HEAT_PAIRS)

    def second_heat(self, budget: int) -> range:
        """Return pairs of a budget's second heat, which is counted together with the first.

        They are twice as many where runs are cheap: there they often tip into another picture.
        """
        count = HEAT_PAIRS * (2 if self._runs(budget) >= MANY_RUNS else 1)
        return range(HEAT_PAIRS, min(HEAT_PAIRS + count, len(self.searching)))

    @property
    def steps(self) -> int:
        """Denoising steps of all heats and finals."""
        return int(SHARE * self.num_inference_steps * self.pairs)

    def _runs(self, budget: int) -> float:
        """Return how many runs of one pair the steps of a budget are enough for."""
        return self.steps / len(self.budgets) / budget

    def candidates(self, budget: int) -> int:
        """Return how many candidates of the recording alone run at a budget."""
        wanted = int(HEAT_SHARE * self._runs(budget) / HEAT_PAIRS)
        return min(max(wanted, FEWEST_CANDIDATES), MOST_CANDIDATES)

    def final(self, budget: int) -> range:
        """Return the pairs of a budget's final."""
        first = (self.candidates(budget) + FITTED) * HEAT_PAIRS
        second = SURVIVING * len(self.second_heat(budget))
        left = int(self._runs(budget) - first - second) // FINALISTS
        count = max(left // HEAT_PAIRS * HEAT_PAIRS, FEWEST_FINAL_PAIRS)
        return self.selecting[:count]

    def left(self, spent: int) -> int:
        """Return the denoising steps that are left of all, after so many."""
        return max(0, self.steps - spent)

    def newcomers(self, spent: int) -> dict[int, int]:
        """Return how many newcomers run at each budget in the last heat.

        They get half of what is left, every budget the same: the rest is for their finals.

        Args:
            spent: denoising steps of the heats and finals before.
        """
        share = self.left(spent) // 2 // len(self.budgets)
        return {each: min(share // each // HEAT_PAIRS, NEWCOMERS) for each in self.budgets}

    def costs(self, workload: Workload) -> Sequence[StageCost]:
        """Return what the stages take at most; candidates that are the same run once.

        The last heat and its finals spend what these have saved, which is counted there, and what
        they cannot take.
        """
        budgets = self.budgets

        def minimising(stage: str, count: int) -> StageCost:
            return StageCost.without_model(stage, count * len(budgets))

        first = [Runs(each, self.candidates(each), self.first_heat) for each in budgets]
        fitted = [Runs(each, FITTED, self.first_heat) for each in budgets]
        second = [Runs(each, SURVIVING, self.second_heat(each)) for each in budgets]
        final = [Runs(each, FINALISTS, self.final(each)) for each in budgets]
        heats = (
            workload.runs(stages.FIRST_HEAT, first),
            workload.runs(stages.FITTED_HEAT, fitted),
            workload.runs(stages.SECOND_HEAT, second),
            workload.runs(stages.FINAL, final),
        )
        left = self.left(sum(each.denoising_steps for each in heats))
        calls = -(-left // (HEAT_PAIRS * budgets[0]))
        return (
            minimising(stages.OPTIMISING, len(DAMPINGS)),
            heats[0],
            minimising(stages.FITTING, MINIMISED_BY_GAINS),
            *heats[1:],
            minimising(stages.REFITTING, MINIMISED_AGAIN),
            StageCost(stages.LAST_HEAT, calls, left // HEAT_PAIRS, left),
            StageCost.without_model(stages.LAST_FINAL, 0),
        )
