"""The hooks that a plugin may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from otcache_plugin.plugins.registries import ExecutorRegistry, MetricRegistry, PolicyRegistry

PROJECT = "otcache"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of the hook of its name."""


@hookspec
def otcache_register_policies(registry: PolicyRegistry) -> None:
    """Register policies: what says which steps of a run are computed."""


@hookspec
def otcache_register_executors(registry: ExecutorRegistry) -> None:
    """Register executors: what makes a policy happen inside a pipeline."""


@hookspec
def otcache_register_metrics(registry: MetricRegistry) -> None:
    """Register metrics: how far a cached run's outputs are from the full run's."""
