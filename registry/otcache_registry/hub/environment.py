"""What the environment says about the Hub: whose policies are looked for, where, and how long.

It is read whenever it is needed, so that a change counts at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from otcache_policies import FieldError

__all__ = [
    "ANSWERS_SECONDS",
    "COMMAND_SECONDS",
    "LOOK_UP_SECONDS",
    "NAMESPACES_VARIABLE",
    "OFFICIAL_NAMESPACE",
    "Endpoint",
    "SettingError",
    "answers_seconds",
    "endpoint_of",
    "hub_seconds",
    "namespaces",
    "offline",
    "offline_variable",
]

OFFICIAL_NAMESPACE: Final = "otcache"
"""Organisation on the Hub whose policies are looked for first."""

NAMESPACES_VARIABLE: Final = "OTCACHE_NAMESPACES"
"""Environment variable with further users and organisations, separated by commas."""

OFFLINE_VARIABLES: Final = ("OTCACHE_OFFLINE", "HF_HUB_OFFLINE")
"""Environment variables, any of which keeps the Hub from being asked."""

SECONDS_VARIABLE: Final = "OTCACHE_HUB_SECONDS"
"""Environment variable with the time that a command or a look-up may take with the Hub."""

COMMAND_SECONDS: Final = 600.0
"""Seconds of a command, where the variable says nothing: time for large files."""

LOOK_UP_SECONDS: Final = 30.0
"""Seconds of looking for a document, likewise."""

ANSWERS_VARIABLE: Final = "OTCACHE_HUB_ANSWERS"
"""Environment variable with the seconds for which the Hub's answers to a search are kept."""

ANSWERS_SECONDS: Final = 3600.0
"""How long they are kept where the variable says nothing."""

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


def hub_seconds(usual: float) -> float:
    """Return the seconds that work with the Hub may take, `usual` where nothing is set.

    Raises:
        SettingError: OTCACHE_HUB_SECONDS is not a number above 0.
    """
    seconds = _seconds(SECONDS_VARIABLE, usual)
    if seconds == 0:
        raise _no_seconds(SECONDS_VARIABLE, "above 0")
    return seconds


def answers_seconds() -> float:
    """Return the seconds for which the Hub's answers are kept, 0 for not at all.

    Raises:
        SettingError: OTCACHE_HUB_ANSWERS is not a number of 0 or more.
    """
    return _seconds(ANSWERS_VARIABLE, ANSWERS_SECONDS)


@dataclass(frozen=True)
class Endpoint:
    """Where the Hub is.

    Attributes:
        address: Its address, without a login and a slash at its end.
        login: User and password that the address was given with, "user:password".
    """

    address: str
    login: str | None = field(default=None, repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not appear in any message."""
        if self.login is None:
            return ()
        password = self.login.partition(":")[2]
        return (self.login, password) if password else (self.login,)


def endpoint_of(text: str) -> Endpoint:
    """Return what an address of the Hub says.

    Raises:
        SettingError: It is not the address of a Hub.
    """
    try:
        parts = urlsplit(text)
        login = _login(parts)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts, login = None, SplitResult("", "", "", "", ""), None
    if parts.scheme not in ("http", "https") or not host:
        shown = text if "@" not in text else f"***@{text.rpartition('@')[2]}"
        remedy = "Use one such as https://huggingface.co"
        raise SettingError("HF_ENDPOINT", shown, "not the address of a Hub", remedy)
    netloc = parts.netloc.rpartition("@")[2]
    return Endpoint(f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}", login)


def _login(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    return f"{unquote(parts.username)}:{unquote(parts.password or '')}"


def _seconds(variable: str, usual: float) -> float:
    text = os.environ.get(variable, "").strip()
    if not text:
        return usual
    try:
        seconds = float(text)
    except ValueError:
        raise _no_seconds(variable, "from 0 on") from None
    if not 0 <= seconds < float("inf"):
        raise _no_seconds(variable, "from 0 on")
    return seconds


def _no_seconds(variable: str, which: str) -> SettingError:
    problem, remedy = "not a number of seconds", f"Use a number {which}, or unset it"
    return SettingError(variable, os.environ[variable], problem, remedy)


def _check_namespace(name: str) -> None:
    from otcache_registry.documents.names import is_hub_id  # It loads what documents are made of.

    # With a slash in it, the name of a repository would make one too many.
    if not is_hub_id(f"{name}/name"):
        problem = f"{name!r} is not a user or organisation on the Hub"
        remedy = "List names as in their addresses, separated by commas, such as alice,some-lab"
        raise SettingError(NAMESPACES_VARIABLE, os.environ[NAMESPACES_VARIABLE], problem, remedy)
