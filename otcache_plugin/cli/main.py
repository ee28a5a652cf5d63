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
from otcache_plugin.cli.calibrate import OptionalRayAddress, calibrate
from otcache_plugin.cli.common.command import Command
from otcache_plugin.cli.common.output import print_error
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
app.command("demo", cls=Command)(demo)
app.command("try", cls=Command)(try_model)
app.command("compare", cls=Command)(compare)
app.command("calibrate", cls=OptionalRayAddress)(calibrate)
app.command("merge", cls=Command)(merge)
app.command("import", cls=Command)(import_schedules)
app.command("search", cls=Command)(search)
app.command("list", cls=Command)(list_documents)
app.command("show", cls=Command)(show)
app.command("predict", cls=Command)(predict)
app.command("verify", cls=Command)(verify)
app.command("pull", cls=Command)(pull)
app.command("push", cls=Command)(push)
app.add_typer(store, name="store")
app.command("plugins", cls=Command)(plugins)
app.command("doctor", cls=Command)(doctor)


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
    from otcache_registry.store.errors import StoreError

    return not isinstance(error, (HubError, StoreError, LostRaceError, TagError))
