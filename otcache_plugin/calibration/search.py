"""Stage 2: the anchor search, black-box minimisation of the end-to-end loss in gap space.

Optuna's CMA-ES moves the gaps of a warm start (OTCache, arXiv 2606.31026, Sec. 3.3, Eq. 6 and 7)
and P_sum turns them back into a schedule. A wide search of all gaps stops far from the optimum on a
landscape this bumpy, a narrow one never leaves the warm start. So the trials are split into rounds:
the first stretches the curve of the warm start in a few parts, the others move every gap, each a
fresh CMA-ES around the best schedule so far with half the range of the last. After each round the
best schedule's look-backs are searched, and the next round's candidates inherit them: what is best
under the table's look-backs is not the best.

A search measures nothing itself. It is a generator that yields what it wants measured and is sent
the losses, so that several can go on side by side and a replayed one takes no time.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

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

from otcache_plugin.calibration.pooling import pooled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Mapping, Sequence

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from otcache_plugin.calibration.journal import JournalStudy, TrialJournal
    from otcache_plugin.calibration.settings import AnchorSettings
    from otcache_plugin.calibration.units import Batch

State = TypeVar("State", bound="Hashable")

SMALLEST_GAP = 0.1
"""Where a part is held before rounding, so that no order of steps is ever reversed."""

Request = tuple["Schedule", "Batch"]
"""A schedule to be run on a batch of pairs; answered with an ``(n,)`` array of losses."""


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
class AnchorSearch:
    """What a search found.

    Attributes:
        warm_start: the schedule it began with.
        complete: every candidate that was run on all pairs, in order.
        best_losses: the best loss so far, first the warm start's, then after each trial for the
            steps and each round for the look-backs.
    """

    warm_start: Trial
    complete: tuple[Trial, ...]
    best_losses: tuple[float, ...]

    def with_trial(self, trial: Trial | None) -> AnchorSearch:
        """The search after one more trial, None for one that was not run on all pairs."""
        best = self.best_losses[-1]
        if trial is None:
            return replace(self, best_losses=(*self.best_losses, best))
        losses = (*self.best_losses, min(best, trial.loss))
        return AnchorSearch(self.warm_start, (*self.complete, trial), losses)

    def best(self, count: int) -> list[Trial]:
        """The best candidates of distinct steps, best first, none worse than the warm start."""
        found: dict[tuple[int, ...], Trial] = {}
        for trial in sorted((self.warm_start, *self.complete), key=lambda trial: trial.loss):
            found.setdefault(trial.schedule.computed_steps, trial)
        return [each for each in found.values() if each.loss <= self.warm_start.loss][:count]


def losses_on(
    schedules: Sequence[Schedule], batches: Sequence[Batch]
) -> Generator[list[Request], Mapping[Request, NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Asks for the losses of all schedules on all batches: an ``(n,)`` array per schedule."""
    if not schedules or not batches:
        return [np.empty(0) for _ in schedules]
    given = yield [(schedule, batch) for schedule in schedules for batch in batches]
    return [np.concatenate([given[schedule, batch] for batch in batches]) for schedule in schedules]


