"""How commands speak: data on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from otcache_plugin.cli.common.clock import SystemClock
from otcache_plugin.cli.common.displays import display_for
from otcache_plugin.cli.common.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from otcache_plugin.cli.common.clock import Clock
    from otcache_plugin.plugins.costs import StageCost

UNBROKEN = 10_000
"""Signs of a line that nobody looks at in a terminal: no value in it is broken or left out."""

BEAT_SECONDS = 60.0
"""How often a log is told how far long work is."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def print_json(data: Any) -> None:
    """Print data as indented JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_error(message: str) -> None:
    """Print an error to stderr."""
    console = Console(stderr=True, highlight=False)
    console.print("error:", style="bold red", end=" ")
    console.print(message, markup=False, soft_wrap=True)


class DataConsole(Console):
    """Prints data on stdout: in the width of a terminal, and unbroken where there is none."""

    def __init__(self) -> None:
        self._bounded = sys.stdout.isatty() or "COLUMNS" in os.environ
        super().__init__(highlight=False, width=None if self._bounded else UNBROKEN)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, without the spaces that fill a table's last column."""
        if self._bounded:
            super().print(*objects, **options)
            return
        with self.capture() as captured:
            super().print(*objects, **options)
        typer.echo("\n".join(line.rstrip() for line in captured.get().split("\n")), nl=False)

    def print_indented(self, text: str) -> None:
        """Print text as it is, a little indented, on every line of it."""
        self.print(Padding(escape(text), (0, 0, 0, 2), expand=False))


def data_console() -> DataConsole:
    """Return what prints data on stdout as it is now."""
    return DataConsole()


def print_hint(message: str) -> None:
    """Print what is good to know, but is no data, to stderr."""
    Console(stderr=True, highlight=False).print(message, markup=False, soft_wrap=True)


@contextmanager
def transfer_progress(description: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar of bytes, on stderr, from when it is first told of some.

    Yields:
        What is to be told the bytes that are there and how many there are altogether.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}"), BarColumn(bar_width=30), DownloadColumn()
    progress = Progress(
        *columns, TransferSpeedColumn(), console=Console(stderr=True), disable=quiet
    )
    task = progress.add_task(description)

    def told(done: int, total: int) -> None:
        progress.start()
        progress.update(task, completed=done, total=total)

    try:
        yield told
    finally:
        if progress.live.is_started:  # Stopping it prints an empty line in any case.
            progress.stop()


def silence_loading() -> None:
    """Turn off the progress bars that libraries show while they load a pipeline."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


class StageProgress:
    """Shows on stderr how far long work is: bars on a terminal, lines where there is none.

    `start` and `advance` are enough to show each stage by itself. Who says with `plan` how many
    denoising steps all stages take, and with each unit how many it took, has all of them shown with
    the time that is left.

    Args:
        quiet: show nothing.
        clock: tells the time, and when to say again how far it is.
    """

    def __init__(self, quiet: bool, clock: Clock | None = None) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._pace = Pace(self._clock.now)
        self._display = display_for(quiet, self._clock.now)
        self._at_work = False
        self._lock = Lock()  # The clock calls from another thread.

    def __enter__(self) -> StageProgress:
        self._stop_beats = self._clock.every(BEAT_SECONDS, self._beat)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stop_beats()
            if error is None:
                self._end_stage()
            elif self._at_work:
                self._display.stopped(self._pace.standing)
        finally:
            self._display.close()

    def plan(self, stages: Sequence[StageCost], part: float = 1.0) -> None:
        """Expect stages, in this order.

        Args:
            stages: with the denoising steps that they take at most.
            part: of the steps that this process is to run.
        """
        with self._lock:
            self._pace.plan(stages, part)

    def announce(self, stage: str) -> None:
        """Something begins in which nothing is counted; what was before it is done."""
        self._begin(stage, None)

    def start(self, stage: str, total: int) -> None:
        """A stage of at most `total` units begins; the one before is done."""
        self._begin(stage, total)

    def advance(self, steps: int = 0, before: bool = False) -> None:
        """One unit is done.

        Args:
            steps: denoising steps that it took.
            before: it was there already, and took no time now.
        """
        with self._lock:
            self._pace.advance()
            self._ran(steps, before)

    def ran(self, steps: int, before: bool = False) -> None:
        """Denoising steps were run that are a part of a unit."""
        with self._lock:
            self._ran(steps, before)

    def _ran(self, steps: int, before: bool) -> None:
        if steps:
            self._pace.ran(steps, before)
        if self._at_work:
            self._display.moved(self._pace.standing)

    def _begin(self, stage: str, total: int | None) -> None:
        self._end_stage()
        with self._lock:
            self._pace.begin(stage, total)
            self._display.began(self._pace.standing)
            self._at_work = True

    def _end_stage(self) -> None:
        """All that a stage needed is done, which may be less than was possible."""
        with self._lock:
            if self._at_work:
                self._pace.end()
                self._display.ended(self._pace.standing)
                self._at_work = False

    def _beat(self) -> None:
        with self._lock:
            if self._at_work:
                self._display.beat(self._pace.standing)


def import_libraries(progress: StageProgress) -> None:
    """Import what every model needs, which takes seconds, and have it load without bars."""
    progress.announce("importing torch and diffusers")
    from otcache_plugin.models import pretrained  # noqa: F401

    silence_loading()
