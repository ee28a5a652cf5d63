"""Names on the Hub: of repositories, and of the folders in which their documents lie.

A policy repository holds documents for many revisions and sampling set-ups of models:

    README.md                                   the repository's card
    <model revision>/<policy>/<sampling key>/   a document, with its tables, card and figures

All parts of a folder's name are made from the document alone: a document can lie in one place only,
and those of two policies lie side by side. Whatever a revision contains, the names are plain:
letters, digits, ".", "_" and "-".
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Final

from otcache_registry.documents.document import PolicyDocument, Sampling
from otcache_registry.documents.files import DOCUMENT_FILE, is_document_file

__all__ = [
    "ANY_REVISION",
    "POLICY_TAG",
    "SEGMENT",
    "FilePlace",
    "default_name",
    "document_folder",
    "is_document_folder",
    "is_hub_id",
    "parse_path",
    "revision_segment",
    "sampling_key",
]

ANY_REVISION: Final = "any"
"""Stands for the revision of published documents, which name none."""

POLICY_TAG: Final = "otcache-policy"
"""Tag of a repository that holds policy documents, by which the Hub finds them."""

LONGEST_SEGMENT = 80

SIGMA_UNIT = 1e-6
"""Sigmas that round to the same multiples of this make the same set-up."""

# What older versions of huggingface_hub let pass: users of any length, all alphabets, a line's end.
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
# Begins with a letter, a digit or "_": that leaves no way out of a folder.
SEGMENT: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_POLICY = r"[A-Za-z_][A-Za-z0-9_]{0,99}"
_SAMPLING_KEY = r"[0-9]+-steps(?:-[0-9]+x[0-9]+)?-[0-9a-f]{8}"
_PATH = re.compile(rf"(?P<folder>{SEGMENT}/{_POLICY}/{_SAMPLING_KEY})/(?P<name>.+)")
# Names that begin with "." are hidden ones, "-" looks like an option, and "any" is taken.
_UNSAFE = re.compile(rf"[^A-Za-z0-9.-]|\A[.-]|\A{ANY_REVISION[0]}(?={ANY_REVISION[1:]}\Z)")


@dataclass(frozen=True)
class FilePlace:
    """Where in a policy repository a file of a document lies.

    Attributes:
        folder: The document's folder, such as "<model revision>/<policy>/<sampling key>".
        name: Path inside it, such as "figures/gaps.png".
    """

    folder: str
    name: str


def default_name(model: str) -> str:
    """Return the name of a policy repository for a model, such as "otcache-Qwen-Image"."""
    name = model.rpartition("/")[2]
    if not is_hub_id(f"user/{name}"):
        name = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-") or "model"
    return f"otcache-{name[:LONGEST_SEGMENT].rstrip('-.')}"


def document_folder(document: PolicyDocument) -> str:
    """Return the one folder of a policy repository that a document may lie in."""
    revision, key = revision_segment(document.model.revision), sampling_key(document.sampling)
    return f"{revision}/{document.policy.name}/{key}"


def is_document_folder(folder: str) -> bool:
    """Return whether a document may lie in a folder of this name."""
    return parse_path(f"{folder}/{DOCUMENT_FILE}") is not None


def parse_path(path: str) -> FilePlace | None:
    """Return the place of a document's file, None for whatever else a repository holds."""
    match = _PATH.fullmatch(path)
    if match is None or not is_document_file(match["name"]):
        return None
    return FilePlace(match["folder"], match["name"])


def revision_segment(revision: str | None) -> str:
    """Return a folder's name for a model revision: different ones for different revisions.

    Commits stay as they are. Every other byte than a letter, a digit, "." or "-" becomes "_" and
    two hexadecimal digits. Of what gets too long, a digest stands for the end.
    """
    if revision is None:
        return ANY_REVISION
    segment = _UNSAFE.sub(_quoted, revision)
    if len(segment) <= LONGEST_SEGMENT:
        return segment
    digest = hashlib.sha256(revision.encode()).hexdigest()[:16]
    # No quoted byte begins with "__", so no shorter revision can look like this.
    return f"{segment[: LONGEST_SEGMENT - 18]}__{digest}"


def sampling_key(sampling: Sampling) -> str:
    """Return a folder's name for a sampling set-up, such as "50-steps-1328x1328-1a2b3c4d".

    Readable are the steps and, where the set-up names them, width and height. The digest is the
    first eight digits of a SHA-256 of the whole set-up.
    """
    parts = [f"{sampling.num_inference_steps}-steps"]
    if sampling.width is not None and sampling.height is not None:
        parts.append(f"{sampling.width}x{sampling.height}")
    facts = {
        "pipeline": sampling.pipeline,
        "scheduler": sampling.scheduler,
        "steps": sampling.num_inference_steps,
        "sigmas": sampling.sigmas and [round(sigma / SIGMA_UNIT) for sigma in sampling.sigmas],
        "height": sampling.height,
        "width": sampling.width,
        "guidance": sampling.guidance,
    }
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "-".join([*parts, hashlib.sha256(canonical.encode()).hexdigest()[:8]])


def is_hub_id(name: str) -> bool:
    """Return whether a name can be that of a repository on the Hub, "user/name"."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return _HUB_ID.fullmatch(name) is not None


def _quoted(match: re.Match[str]) -> str:
    return "".join(f"_{byte:02x}" for byte in match[0].encode())
