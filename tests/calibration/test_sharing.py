"""Policies that are calibrated in one working folder share what is measured there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from otcache_policies import MeanCachePolicy
from otcache_registry import PolicyDocument
from small_calibration import SETTINGS, Calibrated, calibrate_flow, calibrate_policy, task_of

from otcache_plugin.calibration.meancache import MeanCacheCalibrator
from otcache_plugin.calibration.settings import MeanCacheOptions
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.plugins.host import plugin_host

MEANCACHE = task_of(MeanCacheOptions(budgets=(4, 6)), MeanCacheCalibrator(), "meancache")


@pytest.fixture(scope="module")
def shared(
    make_setup: Callable[[], ModelSetup], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Calibrated, Calibrated, set[str]]:
    """OTCache, then MeanCache in the same folder, and the units that were there in between."""
    folder = tmp_path_factory.mktemp("shared") / "work"
    otcache = calibrate_flow(make_setup(), folder)
    between = {path.name for path in (folder / "units").iterdir()}
    return otcache, calibrate_policy(make_setup(), folder, MEANCACHE), between


def test_the_second_policy_records_nothing(
    shared: tuple[Calibrated, Calibrated, set[str]],
) -> None:
    otcache, meancache, before = shared
    after = {path.name for path in (meancache.folder / "units").iterdir()}
    added = after - before
    assert not [name for name in added if not name.startswith("evaluate-")]
    # Readings are judged where OTCache tuned them, and the graph policy is in its evidence.
    assert added == set()
    assert sum(meancache.calls.values()) == 0
    assert meancache.stages.done["recording full runs"] == 2
    assert otcache.calls["recording full runs"] == 2 * 12


def test_both_read_the_table_alike(shared: tuple[Calibrated, Calibrated, set[str]]) -> None:
    otcache, meancache, _ = shared
    found = plugin_host().policy_of(meancache.stored)
    assert isinstance(found, MeanCachePolicy)
    assert found.settings == otcache.graph.settings
    np.testing.assert_array_equal(found.edges.velocity_errors, otcache.edges.velocity_errors)
    rows = {(row.budget, row.policy, row.metric): row for row in otcache.document.evidence}
    for row in meancache.document.evidence:
        assert row == rows[row.budget, row.policy, row.metric]


def test_what_the_second_document_says(shared: tuple[Calibrated, Calibrated, set[str]]) -> None:
    document = shared[1].document
    assert PolicyDocument.from_json(document.to_json()) == document
    assert (document.policy.name, document.policy.distribution) == ("meancache", "otcache-plugin")
    assert list(document.parameters) == ["graph"]
    assert (document.calibrated_budgets, document.default_budget) == ((), 4)
    assert {(row.budget, row.policy) for row in document.evidence} == {
        (budget, policy) for budget in (4, 6) for policy in ("fewer-steps", "uniform", "meancache")
    }
    assert document.calibration is not None
    assert document.calibration.settings == {"budgets": (4, 6)}
    # What it asked for took as much as if nobody had measured it before.
    assert document.calibration.transformer_calls > 2 * 12


def test_the_order_makes_no_difference(
    shared: tuple[Calibrated, Calibrated, set[str]], setup: ModelSetup, tmp_path: Path
) -> None:
    alone = calibrate_policy(setup, tmp_path / "work", MEANCACHE, SETTINGS)
    assert alone.calls["recording full runs"] == 2 * 12

    def content(document: PolicyDocument) -> object:
        data = document.model_dump()
        del data["calibration"]["seconds"], data["calibration"]["created"]
        return data

    assert content(alone.document) == content(shared[1].document)
