"""Loading plugins: entry point by entry point, a broken one reported and never the end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

import pluggy

from otcache_plugin import builtin, hookspecs
from otcache_plugin.registries import ExecutorRegistry, PolicyRegistry

if TYPE_CHECKING:
    from collections.abc import Iterable

ALLOW_LIST = "OTCACHE_PLUGINS"
OWN_DISTRIBUTION = "otcache-plugin"


@dataclass(frozen=True)
class LoadedPlugin:
    """One entry point and how loading it went.

    Attributes:
        name: of the entry point.
        distribution: name and version of what installed it.
        policies: names it registered.
        executors: names it registered.
        error: why it could not be used, empty when it could.
        skipped: whether the allow-list leaves it out.
    """

    name: str
    distribution: str
    policies: tuple[str, ...] = ()
    executors: tuple[str, ...] = ()
    error: str = ""
    skipped: bool = False


@dataclass(frozen=True)
class PluginHost:
    """Everything that is registered, and by whom."""

    policies: PolicyRegistry
    executors: ExecutorRegistry
    plugins: tuple[LoadedPlugin, ...]

    def broken(self) -> tuple[LoadedPlugin, ...]:
        """The plugins that could not be used."""
        return tuple(plugin for plugin in self.plugins if plugin.error)


@cache
def plugin_host() -> PluginHost:
    """The process's plugins, loaded at the first call."""
    return load_plugins(entry_points(group=hookspecs.PROJECT), os.environ.get(ALLOW_LIST))


def load_plugins(found: Iterable[EntryPoint], allow_list: str | None) -> PluginHost:
    """Loads the built-in plugin and the entry points.

    Args:
        found: entry points of the group ``otcache``.
        allow_list: comma-separated names of those to load; None loads all, empty none.

    Raises:
        PluginError: two plugins register the same name.
    """
    policies, executors = PolicyRegistry(OWN_DISTRIBUTION), ExecutorRegistry(OWN_DISTRIBUTION)
    _call_hooks(builtin, policies, executors)
    plugins = [LoadedPlugin("builtin", OWN_DISTRIBUTION, tuple(policies), tuple(executors))]
    allowed = None if allow_list is None else {name.strip() for name in allow_list.split(",")}
    for entry_point in sorted(found, key=lambda each: (each.name, each.value)):
        distribution = _distribution(entry_point)
        if allowed is not None and entry_point.name not in allowed:
            plugins.append(LoadedPlugin(entry_point.name, distribution, skipped=True))
            continue
        # Into registries of its own first: a plugin that breaks half-way registers nothing.
        own = PolicyRegistry(distribution), ExecutorRegistry(distribution)
        try:
            _call_hooks(entry_point.load(), *own)
        except Exception as error:  # whatever a stranger's module raises must not end the program
            reason = f"{type(error).__name__}: {error}"
            plugins.append(LoadedPlugin(entry_point.name, distribution, error=reason))
            continue
        policies.take_over(own[0])
        executors.take_over(own[1])
        plugins.append(LoadedPlugin(entry_point.name, distribution, tuple(own[0]), tuple(own[1])))
    return PluginHost(policies, executors, tuple(plugins))


def _distribution(entry_point: EntryPoint) -> str:
    if entry_point.dist is None:
        return "unknown distribution"
    return f"{entry_point.dist.name} {entry_point.dist.version}"


def _call_hooks(plugin: object, policies: PolicyRegistry, executors: ExecutorRegistry) -> None:
    """Calls one plugin's hooks; a manager of its own keeps its errors apart."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin)
    manager.check_pending()
    manager.hook.otcache_register_policies(registry=policies)
    manager.hook.otcache_register_executors(registry=executors)
