"""Whether all pairs are searched for one schedule at once, or every pair for one of its own."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from otcache_policies import Schedule, wasserstein_barycentre

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.searching.candidates import Panel
from otcache_plugin.calibration.settings import BEST_OF_EACH_PAIR, FIRST_SHARE
from otcache_plugin.evaluation.batches import Batch
from otcache_plugin.plugins.costs import StageCost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otcache_plugin.calibration.searching.candidates import ScheduleSearch
    from otcache_plugin.plugins.costs import Workload

    LookBacks = Callable[[tuple[int, ...]], tuple[int, ...]]
    """The look-backs that the edge table has for some steps."""


class SearchScope(Protocol):
    """Whom a search is for: it says on which pairs to search, and what comes of what was found."""

    @property
    def name(self) -> str:
        """As the command, documents and working folders name it."""
        ...

    def panels(self, searched: str, batches: tuple[Batch, ...]) -> dict[str, Panel]:
        """Return the searches to make, each by its name in the journal and with its pairs."""
        ...

    def pool(
        self, found: Sequence[ScheduleSearch], warm_start: Schedule, look_backs: LookBacks
    ) -> list[Schedule]:
        """Return what comes of the searches: one schedule, or several for all pairs to judge."""
        ...

    def costs(
        self, searched: str, budget: int, trials: int, workload: Workload
    ) -> tuple[StageCost, ...]:
        """Return what the stages of a search take at most, with so many trials."""
        ...


@dataclass(frozen=True)
class JointSearch:
    """One search that judges each candidate by its mean over all pairs."""

    name: ClassVar[str] = "joint"

    def panels(self, searched: str, batches: tuple[Batch, ...]) -> dict[str, Panel]:
        """Return the one search, on all pairs."""
        return {searched: Panel(batches, ceil(len(batches) / FIRST_SHARE))}

    def pool(
        self, found: Sequence[ScheduleSearch], warm_start: Schedule, look_backs: LookBacks
    ) -> list[Schedule]:
        """Return the best that was found."""
        return [found[0].best(1)[0].schedule]

    def costs(
        self, searched: str, budget: int, trials: int, workload: Workload
    ) -> tuple[StageCost, ...]:
        """Return the cost of the search."""
        return (workload.tried(stages.searching(searched), 1 + trials, [budget]),)


@dataclass(frozen=True)
class PerPairSearch:
    """A search for every pair alone, whose finds are pooled, as the paper's Eq. 7 reads."""

    name: ClassVar[str] = "per-pair"

    def panels(self, searched: str, batches: tuple[Batch, ...]) -> dict[str, Panel]:
        """Return a search for each pair, which is run on its own."""
        return {
            f"{searched}, pair {pair}": Panel((Batch(batch.pair_set, pair, pair + 1),), 1)
            for batch in batches
            for pair in range(batch.start, batch.stop)
        }

    def pool(
        self, found: Sequence[ScheduleSearch], warm_start: Schedule, look_backs: LookBacks
    ) -> list[Schedule]:
        """Return each pair's best few, the barycentre of the pairs' best, and the warm start.

        The last so that what is chosen is never worse than that over the calibration pairs. A pair
        at which nothing has a finite loss has no say.
        """
        best = [
            [trial for trial in search.best(BEST_OF_EACH_PAIR) if np.isfinite(trial.loss)]
            for search in found
        ]
        firsts = [each[0].schedule for each in best if each]
        if not firsts:
            return [warm_start]
        mean = wasserstein_barycentre(firsts, warm_start.budget)
        barycentre = Schedule(mean, warm_start.num_inference_steps, look_backs(mean))
        schedules = [trial.schedule for each in best for trial in each]
        return list(dict.fromkeys([warm_start, barycentre, *schedules]))

    def costs(
        self, searched: str, budget: int, trials: int, workload: Workload
    ) -> tuple[StageCost, ...]:
        """Return the cost of the searches, and of judging what they found."""
        pairs = workload.pairs
        runs = (1 + trials) * pairs
        steps = runs * budget
        return (
            StageCost(stages.searching(searched), runs, steps, steps, ends_early=True),
            workload.tried(stages.pooling(searched), 2 + BEST_OF_EACH_PAIR * pairs, [budget]),
        )


SCOPES: Mapping[str, SearchScope] = {
    scope.name: scope for scope in (JointSearch(), PerPairSearch())
}


def mean_history(found: Sequence[ScheduleSearch]) -> tuple[float, ...]:
    """Return the mean best loss after each trial, over searches.

    A search that ended early stays where it was, one that began without a finite loss begins at its
    first finite one, and one that has none is left out.
    """
    searches = [search.best_losses for search in found if np.isfinite(search.best_losses[-1])]
    if not searches:
        return ()
    longest = max(len(losses) for losses in searches)
    padded = [[*losses, *[losses[-1]] * (longest - len(losses))] for losses in searches]
    began = [next(loss for loss in losses if np.isfinite(loss)) for losses in padded]
    finite = np.where(np.isfinite(padded), padded, np.array(began)[:, None])
    return tuple(finite.mean(axis=0).tolist())
