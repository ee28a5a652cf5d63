"""How far long work is and how long it may still take, counted in denoising steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otcache_plugin.plugins.costs import StageCost


@dataclass(frozen=True)
class Standing:
    """How far long work is at a moment.

    Attributes:
        stage: what is being done.
        done: units of it that are done.
        total: how many there are at most, None where it has none that are counted.
        found: whether all its runs were made before, and nothing was run for it now.
        stage_seconds: since it began.
        steps: denoising steps that are done, of all stages.
        steps_left: how many may still come at most.
        seconds: since the work began.
        seconds_left: how long that may take, None where nothing was run yet to tell by.
    """

    stage: str
    done: int
    total: int | None
    found: bool
    stage_seconds: float
    steps: int
    steps_left: int
    seconds: float
    seconds_left: float | None

    @property
    def share(self) -> float | None:
        """The part of the denoising steps that is done, None where none were planned."""
        steps = self.steps + self.steps_left
        return self.steps / steps if steps else None


class Pace:
    """Counts what is done and what may still come, and how long a step takes.

    A step's time is that of the steps that were run now: those whose results were there already
    count as done, and take none of it.

    Args:
        now: gives the time.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._begun = self._stage_begun = self._last = now()
        self._to_come: dict[str, int] = {}
        self._part = 1.0
        self._stage = ""
        self._stage_steps = 0
        self._done = 0
        self._total: int | None = None
        self._runs_before = self._runs_now = 0
        self._steps = self._steps_run = 0
        self._running_seconds = 0.0

    def plan(self, stages: Sequence[StageCost], part: float) -> None:
        """Expect stages, in this order, of which this process is to run a part of the steps."""
        self._part = part
        self._to_come = {}
        for each in stages:
            self._to_come[each.stage] = self._to_come.get(each.stage, 0) + each.denoising_steps

    def begin(self, stage: str, total: int | None) -> None:
        """A stage of at most so many units begins; what was planned before it is not to come."""
        self._stage_steps = 0
        if stage in self._to_come:
            names = list(self._to_come)
            for earlier in names[: names.index(stage)]:
                del self._to_come[earlier]
            self._stage_steps = self._to_come.pop(stage)
        self._stage, self._done, self._total = stage, 0, total
        self._runs_before = self._runs_now = 0
        self._stage_begun = self._last = self._now()

    def advance(self) -> None:
        """One unit of the stage is done."""
        self._done += 1

    def ran(self, steps: int, before: bool) -> None:
        """So many denoising steps are there, run now or before."""
        now = self._now()
        self._steps += steps
        if before:
            self._runs_before += 1
        else:
            self._runs_now += 1
            self._steps_run += steps
            self._running_seconds += now - self._last
        self._last = now

    def end(self) -> None:
        """Nothing more of the stage will come."""
        self._stage_steps = 0

    @property
    def standing(self) -> Standing:
        """How far it is now."""
        now, left = self._now(), self._steps_left()
        return Standing(
            stage=self._stage,
            done=self._done,
            total=self._total,
            found=self._runs_before > 0 and self._runs_now == 0,
            stage_seconds=now - self._stage_begun,
            steps=self._steps,
            steps_left=left,
            seconds=now - self._begun,
            seconds_left=(
                left * self._part * self._running_seconds / self._steps_run
                if self._steps_run
                else None
            ),
        )

    def _steps_left(self) -> int:
        """Return the steps of the stages to come, and of the units of this one that are."""
        to_do = max(0, self._total - self._done) / self._total if self._total else 0.0
        return sum(self._to_come.values()) + round(self._stage_steps * to_do)
