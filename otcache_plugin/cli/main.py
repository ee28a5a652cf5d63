"""The `otcache` command: its subcommands, and what every one of them does on an error.

Nothing here imports torch; each command imports what it needs when it runs.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from otcache_policies import OTCacheError
from typer.core import TyperGroup

from otcache_plugin import __version__
from otcache_plugin.calibration.errors import UnfinishedError
from otcache_plugin.cli import (
    calibrate,
    demo,
    doctor,
    hub,
    listing,
    plugins,
    predict,
    show,
    stores,
    verify,
)
from otcache_plugin.cli.output import print_error

FAILURE, WRONG_USAGE, UNFINISHED, INTERRUPTED = 1, 2, 75, 130


class _Commands(TyperGroup):
    """Says what an interruption leaves behind, before typer ends the program without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print_error(
                "interrupted; what was finished is kept and nothing is half-written. Start the "
                "same command again to go on."
            )
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="otcache",
    cls=_Commands,
    help="Cache schedules for diffusion pipelines, by optimal transport.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("calibrate", cls=calibrate.OptionalRayAddress)(calibrate.calibrate)
app.command("merge")(calibrate.merge)
app.command("search")(listing.search)
app.command("list")(listing.list_documents)
app.command("show")(show.show)
app.command("predict")(predict.predict)
app.command("verify")(verify.verify)
app.command("pull")(hub.pull)
app.command("push")(hub.push)
app.add_typer(stores.store, name="store")
app.command("plugins")(plugins.plugins)
app.command("doctor")(doctor.doctor)


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
    sysexits.h), any other error a failure (1).
    """
    try:
        app()
    except UnfinishedError as error:
        print_error(str(error))
        sys.exit(UNFINISHED)
    except OTCacheError as error:
        print_error(str(error))
        sys.exit(WRONG_USAGE if _is_refused_value(error) else FAILURE)


def _is_refused_value(error: OTCacheError) -> bool:
    """Return whether the command has to change, rather than the Hub, the disk or the network."""
    if not isinstance(error, ValueError):
        return False
    from otcache_registry.hub.errors import HubError
    from otcache_registry.hub.publishing import LostRaceError, TagError
    from otcache_registry.store.store import StoreError

    return not isinstance(error, (HubError, StoreError, LostRaceError, TagError))
