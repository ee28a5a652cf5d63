"""The command in processes of their own, to be killed.

They are forked from a server that has imported everything, so that starting one takes no time.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FORKING: Any = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(
    [
        "diffusers.pipelines.flux.pipeline_flux",
        "matplotlib.backends.backend_agg",
        "optuna.storages.journal",
        "cmaes",
        "otcache_plugin.calibration.evidence.figures",
        "otcache_plugin.calibration.measuring.ray_pool",
        "otcache_plugin.calibration.shards",
        "otcache_plugin.models.exact_flow",
        "otcache_plugin.models.scenes",
        "otcache_plugin.cli.main",
    ]
)

SETTINGS = (
    *("--steps", "12", "--budget-reference", "7", "--budget-anchor", "4", "--waypoints", "5"),
    *("--pairs", "4", "--held-out-pairs", "3", "--batch-size", "2", "--trials", "10"),
)
"""Two batches of calibration pairs and two of held-out ones; a second or two of measuring."""

DEADLINE = 120.0
"""Seconds after which a test gives up waiting."""


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
        prepare: called in the process first; must be picklable.
    """

    def __init__(
        self, folder: Path, *arguments: str, prepare: Callable[[], None] | None = None
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
        self._process.join(DEADLINE)
        assert self.ended, self.err
        return int(self._process.exitcode)

    def signal_at(self, number: signal.Signals, folder: Path, files: int, delay: float = 0) -> None:
        """Send a signal as soon as there are so many files in a folder, or it has ended."""
        started = time.monotonic()
        while not self.ended and count_files(folder) < files:
            assert time.monotonic() < started + DEADLINE, self.err
            time.sleep(0.002)
        time.sleep(delay)
        if not self.ended:
            os.kill(self.pid, number)


def _run(
    arguments: tuple[str, ...], out: Path, err: Path, prepare: Callable[[], None] | None
) -> None:
    for stream, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, stream)
    os.environ.update(COLUMNS="200", NO_COLOR="1")
    # Tests that run in the background of a shell inherit that it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if prepare is not None:
        prepare()
    from otcache_plugin.cli.main import main

    sys.argv = ["otcache", *arguments]
    main()


def count_files(folder: Path) -> int:
    """How many a folder holds; 0 when it is not there."""
    return len(os.listdir(folder)) if folder.is_dir() else 0


def random_moments(seed: int, count: int, files: int) -> list[tuple[int, float]]:
    """Numbers of files at which to kill, rising, each with some milliseconds of delay."""
    rng = random.Random(seed)
    return [(each, rng.random() * 0.02) for each in sorted(rng.sample(range(files), count))]
