"""The files of a document's folder: which there are, what they may be called, how large they get.

policy.json            the document
tables.safetensors     the tables of its policy, where it has any
README.md              its card
figures/*.png          pictures that the card shows
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from otcache_registry.documents.strict_json import MAX_DOCUMENT_BYTES
from otcache_registry.errors import DocumentError

__all__ = [
    "CARD_FILE",
    "DOCUMENT_FILE",
    "FIGURES_FOLDER",
    "MAX_CARD_BYTES",
    "MAX_TABLES_BYTES",
    "RESTORE",
    "TABLES_FILE",
    "check_figures",
    "check_files",
    "is_document_file",
]

DOCUMENT_FILE: Final = "policy.json"
TABLES_FILE: Final = "tables.safetensors"
CARD_FILE: Final = "README.md"
FIGURES_FOLDER: Final = "figures"

MAX_TABLES_BYTES: Final = 64 * 2**20
"""Largest tables that are read: an edge table of 50 steps needs 120 KiB, of 1,000 46 MiB."""

MAX_CARD_BYTES: Final = 2**20
MAX_FIGURE_BYTES: Final = 10 * 2**20
MAX_FIGURES: Final = 50
MAX_FOLDER_BYTES: Final = 80 * 2**20
"""Largest size of all of them together, since they are in memory before any is kept."""

RESTORE: Final = "Fetch the policy again, or calibrate anew"
"""What to do about a damaged document, wherever it lies."""

_LIMITS = {
    DOCUMENT_FILE: MAX_DOCUMENT_BYTES,
    TABLES_FILE: MAX_TABLES_BYTES,
    CARD_FILE: MAX_CARD_BYTES,
}
_FIGURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}\.png")


def check_files(sizes: Mapping[str, int]) -> None:
    """Check that files make a document's folder, before they are fetched or kept.

    Args:
        sizes: Size in bytes by path inside the document's folder.

    Raises:
        DocumentError: There is no policy.json, a path is not one of a document's files, a file is
            too large, they are too large together, or there are too many figures.
    """
    if DOCUMENT_FILE not in sizes:
        problem, remedy = "this file is missing", "Name a folder that holds a policy document"
        raise DocumentError(DOCUMENT_FILE, None, problem, remedy)
    figures = [path for path in sizes if _is_figure(path)]
    if len(figures) > MAX_FIGURES:
        problem = f"{len(figures)} figures"
        raise DocumentError(FIGURES_FOLDER, figures, problem, f"Keep {MAX_FIGURES} of them at most")
    for path, size in sizes.items():
        if not is_document_file(path):
            allowed = f"{DOCUMENT_FILE}, {TABLES_FILE}, {CARD_FILE} and {FIGURES_FOLDER}/*.png"
            problem = "not a file of a policy document"
            raise DocumentError("files", path, problem, f"Its files are {allowed}; remove others")
        limit = _LIMITS.get(path, MAX_FIGURE_BYTES)
        if size > limit:
            problem = f"{size} bytes, above the limit of {limit}"
            raise DocumentError("files", path, problem, "Make this file smaller")
    total = sum(sizes.values())
    if total > MAX_FOLDER_BYTES:
        problem = f"{total} bytes altogether, above the limit of {MAX_FOLDER_BYTES}"
        raise DocumentError("files", sorted(sizes), problem, "Keep fewer or smaller figures")


def check_figures(names: Iterable[str]) -> None:
    """Check that files may stand in the folder of figures.

    Raises:
        DocumentError: One of the names is not one of a PNG file, or too long.
    """
    for name in names:
        if not _FIGURE.fullmatch(name):
            remedy = "Use up to 100 letters, digits, '.', '_' and '-', with the ending .png"
            raise DocumentError(FIGURES_FOLDER, name, "not a name for a figure", remedy)


def is_document_file(path: str) -> bool:
    """Return whether a path inside a document's folder is one of a document's files."""
    return path in _LIMITS or _is_figure(path)


def _is_figure(path: str) -> bool:
    folder, _, name = path.partition("/")
    return folder == FIGURES_FOLDER and _FIGURE.fullmatch(name) is not None
