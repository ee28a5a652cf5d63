"""Shards: where each part of a calibration keeps its work, and how the parts come together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from otcache_plugin.calibration.calibrate import CalibrationResult, calibrate
from otcache_plugin.calibration.errors import WorkspaceError
from otcache_plugin.calibration.measurements import Measurements
from otcache_plugin.calibration.pools import NoPool
from otcache_plugin.calibration.settings import AnchorSettings, CalibrationSettings
from otcache_plugin.calibration.worker import ModelFacts
from otcache_plugin.calibration.workspace import Workspace, read_manifest, require_same

if TYPE_CHECKING:
    from pathlib import Path

    from otcache_plugin.calibration.calibrate import CalibrationProgress


def work_folder(output: Path) -> Path:
    """Working folder of a calibration that is not shared out."""
    return output.with_name(f"{output.name}.calibration")


def shard_folder(output: Path, number: int, count: int) -> Path:
    """Working folder of one shard."""
    return output.with_name(f"{output.name}.shard-{number}-of-{count}")


def sibling_folders(output: Path, number: int, count: int) -> list[Path]:
    """Working folders of the other shards, there or not."""
    return [shard_folder(output, other, count) for other in range(1, count + 1) if other != number]


def merged(output: Path, progress: CalibrationProgress) -> CalibrationResult:
    """The calibration that all shards together have measured.

    Raises:
        WorkspaceError: there are no shards beside ``output``.
        OtherSettingsError: two of them have other settings.
        UnfinishedError: something has not been measured.
    """
    pattern = re.compile(re.escape(output.name) + r"\.shard-\d+-of-\d+")
    parent = output.absolute().parent
    found = sorted(path for path in parent.glob("*") if pattern.fullmatch(path.name))
    if not found:
        raise WorkspaceError(
            f"no {output.name}.shard-I-of-N folder in {parent}. Run otcache calibrate with "
            "--shard first, and pass merge the same --output."
        )
    manifests = [read_manifest(folder) for folder in found]
    for folder, manifest in zip(found, manifests, strict=True):
        require_same(manifest, manifests[0], folder)
    first = min(manifests, key=lambda manifest: str(manifest["created"]))
    settings = _settings(first["settings"])
    facts = ModelFacts(**first["model"])
    with Workspace(work_folder(output), first, found) as workspace:
        measurements = Measurements(workspace, NoPool(), settings)
        return calibrate(facts, settings, workspace, measurements, progress)


def _settings(stored: dict[str, object]) -> CalibrationSettings:
    anchor = dict(stored["anchor"])  # type: ignore[call-overload]
    anchor["ranges"] = tuple(anchor["ranges"])
    return CalibrationSettings(**{**stored, "anchor": AnchorSettings(**anchor)})  # type: ignore[arg-type]
