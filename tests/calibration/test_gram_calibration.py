"""The policy of Gram matrices: calibrated from a recording alone, written, read and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from otcache_policies import BudgetError, GramPolicy, GramSettings, GramTableError, Schedule
from otcache_registry import DocumentError, PolicyDocument, StoredPolicy
from small_calibration import SETTINGS, Calibrated, calibrate_flow, calibrate_policy, task_of

from otcache_plugin.calibration.gram import GramCalibrator
from otcache_plugin.calibration.settings import GramOptions
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.plugins.host import plugin_host

GRAM = task_of(GramOptions(damping=0.2, budgets=(4, 6)), GramCalibrator(), "gram")


@pytest.fixture(scope="module")
def gram(
    make_setup: Callable[[], ModelSetup], tmp_path_factory: pytest.TempPathFactory
) -> Calibrated:
    return calibrate_policy(make_setup(), tmp_path_factory.mktemp("gram") / "work", GRAM)


def policy_of(stored: StoredPolicy) -> GramPolicy:
    policy = plugin_host().policy_of(stored)
    assert isinstance(policy, GramPolicy)
    return policy


def test_it_costs_the_full_runs_alone(gram: Calibrated) -> None:
    """Two batches of 12 steps; whatever else ran was the evidence."""
    assert gram.calls["recording full runs"] == 2 * 12
    assert "minimising the quadratic form" not in gram.calls
    assert set(gram.stages.total) == {
        "recording full runs",
        "minimising the quadratic form",
        "evidence on held-out pairs",
    }


def test_its_schedules_are_what_its_matrices_give(gram: Calibrated) -> None:
    policy = policy_of(gram.stored)
    assert policy.settings == GramSettings(0.2, 6)
    # Two of each pair: what its velocities do to the pictures, and their own.
    assert policy.table.grams.shape == (2 * SETTINGS.pairs, 12, 12)
    assert policy.table.response is None
    anew = GramPolicy(policy.table, policy.settings)
    assert [each.budget for each in policy.known] == [4, 6]
    for budget in (4, 5, 6, 9):
        assert policy.schedule(budget) == anew.schedule(budget)
    assert policy.schedule(12) == Schedule.full(12)
    with pytest.raises(BudgetError):
        policy.schedule(1)


def test_its_document(gram: Calibrated) -> None:
    document = gram.document
    assert PolicyDocument.from_json(document.to_json()) == document
    assert (document.policy.name, document.calibrated_budgets) == ("gram", (4, 6))
    assert {(row.budget, row.policy) for row in document.evidence} == {
        (budget, policy) for budget in (4, 6) for policy in ("fewer-steps", "uniform", "gram")
    }


def test_after_another_policy_nothing_is_recorded_again(
    make_setup: Callable[[], ModelSetup], tmp_path: Path, gram: Calibrated
) -> None:
    calibrate_flow(make_setup(), tmp_path / "work")
    after = calibrate_policy(make_setup(), tmp_path / "work", GRAM)
    assert set(after.calls) <= {"evidence on held-out pairs"}
    assert after.document.parameters == gram.document.parameters
    np.testing.assert_array_equal(after.stored.tables["grams"], gram.stored.tables["grams"])


def test_its_document_runs(gram: Calibrated, setup: ModelSetup, tmp_path: Path) -> None:
    gram.require_run_as_planned(setup.pipe, tmp_path / "gram", 4)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda tables: {**tables, "grams": tables["grams"][:, :5]}, "tables.grams"),
        (lambda tables: {**tables, "grams": tables["grams"] * np.float32(np.nan)}, "tables.grams"),
        (lambda tables: {**tables, "sigmas": tables["sigmas"] * 0.5}, "tables.sigmas"),
        (lambda tables: {"sigmas": tables["sigmas"]}, "tables.safetensors"),
    ],
)
def test_tables_that_are_none(gram: Calibrated, change: Any, field: str) -> None:
    with pytest.raises(DocumentError) as caught:
        plugin_host().policy_of(replace(gram.stored, tables=change(gram.stored.tables)))
    assert caught.value.field == field


def test_a_damping_that_is_none() -> None:
    with pytest.raises(GramTableError, match="not from 0 to 1"):
        GramCalibrator().check(GramOptions(damping=2.0), 50)
