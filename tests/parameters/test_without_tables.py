"""Documents of policies that have no tables: with some they are refused, not read in part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from example_documents import published_of
from otcache_policies import Schedule
from otcache_registry import DocumentError, ScheduleRecord

from otcache_plugin.plugins.host import PluginHost

SAMPLING = published_of().sampling
SCHEDULE = ScheduleRecord.of(Schedule([0, 3, 7, 11], 12)).model_dump()
THRESHOLDS = ({"budget": 5, "threshold": 0.2},)

WITHOUT_TABLES: dict[str, dict[str, Any]] = {
    "budcache": {"schedules": (SCHEDULE,)},
    "direct": {"schedules": (SCHEDULE,)},
    "teacache": {"coefficients": (0.0, 0.0, 0.0, 1.0, 0.0), "thresholds": THRESHOLDS},
    "dicache": {"depth": 1, "thresholds": THRESHOLDS},
}


@pytest.mark.parametrize(("name", "parameters"), WITHOUT_TABLES.items(), ids=WITHOUT_TABLES)
def test_tables_are_refused(host: PluginHost, name: str, parameters: dict[str, Any]) -> None:
    host.policy_made(name, parameters, {}, SAMPLING)
    with pytest.raises(DocumentError, match=r"tables_sha256=\['errors'\]: this policy has no"):
        host.policy_made(name, parameters, {"errors": np.zeros(2)}, SAMPLING)
