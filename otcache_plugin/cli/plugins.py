"""`otcache plugins`: what is registered, by whom, and what is broken."""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from otcache_plugin.cli.common.output import Json, print_json
from otcache_plugin.plugins.host import LoadedPlugin, PluginHost, plugin_host


def plugins(json: Json = False) -> None:
    """List policies, executors, metrics and plugins."""
    host = plugin_host()
    if json:
        print_json(
            {
                "plugins": [asdict(plugin) for plugin in host.plugins],
                "policies": {name: host.policies.get(name).description for name in host.policies},
                "executors": {
                    name: host.executors.get(name).description for name in host.executors
                },
                "metrics": {name: host.metrics.get(name).description for name in host.metrics},
            }
        )
        return
    console = Console()
    console.print(_names(host))
    console.print(_plugins(host.plugins))


def _names(host: PluginHost) -> Table:
    table = Table("kind", "name", "what it is", "from", box=None, pad_edge=False)
    for registry in (host.policies, host.executors, host.metrics):
        for name in registry:
            description = escape(registry.get(name).description)
            table.add_row(registry.kind, name, description, registry.distribution_of(name))
    return table


def _plugins(loaded: tuple[LoadedPlugin, ...]) -> Table:
    table = Table("plugin", "distribution", "state", box=None, pad_edge=False)
    for plugin in loaded:
        state = "not in OTCACHE_PLUGINS" if plugin.skipped else "loaded"
        table.add_row(plugin.name, plugin.distribution, escape(plugin.error or state))
    return table
