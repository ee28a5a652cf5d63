"""The `otcache` command: its subcommands, and what every one of them does on an error.

Nothing here imports torch; each command imports what it needs when it runs.
"""

from __future__ import annotations

import errno
import sys
from typing import Annotated, Any

import typer
from otcache_policies import OTCacheError
from typer.core import TyperGroup

from otcache_plugin import __version__
from otcache_plugin.calibration.errors import UnfinishedError
from otcache_plugin.cli.calibrate import OptionalRayAddress, calibrate
from otcache_plugin.cli.common.command import Command
from otcache_plugin.cli.common.failing import run_with_json_errors, say, wants_json
from otcache_plugin.cli.compare import compare
from otcache_plugin.cli.demo import demo
from otcache_plugin.cli.doctor import doctor
from otcache_plugin.cli.import_schedules import import_schedules
from otcache_plugin.cli.list import list_documents
from otcache_plugin.cli.merge import merge
from otcache_plugin.cli.plugins import plugins
from otcache_plugin.cli.predict import predict
from otcache_plugin.cli.pull import pull
from otcache_plugin.cli.push import push
from otcache_plugin.cli.search import search
from otcache_plugin.cli.show import show
from otcache_plugin.cli.store import store
from otcache_plugin.cli.try_model import try_model
from otcache_plugin.cli.verify import verify

FAILURE, WRONG_USAGE, UNFINISHED, INTERRUPTED = 1, 2, 75, 130

GOING_ON = ("calibrate", "compare", "try")
"""The commands that keep what they measure, and go on with it."""


class _Commands(TyperGroup):
    """Says what an interruption leaves behind, before typer ends the program without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            goes_on = ctx.invoked_subcommand in GOING_ON
            kept, on = ("what was finished is kept and ", " to go on") if goes_on else ("", "")
            say(f"interrupted; {kept}nothing is half-written. Start the same command again{on}.")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="otcache",
    cls=_Commands,
    help="Cache schedules for diffusion pipelines, by optimal transport.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _name, _command, _summary in (
    ("demo", demo, "Accelerate the embedded model, with a report."),
    ("try", try_model, "Try a policy on prompts of yours."),
    ("compare", compare, "Compare any methods on one model."),
    ("calibrate", calibrate, "Calibrate a policy for a model."),
    ("merge", merge, "Put the shards of a calibration together."),
    ("import", import_schedules, "Make a document of others' schedules."),
    ("search", search, "Find policy documents for a model."),
    ("list", list_documents, "List policy documents."),
    ("show", show, "Show a policy document."),
    ("predict", predict, "Print the schedule of a budget."),
    ("verify", verify, "Check a document, or its evidence."),
    ("pull", pull, "Fetch documents from the Hub."),
    ("push", push, "Publish a document on the Hub."),
    ("plugins", plugins, "List policies, executors and metrics."),
    ("doctor", doctor, "Check that the installation works."),
):
    _kind = OptionalRayAddress if _command is calibrate else Command
    app.command(_name, cls=_kind, short_help=_summary)(_command)
app.add_typer(store, name="store", short_help="Keep documents of your own and pulled ones.")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command.

    A refused value is wrong usage (2), a shard that has to wait for others unfinished (75, as in
    sysexits.h), any other error a failure (1), a full disk among them.
    """
    try:
        if wants_json():
            sys.exit(run_with_json_errors(app))
        app()
    except UnfinishedError as error:
        say(error)
        sys.exit(UNFINISHED)
    except OTCacheError as error:
        say(error)
        sys.exit(WRONG_USAGE if _is_refused_value(error) else FAILURE)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = "the output" if error.filename is None else error.filename
        problem = f"{where} cannot be written ({error.strerror})"
        say(f"{problem}. Free some space, then start the same command again.")
        sys.exit(FAILURE)


def _is_refused_value(error: OTCacheError) -> bool:
    """Return whether the command has to change, rather than the Hub, the disk or the network."""
    if not isinstance(error, ValueError):
        return False
    from otcache_registry.hub.errors import HubError
    from otcache_registry.hub.publishing import LostRaceError, TagError
    from otcache_registry.store.errors import StoreError

    return not isinstance(error, (HubError, StoreError, LostRaceError, TagError))
