"""`otcache plugins`: what is registered, by whom, and what is broken."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from otcache_plugin.cli.common.output import Json, data_console, print_json
from otcache_plugin.plugins.host import LoadedPlugin, PluginHost, plugin_host


def plugins(
    policy: Annotated[
        str | None,
        typer.Argument(metavar="POLICY", help="A policy, for the options of its calibration."),
    ] = None,
    json: Json = False,
) -> None:
    """List policies, executors, metrics and plugins, or the options of one policy's calibration."""
    host = plugin_host()
    if policy is not None:
        _print_policy(host, policy, json)
        return
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
    console = data_console()
    console.print(_names(host))
    console.print(_plugins(host.plugins))


def _names(host: PluginHost) -> Table:
    what = Column("what it is", overflow="fold")
    table = Table("kind", "name", what, "from", box=None, pad_edge=False)
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


def _print_policy(host: PluginHost, name: str, json: bool) -> None:
    """Print what a policy is, and what `otcache calibrate --policy NAME --set` may set."""
    description, distribution = host.policy(name).description, host.policies.distribution_of(name)
    options = _options(host, name)
    if json:
        about = {"policy": name, "description": description, "distribution": distribution}
        print_json({**about, "options": options})
        return
    console = data_console()
    console.print(f"{name}: {description} ({distribution})", markup=False)
    if not options:
        console.print("Nothing of it can be calibrated here.")
        return
    console.print(f"otcache calibrate MODEL --policy {name} --set NAME=VALUE, each of:")
    table = Table("name", "unless set", "what it is", box=None, pad_edge=False)
    for option in options:
        default = "" if option["default"] is None else str(option["default"])
        table.add_row(option["name"], escape(default), escape(option["description"]))
    console.print(table)


def _options(host: PluginHost, name: str) -> list[dict[str, Any]]:
    """Return the options of a policy's calibrator, none where it has none."""
    if not host.can_calibrate(name):
        return []
    fields = host.calibrator(name).options.model_fields
    return [
        {
            "name": field,
            "default": info.get_default(call_default_factory=True),
            "description": info.description or "",
        }
        for field, info in fields.items()
    ]
