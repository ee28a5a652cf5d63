"""From pydantic's validation error to one that names the first fields and what is allowed."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING

from otcache_policies import FieldError
from otcache_registry.documents.strict_json import excerpt
from otcache_registry.errors import DocumentError

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["document_error"]

_SHOWN = 3

_JSON_WORDS = {
    "dict_type": "Use an object",
    "model_type": "Use an object",
    "tuple_type": "Use an array",
}
"""What pydantic says in words of Python, by its type of error."""


def document_error(error: ValidationError, within: str = "") -> DocumentError:
    """Return the first refusal as an error; its remedy mentions the next ones.

    Args:
        error: What pydantic found.
        within: Path of the field whose content was validated, "" for the whole document.
    """
    details = error.errors(include_url=False)
    first, *others = (_refused_field(detail, within) for detail in details[:_SHOWN])
    if not others:
        return first
    also = [f"{other.field}={reprlib.repr(other.value)} ({other.problem})" for other in others]
    if len(details) > _SHOWN:
        also.append(f"{len(details) - _SHOWN} more")
    remedy = f"{first.remedy.rstrip('.')}. Also refused: {', '.join(also)}"
    return DocumentError(first.field, first.value, first.problem, remedy)


def _refused_field(detail: ErrorDetails, within: str) -> DocumentError:
    path = ".".join([within, *map(str, detail["loc"])]).removeprefix(".")
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        # Our own validators name the field relative to the model that they belong to.
        path = f"{path}.{cause.field}" if path else cause.field
        return DocumentError(path, cause.value, cause.problem, cause.remedy)
    path = path or "document"
    value: object = detail["input"]
    if detail["type"] == "missing":
        return DocumentError(path, None, "this field is missing", "Add it")
    if detail["type"] == "extra_forbidden":
        return DocumentError(path, value, "no such field in this schema", "Remove it")
    if isinstance(value, str):
        value = excerpt(value)
    remedy = _JSON_WORDS.get(detail["type"], detail["msg"])
    return DocumentError(path, value, "not allowed", remedy)
