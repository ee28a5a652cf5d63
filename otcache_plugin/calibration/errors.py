"""Errors of a calibration; whatever was measured before one is kept."""

from __future__ import annotations

from otcache_policies import FieldError, OTCacheError

from otcache_plugin.errors import ArgumentError
from otcache_plugin.runs.mechanism import VELOCITY


class WorkspaceError(OTCacheError):
    """The working folder cannot be written, is in use, or holds a damaged file."""


class OtherSettingsError(FieldError):
    """The working folder belongs to a calibration with other settings."""


class UnfinishedError(OTCacheError):
    """This shard has done its part and needs what other shards have not measured yet."""


class NoShardsError(WorkspaceError):
    """There is nothing to merge."""


class ClusterError(OTCacheError):
    """There is no Ray cluster, or it has no room for the workers that were asked for."""


class RecordingError(FieldError):
    """A recorded run from which no edge can be measured."""


class NotFiniteError(FieldError):
    """A metric whose losses leave nothing to choose from."""


def refuse_unmeasured(executor: str, others: str) -> None:
    """Raise ArgumentError for an executor that the recorded velocities say nothing of.

    Args:
        executor: that schedules are to be run by.
        others: what does measure on it, as a remedy.
    """
    if executor != VELOCITY:
        problem = "schedules are found from recorded velocities alone, without a run on it"
        raise ArgumentError("executor", executor, problem, f"{others}, or leave executor out")
