"""How a command ends that failed: a word on stderr, as JSON where its output was to be JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer
from otcache_policies import FieldError, OTCacheError

from otcache_plugin.cli.common.output import print_error

# Typer gives the base of what is raised for wrong usage no name of its own.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def wants_json() -> bool:
    """Return whether the command line asks for JSON, be it understood or not."""
    return "--json" in sys.argv[1:]


def say(error: OTCacheError | str) -> None:
    """Say on stderr what went wrong and what to do next."""
    if not wants_json():
        print_error(str(error))
        return
    said: dict[str, Any] = {"message": str(error)}
    if isinstance(error, OTCacheError):
        said["type"] = type(error).__name__
    if isinstance(error, FieldError):
        said |= {"field": error.field, "value": _plain(error.value)}
        said |= {"problem": error.problem, "remedy": error.remedy}
    typer.echo(json.dumps({"error": said}, ensure_ascii=False), err=True)


def run_with_json_errors(app: typer.Typer) -> int:
    """Run a command whose wrong usage is said as JSON too, and return its exit status."""
    try:
        status = app(standalone_mode=False)
    except UsageError as error:
        message: str = error.format_message()  # type: ignore[attr-defined]
        say(message)
        return int(error.exit_code)  # type: ignore[attr-defined]
    return status if isinstance(status, int) else 0


def _plain(value: object) -> object:
    """Return a value that JSON has, or how Python writes it."""
    return value if isinstance(value, (str, int, bool, type(None))) else repr(value)
