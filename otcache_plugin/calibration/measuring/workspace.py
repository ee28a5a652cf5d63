"""The working folder: everything measured so far, so that no calibration loses work.

Each unit's result is one file, named by the unit, written beside its place and moved there: a
calibration that is killed at any moment repeats at most what it was just measuring. A result
carries its own digest and is checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.numpy

from otcache_plugin.calibration.errors import OtherSettingsError, WorkspaceError
from otcache_plugin.calibration.measuring.locked_folder import LockedFolder, explained
from otcache_plugin.calibration.measuring.units import Decide, Evaluate, Measured, Unit, unit_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MANIFEST_FILE = "calibration.json"
POLICIES_FOLDER = "policies"
JOURNAL_FILE = "trials.log"
UNITS_FOLDER = "units"
SCRATCH_FOLDER = "scratch"


@dataclass(frozen=True)
class PolicyWork:
    """What one policy's calibration keeps in a working folder besides what is measured.

    Attributes:
        folder: of its own.
        created: when it was begun, in ISO 8601.
    """

    folder: Path
    created: str

    @property
    def journal(self) -> Path:
        """Where Optuna's journal of its trials lies."""
        return self.folder / JOURNAL_FILE


class Workspace(LockedFolder):
    """A working folder, opened by one process at a time.

    What is measured in it serves every policy; each policy's calibration has its own settings and
    journal there.

    Args:
        folder: made when it is not there.
        manifest: what determines the measured values, as JSON; a folder of another one is refused.
        siblings: working folders of other shards, whose values are read too.

    Raises:
        WorkspaceError: the folder cannot be written, or another process uses it.
        OtherSettingsError: it, or a sibling, belongs to other settings.
    """

    def __init__(
        self, folder: Path, manifest: Mapping[str, Any], siblings: Sequence[Path] = ()
    ) -> None:
        super().__init__(folder, "calibrates")
        self._manifest = json.loads(json.dumps(manifest))
        self._unread = list(siblings)
        self._folders = [folder]
        self._policies: dict[str, dict[str, Any]] = {}
        self._values: dict[Unit, Measured] = {}
        with self._opening():
            with explained(folder):
                (folder / UNITS_FOLDER).mkdir(exist_ok=True)
                for left_over in folder.rglob("*.part"):
                    left_over.unlink()
                shutil.rmtree(folder / SCRATCH_FOLDER, ignore_errors=True)
            _claim(folder, self._manifest)
            for sibling in self._unread:
                if (sibling / MANIFEST_FILE).exists():
                    require_same(read_manifest(sibling), self._manifest, sibling)

    def claim(self, policy: str, manifest: Mapping[str, Any]) -> PolicyWork:
        """Begin a policy's calibration in this folder, or go on with it.

        Args:
            policy: its name.
            manifest: what it is determined by besides the measured values, as JSON.

        Raises:
            WorkspaceError: the folder cannot be written, or its manifest is damaged.
            OtherSettingsError: it was begun with another manifest, here or in a sibling.
        """
        self._policies[policy] = json.loads(json.dumps(manifest))
        folder = self.folder / POLICIES_FOLDER / policy
        with explained(self.folder):
            folder.mkdir(parents=True, exist_ok=True)
        _claim(folder, self._policies[policy])
        self._join_siblings()
        return PolicyWork(folder, str(read_manifest(folder)["created"]))

    def _join_siblings(self) -> None:
        """Read from the siblings that are at the same calibration by now."""
        for folder in [each for each in self._unread if (each / MANIFEST_FILE).exists()]:
            require_same(read_manifest(folder), self._manifest, folder)
            policies = {
                folder / POLICIES_FOLDER / name: manifest
                for name, manifest in self._policies.items()
            }
            if not all((each / MANIFEST_FILE).exists() for each in policies):
                continue
            for each, manifest in policies.items():
                require_same(read_manifest(each), manifest, each)
            self._unread.remove(folder)
            self._folders.append(folder)

    def get(self, unit: Unit) -> Measured | None:
        """Return what the unit gave, here or in another shard's folder; None if nobody measured it.

        Raises:
            WorkspaceError: its file is damaged.
            OtherSettingsError: a shard that was begun meanwhile has other settings.
        """
        if unit in self._values:
            return self._values[unit]
        self._join_siblings()
        for folder in self._folders:
            path = folder / UNITS_FOLDER / f"{unit_key(unit)}.safetensors"
            if path.exists():
                measured = _read(path)
                if isinstance(unit, Evaluate | Decide):  # Small, and asked for again and again.
                    self._values[unit] = measured
                return measured
        return None

    def put(self, unit: Unit, measured: Measured) -> None:
        """Keep what the unit gave.

        Raises:
            WorkspaceError: it cannot be written; what was kept before is untouched.
        """
        path = self.folder / UNITS_FOLDER / f"{unit_key(unit)}.safetensors"
        arrays = {name: np.ascontiguousarray(array) for name, array in measured.arrays.items()}
        facts = {
            "calls": json.dumps(measured.calls),
            "seconds": repr(measured.seconds),
        }
        metadata = {**facts, "sha256": _digest(arrays, facts)}
        with explained(self.folder):
            _write_atomically(path, safetensors.numpy.save(arrays, metadata=metadata))
        if isinstance(unit, Evaluate | Decide):
            self._values[unit] = measured


def _claim(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest where there is none; raise OtherSettingsError where there is another."""
    path = folder / MANIFEST_FILE
    with explained(folder):
        if not path.exists():
            created = datetime.now(UTC).isoformat(timespec="seconds")
            data = json.dumps({"created": created, **manifest}, indent=1, ensure_ascii=False)
            _write_atomically(path, data.encode())
    require_same(read_manifest(folder), manifest, folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what a working folder's results are determined by.

    Raises:
        WorkspaceError: there is none, or it is damaged.
    """
    path = folder / MANIFEST_FILE
    with explained(folder):
        data = path.read_bytes()
    try:
        manifest = json.loads(data)
    except ValueError as error:
        raise WorkspaceError(
            f"{path} is damaged ({error}). Delete {folder} to start anew, or restore the file."
        ) from None
    if not isinstance(manifest, dict) or "created" not in manifest:
        raise WorkspaceError(f"{path} is not a calibration's. Delete {folder} to start anew.")
    return manifest


def require_same(found: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Raise OtherSettingsError at the first setting in which two manifests differ."""
    then, now = _flat(found), _flat(wanted)
    for name in dict.fromkeys([*now, *then]):
        if name == "created":
            continue
        if then.get(name) != now.get(name):
            raise OtherSettingsError(
                name,
                now.get(name),
                f"the calibration in {folder} was begun with {then.get(name)!r}",
                f"Use that again to go on with it, another output to begin one beside it, or "
                f"delete {folder} to start anew",
            )


def _flat(manifest: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in manifest.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _read(path: Path) -> Measured:
    try:
        with safetensors.safe_open(path, "np") as file:
            facts = dict(file.metadata())
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if facts.pop("sha256") != _digest(arrays, facts):
            raise ValueError("its content is not what its digest says")
        return Measured(arrays, tuple(json.loads(facts["calls"])), float(facts["seconds"]))
    except Exception as error:  # Whatever the parser says of a damaged file, the way out is one.
        raise WorkspaceError(
            f"{path} is damaged ({error}). Delete this file and start the same command again: "
            "it is measured anew, and everything else is kept."
        ) from None


def _digest(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _write_atomically(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
