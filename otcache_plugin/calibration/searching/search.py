"""Stage 2: the search for a schedule, black-box minimisation of the end-to-end loss.

Optuna's CMA-ES moves the gaps of a warm start (OTCache, arXiv 2606.31026, Sec. 3.3, Eq. 6 and 7)
and P_sum turns them back into a schedule. A wide search of all gaps stops far from the optimum on a
landscape this bumpy, a narrow one never leaves the warm start, and neither sees that moving one
step by one is often all it takes. So two kinds of search take turns. A climb tries every single
step and look-back, one after the other, until nothing improves. A round of CMA-ES then leads out of
where that got stuck: the first stretches the curve of the best schedule so far in a few parts, the
second moves every gap by a little. Candidates inherit the look-backs of the best schedule: what is
best under the table's look-backs is not the best.

A search measures nothing itself. It is a generator that yields what it wants measured and is sent
the losses, so that several can go on side by side and a replayed one takes no time.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import WilcoxonPruner
from optuna.samplers import CmaEsSampler
from optuna.trial import TrialState, create_trial
from otcache_policies import Schedule, project_sum
from otcache_policies.transport import inherited_look_backs
from scipy.interpolate import PchipInterpolator

from otcache_plugin.calibration.measuring.trimmed_loss import pooled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from otcache_plugin.calibration.measuring.units import Batch, Losses, LossRequest
    from otcache_plugin.calibration.searching.journal import JournalStudy, TrialJournal
    from otcache_plugin.calibration.settings import SearchSettings

SHIFTS = (-2, -1, 1, 2)
"""Steps by which a climb moves a computed step."""

SMALLEST_GAP = 0.1
"""Where a part is held before rounding, so that no order of steps is ever reversed."""


@dataclass(frozen=True)
class Panel:
    """The pairs that candidates are judged on.

    Attributes:
        batches: all of them, in their order.
        first: how many of them a candidate must survive before it is run on the others.
    """

    batches: tuple[Batch, ...]
    first: int


@dataclass(frozen=True)
class Trial:
    """One candidate that was run on all pairs of its panel."""

    schedule: Schedule
    loss: float


@dataclass(frozen=True)
class ScheduleSearch:
    """What a search found.

    Attributes:
        warm_start: the schedule it began with.
        complete: every candidate that was run on all pairs, in order.
        best_losses: the best loss so far, first the warm start's, then after each trial.
    """

    warm_start: Trial
    complete: tuple[Trial, ...]
    best_losses: tuple[float, ...]

    def with_trial(self, trial: Trial | None) -> ScheduleSearch:
        """Return the search after one more trial, None for one that was not run on all pairs."""
        best = self.best_losses[-1]
        if trial is None:
            return replace(self, best_losses=(*self.best_losses, best))
        losses = (*self.best_losses, min(best, trial.loss))
        return ScheduleSearch(self.warm_start, (*self.complete, trial), losses)

    def best(self, count: int) -> list[Trial]:
        """Return the best candidates of distinct steps, best first, none worse than the start."""
        found: dict[tuple[int, ...], Trial] = {}
        for trial in sorted((self.warm_start, *self.complete), key=lambda trial: trial.loss):
            found.setdefault(trial.schedule.computed_steps, trial)
        return [each for each in found.values() if each.loss <= self.warm_start.loss][:count]


def losses_on(
    schedules: Sequence[Schedule], batches: Sequence[Batch]
) -> Generator[list[LossRequest], Losses, list[NDArray[np.float64]]]:
    """Ask for the losses of all schedules on all batches: an `(n,)` array per schedule."""
    if not schedules or not batches:
        return [np.empty(0) for _ in schedules]
    given = yield [(schedule, batch) for schedule in schedules for batch in batches]
    return [np.concatenate([given[schedule, batch] for batch in batches]) for schedule in schedules]


def search_schedule(
    warm_start: Schedule,
    panel: Panel,
    max_look_back: int,
    settings: SearchSettings,
    seed: int,
    journal: TrialJournal,
    name: str,
    on_trial: Callable[[], None] = lambda: None,
) -> Generator[list[LossRequest], Losses, ScheduleSearch]:
    """Search the schedules of the warm start's budget for the lowest loss.

    Args:
        warm_start: where to begin, and what is never done worse than.
        panel: the pairs to judge on.
        max_look_back: the largest look-back tried.
        settings: how long and how far.
        seed: of CMA-ES.
        journal: where the trials are kept.
        name: of this search in the journal.
        on_trial: called after every trial.

    Returns:
        The search with every complete trial.
    """
    search = yield from begin(warm_start, panel)
    coordinates = all_coordinates(warm_start, max_look_back)
    # With two steps both ends are fixed: only their look-back is left to search.
    rounds = settings.rounds if warm_start.budget > 2 else ()
    for number in range(len(rounds) + 1):
        if number:
            search = yield from search_round(
                search,
                *rounds[number - 1],
                panel,
                settings,
                settings.round_trials[number - 1],
                seed + number,
                journal.study(f"{name}, round {number}"),
                on_trial,
            )
        kept = journal.study(f"{name}, climb {number + 1}")
        search = yield from climb(search, coordinates, panel, settings.climb_trials, kept, on_trial)
    return search


def begin(
    warm_start: Schedule, panel: Panel
) -> Generator[list[LossRequest], Losses, ScheduleSearch]:
    """A search that has tried nothing but its warm start."""
    (losses,) = yield from losses_on([warm_start], panel.batches)
    first = Trial(warm_start, pooled(losses))
    return ScheduleSearch(first, (), (first.loss,))


def search_round(
    search: ScheduleSearch,
    parts: int,
    half_width: float,
    panel: Panel,
    settings: SearchSettings,
    trials: int,
    seed: int,
    kept: JournalStudy,
    on_trial: Callable[[], None] = lambda: None,
) -> Generator[list[LossRequest], Losses, ScheduleSearch]:
    """One round of CMA-ES around the best schedule so far, generation by generation."""
    centre = search.best(1)[0].schedule
    values, baseline = yield from losses_on([centre, search.warm_start.schedule], panel.batches)
    around = _Round(centre, parts, half_width)
    space = around.space
    study = _study(len(space), values - baseline, seed, settings)
    kept.keep(study.get_trials(deepcopy=False)[0])
    stale = 0
    while trials > 0 and stale < settings.patience:
        generation = [study.ask(space) for _ in range(min(_population(len(space)), trials))]
        trials -= len(generation)
        candidates = [
            around.schedule(np.array([trial.params[gap] for gap in space])) for trial in generation
        ]
        judged = yield from _judge(generation, candidates, panel, baseline)
        for trial, schedule, losses in zip(generation, candidates, judged, strict=True):
            trial.set_user_attr("computed_steps", schedule.computed_steps)
            study.tell(trial, pooled(losses - baseline[: len(losses)]))
            kept.keep(study.get_trials(deepcopy=False)[trial.number])
            complete = len(losses) == len(baseline)
            found = search.with_trial(Trial(schedule, pooled(losses)) if complete else None)
            stale = 0 if found.best_losses[-1] < search.best_losses[-1] else stale + 1
            search = found
            on_trial()
    return search


@dataclass(frozen=True)
class _Round:
    """What the candidates of one round are made from."""

    centre: Schedule
    parts: int
    half_width: float

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """An offset per part of the centre's curve, or per gap where that is fewer."""
        return _space(min(self.parts, len(self.centre.gaps)))

    def schedule(self, offsets: NDArray[np.float64]) -> Schedule:
        """Return the candidate of some offsets in [-1, 1], with the centre's look-backs.

        The parts are stretched or squeezed, and the steps go with them. With a part per gap the
        offsets are those of the gaps.
        """
        steps, total = self.centre.computed_steps, self.centre.num_inference_steps
        ends = np.linspace(0, len(steps) - 1, len(offsets) + 1)
        ends = np.interp(ends, np.arange(len(steps)), steps)
        parts = np.maximum(np.diff(ends) + self.half_width * offsets, SMALLEST_GAP)
        moved = np.concatenate([[0.0], np.cumsum(parts) / parts.sum()]) * (total - 1)
        new = project_sum(PchipInterpolator(ends, moved)(steps))
        midpoints = [(start + end) / 2 for start, end in pairwise(new)]
        return Schedule(new, total, inherited_look_backs(new, self.centre, midpoints))


