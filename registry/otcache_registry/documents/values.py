"""The kinds of values in a document: texts, numbers, digests, and JSON that belongs to a policy.

All are strict: no conversion, no NaN. What is long has a largest length, and lists end at their
first wrong entry, so that refusing a hostile document takes little memory.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final, TypeVar

from otcache_registry.documents.strict_json import excerpt
from otcache_registry.errors import DocumentError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "MAX_INFERENCE_STEPS",
    "Budget",
    "Count",
    "Digest",
    "Distribution",
    "Identifier",
    "JsonObject",
    "LookBack",
    "Name",
    "NotNegative",
    "Part",
    "Pixels",
    "Positive",
    "Seconds",
    "Text",
    "by_key",
]

MAX_INFERENCE_STEPS: Final = 10_000

MAX_DEPTH: Final = 32
"""Deepest that JSON of a policy's own may be nested."""

MAX_TEXT: Final = 1_000

Value = TypeVar("Value")

# Documents come from strangers and are shown in terminals and cards: one line, no control codes,
# and none of the signs that change the direction of what follows, or that nobody sees. The two that
# join letters belong to the writing of some languages, and to no id.
_REFUSED_SIGNS = (
    r"\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f"
    r"\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
)
_JOINERS = r"\u200c\u200d"
_REFUSED = re.compile(rf"[{_REFUSED_SIGNS}\ud800-\udfff]")

Text = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_TEXT, pattern=rf"^[^{_REFUSED_SIGNS}]+$")
]
Identifier = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=MAX_TEXT, pattern=rf"^[^{_REFUSED_SIGNS}{_JOINERS}]+$"
    ),
]
Name = Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Distribution = Annotated[
    str, StringConstraints(max_length=100, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Pixels = Annotated[int, Field(ge=1, le=2**31 - 1)]
Budget = Annotated[int, Field(ge=2, le=MAX_INFERENCE_STEPS)]
LookBack = Annotated[int, Field(ge=1, le=MAX_INFERENCE_STEPS)]
Seconds = Annotated[float, Field(ge=0, le=1e10)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class Part(BaseModel):
    """A part of a document: frozen, strict, and without fields that nobody declared.

    Parameters of a policy are best declared as one. JSON's arrays are tuples in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def by_key(mapping: dict[str, Value]) -> dict[str, Value]:
    """Return the mapping sorted: equal documents are written as equal bytes."""
    return dict(sorted(mapping.items()))


def _json_object(members: dict[str, Any]) -> dict[str, Any]:
    return {key: _json_value(members[key], (key,)) for key in _keys(members, ())}


def _json_value(value: object, path: tuple[str, ...]) -> object:
    """Return a value of JSON with arrays as tuples and keys sorted; refuse any other value."""
    if len(path) > MAX_DEPTH:
        problem = f"nested deeper than {MAX_DEPTH}"
        raise DocumentError(".".join(path), type(value).__name__, problem, "Make it flatter")
    if isinstance(value, dict):
        return {key: _json_value(value[key], (*path, key)) for key in _keys(value, path)}
    if isinstance(value, list | tuple):
        return tuple([_json_value(item, (*path, str(index))) for index, item in enumerate(value)])
    if isinstance(value, str):
        return _json_text(value, path)
    if isinstance(value, float) and not math.isfinite(value):
        raise DocumentError(".".join(path), value, "not a finite number", "Use a number or null")
    if value is None or isinstance(value, bool | int | float):
        return value
    problem = "not a value of JSON"
    remedy = "Use numbers, texts, true, false, null, arrays and objects"
    raise DocumentError(".".join(path), value, problem, remedy)


def _keys(members: dict[Any, Any], path: tuple[str, ...]) -> list[str]:
    for key in members:
        if not isinstance(key, str):
            problem = "a key that is not a text"
            raise DocumentError(".".join(path), key, problem, "Use texts as keys")
        _json_text(key, path)
    return sorted(members)


def _json_text(text: str, path: tuple[str, ...]) -> str:
    field = ".".join(path) or "object"
    if len(text) > MAX_TEXT:
        problem = f"longer than {MAX_TEXT} characters"
        raise DocumentError(field, excerpt(text), problem, "Make it shorter")
    if _REFUSED.search(text):
        problem = "with a line break, a control character, or a sign that reverses the writing"
        problem += " or that nobody sees"
        raise DocumentError(field, text, problem, "Remove it")
    return text


JsonObject = Annotated[dict[str, Any], AfterValidator(_json_object)]
"""JSON whose meaning somebody else knows: it is checked to be JSON, and no more."""
