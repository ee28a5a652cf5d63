"""Fixtures: a Hub with a user and their organisation, and the real client on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hub_server import HubServer, isolate_client


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The client's HF_HOME: nothing of the machine's is used."""
    folder = tmp_path / "home"
    isolate_client(monkeypatch, folder)
    return folder


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A Hub with alice, who writes for otcache, and bob, who does not."""
    with HubServer() as hub:
        hub.add_user("alice", token="hf_alice", organisations=("otcache",))
        hub.add_user("bob", token="hf_bob")
        yield hub


@pytest.fixture
def alice(hub: HubServer) -> HfApi:
    """The client as alice."""
    return HfApi(endpoint=hub.endpoint, token="hf_alice")


@pytest.fixture
def bob(hub: HubServer) -> HfApi:
    """The client as bob."""
    return HfApi(endpoint=hub.endpoint, token="hf_bob")


@pytest.fixture
def anonymous(hub: HubServer) -> HfApi:
    """The client as nobody."""
    return HfApi(endpoint=hub.endpoint, token=False)
