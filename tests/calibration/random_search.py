"""A search algorithm besides climbs and rounds: schedules drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from optuna.trial import create_trial
from otcache_policies import Schedule

from otcache_plugin.calibration.measuring.losses import pooled
from otcache_plugin.calibration.searching.candidates import (
    Searching,
    SearchTask,
    Trial,
    begin,
    losses_on,
)


@dataclass(frozen=True)
class RandomSearch:
    """Draws inner steps evenly, and keeps the warm start's look-backs.

    Attributes:
        trials: how many schedules it draws.
    """

    trials: int
    name: ClassVar[str] = "random"

    def drawn(self, task: SearchTask) -> list[Schedule]:
        """What is tried, from the task's seed alone."""
        rng = np.random.default_rng(task.seed)
        start, total = task.warm_start, task.warm_start.num_inference_steps
        inner = [
            np.sort(rng.choice(np.arange(1, total - 1), start.budget - 2, replace=False))
            for _ in range(self.trials)
        ]
        return [
            Schedule([0, *map(int, steps), total - 1], total, start.look_backs) for steps in inner
        ]

    def search(self, task: SearchTask) -> Searching:
        """Try them all at once."""
        search, study = (yield from begin(task.warm_start, task.panel)), task.study("drawn")
        schedules = self.drawn(task)
        found = yield from losses_on(schedules, task.panel.batches)
        for schedule, losses in zip(schedules, found, strict=True):
            trial = Trial(schedule, pooled(losses))
            search = search.with_trial(trial)
            steps = {"computed_steps": schedule.computed_steps}
            study.keep(create_trial(value=trial.loss, user_attrs=steps))
            task.on_trial()
        return search