def _judge(
    trials: Sequence[optuna.Trial],
    candidates: Sequence[Schedule],
    panel: Panel,
    baseline: NDArray[np.float64],
) -> Generator[list[LossRequest], Losses, list[NDArray[np.float64]]]:
    """The candidates' losses on all pairs; on the first batches only where that is hopeless.

    What the pruner sees of a pair is the difference to the warm start, so that it does not matter
    which pairs are the harder ones.
    """
    first = yield from losses_on(candidates, panel.batches[: panel.first])
    for trial, losses in zip(trials, first, strict=True):
        _report(trial, losses - baseline[: len(losses)], 0)
    survivors = [
        number
        for number, trial in enumerate(trials)
        if panel.first < len(panel.batches) and not trial.should_prune()
    ]
    rest = yield from losses_on(
        [candidates[number] for number in survivors], panel.batches[panel.first :]
    )
    judged = list(first)
    for number, losses in zip(survivors, rest, strict=True):
        judged[number] = np.concatenate([first[number], losses])
        _report(trials[number], losses - baseline[-len(losses) :], len(first[number]))
    return judged


def _report(trial: optuna.Trial, differences: NDArray[np.float64], first_pair: int) -> None:
    for pair, difference in enumerate(differences.tolist(), first_pair):
        trial.report(difference, pair)


