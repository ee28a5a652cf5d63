"""Shards: where each part of a calibration keeps its work, and how the parts come together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from otcache_plugin.calibration.document import CalibrationResult
from otcache_plugin.calibration.errors import NoShardsError, WorkspaceError
from otcache_plugin.calibration.measuring.facts import ModelFacts
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import NoPool
from otcache_plugin.calibration.measuring.workspace import (
    MANIFEST_FILE,
    Workspace,
    read_manifest,
    require_same,
)
from otcache_plugin.calibration.otcache import calibrate
from otcache_plugin.calibration.settings import CalibrationSettings, Round, SearchSettings

if TYPE_CHECKING:
    from pathlib import Path

    from otcache_plugin.calibration.stages import CalibrationProgress


def work_folder(output: Path) -> Path:
    """Return working folder of a calibration that is not shared out."""
    return _beside(output, "calibration")


def shard_folder(output: Path, number: int, count: int) -> Path:
    """Return working folder of one shard."""
    return _beside(output, f"shard-{number}-of-{count}")


def _beside(output: Path, ending: str) -> Path:
    output = output.resolve()  # "." and ".." have no name of their own.
    return output.with_name(f"{output.name}.{ending}")


def sibling_folders(output: Path, number: int, count: int) -> list[Path]:
    """Return working folders of the other shards, there or not."""
    return [shard_folder(output, other, count) for other in range(1, count + 1) if other != number]


def merged(output: Path, progress: CalibrationProgress) -> CalibrationResult:
    """Return the calibration that all shards together have measured.

    Raises:
        WorkspaceError: there are no shards beside `output`, or they are damaged.
        OtherSettingsError: two of them have other settings.
        UnfinishedError: something has not been measured.
    """
    name, parent = output.resolve().name, output.resolve().parent
    pattern = re.compile(re.escape(name) + r"\.shard-(\d+)-of-(\d+)")
    shards = {
        (int(match[1]), int(match[2])): path
        for path in parent.glob("*")
        if (match := pattern.fullmatch(path.name)) and (path / MANIFEST_FILE).exists()
    }
    if not shards:
        raise NoShardsError(
            f"no {name}.shard-I-of-N folder of a shard in {parent}. Measure the shards first, and "
            "merge what they have measured for the same output."
        )
    absent = [
        f"{number}/{count}"
        for count in sorted({count for _, count in shards})
        for number in range(1, count + 1)
        if (number, count) not in shards
    ]
    found = [shards[shard] for shard in sorted(shards)]
    manifests = [read_manifest(folder) for folder in found]
    for folder, manifest in zip(found, manifests, strict=True):
        require_same(manifest, manifests[0], folder)
    first = min(manifests, key=lambda manifest: str(manifest["created"]))
    try:
        settings, facts = _settings(first["settings"]), ModelFacts(**first["model"])
    except (KeyError, TypeError) as error:
        raise WorkspaceError(
            f"{found[0] / MANIFEST_FILE} does not say what a calibration does ({error!r}). Merge "
            "with the version of otcache-plugin that wrote it."
        ) from None
    with Workspace(work_folder(output), first, found) as workspace:
        return calibrate(facts, Measurements(workspace, NoPool(absent), settings), progress)


def _settings(stored: dict[str, object]) -> CalibrationSettings:
    search = dict(stored["search"])  # type: ignore[call-overload]
    search["rounds"] = tuple(Round(**each) for each in search["rounds"])
    waypoints = stored["waypoints"]
    return CalibrationSettings(
        **{  # type: ignore[arg-type]
            **stored,
            "waypoints": None if waypoints is None else tuple(waypoints),  # type: ignore[arg-type]
            "search": SearchSettings(**search),
        }
    )
