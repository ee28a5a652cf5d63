"""A policy document's folder: policy.json, the edge table, the card and its figures.

The edge table's file is tied to the document by its digest, so a folder is whole or it is refused.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import safetensors.numpy
from otcache_policies import (
    EdgeSettings,
    EdgeTable,
    EdgeTableError,
    MeanCachePolicy,
    OTCachePolicy,
    same_sigmas,
)
from otcache_registry.documents.document import PolicyDocument
from otcache_registry.documents.strict_json import MAX_DOCUMENT_BYTES
from otcache_registry.errors import DocumentError, DocumentNotFoundError

__all__ = [
    "CARD_FILE",
    "DOCUMENT_FILE",
    "EDGES_FILE",
    "FIGURES_FOLDER",
    "StoredPolicy",
    "check_writable",
    "edges_bytes",
    "edges_digest",
    "read_document",
    "read_policy",
    "write_policy",
]

DOCUMENT_FILE: Final = "policy.json"
EDGES_FILE: Final = "edges.safetensors"
CARD_FILE: Final = "README.md"
FIGURES_FOLDER: Final = "figures"

MAX_EDGES_BYTES = 256 * 2**20
"""Largest edge table that is read: 50 steps need 120 KiB, 1,000 need 46 MiB."""

_DTYPES = {"sigmas": np.dtype(np.float64), "velocity_errors": np.dtype(np.float32)}
_SPREAD_DTYPES = {**_DTYPES, "spread": np.dtype(np.float32)}
_RESTORE = "Fetch the policy again, or calibrate anew"
_NO_FIGURES: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True)
class StoredPolicy:
    """A document together with its edge table.

    Attributes:
        document: The document.
        edges: Its edge table, of the same steps and sigmas; None with published schedules.
        source: Where it came from, as shown to users: a folder, or a name such as
            "bundled:embedded".
    """

    document: PolicyDocument
    edges: EdgeTable | None
    source: str

    def otcache_policy(self) -> OTCachePolicy:
        """Return the policy that predicts between the document's schedules."""
        return OTCachePolicy(
            self.document.anchor_schedule,
            self.document.reference_schedule,
            rho=self.document.rho,
            edges=self.edges,
            settings=self._settings(),
            waypoints=self.document.waypoint_schedules,
        )

    def meancache_policy(self) -> MeanCachePolicy:
        """Return the shortest-path policy over the same edge table.

        Raises:
            DocumentError: There is no edge table: the document holds published schedules only.
        """
        if self.edges is None:
            problem = "published schedules without an edge table make no shortest path"
            remedy = f"Use policy={self.document.name!r}, or calibrate the model"
            raise DocumentError("edges_sha256", None, problem, remedy)
        return MeanCachePolicy(self.edges, self._settings())

    def _settings(self) -> EdgeSettings:
        graph = self.document.graph
        return EdgeSettings() if graph is None else graph.edge_settings()


def edges_bytes(edges: EdgeTable) -> bytes:
    """Return the content of the edge table's file.

    It holds `velocity_errors`, float32 of shape (T, T, K), `sigmas`, float64 of shape (T+1,), and
    where it was measured `spread`, of the errors' type and shape.
    """
    tensors = {"sigmas": edges.sigmas, "velocity_errors": edges.velocity_errors}
    if edges.spread is not None:
        tensors["spread"] = edges.spread
    # safetensors copies memory as it lies, whatever the strides say.
    return safetensors.numpy.save(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    )


def edges_digest(edges: EdgeTable) -> str:
    """Return what belongs into the document's `edges_sha256`: the SHA-256 of `edges_bytes`."""
    return hashlib.sha256(edges_bytes(edges)).hexdigest()


def read_document(path: str | Path) -> PolicyDocument:
    """Read a document without its edge table.

    Args:
        path: The document's folder, or the policy.json in it.

    Raises:
        DocumentNotFoundError: There is no document at that path.
        DocumentError: The document is damaged or not valid.
    """
    data = _read(_folder_of(path) / DOCUMENT_FILE, MAX_DOCUMENT_BYTES)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(DOCUMENT_FILE, str(path), f"not UTF-8 ({error})", _RESTORE) from None
    return PolicyDocument.from_json(text)


