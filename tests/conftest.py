"""For all tests: a store of their own, no Hub but the one that a test starts, and no hurry."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

# Tests start many processes on few cores, where threads that wait for each other cost more than
# they save. It has to be said before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

pytest_plugins = [
    "pipeline_fixtures",
    "deciding_fixtures",
    "hub_fixtures",
    "forking",
    "installed_example",
]

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def _at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTCACHE_CACHE", str(tmp_path_factory.mktemp("store")))
        patch.setenv("OTCACHE_OFFLINE", "1")
        yield
