"""Fixtures: the real client on a Hub, as one of its users."""

from __future__ import annotations

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
