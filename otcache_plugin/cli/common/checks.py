"""Checks of an installation or a document, and how they are printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from otcache_plugin.cli.common.output import data_console

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        subject: what.
        ok: whether it is as it should be.
        finding: what was found, or what to do.
    """

    subject: str
    ok: bool
    finding: str


def print_checks(checks: Iterable[Check]) -> None:
    """Print a line per check."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for overflow in ("ellipsis", "ellipsis", "fold"):
        table.add_column(overflow=overflow)
    for check in checks:
        table.add_row(mark(check.ok), check.subject, escape(check.finding))
    data_console().print(table)


def mark(ok: bool) -> str:
    """Return a word for whether all is well, in its colour."""
    return "[green]ok[/]" if ok else "[bold red]no[/]"
