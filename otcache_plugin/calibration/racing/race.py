"""The race: at every budget the best of each family, on fresh pairs, against the graph policy.

Few real runs decide. In the heats, on the pairs that forms were minimised on, the candidates of
the recording run first, then those that follow from these runs. In the final the best schedule of
the graph policy meets the best of all others on pairs that these were not searched on, and stays
unless the other is better beyond its standard error. The graph policy itself reads its edges from
all pairs, so that what has to be beaten is as good as the recording makes it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from otcache_policies import RealRun, fit_gains

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.measuring.losses import ScheduleLoss, not_finite
from otcache_plugin.calibration.racing.candidates import GRAPH, Candidate, distinct
from otcache_plugin.calibration.racing.plan import SURVIVING_GRAPH, SURVIVING_OTHERS
from otcache_plugin.calibration.racing.verdict import Verdict, verdict_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from otcache_policies import Gains, Schedule

    from otcache_plugin.calibration.racing.candidates import Recorded
    from otcache_plugin.calibration.racing.plan import RacePlan
    from otcache_plugin.plugins.calibrating import CalibrationContext
    from otcache_plugin.plugins.measured import DisplacedRun


@dataclass(frozen=True)
class Winner:
    """What serves a budget.

    Attributes:
        candidate: that won.
        graph: the best of the graph policy's, which it was compared to.
        verdict: how the best of the other families did in the final against that one.
    """

    candidate: Candidate
    graph: Candidate
    verdict: Verdict


@dataclass
class Race:
    """A race under way.

    Attributes:
        plan: what it spends.
        recorded: what the recording says.
        context: runs the candidates.
        runs: of the heats so far, by schedule.
    """

    plan: RacePlan
    recorded: Recorded
    context: CalibrationContext
    runs: dict[Schedule, list[DisplacedRun]] = field(default_factory=lambda: defaultdict(list))

    def run(self) -> tuple[dict[int, Winner], Gains | None]:
        """Run the heats and the finals; return who won at each budget, and the gains.

        Raises:
            NotFiniteError: no candidate of some budget has a finite loss at every pair.
        """
        before = self.context.denoising_steps
        first = dict.fromkeys(self.plan.budgets, self.plan.first_heat)
        second = {budget: self.plan.second_heat(budget) for budget in self.plan.budgets}
        entered = self._candidates()
        self._heat(stages.FIRST_HEAT, entered, first)
        leaders = {budget: self._best(entered[budget]).schedule for budget in entered}
        gains = self._gains()
        values = None if gains is None else gains.values
        self.context.start_search(stages.FITTING, len(self.plan.budgets))
        fitted = {}
        for budget in self.plan.budgets:
            fitted[budget] = self.recorded.fitted(budget, values, leaders)
            self.context.advance()
        self._heat(stages.FITTED_HEAT, fitted, first)
        entered = {budget: distinct([*entered[budget], *fitted[budget]]) for budget in entered}
        survivors = {budget: self._survivors(entered[budget]) for budget in entered}
        self._heat(stages.SECOND_HEAT, survivors, second)
        winners = self._finals(survivors)
        return self._last_heat(winners, before), gains

    def _candidates(self) -> dict[int, list[Candidate]]:
        self.context.start_search(stages.OPTIMISING, len(self.plan.budgets))
        found = {}
        for budget in self.plan.budgets:
            count = self.plan.candidates(budget)
            found[budget] = self.recorded.from_recording(budget, count)
            self.context.advance()
        return found

    def _heat(
        self,
        stage: str,
        entered: Mapping[int, Sequence[Candidate]],
        pairs: Mapping[int, range],
    ) -> None:
        """Run candidates of all budgets side by side; those that have run are not run again."""
        wanted = dict.fromkeys(
            (each.schedule, pairs[budget])
            for budget, candidates in entered.items()
            for each in candidates
            if all(run.pairs != pairs[budget] for run in self.runs[each.schedule])
        )
        requests = list(wanted)
        self.context.start_runs(stage, requests)
        for run in self.context.displaced(requests):
            self.runs[run.schedule].append(run)

    def _in_heats(self, schedule: Schedule) -> NDArray[np.float64]:
        """Return the losses of a schedule in the heats so far."""
        return np.concatenate([run.losses for run in self.runs[schedule]])

    def _loss(self, candidate: Candidate) -> float:
        """Return the mean loss in the heats."""
        return mean_loss(self._in_heats(candidate.schedule))

    def _best(self, candidates: Sequence[Candidate]) -> Candidate:
        """Return the candidate with the lowest loss, of several the first.

        Raises:
            NotFiniteError: none has a finite one.
        """
        best = min(candidates, key=self._loss)
        if np.isfinite(self._loss(best)):
            return best
        metric = self.context.metric
        raise not_finite(
            [
                ScheduleLoss(each.schedule, metric, self._in_heats(each.schedule))
                for each in candidates
            ]
        )

    def _gains(self) -> Gains | None:
        """Return the gains that explain the runs so far."""
        pairs = self.plan.searching
        velocities = self.context.velocities(pairs).astype(np.float64)

        def real(run: DisplacedRun) -> RealRun:
            ends = run.displacement.astype(np.float64)
            own = velocities[run.pairs.start : run.pairs.stop]
            return RealRun(
                run.schedule,
                np.array(run.pairs),
                products=np.einsum("ntk,nk->nt", own, ends),
                squares=np.square(ends).sum(axis=1),
            )

        runs = [real(run) for found in self.runs.values() for run in found]
        return fit_gains(self.recorded.table, runs)

    def _last_heat(self, winners: Mapping[int, Winner], before: int) -> dict[int, Winner]:
        """Spend what is left of the race's steps, and return who serves each budget after it.

        What the runs before have saved, because candidates were the same or began alike, is for
        newcomers by the gains of all heats. Whoever does better than a winner on the pairs of the
        first heat meets it on those of its final, as long as there are steps left.

        Args:
            winners: of the finals.
            before: denoising steps when the race began.
        """
        gains = self._gains()
        if gains is None:
            return dict(winners)
        counts = self.plan.newcomers(self.context.denoising_steps - before)
        newcomers = self._newcomers(winners, gains, counts)
        first = dict.fromkeys(newcomers, self.plan.first_heat)
        self._heat(stages.LAST_HEAT, newcomers, first)
        left = self.plan.left(self.context.denoising_steps - before)
        challengers = self._challengers(winners, newcomers, left)
        pairs = {budget: self.plan.final(budget) for budget in winners}
        return challenged(stages.LAST_FINAL, winners, challengers, pairs, self.context)

    def _newcomers(
        self, winners: Mapping[int, Winner], gains: Gains, counts: Mapping[int, int]
    ) -> dict[int, list[Candidate]]:
        """Return so many candidates of each budget that have not run."""
        self.context.start_search(stages.REFITTING, len(counts))
        found = {}
        for budget, count in counts.items():
            leader = winners[budget].candidate.schedule
            found[budget] = self.recorded.newcomers(budget, gains.values, leader, self.runs, count)
            self.context.advance()
        return found

    def _challengers(
        self,
        winners: Mapping[int, Winner],
        newcomers: Mapping[int, Sequence[Candidate]],
        left: int,
    ) -> dict[int, Candidate]:
        """Return the newcomers that meet a winner: those furthest ahead that steps are left for."""
        leads = {}
        for budget, candidates in newcomers.items():
            if candidates:
                best = min(candidates, key=self._first_loss)
                leads[best] = self._first_loss(winners[budget].candidate) - self._first_loss(best)
        found = {}
        for best in sorted(leads, key=lambda each: -leads[each]):
            budget = best.schedule.budget
            steps = budget * len(self.plan.final(budget))
            if leads[best] > 0 and steps <= left:
                found[budget] = best
                left -= steps
        return found

    def _first_loss(self, candidate: Candidate) -> float:
        """Return the mean loss on the pairs of the first heat, which all candidates ran on."""
        return mean_loss(self.runs[candidate.schedule][0].losses)

    def _survivors(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the best few of the graph policy's and of the other schedules."""
        graph, others = by_family(sorted(candidates, key=self._loss))
        return [*graph[:SURVIVING_GRAPH], *others[:SURVIVING_OTHERS]]

    def _finals(self, survivors: Mapping[int, Sequence[Candidate]]) -> dict[int, Winner]:
        finalists = {}
        for budget, candidates in survivors.items():
            graph, others = by_family(candidates)
            finalists[budget] = [min(each, key=self._loss) for each in (graph, others) if each]
        requests = [
            (each.schedule, self.plan.final(budget))
            for budget, candidates in finalists.items()
            for each in candidates
        ]
        self.context.start_runs(stages.FINAL, requests)
        found = iter(self.context.displaced(requests))
        winners = {}
        for budget, candidates in finalists.items():
            losses = [self._judged(next(found)) for _ in candidates]
            winners[budget] = self._winner(candidates, losses)
        return winners

    def _judged(self, final: DisplacedRun) -> NDArray[np.float64]:
        """Return the losses in a final, or those in the heats where one of them is not finite."""
        before = self._in_heats(final.schedule)
        return final.losses if np.isfinite(before).all() else before

    def _winner(
        self, candidates: Sequence[Candidate], losses: Sequence[NDArray[np.float64]]
    ) -> Winner:
        finite = [bool(np.isfinite(each).all()) for each in losses]
        if not any(finite):
            metric = self.context.metric
            raise not_finite(
                [
                    ScheduleLoss(each.schedule, metric, own)
                    for each, own in zip(candidates, losses, strict=True)
                ]
            )
        graph, other = candidates[0], candidates[-1]
        verdict = verdict_of(losses[0], losses[-1])
        return Winner(other if verdict.ahead else graph, graph, verdict)