def search_anchor(
    warm_start: Schedule,
    panel: Panel,
    max_look_back: int,
    settings: AnchorSettings,
    seed: int,
    journal: TrialJournal,
    name: str,
    on_trial: Callable[[], None] = lambda: None,
) -> Generator[list[Request], Mapping[Request, NDArray[np.float64]], AnchorSearch]:
    """Searches the schedules of the warm start's budget for the lowest loss.

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
    (baseline,) = yield from losses_on([warm_start], panel.batches)
    first = Trial(warm_start, pooled(baseline))
    search = AnchorSearch(first, (), (first.loss,))
    # With two steps both ends are fixed: there is nothing to search.
    rounds = settings.rounds if warm_start.budget > 2 else ()
    for number, (parts, half_width) in enumerate(rounds):
        centre = search.best(1)[0].schedule
        (values,) = yield from losses_on([centre], panel.batches)
        around = _Round(centre, parts, half_width, panel, baseline, settings.patience)
        study = _study(len(around.space), values - baseline, seed + number, settings)
        trials = settings.round_trials[number]
        kept = journal.study(f"{name}, steps {number + 1}")
        search = yield from _search_steps(search, around, study, trials, kept, on_trial)
        kept = journal.study(f"{name}, look-backs {number + 1}")
        search = yield from _search_look_backs(
            search, panel, max_look_back, settings.look_back_trials, kept, on_trial
        )
    return search


@dataclass(frozen=True, eq=False)
class _Round:
    """What the candidates of one round are made from and compared with."""

    centre: Schedule
    parts: int
    half_width: float
    panel: Panel
    baseline: NDArray[np.float64]
    patience: int

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """An offset per part of the centre's curve, or per gap where that is fewer."""
        return _space(min(self.parts, len(self.centre.gaps)))

    def schedule(self, offsets: NDArray[np.float64]) -> Schedule:
        """The candidate of some offsets in [-1, 1], with the centre's look-backs.

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


def _search_steps(
    search: AnchorSearch,
    around: _Round,
    study: optuna.Study,
    trials: int,
    kept: JournalStudy,
    on_trial: Callable[[], None],
) -> Generator[list[Request], Mapping[Request, NDArray[np.float64]], AnchorSearch]:
    """One round of CMA-ES, generation by generation."""
    kept.keep(study.get_trials(deepcopy=False)[0])
    space = around.space
    stale = 0
    while trials > 0 and stale < around.patience:
        generation = [study.ask(space) for _ in range(min(_population(len(space)), trials))]
        trials -= len(generation)
        candidates = [
            around.schedule(np.array([trial.params[gap] for gap in space])) for trial in generation
        ]
        judged = yield from _judge(generation, candidates, around.panel, around.baseline)
        for trial, schedule, losses in zip(generation, candidates, judged, strict=True):
            trial.set_user_attr("computed_steps", schedule.computed_steps)
            study.tell(trial, pooled(losses - around.baseline[: len(losses)]))
            kept.keep(study.get_trials(deepcopy=False)[trial.number])
            complete = len(losses) == len(around.baseline)
            found = search.with_trial(Trial(schedule, pooled(losses)) if complete else None)
            stale = 0 if found.best_losses[-1] < search.best_losses[-1] else stale + 1
            search = found
            on_trial()
    return search


def _search_look_backs(
    search: AnchorSearch,
    panel: Panel,
    max_look_back: int,
    trials: int,
    kept: JournalStudy,
    on_trial: Callable[[], None],
) -> Generator[list[Request], Mapping[Request, NDArray[np.float64]], AnchorSearch]:
    """The search with better look-backs of its best candidate."""
    best = search.best(1)[0]
    look_backs = yield from descend(
        best.schedule.look_backs,
        look_back_coordinates(len(best.schedule.look_backs), max_look_back),
        lambda candidate: [best.schedule.with_look_backs(candidate)],
        panel,
        best.loss,
        trials,
        kept,
        on_trial,
    )
    schedule = best.schedule.with_look_backs(look_backs)
    (losses,) = yield from losses_on([schedule], panel.batches)
    return search.with_trial(Trial(schedule, pooled(losses)))


def _judge(
    trials: Sequence[optuna.Trial],
    candidates: Sequence[Schedule],
    panel: Panel,
    baseline: NDArray[np.float64],
) -> Generator[list[Request], Mapping[Request, NDArray[np.float64]], list[NDArray[np.float64]]]:
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


def descend(
    start: State,
    coordinates: Sequence[Callable[[State], list[State]]],
    family: Callable[[State], Sequence[Schedule]],
    panel: Panel,
    limit: float,
    trials: int,
    study: JournalStudy,
    on_trial: Callable[[], None] = lambda: None,
) -> Generator[list[Request], Mapping[Request, NDArray[np.float64]], State]:
    """Improves a state along one coordinate after the other, until none improves it.

    Candidates are tried on the first batches, and those that are ahead there on all.

    Args:
        start: the state to begin with.
        coordinates: each gives the states that differ from one in it.
        family: the schedules that a state stands for; their mean loss over all is minimised.
        panel: the pairs to judge on.
        limit: largest loss of the family's first schedule that is accepted.
        trials: candidates altogether.
        study: where they are kept.
        on_trial: called after every trial.

    Returns:
        The state, no worse than the first.
    """
    best = start
    (best_losses,) = yield from _family_losses([best], family, panel.batches)
    number, unchanged, tried = 0, 0, 0
    while unchanged < len(coordinates) and tried < trials:
        others = [
            other
            for other in coordinates[number % len(coordinates)](best)
            if list(family(other)) != list(family(best))
        ][: trials - tried]
        ahead = yield from _ahead(others, best_losses, family, panel)
        judged = yield from _family_losses(ahead, family, panel.batches)
        losses = dict(zip(ahead, judged, strict=True))
        for other in others:
            study.keep(_descent_trial(other, losses.get(other)))
            on_trial()
        tried, unchanged, number = tried + len(others), unchanged + 1, number + 1
        better = {
            other: values
            for other, values in losses.items()
            if pooled(values) < pooled(best_losses) and pooled(values[0]) <= limit
        }
        if better:
            best = min(better, key=lambda other: pooled(better[other]))
            best_losses, unchanged = better[best], 1
    return best


def _ahead(
    candidates: Sequence[State],
    best: NDArray[np.float64],
    family: Callable[[State], Sequence[Schedule]],
    panel: Panel,
) -> Generator[list[Request], Mapping[Request, NDArray[np.float64]], list[State]]:
    """The candidates with a lower mean loss than the best on the first batches."""
    losses = yield from _family_losses(candidates, family, panel.batches[: panel.first])
    return [
        candidate
        for candidate, values in zip(candidates, losses, strict=True)
        if pooled(values) < pooled(best[:, : values.shape[1]])
    ]


def _family_losses(
    states: Sequence[State],
    family: Callable[[State], Sequence[Schedule]],
    batches: Sequence[Batch],
) -> Generator[list[Request], Mapping[Request, NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Each state's losses, a row per schedule and a column per pair."""
    families = [family(state) for state in states]
    flat = yield from losses_on([schedule for each in families for schedule in each], batches)
    rows = iter(flat)
    return [np.stack([next(rows) for _ in each]) for each in families]


