"""Clients that know the test's Hub and nothing of the machine: no tokens, caches or telemetry.

They wait as long as it takes, where the client gives up after ten seconds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from waiting import CEILING

if TYPE_CHECKING:
    import pytest

    from hub_server.server import HubServer

FOREIGN = ("HF_", "HUGGINGFACE_", "HUGGING_FACE_", "TRANSFORMERS_", "DIFFUSERS_")


def environment(hub: HubServer, home: Path, token: str | None = None) -> dict[str, str]:
    """The environment of a process whose Hub is the test's.

    Args:
        home: Its HF_HOME: cache and stored token. An empty folder, or one shared by clients that
            are to share a cache.
        token: Its HF_TOKEN; None for a client that is not logged in.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    own = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": f"{CEILING:.0f}",
        "HF_HUB_ETAG_TIMEOUT": f"{CEILING:.0f}",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    return {**kept, **own} if token is None else {**kept, **own, "HF_TOKEN": token}


def isolate_client(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Keep the client in this process off the machine's tokens and caches, and off the network.

    Its Hub stays huggingface.co: calls are given `endpoint=hub.endpoint`.
    """
    from huggingface_hub import constants

    for name in list(os.environ):
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", CEILING)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", CEILING)
