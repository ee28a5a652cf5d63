"""Searches driven without any model: losses by formula, answered as measurements would be."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from otcache_policies import Schedule, UniformPolicy

from otcache_plugin.calibration.searching.candidates import Panel, SearchTask
from otcache_plugin.calibration.searching.journal import JournalStudy, TrialJournal
from otcache_plugin.calibration.settings import TRIMMED
from otcache_plugin.evaluation.batches import Batch, batches_of
from otcache_plugin.plugins.calibrating import LossRequest

STEPS, BUDGET = 30, 7
WARM_START = UniformPolicy(STEPS).schedule(BUDGET)
ONE_BATCH = Panel(batches_of("calibration", 3, 3), 1)
EIGHT_BATCHES = Panel(batches_of("calibration", 32, 4), 2)

Loss = Callable[[Schedule, int], float]
"""Of a schedule and a pair."""


def distance_to(hidden: Sequence[int]) -> Loss:
    """The squared distance of the computed steps to hidden ones; some pairs are the harder ones."""

    def loss(schedule: Schedule, pair: int) -> float:
        return float(np.sum((np.array(schedule.computed_steps) - hidden) ** 2)) + 10.0 * pair

    return loss


def disturbing(seed: int) -> Loss:
    """A loss without any structure."""

    def loss(schedule: Schedule, pair: int) -> float:
        entropy = [*schedule.computed_steps, 0, *schedule.look_backs, pair, seed]
        return float(np.random.default_rng(entropy).uniform())

    return loss


def mean_loss(loss: Loss, schedule: Schedule, panel: Panel) -> float:
    """Over all pairs but the best and the worst few, as it is to be."""
    pairs = range(panel.batches[0].start, panel.batches[-1].stop)
    losses = sorted(loss(schedule, pair) for pair in pairs)
    cut = int(TRIMMED * len(losses))
    return float(np.mean(losses[cut : len(losses) - cut]))


@dataclass(frozen=True)
class Driven:
    """What a search came to, and what it asked for, one list of requests after the other."""

    result: Any
    asked: list[list[LossRequest]]

    @property
    def requests(self) -> list[LossRequest]:
        return [request for requests in self.asked for request in requests]

    @property
    def schedules(self) -> set[Schedule]:
        return {schedule for schedule, _ in self.requests}

    def batches_of(self, schedule: Schedule) -> set[Batch]:
        return {batch for asked, batch in self.requests if asked == schedule}


def drive(search: Generator[list[LossRequest], Any, Any], loss: Loss, most: int = 10**9) -> Driven:
    """Answer a search, at most so many times."""
    asked: list[list[LossRequest]] = []
    try:
        requests = next(search)
        while len(asked) < most:
            asked.append(requests)
            requests = search.send(
                {
                    (schedule, batch): np.array(
                        [loss(schedule, pair) for pair in range(batch.start, batch.stop)]
                    )
                    for schedule, batch in requests
                }
            )
    except StopIteration as stop:
        return Driven(stop.value, asked)
    search.close()
    return Driven(None, asked)


def task_on(
    journal: Path,
    name: str,
    warm_start: Schedule = WARM_START,
    panel: Panel = ONE_BATCH,
    max_look_back: int = 1,
    seed: int = 0,
    on_trial: Callable[[], None] = lambda: None,
) -> SearchTask:
    """A task whose parts are kept in a journal under its name."""
    trials = TrialJournal(journal)

    def study(part: str) -> JournalStudy:
        return trials.study(f"{name}, {part}")

    return SearchTask(warm_start, panel, max_look_back, seed, study, on_trial)


def studies_of(journal: Path) -> dict[str, optuna.Study]:
    """What Optuna reads of a journal."""
    storage = JournalStorage(JournalFileBackend(str(journal)))
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage) for name in names}
