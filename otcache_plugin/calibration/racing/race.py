"""The race: at every budget the best of each family, on fresh pairs, against the graph policy.

Few real runs decide. In the heats, on the pairs that forms were minimised on, the candidates of
the recording run first, then those that follow from these runs. In the final the best schedule of
the graph policy meets the best of all others on pairs that these were not searched on, and stays
unless the other is better beyond its standard error. The graph policy itself reads its edges from
all pairs, so that what has to be beaten is as good as the recording makes it. What all of this
leaves of the steps is spent in a last heat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.racing.candidates import Candidate, distinct
from otcache_plugin.calibration.racing.finals import by_family, finals
from otcache_plugin.calibration.racing.heats import Heats
from otcache_plugin.calibration.racing.last_heat import LastHeat
from otcache_plugin.calibration.racing.plan import SURVIVING_GRAPH, SURVIVING_OTHERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_policies import Gains

    from otcache_plugin.calibration.racing.candidates import Recorded
    from otcache_plugin.calibration.racing.finals import Winner
    from otcache_plugin.calibration.racing.plan import RacePlan
    from otcache_plugin.plugins.calibrating import CalibrationContext


@dataclass(frozen=True)
class Race:
    """A race.

    Attributes:
        plan: what it spends.
        recorded: what the recording says.
        context: runs the candidates.
        last_heat: how it ends.
    """

    plan: RacePlan
    recorded: Recorded
    context: CalibrationContext
    last_heat: type[LastHeat] = LastHeat

    def run(self) -> tuple[dict[int, Winner], Gains | None]:
        """Run the heats and the finals; return who won at each budget, and the gains.

        Raises:
            NotFiniteError: no candidate of some budget has a finite loss at every pair.
        """
        before = self.context.denoising_steps
        plan, heats = self.plan, Heats(self.plan.searching, self.recorded.table, self.context)
        first = dict.fromkeys(plan.budgets, plan.first_heat)
        entered = self._candidates()
        heats.run(stages.FIRST_HEAT, entered, first)
        gains = heats.gains()
        fitted = self._fitted(entered, gains, heats)
        heats.run(stages.FITTED_HEAT, fitted, first)
        survivors = {
            budget: _survivors(distinct([*entered[budget], *fitted[budget]]), heats)
            for budget in plan.budgets
        }
        second = {budget: plan.second_heat(budget) for budget in plan.budgets}
        heats.run(stages.SECOND_HEAT, survivors, second)
        winners = finals(survivors, {each: plan.final(each) for each in plan.budgets}, heats)
        return self.last_heat(plan, self.recorded, heats, before).run(winners), gains

    def _candidates(self) -> dict[int, list[Candidate]]:
        self.context.start_search(stages.OPTIMISING, len(self.plan.budgets))
        found = {}
        for budget in self.plan.budgets:
            count = self.plan.candidates(budget)
            found[budget] = self.recorded.from_recording(budget, count)
            self.context.advance()
        return found

    def _fitted(
        self, entered: dict[int, list[Candidate]], gains: Gains | None, heats: Heats
    ) -> dict[int, list[Candidate]]:
        leaders = {budget: heats.best(entered[budget]).schedule for budget in entered}
        values = None if gains is None else gains.values
        self.context.start_search(stages.FITTING, len(self.plan.budgets))
        found = {}
        for budget in self.plan.budgets:
            found[budget] = self.recorded.fitted(budget, values, leaders)
            self.context.advance()
        return found


def _survivors(candidates: Sequence[Candidate], heats: Heats) -> list[Candidate]:
    """Return the best few of the graph policy's and of the other schedules."""
    graph, others = by_family(sorted(candidates, key=heats.mean))
    return [*graph[:SURVIVING_GRAPH], *others[:SURVIVING_OTHERS]]
