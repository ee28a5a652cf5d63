"""What the environment says about the Hub: whose policies are looked for, and whether at all.

It is read whenever it is needed, so that a change counts at once.
"""

from __future__ import annotations

import os
from typing import Final

from otcache_policies import FieldError

__all__ = [
    "NAMESPACES_VARIABLE",
    "OFFICIAL_NAMESPACE",
    "SettingError",
    "namespaces",
    "offline",
    "offline_variable",
]

OFFICIAL_NAMESPACE: Final = "otcache"
"""Organisation on the Hub whose policies are looked for first."""

NAMESPACES_VARIABLE: Final = "OTCACHE_NAMESPACES"
"""Environment variable with further users and organisations, separated by commas."""

OFFLINE_VARIABLES: Final = ("OTCACHE_OFFLINE", "HF_HUB_OFFLINE")
"""Environment variables of which any keeps the Hub from being asked."""

_YES = ("1", "ON", "YES", "TRUE")  # As huggingface_hub spells it.


class SettingError(FieldError):
    """An environment variable with a value that cannot be used."""


def namespaces() -> tuple[str, ...]:
    """Return the users and organisations whose policies are looked for, in that order.

    Raises:
        SettingError: OTCACHE_NAMESPACES names something that cannot be one.
    """
    names = [name.strip() for name in os.environ.get(NAMESPACES_VARIABLE, "").split(",")]
    chosen = [name for name in names if name]
    for name in chosen:
        _check_namespace(name)
    return tuple(dict.fromkeys((OFFICIAL_NAMESPACE, *chosen)))


def offline() -> bool:
    """Return whether the Hub is not to be asked: OTCACHE_OFFLINE or HF_HUB_OFFLINE says so."""
    return offline_variable() is not None


def offline_variable() -> str | None:
    """Return the variable that keeps the Hub from being asked, None where none does."""
    saying_so = (name for name in OFFLINE_VARIABLES if os.environ.get(name, "").upper() in _YES)
    return next(saying_so, None)


def _check_namespace(name: str) -> None:
    from otcache_registry.documents.names import is_hub_id  # It loads what documents are made of.

    # With a slash in it, the name of a repository would make one too many.
    if not is_hub_id(f"{name}/name"):
        problem = f"{name!r} is no user or organisation on the Hub"
        remedy = "List names as in their addresses, separated by commas, such as alice,some-lab"
        raise SettingError(NAMESPACES_VARIABLE, os.environ[NAMESPACES_VARIABLE], problem, remedy)
