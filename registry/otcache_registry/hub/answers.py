"""What the Hub answers in JSON, read without trusting it: bounded, and of the expected kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from otcache_registry.documents.references import COMMIT
from otcache_registry.hub.errors import HubError, unreadable

__all__ = ["LARGEST_ANSWER", "Subject", "oid_of", "parsed", "reading", "text_of"]

LARGEST_ANSWER: Final = 16 * 2**20
"""Most bytes of JSON that are read; the list of a repository's 10,000 files takes 3 MiB."""

MOST_VALUES: Final = 500_000
"""Most values in it. An empty list takes 2 bytes there, and thirty times as much in memory."""


@dataclass(frozen=True)
class Subject:
    """What a request is about: a field and its value, as errors name them."""

    field: str
    value: object


def parsed(body: bytes) -> Any:
    """Return the values of an answer in JSON.

    Raises:
        ValueError: It is not JSON, or has more values than any honest answer.
        RecursionError: It is nested too deep.
    """
    if sum(map(body.count, (b"[", b"{", b","))) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values")
    return json.loads(body)


@contextmanager
def reading(subject: Subject) -> Iterator[None]:
    """Turn what goes wrong with an answer that is not as it should be into an error of the Hub."""
    try:
        yield
    except HubError:
        raise
    except RecursionError:
        raise unreadable(subject.field, subject.value, "nested too deep") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise unreadable(subject.field, subject.value, said) from None


def text_of(value: Any) -> str:
    """Return what has to be a text.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} instead of a text")
    return value


def oid_of(value: Any) -> str:
    """Return what has to be a commit.

    Raises:
        ValueError: It is not.
        TypeError: It is not even a text.
    """
    text = text_of(value)
    if not COMMIT.fullmatch(text):
        raise ValueError(f"{text[:50]!r} is no commit")
    return text
