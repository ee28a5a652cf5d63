"""Options that several benchmarks have."""

from __future__ import annotations

import argparse
from collections.abc import Collection

HELD_OUT = 64


def listed(
    parser: argparse.ArgumentParser, option: str, value: str, known: Collection[str]
) -> list[str]:
    """Return the names that an option lists; exit with a message if one is not known."""
    names = value.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"{option}: {', '.join(unknown)} is none of {', '.join(known)}")
    return names


def add_held_out_option(parser: argparse.ArgumentParser) -> None:
    """Have a benchmark told on how many pairs it compares."""

    def count(value: str) -> int:
        if int(value) < 2:
            problem = f"{value} is below 2: no interval follows from one pair"
            raise argparse.ArgumentTypeError(problem)
        return int(value)

    option = "--held-out"
    parser.add_argument(option, type=count, default=HELD_OUT, help="pairs that are compared on")
