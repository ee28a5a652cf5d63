"""Options that several benchmarks have."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence

HELD_OUT = 64


def listed(
    parser: argparse.ArgumentParser, option: str, value: str, known: Collection[str]
) -> list[str]:
    """Return the names that an option lists; exit with a message if one is not known."""
    names = value.split(",")
    require_known(parser, option, names, known)
    return names


def require_known(
    parser: argparse.ArgumentParser, option: str, names: Sequence[str], known: Collection[str]
) -> None:
    """Exit with a message if one of the names is not known."""
    if unknown := [name for name in names if name not in known]:
        parser.error(f"{option}: {', '.join(unknown)} is none of {', '.join(known)}")


def add_held_out_option(parser: argparse.ArgumentParser) -> None:
    """Have a benchmark told on how many pairs it compares."""

    def count(value: str) -> int:
        if int(value) < 2:
            problem = f"{value} is below 2: no interval follows from one pair"
            raise argparse.ArgumentTypeError(problem)
        return int(value)

    option = "--held-out"
    parser.add_argument(option, type=count, default=HELD_OUT, help="pairs that are compared on")
