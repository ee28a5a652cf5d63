"""The command in processes of their own, to be killed."""

from __future__ import annotations

import atexit
import os
import random
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from forking import FORKING
from waiting import CEILING, wait_until

SETTINGS = (
    *("--steps", "12", "--budget-reference", "7", "--budget-anchor", "4", "--waypoints", "5"),
    *("--pairs", "4", "--held-out-pairs", "3", "--batch-size", "2", "--trials", "10"),
    *("--effort", "paper", "--search", "joint"),
)
"""Two batches of calibration pairs and two of held-out ones; a second or two of measuring."""

STANDARD = (
    *("--steps", "12", "--budget-reference", "6", "--budget-anchor", "4", "--seed", "1"),
    *("--pairs", "16", "--held-out-pairs", "3", "--batch-size", "8", "--effort", "standard"),
)
"""As many batches, of the fewest pairs that a race takes."""

LEARNED = (
    *("--steps", "12", "--policy", "recache", "--seed", "1", "--set", "budgets=4,6"),
    *("--pairs", "4", "--held-out-pairs", "3", "--batch-size", "2", "--set", "largest_budget=7"),
    *("--set", "pretraining=20", "--set", "iterations=4", "--set", "schedules=3"),
)
"""A network that is trained on some fifty runs."""

Preparation = Callable[[], object]
"""Something that is done in a process before the command; must be picklable."""

_STARTED: list[Any] = []


@atexit.register
def _kill_what_is_left() -> None:
    """A test that failed may leave a process, which Python would wait for; even a stopped one."""
    for process in _STARTED:
        if process.is_alive():
            process.kill()


class Command:
    """`otcache` in a process of its own.

    Args:
        arguments: of the command.
        prepare: done in the process first.
    """

    def __init__(
        self, folder: Path, *arguments: str, prepare: tuple[Preparation, ...] = ()
    ) -> None:
        number = len(list(folder.glob("*.stdout")))
        self._out, self._err = folder / f"{number}.stdout", folder / f"{number}.stderr"
        self._out.touch()
        self._process = FORKING.Process(
            target=_run, args=(arguments, self._out, self._err, prepare)
        )
        self._process.start()
        _STARTED.append(self._process)

    @property
    def pid(self) -> int:
        """Of the process."""
        return int(self._process.pid)

    @property
    def out(self) -> str:
        """What it has said on stdout."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """What it has said on stderr."""
        return self._err.read_text()

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return not self._process.is_alive()

    def wait(self) -> int:
        """Its exit status; minus the signal when it was killed by one."""
        self._process.join(CEILING)
        assert self.ended, self.err
        return int(self._process.exitcode)

    def wait_until(self, happened: Callable[[], object]) -> None:
        """Return when something has happened that it does."""
        wait_until(happened, lambda: not self.ended)


def _run(
    arguments: tuple[str, ...], out: Path, err: Path, prepare: tuple[Preparation, ...]
) -> None:
    assert "forked" in sys.modules, "the server has not imported it, so that all is slow"
    for stream, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, stream)
    os.environ.update(COLUMNS="200", NO_COLOR="1")
    # Tests that run in the background of a shell inherit that it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in prepare:
        each()
    from otcache_plugin.cli.main import main

    sys.argv = ["otcache", *arguments]
    main()


def at_measurements(count: int, act: Preparation) -> Preparation:
    """Prepare to do something once, as soon as the working folder holds so many measurements."""
    return partial(_act_at, count, act)


def _act_at(count: int, act: Preparation) -> None:
    from otcache_plugin.calibration.measuring.workspace import UNITS_FOLDER, Workspace

    put = Workspace.put

    def putting(self: Workspace, *arguments: Any) -> None:
        put(self, *arguments)
        if count_files(self.folder / UNITS_FOLDER) >= count:
            Workspace.put = put  # type: ignore[method-assign]
            act()

    Workspace.put = putting  # type: ignore[method-assign]


def die() -> None:
    """End at once, as if the power was cut."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_in(seconds: float) -> None:
    """End as suddenly, and wherever the process is then."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def count_files(folder: Path) -> int:
    """How many a folder holds; 0 when it is not there."""
    return len(os.listdir(folder)) if folder.is_dir() else 0


def random_deaths(seed: int, count: int, files: int) -> list[Preparation]:
    """Prepare to die at random numbers of measurements, rising, some milliseconds later."""
    rng = random.Random(seed)
    return [
        at_measurements(each, partial(die_in, rng.uniform(0.0001, 0.02)))
        for each in sorted(rng.sample(range(files), count))
    ]
