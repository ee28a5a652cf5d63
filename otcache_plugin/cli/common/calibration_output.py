"""What a calibration leaves: its document's folder, and a word on stdout."""

from __future__ import annotations

import shlex
import sys
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from otcache_policies import OTCacheError

from otcache_plugin.cli.common.output import print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otcache_plugin.calibration.document import CalibrationResult
    from otcache_plugin.cli.common.output import StageProgress


def data_alone_on_stdout() -> AbstractContextManager[object]:
    """Whatever a pipeline or Ray prints meanwhile goes to stderr, as Ray's word of a dead worker.

    Has to enclose the progress bars, which put streams of their own in the place of both.
    """
    return redirect_stdout(sys.stderr)


@contextmanager
def noting_what_is_kept() -> Iterator[None]:
    """Say below the traceback of an error that nobody foresaw how to go on after it."""
    try:
        yield
    except OTCacheError:  # It says itself what to do.
        raise
    except Exception as error:
        error.add_note("What was measured is kept. Start the same command again to go on.")
        raise


def write_result(
    output: Path, result: CalibrationResult, work: str, progress: StageProgress
) -> None:
    """Write the document with its card and figures.

    Args:
        output: the document's folder.
        result: what was calibrated.
        work: the folders that hold the measurements, as a user is told.
        progress: is told that it is done.

    Raises:
        WorkspaceError: it cannot be written.
    """
    from otcache_registry import render_card, write_policy

    from otcache_plugin.calibration.errors import WorkspaceError
    from otcache_plugin.calibration.evidence.figures import draw_figures
    from otcache_plugin.plugins.host import plugin_host

    progress.announce("writing the document")
    figures = draw_figures(result.document, result.tables)
    card = render_card(result.document, figures, plugin_host().describe(result.document))
    try:
        write_policy(output, result.document, result.tables, card, figures)
    except OSError as error:
        raise WorkspaceError(
            f"{output} cannot be written ({error.strerror}). Free some space, or make the folder "
            f"writable, then start the same command again: {work} holds everything that "
            "was measured."
        ) from error


def print_result(output: Path, result: CalibrationResult, work: str, json: bool) -> None:
    """Print where the document was written, or the document as JSON."""
    _tell_not_finite(result)
    if json:
        print_json(
            {"output": str(output), **result.document.model_dump(mode="json", by_alias=True)}
        )
        return
    typer.echo(f"wrote {output}")
    typer.echo(f"{work} holds the measurements; delete it when all is well.", err=True)
    print_how_to_save(output, result.document.policy.name)


def print_how_to_save(folder: Path, policy: str) -> None:
    """Say on stderr how a document gets to where its policy's name finds it."""
    command = f"otcache store add {shlex.quote(str(folder))}"
    typer.echo(f"To have policy={policy!r} find it: {command}", err=True)


def _tell_not_finite(result: CalibrationResult) -> None:
    """Say how often a metric gave no finite value, where one did."""
    calibration = result.document.calibration
    if calibration is None or not calibration.values_not_finite:
        return
    typer.echo(
        f"{calibration.values_not_finite:,} of {calibration.values:,} measured values were not "
        "finite. No schedule with such a loss was chosen, and no figure of one is stated.",
        err=True,
    )
