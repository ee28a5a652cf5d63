"""Errors of a calibration; whatever was measured before one is kept."""

from __future__ import annotations

from otcache_policies import FieldError, OTCacheError


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
