"""JSON of documents: read without leniency, written the same way every time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from .errors import DocumentError

__all__ = ["MAX_DOCUMENT_BYTES", "dump", "excerpt", "parse"]

MAX_DOCUMENT_BYTES = 16 * 2**20
"""Longest text that is read. The largest real document is a thousandth of it."""

_EXCERPT = 80


def excerpt(text: str) -> str:
    """Return the beginning of a text, short enough to be shown in an error."""
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"


def parse(text: str) -> object:
    """Return plain dicts, lists and scalars.

    Raises:
        DocumentError: The text is too long, is not JSON, is nested too deep, or has a key twice in
            one object.
    """
    if len(text) > MAX_DOCUMENT_BYTES:
        problem = f"longer than {MAX_DOCUMENT_BYTES} characters"
        raise DocumentError("document", excerpt(text), problem, "Pass the text of a policy.json")
    try:
        value = json.loads(text, object_pairs_hook=_members)
        repeated = next(_repeated_keys(value, ()), None)
    except RecursionError:
        remedy = "Pass the text of a policy.json"
        raise DocumentError("document", excerpt(text), "nested too deep", remedy) from None
    except ValueError as error:
        problem, remedy = f"not JSON ({error})", "Pass the text of a policy.json"
        raise DocumentError("document", excerpt(text), problem, remedy) from None
    if repeated is not None:
        path, kept = repeated
        # Readers differ in which of the two they keep, so neither can be trusted.
        raise DocumentError(path, kept, "this key occurs more than once", "Keep one of them")
    return value


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


class _Members(dict[str, object]):
    """The members of one object, and a key that it has more than once."""

    repeated: str | None = None


def _members(pairs: list[tuple[str, object]]) -> _Members:
    members = _Members(pairs)
    if len(members) < len(pairs):
        members.repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return members


def _repeated_keys(value: object, path: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    if isinstance(value, _Members):
        if value.repeated is not None:
            yield ".".join((*path, value.repeated)), value[value.repeated]
        for key, item in value.items():
            yield from _repeated_keys(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _repeated_keys(item, (*path, str(index)))
