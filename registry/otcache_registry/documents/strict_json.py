"""JSON of documents: read without leniency, written the same way every time."""

from __future__ import annotations

import json

from otcache_registry.errors import DocumentError

__all__ = ["MAX_DOCUMENT_BYTES", "dump", "excerpt", "parse"]

MAX_DOCUMENT_BYTES = 2**20
"""Longest text that is read. Real documents are a fiftieth of it."""

_EXCERPT = 80


def excerpt(text: str) -> str:
    """Return the beginning of a text, short enough to be shown in an error."""
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"


def parse(text: str) -> object:
    """Return plain dicts, tuples and scalars.

    Raises:
        DocumentError: The text is too long, is not JSON, is nested too deep, or has a key twice in
            one object.
    """
    if len(text) > MAX_DOCUMENT_BYTES:
        problem = f"longer than {MAX_DOCUMENT_BYTES} characters"
        raise DocumentError("document", excerpt(text), problem, "Pass the text of a policy.json")
    try:
        value = json.loads(text, object_pairs_hook=_Members)
    except RecursionError:
        raise _too_deep(text) from None
    except ValueError as error:
        problem, remedy = f"not JSON ({error})", "Pass the text of a policy.json"
        raise DocumentError("document", excerpt(text), problem, remedy) from None
    try:
        return _plain(value, ())
    except RecursionError:
        raise _too_deep(text) from None


def dump(value: object, indent: str = "") -> str:
    """Return indented JSON in the order of the keys; an array of scalars stays on one line."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        rows = [f"{inner}{_scalar(key)}: {dump(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        rows = [f"{inner}{dump(item, inner)}" for item in value]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    return _scalar(value)


def _scalar(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


class _Members(list[tuple[str, object]]):
    """The members of one object, repeated keys included."""


def _plain(value: object, path: tuple[str, ...]) -> object:
    if isinstance(value, _Members):
        members: dict[str, object] = {}
        for key, item in value:
            inner = (*path, key)
            if key in members:
                # Readers differ in which of the two they keep, so neither can be trusted.
                problem = "this key occurs more than once"
                raise DocumentError(".".join(inner), members[key], problem, "Keep one of them")
            members[key] = _plain(item, inner)
        return members
    if isinstance(value, list):
        return tuple([_plain(item, (*path, str(index))) for index, item in enumerate(value)])
    return value


def _too_deep(text: str) -> DocumentError:
    remedy = "Pass the text of a policy.json"
    return DocumentError("document", excerpt(text), "nested too deep", remedy)