def climb(
    search: ScheduleSearch,
    coordinates: Sequence[Callable[[Schedule], list[Schedule]]],
    panel: Panel,
    trials: int,
    kept: JournalStudy,
    on_trial: Callable[[], None] = lambda: None,
) -> Generator[list[LossRequest], Losses, ScheduleSearch]:
    """Improve the best schedule in one coordinate after the other, until none improves it.

    Candidates are tried on the first batches, and those that are ahead there on all.

    Args:
        search: what was found so far.
        coordinates: each gives the schedules that differ from one in it.
        panel: the pairs to judge on.
        trials: candidates altogether.
        kept: where they are kept.
        on_trial: called after every trial.

    Returns:
        The search with every candidate that was run on all pairs.
    """
    best = search.best(1)[0].schedule
    (best_losses,) = yield from losses_on([best], panel.batches)
    number, unchanged, tried = 0, 0, 0
    while unchanged < len(coordinates) and tried < trials:
        others = coordinates[number % len(coordinates)](best)[: trials - tried]
        first = yield from losses_on(others, panel.batches[: panel.first])
        ahead = [
            other
            for other, losses in zip(others, first, strict=True)
            if pooled(losses) < pooled(best_losses[: len(losses)])
        ]
        complete = yield from losses_on(ahead, panel.batches)
        judged = dict(zip(ahead, complete, strict=True))
        for other in others:
            trial = Trial(other, pooled(judged[other])) if other in judged else None
            search = search.with_trial(trial)
            kept.keep(_climbing_trial(other, trial))
            on_trial()
        tried, unchanged, number = tried + len(others), unchanged + 1, number + 1
        better = min(judged, key=lambda other: pooled(judged[other]), default=best)
        if better in judged and pooled(judged[better]) < pooled(best_losses):
            best, best_losses, unchanged = better, judged[better], 0
    return search


def _climbing_trial(schedule: Schedule, trial: Trial | None) -> FrozenTrial:
    return create_trial(
        state=TrialState.PRUNED if trial is None else TrialState.COMPLETE,
        value=None if trial is None else trial.loss,
        user_attrs={"state": repr((schedule.computed_steps, schedule.look_backs))},
    )


def all_coordinates(
    schedule: Schedule, max_look_back: int
) -> list[Callable[[Schedule], list[Schedule]]]:
    """Return every inner step, then every look-back, of schedules of this one's budget."""
    segments = schedule.budget - 1
    return [
        *(partial(_moved, index) for index in range(1, segments)),
        *look_back_coordinates(schedule, max_look_back),
    ]


def look_back_coordinates(
    schedule: Schedule, max_look_back: int
) -> list[Callable[[Schedule], list[Schedule]]]:
    """Return every look-back of schedules of this one's budget.

    The edge table knows the best one of a segment when every step before it was computed. At a
    small budget most were not, so what it says is only where to begin.
    """
    return [
        partial(_looking_back, segment, max_look_back) for segment in range(schedule.budget - 1)
    ]


def _moved(index: int, schedule: Schedule) -> list[Schedule]:
    """Return the schedules whose step of that index lies elsewhere between its neighbours."""
    steps, total = schedule.computed_steps, schedule.num_inference_steps
    return [
        Schedule((*steps[:index], place, *steps[index + 1 :]), total, schedule.look_backs)
        for shift in SHIFTS
        if steps[index - 1] < (place := steps[index] + shift) < steps[index + 1]
    ]


def _looking_back(segment: int, max_look_back: int, schedule: Schedule) -> list[Schedule]:
    """Return the schedules with another look-back in that segment, none where no step is cached."""
    if schedule.gaps[segment] == 1:
        return []
    own = schedule.look_backs
    return [
        schedule.with_look_backs((*own[:segment], look_back, *own[segment + 1 :]))
        for look_back in range(1, max_look_back + 1)
        if look_back != own[segment]
    ]


def _study(
    dimensions: int, differences: NDArray[np.float64], seed: int, settings: SearchSettings
) -> optuna.Study:
    """Return a study that begins with its centre, whose differences to the warm start are known."""
    with warnings.catch_warnings():
        # The pruner made for a mean over instances; experimental since 3.6 for its interface only.
        warnings.simplefilter("ignore", ExperimentalWarning)
        pruner = WilcoxonPruner(p_threshold=settings.prune_below)
    study = optuna.create_study(
        sampler=CmaEsSampler(seed=seed, n_startup_trials=1, popsize=_population(dimensions)),
        pruner=pruner,
    )
    study.add_trial(
        create_trial(
            params=dict.fromkeys(_space(dimensions), 0.0),
            distributions=_space(dimensions),
            value=pooled(differences),
            intermediate_values=dict(enumerate(differences.tolist())),
        )
    )
    return study


def _population(dimensions: int) -> int:
    """Return candidates per generation, as CMA-ES recommends; they are measured side by side."""
    return 4 + int(3 * np.log(dimensions))


def _space(dimensions: int) -> dict[str, BaseDistribution]:
    return {f"gap{index:03d}": FloatDistribution(-1.0, 1.0) for index in range(dimensions)}
