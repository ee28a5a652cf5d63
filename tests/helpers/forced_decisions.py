"""A policy that computes the steps that it was told to, whatever it observes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar

from otcache_policies import DecidingPolicy, Decision, RunConditions
from plugin_fakes import FakeEntryPoint, plugin

from otcache_plugin.plugins import PolicyRegistry
from otcache_plugin.plugins.host import PluginHost, load_plugins


@dataclass(frozen=True)
class Forced:
    """Computes some steps, and keeps what it was shown.

    Args:
        computed: steps, besides the first and the last.
        observes: what it is to be shown.
        look_back: of cached steps.
        seen: observations of the last run, for tests to look at.
    """

    computed: Collection[int]
    observes: str
    look_back: int = 1
    seen: list[Any] = field(default_factory=list)

    name: ClassVar[str] = "forced"

    def begin(self, run: RunConditions, observation: Any) -> Forced:
        self.seen[:] = [observation]
        return self

    def decide(self, step: int, observation: Any) -> Decision:
        self.seen.append(observation)
        return Decision.COMPUTE if step in self.computed else Decision.CACHE


def host_with(policy: DecidingPolicy[Any]) -> PluginHost:
    """The host of a plugin that registers this policy."""

    def otcache_register_policies(registry: PolicyRegistry) -> None:
        registry.register_deciding(policy.name, lambda: policy, "decides as a test wants it")

    module = plugin(otcache_register_policies=otcache_register_policies)
    return load_plugins([FakeEntryPoint("theirs", lambda: module, "otcache-theirs")], None)
