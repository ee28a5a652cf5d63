"""A document's tables: named arrays of its policy, in one file tied to the document by its digest.

What the arrays mean only the policy knows. Here they are numbers under plain names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from otcache_registry.documents.files import RESTORE, TABLES_FILE
from otcache_registry.errors import DocumentError

__all__ = ["NO_TABLES", "Tables", "parse_tables", "tables_bytes", "tables_digest"]

Tables = Mapping[str, NDArray[Any]]
"""Arrays by name."""

NO_TABLES: Final[Tables] = MappingProxyType({})

MAX_TABLES: Final = 100

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_DTYPES = tuple(
    np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64"),
    )
)


def tables_bytes(tables: Tables) -> bytes:
    """Return the content of the tables' file.

    Raises:
        DocumentError: There are no arrays or too many, or the name or type of one is not allowed.
    """
    _check_tables(tables)
    # safetensors copies memory as it lies, whatever the strides say.
    return safetensors.numpy.save(
        {name: np.ascontiguousarray(table) for name, table in tables.items()}
    )


def tables_digest(tables: Tables) -> str:
    """Return what belongs in the document's `tables_sha256`: the SHA-256 of `tables_bytes`."""
    return hashlib.sha256(tables_bytes(tables)).hexdigest()


def parse_tables(data: bytes) -> Tables:
    """Return the read-only arrays of a tables' file.

    Raises:
        DocumentError: It is not a safetensors file, or its arrays are not ones of tables.
    """
    try:
        tables = safetensors.numpy.load(data)
    except Exception as error:  # Whatever the parser of a stranger's bytes says, they are damaged.
        problem = f"not a safetensors file ({error})"
        raise DocumentError(TABLES_FILE, f"{len(data)} bytes", problem, RESTORE) from None
    _check_tables(tables)
    for table in tables.values():
        table.flags.writeable = False
    return tables


def _check_tables(tables: Tables) -> None:
    if not 0 < len(tables) <= MAX_TABLES:
        problem, remedy = f"{len(tables)} arrays", f"Use 1 … {MAX_TABLES}, or no tables at all"
        raise DocumentError(TABLES_FILE, len(tables), problem, remedy)
    for name, table in tables.items():
        if not _NAME.fullmatch(name):
            remedy = "Use up to 100 letters, digits and '_', the first no digit"
            raise DocumentError(TABLES_FILE, name, "not a name for an array", remedy)
        if table.dtype not in _DTYPES:
            remedy = f"Use one of {', '.join(map(str, _DTYPES))}"
            raise DocumentError(f"tables.{name}", str(table.dtype), "not a type of tables", remedy)
