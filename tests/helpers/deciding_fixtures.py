"""The fixture of a plugin with a policy that decides."""

from __future__ import annotations

from typing import Any

import pytest
from plugin_fakes import FakeEntryPoint, plugin

from otcache_plugin.enabling import enable as enabling
from otcache_plugin.plugins import PolicyRegistry
from otcache_plugin.plugins.host import load_plugins


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make `enable_cache` see a plugin that registers this policy; return the policy."""

    def use_policy(policy: Any) -> Any:
        def otcache_register_policies(registry: PolicyRegistry) -> None:
            registry.register_deciding(policy.name, lambda: policy, "decides by the latents")

        module = plugin(otcache_register_policies=otcache_register_policies)
        host = load_plugins([FakeEntryPoint("theirs", lambda: module, "otcache-theirs")], None)
        monkeypatch.setattr(enabling, "plugin_host", lambda: host)
        return policy

    return use_policy