def read_policy(path: str | Path, source: str | None = None) -> StoredPolicy:
    """Read a document and its edge table.

    Args:
        path: The document's folder, or the policy.json in it.
        source: What to show users as its origin; the folder when left out.

    Raises:
        DocumentNotFoundError: There is no document at that path.
        DocumentError: The document is not valid, or its edge table is missing, damaged, too large,
            not the one that the document was written with, or does not fit it.

    Examples:
        >>> stored = read_policy("my-policy")
        >>> stored.document.model.id, stored.document.default_budget
        ('embedded', 15)
    """
    folder = _folder_of(path)
    document = read_document(folder)
    source = str(folder) if source is None else source
    if document.edges_sha256 is None:
        return StoredPolicy(document, None, source)
    data = _read(folder / EDGES_FILE, MAX_EDGES_BYTES)
    _check_digest(document, hashlib.sha256(data).hexdigest())
    edges = _parse_edges(data)
    _check_edges(document, edges)
    return StoredPolicy(document, edges, source)


def write_policy(
    folder: str | Path,
    document: PolicyDocument,
    edges: EdgeTable | None,
    card: str,
    figures: Mapping[str, bytes] = _NO_FIGURES,
) -> None:
    """Write a document's folder, all of it or nothing.

    A folder that is there already is replaced if it is empty or holds a document and nothing else.
    Everything is written beside it first, so that a failure leaves the old folder as it was.

    Args:
        folder: Where to; missing parents are made.
        document: The document, with `edges_digest(edges)` as its `edges_sha256`.
        edges: Its edge table, None where it has none.
        card: Content of README.md.
        figures: PNG files by name, such as {"schedules.png": data}.

    Raises:
        DocumentError: The document is not valid, the edge table is not the document's, a figure's
            name is not one of a PNG file, or the folder holds something else.
        OSError: The files cannot be written.
    """
    text = document.to_json()
    PolicyDocument.from_json(text)  # Copies with changes are not checked when they are made.
    contents = {DOCUMENT_FILE: text.encode(), CARD_FILE: card.encode()}
    if edges is None:
        _check_digest(document, None)
    else:
        contents[EDGES_FILE] = edges_bytes(edges)
        _check_digest(document, hashlib.sha256(contents[EDGES_FILE]).hexdigest())
        _check_edges(document, edges)
    for name, figure in figures.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.png", name):
            remedy = "Use letters, digits, '.', '_' and '-', and the ending .png"
            raise DocumentError(FIGURES_FOLDER, name, "no name for a figure", remedy)
        contents[f"{FIGURES_FOLDER}/{name}"] = figure
    target = Path(folder).resolve()
    _require_replaceable(target)
    _replace(target, contents)


def _folder_of(path: str | Path) -> Path:
    path = Path(path)
    problem = f"no {DOCUMENT_FILE} there"
    try:
        folder = path.parent if path.name == DOCUMENT_FILE and not path.is_dir() else path
        if (folder / DOCUMENT_FILE).is_file():
            return folder
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    remedy = f"Give a folder with {DOCUMENT_FILE} and {EDGES_FILE}, or its {DOCUMENT_FILE}"
    raise DocumentNotFoundError("path", str(path), problem, remedy)


def _read(path: Path, limit: int) -> bytes:
    try:
        if not path.is_file():
            raise DocumentError(path.name, str(path), "this file is missing", _RESTORE)
        size = path.stat().st_size
        if size > limit:
            problem = f"{size} bytes, above the limit of {limit}"
            raise DocumentError(path.name, str(path), problem, _RESTORE)
        return path.read_bytes()
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise DocumentError(path.name, str(path), problem, "Check the file's permissions") from None


