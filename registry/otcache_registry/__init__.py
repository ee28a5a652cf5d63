"""Calibrated policy documents: their schema, their folders, and those that ship with the package.

A document makes a policy reusable: `read_policy` gives a `StoredPolicy` for a folder,
`find_bundled` for a model revision, and `write_policy` keeps what a calibration found. Nothing
here imports torch, and nothing that is read is ever executed or unpickled. Each name is loaded when
it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_policies.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "otcache_registry.documents.bundled": ("BundledPolicy", "bundled_policies", "find_bundled"),
        "otcache_registry.documents.card": ("render_card",),
        "otcache_registry.documents.document": (
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
        "otcache_registry.documents.drawing": ("draw_schedule",),
        "otcache_registry.errors": ("DocumentError", "DocumentNotFoundError"),
        "otcache_registry.documents.folder": (
            "StoredPolicy",
            "check_writable",
            "edges_bytes",
            "edges_digest",
            "read_document",
            "read_policy",
            "write_policy",
        ),
    },
)