def _descent_trial(state: State, losses: NDArray[np.float64] | None) -> FrozenTrial:
    return create_trial(
        state=TrialState.PRUNED if losses is None else TrialState.COMPLETE,
        value=None if losses is None else pooled(losses),
        user_attrs={"state": repr(state)},
    )


def look_back_coordinates(
    segments: int, max_look_back: int
) -> list[Callable[[tuple[int, ...]], list[tuple[int, ...]]]]:
    """Every look-back of a schedule.

    The edge table knows the best one of a segment when every step before it was computed. At a
    small budget most were not, so what it says is only where to begin.
    """

    def others_of(segment: int) -> Callable[[tuple[int, ...]], list[tuple[int, ...]]]:
        return lambda look_backs: [
            (*look_backs[:segment], look_back, *look_backs[segment + 1 :])
            for look_back in range(1, max_look_back + 1)
            if look_back != look_backs[segment]
        ]

    return list(map(others_of, range(segments)))


def _study(
    dimensions: int, differences: NDArray[np.float64], seed: int, settings: AnchorSettings
) -> optuna.Study:
    """A study that begins with its centre, whose differences to the warm start are known."""
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
    """Candidates per generation, as CMA-ES recommends; they are measured side by side."""
    return 4 + int(3 * np.log(dimensions))


def _space(dimensions: int) -> dict[str, BaseDistribution]:
    return {f"gap{index:03d}": FloatDistribution(-1.0, 1.0) for index in range(dimensions)}
