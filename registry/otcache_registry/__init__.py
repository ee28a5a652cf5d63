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
    from otcache_registry.documents.bundled import BundledPolicy, bundled_policies, find_bundled
    from otcache_registry.documents.card import render_card
    from otcache_registry.documents.document import (
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
    from otcache_registry.documents.drawing import draw_schedule
    from otcache_registry.documents.folder import (
        StoredPolicy,
        check_writable,
        edges_bytes,
        edges_digest,
        read_document,
        read_policy,
        write_policy,
    )
    from otcache_registry.errors import DocumentError, DocumentNotFoundError

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
    "documents.bundled": ("BundledPolicy", "bundled_policies", "find_bundled"),
    "documents.card": ("render_card",),
    "documents.document": (
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
    "documents.drawing": ("draw_schedule",),
    "errors": ("DocumentError", "DocumentNotFoundError"),
    "documents.folder": (
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
    value = getattr(import_module(f"otcache_registry.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
