"""The fixture of a plugin with a policy that decides."""

from __future__ import annotations

from typing import Any

import pytest
from forced_decisions import host_with

from otcache_plugin.enabling import enable as enabling


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make `enable_cache` see a plugin that registers this policy; return the policy."""

    def use_policy(policy: Any) -> Any:
        host = host_with(policy)
        monkeypatch.setattr(enabling, "plugin_host", lambda: host)
        return policy

    return use_policy
