"""Runs whose outputs a worker keeps, so that others that begin alike compute no more than the rest.

They are of this process: whoever starts anew, or is not given all units of a batch, has lost them.
A run that begins like a lost one is made in full; what it gives is the same.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otcache_plugin.executors.output_log import OutputLog, Replay

if TYPE_CHECKING:
    from otcache_policies import Schedule

    from otcache_plugin.calibration.measuring.units import Evaluate
    from otcache_plugin.evaluation.batches import Batch


@dataclass(frozen=True)
class KeptRun:
    """A run that is about to be made.

    Attributes:
        replay: what it need not compute; None where nothing was kept, or it was lost.
        log: where its outputs are kept, None where they are not.
    """

    replay: Replay | None = None
    log: OutputLog | None = None


class KeptRuns:
    """The runs that are kept, in a folder of their own.

    Args:
        scratch: where that is made; None for the system's folder of temporary files.
    """

    def __init__(self, scratch: Path | None) -> None:
        self._scratch = scratch
        self._folder: Path | None = None
        self._names = itertools.count()
        self._stage = 0
        self._logs: dict[tuple[str, Batch], dict[Schedule, OutputLog]] = {}

    def begin(self, unit: Evaluate) -> KeptRun:
        """Return what is known of a unit's run, and where it is to be kept."""
        plan = unit.replay
        if plan is None:
            return KeptRun()
        if plan.stage != self._stage:
            self.forget()
            self._stage = plan.stage
        kept = self._logs.setdefault((plan.search, unit.batch), {})
        log = kept.get(plan.after) if plan.after is not None else None
        # A working folder that is opened anew loses what lies in it.
        found = log is not None and log.folder.exists()
        replay = Replay(log, frozenset(unit.replayed_steps)) if log and found else None
        return KeptRun(replay, OutputLog(self._own_folder() / str(next(self._names))))

    def end(self, unit: Evaluate, run: KeptRun) -> None:
        """Keep a run that was made, and drop those that its unit says are of no more use."""
        plan = unit.replay
        if plan is None or run.log is None:
            return
        logs = self._logs[plan.search, unit.batch]
        logs[unit.schedule] = run.log
        for schedule in set(logs).difference(plan.kept):
            shutil.rmtree(logs.pop(schedule).folder, ignore_errors=True)

    def _own_folder(self) -> Path:
        if self._folder is None:
            if self._scratch is not None:
                self._scratch.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix="otcache-runs-", dir=self._scratch))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    def forget(self) -> None:
        """Drop everything."""
        for logs in self._logs.values():
            for log in logs.values():
                shutil.rmtree(log.folder, ignore_errors=True)
        self._logs.clear()
