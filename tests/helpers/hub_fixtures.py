"""The Hub of a test: with two users, and this process's client nowhere but there.

Tests that need more there override `hub` and add to it, or begin a `hub_world` of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hub_server import HubServer, isolate_client
from waiting import CEILING


@contextmanager
def hub_world(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[HubServer]:
    """A Hub with alice, who writes for otcache too, and bob; nothing of the machine's is used."""
    isolate_client(monkeypatch, home)
    monkeypatch.setattr("otcache_registry.hub.transport.QUIET_SECONDS", CEILING)
    for name in ("OTCACHE_OFFLINE", "OTCACHE_NAMESPACES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTCACHE_CACHE", str(home / "otcache"))
    with HubServer() as hub:
        hub.add_user("alice", token="hf_alice", organisations=("otcache",))
        hub.add_user("bob", token="hf_bob")
        yield hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """One for this test."""
    with hub_world(monkeypatch, tmp_path / "home") as hub:
        yield hub
