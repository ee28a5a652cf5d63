"""Calibrated policy documents: their schema, their folders, and those that ship with the package.

A document makes a policy reusable: `read_policy` gives a `StoredPolicy` for a folder,
`find_bundled` for a model revision, and `write_policy` keeps what a calibration found. Nothing
here imports torch, and nothing that is read is ever executed or unpickled.
"""

from .bundled import BundledPolicy, bundled_policies, find_bundled
from .card import render_card
from .document import (
    POLICY_SCHEMA,
    Calibration,
    EvidenceRow,
    GraphSettings,
    ModelReference,
    PolicyDocument,
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
