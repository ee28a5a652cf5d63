"""Text of documents in Markdown."""

from __future__ import annotations

import re

__all__ = ["escaped"]

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def escaped(text: str) -> str:
    """Return text from a document so that Markdown shows it as it is."""
    return _MARKUP.sub(r"\\\1", text)
