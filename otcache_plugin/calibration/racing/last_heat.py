"""The last heat of a race: newcomers by the gains of all heats, on what the race has left.

The heats and finals take less than planned where candidates are the same or begin alike. What they
leave is spent here, on schedules that have not run. Whoever does better than a winner on the pairs
of the first heat meets it on those of its final, as long as there are steps left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.racing.finals import challenged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otcache_policies import Gains

    from otcache_plugin.calibration.racing.candidates import Candidate, Recorded
    from otcache_plugin.calibration.racing.finals import Winner
    from otcache_plugin.calibration.racing.heats import Heats
    from otcache_plugin.calibration.racing.plan import RacePlan


@dataclass(frozen=True)
class LastHeat:
    """The last heat of a race.

    Attributes:
        plan: what the race spends.
        recorded: what the recording says.
        heats: before it.
        before: denoising steps when the race began.
    """

    plan: RacePlan
    recorded: Recorded
    heats: Heats
    before: int

    def run(self, winners: Mapping[int, Winner]) -> dict[int, Winner]:
        """Spend what is left of the race's steps, and return who serves each budget after it.

        Args:
            winners: of the finals.
        """
        newcomers = self.newcomers(winners)
        challengers = self._challengers(winners, newcomers)
        pairs = {budget: self.plan.final(budget) for budget in winners}
        return challenged(stages.LAST_FINAL, winners, challengers, pairs, self.heats.context)

    @property
    def spent(self) -> int:
        """Denoising steps of the race so far."""
        return self.heats.context.denoising_steps - self.before

    def newcomers(self, winners: Mapping[int, Winner]) -> Mapping[int, Sequence[Candidate]]:
        """Run what may do better than the winners, and return it by budget."""
        gains = self.heats.gains()
        if gains is None:
            return {}
        found = self._by_gains(winners, gains, self.plan.newcomers(self.spent))
        self.heats.run(stages.LAST_HEAT, found, dict.fromkeys(found, self.plan.first_heat))
        return found

    def _by_gains(
        self, winners: Mapping[int, Winner], gains: Gains, counts: Mapping[int, int]
    ) -> dict[int, list[Candidate]]:
        """Return so many candidates of each budget that have not run."""
        self.heats.context.start_search(stages.REFITTING, len(counts))
        found = {}
        for budget, count in counts.items():
            leader, known = winners[budget].candidate.schedule, self.heats.runs
            found[budget] = self.recorded.newcomers(budget, gains.values, leader, known, count)
            self.heats.context.advance()
        return found

    def _challengers(
        self, winners: Mapping[int, Winner], newcomers: Mapping[int, Sequence[Candidate]]
    ) -> dict[int, Candidate]:
        """Return the newcomers that meet a winner: those furthest ahead that steps are left for."""
        leads, left = {}, self.plan.left(self.spent)
        for budget, candidates in newcomers.items():
            if candidates:
                best = min(candidates, key=self.heats.first_mean)
                holding = self.heats.first_mean(winners[budget].candidate)
                leads[best] = holding - self.heats.first_mean(best)
        found = {}
        for best in sorted(leads, key=lambda each: -leads[each]):
            budget = best.schedule.budget
            steps = budget * len(self.plan.final(budget))
            if leads[best] > 0 and steps <= left:
                found[budget] = best
                left -= steps
        return found
