"""A round of CMA-ES around the best schedule so far: its gaps moved, P_sum makes steps of them.

Optuna's CMA-ES moves the gaps of a schedule (OTCache, arXiv 2606.31026, Sec. 3.3, Eq. 6 and 7) and
P_sum turns them back into a schedule. Candidates inherit the look-backs of the best schedule: what
is best under the table's look-backs is not the best.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import WilcoxonPruner
from optuna.samplers import CmaEsSampler
from optuna.trial import create_trial
from otcache_policies import Schedule, project_sum
from otcache_policies.transport import inherited_look_backs
from scipy.interpolate import PchipInterpolator

from otcache_plugin.calibration.measuring.losses import differences, pooled
from otcache_plugin.calibration.searching.candidates import Trial, losses_on
from otcache_plugin.calibration.settings import SMALLEST_GAP

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

    from otcache_plugin.calibration.searching.candidates import (
        Panel,
        ScheduleSearch,
        Searching,
        SearchTask,
    )
    from otcache_plugin.calibration.settings import Round, SearchSettings
    from otcache_plugin.plugins.calibrating import Losses, LossRequest


def search_round(
    search: ScheduleSearch,
    task: SearchTask,
    moved: Round,
    number: int,
    settings: SearchSettings,
    trials: int,
) -> Searching:
    """Make one round of CMA-ES around the best schedule so far, generation by generation.

    Args:
        search: what was found so far.
        task: of the search.
        moved: what is moved, and how far.
        number: of the round; its seed is as much larger than the search's.
        settings: of the search.
        trials: candidates of the round at most.

    Returns:
        The search with every candidate that was run on all pairs.
    """
    panel, kept = task.panel, task.study(f"round {number}")
    centre = search.best(1)[0].schedule
    values, baseline = yield from losses_on([centre, search.warm_start.schedule], panel.batches)
    around = Candidates(centre, moved)
    space = around.space
    study = _study(len(space), differences(values, baseline), task.seed + number, settings)
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
            study.tell(trial, pooled(differences(losses, baseline[: len(losses)])))
            kept.keep(study.get_trials(deepcopy=False)[trial.number])
            complete = len(losses) == len(baseline)
            found = search.with_trial(Trial(schedule, pooled(losses)) if complete else None)
            stale = 0 if found.best_losses[-1] < search.best_losses[-1] else stale + 1
            search = found
            task.on_trial()
    return search


@dataclass(frozen=True)
class Candidates:
    """What the candidates of one round are made from."""

    centre: Schedule
    moved: Round

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """An offset per part of the centre's curve, or per gap where that is fewer."""
        return _space(self.moved.parts_of(len(self.centre.gaps)))

    def schedule(self, offsets: NDArray[np.float64]) -> Schedule:
        """Return the candidate of some offsets in [-1, 1], with the centre's look-backs.

        The parts are stretched or squeezed, and the steps go with them. With a part per gap the
        offsets are those of the gaps.
        """
        steps, total = self.centre.computed_steps, self.centre.num_inference_steps
        ends = np.linspace(0, len(steps) - 1, len(offsets) + 1)
        ends = np.interp(ends, np.arange(len(steps)), steps)
        parts = np.maximum(np.diff(ends) + self.moved.half_width * offsets, SMALLEST_GAP)
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
    """Ask for the candidates' losses on all pairs, or on the first batches of hopeless ones.

    What the pruner sees of a pair is the difference to the warm start, so that it does not matter
    which pairs are the harder ones.
    """
    first = yield from losses_on(candidates, panel.batches[: panel.first])
    for trial, losses in zip(trials, first, strict=True):
        _report(trial, differences(losses, baseline[: len(losses)]), 0)
    survivors = [
        number
        for number, (trial, losses) in enumerate(zip(trials, first, strict=True))
        if panel.first < len(panel.batches) and not _is_hopeless(trial, losses)
    ]
    rest = yield from losses_on(
        [candidates[number] for number in survivors], panel.batches[panel.first :]
    )
    judged = list(first)
    for number, losses in zip(survivors, rest, strict=True):
        judged[number] = np.concatenate([first[number], losses])
        _report(trials[number], differences(losses, baseline[-len(losses) :]), len(first[number]))
    return judged


def _is_hopeless(trial: optuna.Trial, losses: NDArray[np.float64]) -> bool:
    """Return whether a trial cannot become the best one, by its losses on the first batches."""
    if not np.isfinite(losses).all():
        return True
    # The pruner compares with the best trial, which has to have a difference at every pair.
    return bool(np.isfinite(trial.study.best_value)) and trial.should_prune()


def _report(trial: optuna.Trial, found: NDArray[np.float64], first_pair: int) -> None:
    for pair, difference in _finite(found, first_pair).items():
        trial.report(difference, pair)


def _finite(found: NDArray[np.float64], first_pair: int = 0) -> dict[int, float]:
    """Return the differences that the pruner may see, by pair."""
    by_pair = enumerate(found.tolist(), first_pair)
    return {pair: difference for pair, difference in by_pair if np.isfinite(difference)}


def _study(
    dimensions: int, centre: NDArray[np.float64], seed: int, settings: SearchSettings
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
            value=pooled(centre),
            intermediate_values=_finite(centre),
        )
    )
    return study


def _population(dimensions: int) -> int:
    """Return candidates per generation, as CMA-ES recommends; they are measured side by side."""
    return 4 + int(3 * np.log(dimensions))


def _space(dimensions: int) -> dict[str, BaseDistribution]:
    return {f"gap{index:03d}": FloatDistribution(-1.0, 1.0) for index in range(dimensions)}
