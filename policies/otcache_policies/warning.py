"""Warnings that point to the line of whoever called, through whatever libraries it was."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn_caller"]

PASSED_THROUGH = frozenset(
    {
        "accelerate",
        "cache_dit",
        "diffusers",
        "otcache_plugin",
        "otcache_policies",
        "otcache_registry",
        "torch",
        "wrapt",
    }
)
"""Packages whose lines tell a user nothing. From Python 3.12 on, `skip_file_prefixes` of
`warnings.warn` does the same."""


def warn_caller(message: str, category: type[Warning]) -> None:
    """Give a warning whose place is the innermost line outside of the packages passed through.

    Args:
        message: What it says.
        category: Its class.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _package(frame.f_globals) in PASSED_THROUGH:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _package(names: dict[str, object]) -> str:
    return str(names.get("__name__", "")).partition(".")[0]
