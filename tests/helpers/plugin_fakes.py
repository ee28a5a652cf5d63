"""Entry points of packages that are not installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from otcache_plugin.plugins import hookimpl


@dataclass(frozen=True)
class FakeDistribution:
    """What a plugin's package calls itself."""

    name: str
    version: str


class FakeEntryPoint:
    """As `importlib.metadata.EntryPoint`, its module made by a function when it is loaded."""

    def __init__(
        self, name: str, make: Callable[[], Any], distribution: str = "", version: str = "1.0"
    ) -> None:
        self.name = name
        self.value = f"package_of_{name}"
        self.dist = FakeDistribution(distribution, version) if distribution else None
        self.loaded = 0
        self._make = make

    def load(self) -> Any:
        """Make the plugin."""
        self.loaded += 1
        return self._make()


def plugin(**hooks: Callable[..., None]) -> SimpleNamespace:
    """A plugin object with these hook implementations."""
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})
