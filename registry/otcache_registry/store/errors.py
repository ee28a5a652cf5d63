"""Errors of the local store."""

from __future__ import annotations

from otcache_policies import FieldError

__all__ = ["DamagedError", "RemovedError", "StoreError"]


class StoreError(FieldError):
    """The store cannot be used: its disk is full, its folder is not writable, or it is busy."""


class DamagedError(StoreError):
    """Files of a pulled document are missing or not what was pulled; `value` names them."""


class RemovedError(DamagedError):
    """Another process has removed a document since it was looked up."""
