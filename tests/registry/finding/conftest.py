"""For all tests of finding: the Hub is waited for however busy the machine is."""

from __future__ import annotations

import pytest
from otcache_registry.finding import places
from waiting import CEILING


@pytest.fixture(autouse=True)
def _no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "SHORT_WAIT", CEILING)
    monkeypatch.setenv("OTCACHE_HUB_SECONDS", str(CEILING))