def challenged(
    stage: str,
    winners: Mapping[int, Winner],
    challengers: Mapping[int, Candidate],
    pairs: Mapping[int, range],
    context: CalibrationContext,
) -> dict[int, Winner]:
    """Return who serves each budget after a challenger of some has run on fresh pairs.

    A winner stays unless its challenger is better beyond its standard error. How far one that takes
    its place is ahead is said in terms of the graph policy's schedule, as for the others.
    """
    contested = {
        budget: (winners[budget].graph, winners[budget].candidate, challenger)
        for budget, challenger in challengers.items()
        if challenger.schedule != winners[budget].candidate.schedule
    }
    requests = [
        (each.schedule, pairs[budget]) for budget, three in contested.items() for each in three
    ]
    context.start_runs(stage, requests)
    found = iter(context.displaced(requests))
    after = dict(winners)
    for budget, (graph, _, challenger) in contested.items():
        simplest, holding, challenging = (next(found).losses for _ in range(3))
        if verdict_of(holding, challenging).ahead:
            after[budget] = Winner(challenger, graph, verdict_of(simplest, challenging))
    return after


def mean_loss(losses: NDArray[np.float64]) -> float:
    """Return the mean of some pairs' losses, infinite where any of them is not finite."""
    return float(losses.mean()) if np.isfinite(losses).all() else np.inf


def by_family(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Return the graph policy's candidates, and the others."""
    graph = [each for each in candidates if each.family == GRAPH]
    return graph, [each for each in candidates if each.family != GRAPH]
