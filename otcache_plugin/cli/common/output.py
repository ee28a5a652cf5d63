"""How commands speak: data on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from rich.progress import TaskID

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]


def print_json(data: Any) -> None:
    """Print data as indented JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_error(message: str) -> None:
    """Print an error to stderr."""
    console = Console(stderr=True, highlight=False)
    console.print("error:", style="bold red", end=" ")
    console.print(message, markup=False, soft_wrap=True)


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
    """One progress bar per stage of long work, on stderr.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        # It takes as long to import as the rest of the command line.
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=quiet,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> StageProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._finish_stage()
            self._progress.stop()

    def start(self, stage: str, total: int) -> None:
        """A stage of `total` units begins; the one before is done."""
        self._finish_stage()
        self._progress.start()
        self._task = self._progress.add_task(f"{stage:<28}", total=total)

    def advance(self) -> None:
        """One unit is done."""
        if self._task is not None:
            self._progress.advance(self._task)

    def _finish_stage(self) -> None:
        """A stage may end early (patience): its bar then shows what it did."""
        if self._task is not None:
            done = self._progress.tasks[self._task].completed
            self._progress.update(self._task, total=done)
