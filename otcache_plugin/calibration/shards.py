"""Shards: how the parts of a calibration come together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otcache_plugin.calibration.calibrate import calibrate
from otcache_plugin.calibration.errors import WorkspaceError
from otcache_plugin.calibration.measuring.facts import ModelFacts
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import NoPool
from otcache_plugin.calibration.measuring.workspace import (
    MANIFEST_FILE,
    POLICIES_FOLDER,
    Workspace,
    read_manifest,
    require_same,
)
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.calibration.shard_folders import shards_of, work_folder
from otcache_plugin.calibration.task import calibration_task
from otcache_plugin.errors import ArgumentError
from otcache_plugin.runs.mechanism import Mechanism

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from otcache_plugin.calibration.document import CalibrationResult
    from otcache_plugin.calibration.stages import CalibrationProgress


def merged(
    output: Path, progress: CalibrationProgress, policy: str | None = None
) -> CalibrationResult:
    """Return the calibration that all shards together have measured.

    Args:
        output: the document's folder, as the shards were given it.
        progress: is told how far it is.
        policy: which one, where the shards have calibrated several.

    Raises:
        WorkspaceError: there are no shards beside `output`, or they are damaged.
        OtherSettingsError: two of them have other settings.
        ArgumentError: they have not calibrated that policy, or several and none is named.
        UnfinishedError: something has not been measured.
    """
    shards = shards_of(output)
    absent = [
        f"{number}/{count}"
        for count in sorted({count for _, count in shards})
        for number in range(1, count + 1)
        if (number, count) not in shards
    ]
    found = [shards[shard] for shard in sorted(shards)]
    measured = _common(found)
    begun = [each for folder in found for each in _policies(folder)]
    chosen = _one_policy(begun, policy, found[0])
    at_it = [folder for folder in found if chosen in _policies(folder)]
    work = _common([folder / POLICIES_FOLDER / chosen for folder in at_it])
    try:
        mechanism = Mechanism(**measured["settings"]["mechanism"])
        settings = MeasuringSettings(
            **{**measured["settings"], "mechanism": mechanism}, pairs=work["pairs"]
        )
        facts = ModelFacts(**measured["model"])
        task = calibration_task(work["policy"], work["options"], settings.num_inference_steps)
    except (KeyError, TypeError) as error:
        raise WorkspaceError(
            f"{found[0] / MANIFEST_FILE} does not say what a calibration does ({error!r}). Merge "
            "with the version of otcache-plugin that wrote it."
        ) from None
    with Workspace(work_folder(output), measured, found) as workspace:
        workspace.claim(chosen, work)  # Begun when the first shard was.
        measurements = Measurements(workspace, NoPool(absent), settings)
        return calibrate(task, facts, measurements, progress)


def _common(folders: Sequence[Path]) -> dict[str, Any]:
    """Return the manifest of the first begun; raise OtherSettingsError where two differ."""
    manifests = [read_manifest(folder) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        require_same(manifest, manifests[0], folder)
    return min(manifests, key=lambda manifest: str(manifest["created"]))


def _policies(folder: Path) -> list[str]:
    """Return the calibrations that a shard is at, each named after its policy and its variant."""
    manifests = (folder / POLICIES_FOLDER).glob(f"*/{MANIFEST_FILE}")
    return sorted(path.parent.name for path in manifests)


def _one_policy(found: Sequence[str], asked: str | None, folder: Path) -> str:
    """Return the calibration to merge: the only one of the policy asked for, or the only one."""
    names = sorted(set(found))
    meant = [name for name in names if asked in (None, name, name.partition("-")[0])]
    if len(meant) == 1:
        return meant[0]
    problem = f"the shards beside {folder} have begun to calibrate {', '.join(names) or 'none'}"
    raise ArgumentError("policy", asked, problem, "Name one of those")
