"""The heats of a race: who ran on which of the searching pairs, and what follows from it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from otcache_policies import RealRun, fit_gains

from otcache_plugin.calibration.measuring.losses import ScheduleLoss, not_finite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from otcache_policies import Gains, GramTable, Schedule

    from otcache_plugin.calibration.racing.candidates import Candidate
    from otcache_plugin.plugins.calibrating import CalibrationContext
    from otcache_plugin.plugins.measured import DisplacedRun


@dataclass(frozen=True)
class Heats:
    """The heats of a race under way.

    Attributes:
        searching: pairs that they are run on.
        table: Gram matrices of those.
        context: runs the candidates.
        runs: so far, by schedule.
    """

    searching: range
    table: GramTable
    context: CalibrationContext
    runs: dict[Schedule, list[DisplacedRun]] = field(default_factory=lambda: defaultdict(list))

    def run(
        self,
        stage: str,
        entered: Mapping[int, Sequence[Candidate]],
        pairs: Mapping[int, range],
    ) -> None:
        """Run candidates of all budgets side by side; those that have run are not run again.

        Args:
            stage: that begins.
            entered: the candidates, by budget.
            pairs: that those of a budget run on.
        """
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

    def losses(self, schedule: Schedule) -> NDArray[np.float64]:
        """Return the losses of a schedule so far."""
        return np.concatenate([run.losses for run in self.runs[schedule]])

    def mean(self, candidate: Candidate) -> float:
        """Return the mean loss of a candidate, infinite where one of them is not finite."""
        return mean_loss(self.losses(candidate.schedule))

    def first_mean(self, candidate: Candidate) -> float:
        """Return the mean loss on the pairs of the first heat, which all candidates ran on."""
        return mean_loss(self.runs[candidate.schedule][0].losses)

    def best(self, candidates: Sequence[Candidate]) -> Candidate:
        """Return the candidate with the lowest mean loss, of several the first.

        Raises:
            NotFiniteError: none has a finite one.
        """
        best = min(candidates, key=self.mean)
        if np.isfinite(self.mean(best)):
            return best
        metric = self.context.metric
        schedules = [each.schedule for each in candidates]
        raise not_finite([ScheduleLoss(each, metric, self.losses(each)) for each in schedules])

    def gains(self) -> Gains | None:
        """Return the gains that explain the runs so far; None where none of them can be used."""
        return fit_gains(self.table, self.real_runs())

    def real_runs(self) -> list[RealRun]:
        """Return where all runs so far have ended."""
        velocities = self.context.velocities(self.searching).astype(np.float64)

        def real(run: DisplacedRun) -> RealRun:
            ends = run.displacement.astype(np.float64)
            own = velocities[run.pairs.start : run.pairs.stop]
            return RealRun(
                run.schedule,
                np.array(run.pairs),
                products=np.einsum("ntk,nk->nt", own, ends),
                squares=np.square(ends).sum(axis=1),
            )

        return [real(run) for found in self.runs.values() for run in found]


def mean_loss(losses: NDArray[np.float64]) -> float:
    """Return the mean of some pairs' losses, infinite where any of them is not finite."""
    return float(losses.mean()) if np.isfinite(losses).all() else np.inf
