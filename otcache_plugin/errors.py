"""Errors of the plugin; each says what to do next."""

from __future__ import annotations

from otcache_policies import FieldError, OTCacheError

__all__ = [
    "ArgumentError",
    "ExecutionError",
    "IncompatibleCacheDitError",
    "PipelineError",
    "PluginError",
    "UnknownNameError",
]


class ArgumentError(FieldError, TypeError):
    """A keyword of `enable_cache` that is unknown or contradicts another one."""


class UnknownNameError(FieldError, LookupError):
    """A policy, executor or metric that nothing registered."""


class PipelineError(FieldError):
    """A pipeline that cannot be accelerated as asked."""


class PluginError(OTCacheError):
    """A plugin that cannot be loaded, or two that register the same name."""


class IncompatibleCacheDitError(OTCacheError, ImportError):
    """The installed cache-dit is not one that `policy=` can be installed into."""


class ExecutionError(OTCacheError, RuntimeError):
    """A run did not go as its schedule says, so its output is not what was asked for."""
