"""Errors of the local store."""

from __future__ import annotations

from otcache_policies import FieldError

__all__ = ["DamagedError", "RemovedError", "StoreError"]


class StoreError(FieldError):
    """The store cannot be used: its disk is full, its folder is not writable, or it is busy."""


class DamagedError(StoreError):
    """Files of a pulled document that are missing or not what was pulled; `value` names them."""


class RemovedError(DamagedError):
    """A pulled document that another process has removed since it was looked up."""
