"""What is shown of long work on stderr: bars on a terminal, lines in a log, or nothing."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.progress import TaskID

    from otcache_plugin.cli.common.pace import Standing

ALTOGETHER = "altogether"
"""What the bar of all stages is called."""

OTHER_COLUMNS = 70
"""Characters of a line of bars beside the bar itself."""


class Display(Protocol):
    """Shows how far long work is."""

    def began(self, standing: Standing) -> None:
        """A stage has begun."""
        ...

    def moved(self, standing: Standing) -> None:
        """It is a little further."""
        ...

    def beat(self, standing: Standing) -> None:
        """Another while has passed."""
        ...

    def ended(self, standing: Standing) -> None:
        """All is done that the stage needed."""
        ...

    def stopped(self, standing: Standing) -> None:
        """It was interrupted, or failed."""
        ...

    def close(self) -> None:
        """Nothing more is to be shown."""
        ...


class Silence:
    """Shows nothing."""

    def began(self, standing: Standing) -> None: ...
    def moved(self, standing: Standing) -> None: ...
    def beat(self, standing: Standing) -> None: ...
    def ended(self, standing: Standing) -> None: ...
    def stopped(self, standing: Standing) -> None: ...
    def close(self) -> None: ...


class Lines:
    """A line when a stage begins, every while, and when it ends: for logs."""

    def began(self, standing: Standing) -> None:
        """Say so; a stage that nothing has to be done for is passed over."""
        if standing.total != 0:
            self.beat(standing)

    def moved(self, standing: Standing) -> None:
        """Say nothing."""

    def beat(self, standing: Standing) -> None:
        """Say how far it is."""
        _print_line(f"{where(standing)} [{so_far(standing)}]")

    def ended(self, standing: Standing) -> None:
        """Say how much was done, where that is counted."""
        if standing.total:
            _print_line(f"{outcome(standing)} [{so_far(standing)}]")

    def stopped(self, standing: Standing) -> None:
        """Say where."""
        if standing.total:
            _print_line(f"{where(standing)}, stopped [{so_far(standing)}]")

    def close(self) -> None:
        """Leave the lines."""


class Bars:
    """A bar for the stage and one for all of them, under a line for each that has ended.

    Args:
        console: a terminal.
        now: gives the time.
    """

    def __init__(self, console: Console, now: Callable[[], float]) -> None:
        # It takes as long to import as the rest of the command line.
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description:<26}"),
            BarColumn(bar_width=max(4, min(30, console.width - OTHER_COLUMNS))),
            TextColumn("{task.fields[counted]:>11}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            get_time=now,
        )
        self._all = self._progress.add_task(ALTOGETHER, counted="", left="", visible=False)
        self._stage: TaskID | None = None

    def began(self, standing: Standing) -> None:
        """Show a bar for it, one that only moves where nothing is counted."""
        self._progress.start()
        self._stage = self._progress.add_task(
            standing.stage, total=standing.total, counted="", left=""
        )
        self.moved(standing)

    def moved(self, standing: Standing) -> None:
        """Move both bars."""
        assert self._stage is not None, "a stage has begun"
        if standing.total is not None:
            counted = f"{standing.done:,}/{standing.total:,}"
            self._progress.update(self._stage, completed=standing.done, counted=counted)
        if standing.share is not None:
            self._progress.update(
                self._all,
                completed=standing.steps,
                total=standing.steps + standing.steps_left,
                counted=percent(standing.share),
                left=time_left(standing),
                visible=True,
            )

    def beat(self, standing: Standing) -> None:
        """Do nothing: the bars show the time themselves."""

    def ended(self, standing: Standing) -> None:
        """Leave a line in the place of the stage's bar."""
        self.moved(standing)
        assert self._stage is not None, "a stage has begun"
        self._progress.remove_task(self._stage)
        if standing.total != 0:
            line = f"{outcome(standing)}, {duration(standing.stage_seconds)}"
            self._progress.console.print(line, markup=False, highlight=False)

    def stopped(self, standing: Standing) -> None:
        """Leave the bars where they are."""
        self.moved(standing)

    def close(self) -> None:
        """Leave what is shown."""
        if self._progress.live.is_started:  # Stopping it prints an empty line in any case.
            self._progress.stop()


def display_for(quiet: bool, now: Callable[[], float]) -> Display:
    """Return what shows it on this stderr.

    Args:
        quiet: show nothing.
        now: gives the time.
    """
    if quiet:
        return Silence()
    from rich.console import Console

    console = Console(stderr=True)
    # Not what rich takes for one: FORCE_COLOR is for colours, and set where a log is written too.
    is_terminal = sys.stderr.isatty() and not console.is_dumb_terminal
    return Bars(console, now) if is_terminal else Lines()


def where(standing: Standing) -> str:
    """Return what is being done, and how much of it is."""
    if standing.total is None:
        return standing.stage
    return f"{standing.stage}: {standing.done:,} of at most {standing.total:,}"


def outcome(standing: Standing) -> str:
    """Return what was done, and of how much that was possible."""
    whole = standing.done == standing.total
    done = where(standing).replace("of at most", "of") if whole else where(standing)
    return f"{done}, done{' before' if standing.found else ''}"


def so_far(standing: Standing) -> str:
    """Return how much is done of everything, the time since it began and the time left."""
    done = "" if standing.share is None else percent(standing.share)
    elapsed = f"{duration(standing.seconds)} elapsed"
    return ", ".join(filter(None, (done, elapsed, time_left(standing))))


def percent(share: float) -> str:
    """Return a part in percent; no less than all of it is 100 %."""
    return f"{int(100 * share)} %"


def time_left(standing: Standing) -> str:
    """Return the time that may be left, empty where there is none or it is unknown."""
    if standing.seconds_left is None or not standing.steps_left:
        return ""
    return f"at most {duration(standing.seconds_left)} left"


def duration(seconds: float) -> str:
    """Return hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


def _print_line(text: str) -> None:
    typer.echo(text, err=True)
