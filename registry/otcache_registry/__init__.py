"""Calibrated policy documents: their schema, their folders, and those that ship with the package.

A document makes a policy reusable: `read_policy` gives a `StoredPolicy` for a folder,
`find_bundled` for a model revision, and `write_policy` keeps what a calibration found. Nothing
here imports torch, and nothing that is read is ever executed or unpickled. Each name is loaded when
it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_policies.lazy_imports import lazy_names

if TYPE_CHECKING:
    from otcache_registry.documents.bundled import BundledPolicy, bundled_policies, find_bundled
    from otcache_registry.documents.card import render_card
    from otcache_registry.documents.details import NO_DETAILS, Column, PolicyDetails
    from otcache_registry.documents.document import (
        POLICY_SCHEMA,
        Calibration,
        EvidenceRow,
        ModelReference,
        PolicyDocument,
        PolicyIdentity,
        Publication,
        Sampling,
        ServedBudgets,
        json_schema,
    )
    from otcache_registry.documents.drawing import draw_schedule
    from otcache_registry.documents.folder import (
        StoredPolicy,
        check_writable,
        read_document,
        read_policy,
        write_policy,
    )
    from otcache_registry.documents.records import GraphSettings, ScheduleRecord
    from otcache_registry.documents.tables import Tables, tables_bytes, tables_digest
    from otcache_registry.documents.values import Part
    from otcache_registry.errors import DocumentError, DocumentNotFoundError

__all__ = [
    "NO_DETAILS",
    "POLICY_SCHEMA",
    "BundledPolicy",
    "Calibration",
    "Column",
    "DocumentError",
    "DocumentNotFoundError",
    "EvidenceRow",
    "GraphSettings",
    "ModelReference",
    "Part",
    "PolicyDetails",
    "PolicyDocument",
    "PolicyIdentity",
    "Publication",
    "Sampling",
    "ScheduleRecord",
    "ServedBudgets",
    "StoredPolicy",
    "Tables",
    "bundled_policies",
    "check_writable",
    "draw_schedule",
    "find_bundled",
    "json_schema",
    "read_document",
    "read_policy",
    "render_card",
    "tables_bytes",
    "tables_digest",
    "write_policy",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "otcache_registry.documents.bundled": (
            "BundledPolicy",
            "bundled_policies",
            "find_bundled",
        ),
        "otcache_registry.documents.card": ("render_card",),
        "otcache_registry.documents.details": (
            "NO_DETAILS",
            "Column",
            "PolicyDetails",
        ),
        "otcache_registry.documents.document": (
            "POLICY_SCHEMA",
            "Calibration",
            "EvidenceRow",
            "ModelReference",
            "PolicyDocument",
            "PolicyIdentity",
            "Publication",
            "Sampling",
            "ServedBudgets",
            "json_schema",
        ),
        "otcache_registry.documents.drawing": ("draw_schedule",),
        "otcache_registry.documents.folder": (
            "StoredPolicy",
            "check_writable",
            "read_document",
            "read_policy",
            "write_policy",
        ),
        "otcache_registry.documents.records": (
            "GraphSettings",
            "ScheduleRecord",
        ),
        "otcache_registry.documents.tables": (
            "Tables",
            "tables_bytes",
            "tables_digest",
        ),
        "otcache_registry.documents.values": ("Part",),
        "otcache_registry.errors": (
            "DocumentError",
            "DocumentNotFoundError",
        ),
    },
)
