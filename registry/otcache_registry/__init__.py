"""Calibrated policy documents: their schema, their folders, and those that ship with the package.

A document makes a policy reusable: `read_policy` gives a `StoredPolicy` for a folder,
`find_bundled` for a model revision, and `write_policy` keeps what a calibration found. Nothing
here imports torch, and nothing that is read is ever executed or unpickled. Each name is loaded when
it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundled import BundledPolicy, bundled_policies, find_bundled
    from .card import render_card
    from .document import (
        POLICY_SCHEMA,
        Calibration,
        EvidenceRow,
        GraphSettings,
        ModelReference,
        PolicyDocument,
        Publication,
        Sampling,
        ScheduleRecord,
        json_schema,
    )
    from .drawing import draw_schedule
    from .errors import DocumentError, DocumentNotFoundError
    from .folder import (
        StoredPolicy,
        check_writable,
        edges_bytes,
        edges_digest,
        read_document,
        read_policy,
        write_policy,
    )

__all__ = [
    "POLICY_SCHEMA",
    "BundledPolicy",
    "Calibration",
    "DocumentError",
    "DocumentNotFoundError",
    "EvidenceRow",
    "GraphSettings",
    "ModelReference",
    "PolicyDocument",
    "Publication",
    "Sampling",
    "ScheduleRecord",
    "StoredPolicy",
    "bundled_policies",
    "check_writable",
    "draw_schedule",
    "edges_bytes",
    "edges_digest",
    "find_bundled",
    "json_schema",
    "read_document",
    "read_policy",
    "render_card",
    "write_policy",
]

_MODULES = {
    "bundled": ("BundledPolicy", "bundled_policies", "find_bundled"),
    "card": ("render_card",),
    "document": (
        "POLICY_SCHEMA",
        "Calibration",
        "EvidenceRow",
        "GraphSettings",
        "ModelReference",
        "PolicyDocument",
        "Publication",
        "Sampling",
        "ScheduleRecord",
        "json_schema",
    ),
    "drawing": ("draw_schedule",),
    "errors": ("DocumentError", "DocumentNotFoundError"),
    "folder": (
        "StoredPolicy",
        "check_writable",
        "edges_bytes",
        "edges_digest",
        "read_document",
        "read_policy",
        "write_policy",
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
