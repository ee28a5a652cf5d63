"""Stage 2: the anchor search, black-box minimisation of the end-to-end loss in gap space.

Optuna's CMA-ES moves the gaps of a warm start (OTCache, arXiv 2606.31026, Sec. 3.3, Eq. 7) and
P_sum turns them back into a schedule. A wide search alone stops far from the optimum on a
landscape this small and bumpy, a narrow one never leaves the warm start: so the trials are split
into rounds, each a fresh CMA-ES around the best schedule so far with half the range of the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import optuna
from otcache_policies import Schedule, project_sum

from otcache_plugin.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SMALLEST_GAP = 0.1
"""Where a gap is held before rounding, so that no order of steps is ever reversed."""


@dataclass(frozen=True)
class AnchorSettings:
    """How long to search, and how far from the warm start.

    Attributes:
        trials: candidates altogether, as many in each round, a remainder left out; identical ones
            are evaluated once but count.
        patience: trials without improvement after which a round ends.
        ranges: half-width of each round's range of a gap, in steps; the trials are split evenly.
            CMA-ES starts with a standard deviation of a third of it.
        seed: of CMA-ES.
    """

    trials: int = 200
    patience: int = 50
    ranges: tuple[float, ...] = (9.0, 4.5, 2.25)
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(0, "trials", self.trials)
        require_at_least(1, "patience", self.patience)


def require_at_least(smallest: int, field: str, value: int) -> None:
    """Raises ArgumentError when a setting is below its smallest value."""
    if value < smallest:
        raise ArgumentError(field, value, f"below {smallest}", f"Use {smallest} or more")


@dataclass(frozen=True)
class Trial:
    """One evaluated candidate."""

    schedule: Schedule
    loss: float


@dataclass(frozen=True)
class AnchorSearch:
    """What a search found.

    Attributes:
        warm_start: the schedule it began with.
        history: every trial in order, repeated candidates too.
    """

    warm_start: Trial
    history: tuple[Trial, ...]

    def best(self, count: int) -> list[Trial]:
        """The best distinct candidates, best first, none worse than the warm start."""
        distinct = {trial.schedule: trial for trial in (self.warm_start, *self.history)}
        ranked = sorted(distinct.values(), key=lambda trial: trial.loss)
        return [trial for trial in ranked if trial.loss <= self.warm_start.loss][:count]


def search_anchor(
    warm_start: Schedule,
    loss: Callable[[Schedule], float],
    look_backs: Callable[[tuple[int, ...]], tuple[int, ...]],
    settings: AnchorSettings,
    on_trial: Callable[[], None] = lambda: None,
) -> AnchorSearch:
    """Searches the schedules of the warm start's budget for the lowest loss.

    Args:
        warm_start: where to begin, and what is never done worse than.
        loss: end-to-end loss of a schedule, smaller is better.
        look_backs: of the segments between computed steps, as the edge table gives them.
        settings: how long and how far.
        on_trial: called after every trial.

    Returns:
        The search with every trial.
    """
    first = Trial(warm_start, loss(warm_start))
    if warm_start.budget < 3:
        return AnchorSearch(first, ())  # both ends are fixed: there is nothing to search
    best, history = first, []
    share = settings.trials // len(settings.ranges)
    for number, half_width in enumerate(settings.ranges):
        centre = np.array(best.schedule.gaps, dtype=np.float64)
        study = _study(len(centre), settings.seed + number)
        stale = 0
        for _ in range(share):
            trial = study.ask(_space(len(centre)))
            offsets = np.array([trial.params[name] for name in sorted(trial.params)])
            steps = steps_of_gaps(centre + half_width * offsets, warm_start.num_inference_steps)
            schedule = Schedule(steps, warm_start.num_inference_steps, look_backs(steps))
            candidate = Trial(schedule, loss(schedule))
            study.tell(trial, candidate.loss)
            history.append(candidate)
            improved = candidate.loss < best.loss
            best, stale = (candidate, 0) if improved else (best, stale + 1)
            on_trial()
            if stale >= settings.patience:
                break
    return AnchorSearch(first, tuple(history))


def steps_of_gaps(gaps: NDArray[np.float64], num_inference_steps: int) -> tuple[int, ...]:
    """The schedule's steps nearest to real-valued gaps: scaled to T - 1, rounded by P_sum."""
    positive = np.maximum(gaps, SMALLEST_GAP)
    positions = np.concatenate([[0.0], np.cumsum(positive) / positive.sum()])
    return project_sum(positions * (num_inference_steps - 1))


def _study(dimensions: int, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=1)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial(dict.fromkeys(_space(dimensions), 0.0))
    return study


def _space(dimensions: int) -> dict[str, optuna.distributions.BaseDistribution]:
    return {
        f"gap{index:03d}": optuna.distributions.FloatDistribution(-1.0, 1.0)
        for index in range(dimensions)
    }