def _parse_edges(data: bytes) -> EdgeTable:
    try:
        tensors = safetensors.numpy.load(data)
    except Exception as error:  # Whatever the parser of a stranger's bytes says, they are damaged.
        problem = f"not a safetensors file ({error})"
        raise DocumentError(EDGES_FILE, f"{len(data)} bytes", problem, _RESTORE) from None
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    if dtypes not in (_DTYPES, _SPREAD_DTYPES):
        found = {name: str(dtype) for name, dtype in dtypes.items()}
        remedy = "It holds velocity_errors and spread as float32, sigmas as float64, nothing else"
        raise DocumentError(EDGES_FILE, found, "not the tensors of an edge table", remedy)
    try:
        return EdgeTable(tensors["velocity_errors"], tensors["sigmas"], tensors.get("spread"))
    except EdgeTableError as error:
        path = f"edges.{error.field}"
        raise DocumentError(path, error.value, error.problem, error.remedy) from None


def _check_digest(document: PolicyDocument, digest: str | None) -> None:
    if digest != document.edges_sha256:
        problem = "there is no edge table"
        if digest is not None:
            problem = f"{EDGES_FILE} has the digest {digest}"
        raise DocumentError("edges_sha256", document.edges_sha256, problem, _RESTORE)


def _check_edges(document: PolicyDocument, edges: EdgeTable) -> None:
    total, graph, sigmas = document.num_inference_steps, document.graph, document.sampling.sigmas
    if edges.num_inference_steps != total:
        shape, remedy = edges.velocity_errors.shape, f"Use a table of shape ({total}, {total}, K)"
        problem = f"not of the document's {total} steps"
        raise DocumentError("edges.velocity_errors", shape, problem, remedy)
    if sigmas is None or not same_sigmas(edges.sigmas, sigmas):
        problem, remedy = "not the document's sampling.sigmas", "Use those that it was measured on"
        raise DocumentError("edges.sigmas", edges.sigmas.tolist(), problem, remedy)
    look_back = None if graph is None else graph.look_back
    if look_back is not None and look_back > edges.max_look_back:
        problem, remedy = "not in the edge table", f"Use null, or 1 … {edges.max_look_back}"
        raise DocumentError("graph.look_back", look_back, problem, remedy)


def check_writable(folder: str | Path) -> None:
    """Check that `write_policy` can write there, ahead of the work whose result it will write.

    Args:
        folder: Where to; nothing is left there.

    Raises:
        DocumentError: It holds something else than a document, or cannot be written.
    """
    target = Path(folder).resolve()
    try:
        _require_replaceable(target)
        existing = next(parent for parent in target.parents if parent.exists())
        # As write_policy does. Permissions alone do not tell: the file system may be read-only.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=existing):
            pass
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise DocumentError("folder", str(target), problem, "Give another folder") from None


def _require_replaceable(target: Path) -> None:
    remedy = "Give a new or empty folder, or one that holds a policy document and nothing else"
    if not target.exists():
        return
    if not target.is_dir():
        raise DocumentError("folder", str(target), "not a folder", remedy)
    entries = {entry.name for entry in target.iterdir()}
    if entries and DOCUMENT_FILE not in entries:
        problem = f"not empty, and no {DOCUMENT_FILE} in it"
        raise DocumentError("folder", str(target), problem, remedy)
    foreign = sorted(entries - {DOCUMENT_FILE, EDGES_FILE, CARD_FILE, FIGURES_FOLDER})
    if foreign:
        problem = f"replacing it would delete {', '.join(foreign[:3])}"
        raise DocumentError("folder", str(target), problem, remedy)


def _replace(target: Path, contents: Mapping[str, bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    new, old = scratch / "new", scratch / "old"
    try:
        for name, data in contents.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            if target.exists():
                target.rename(old)
            new.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
    finally:
        # Should even the way back have failed, the old folder is still in there.
        if target.exists() or not old.exists():
            shutil.rmtree(scratch, ignore_errors=True)
