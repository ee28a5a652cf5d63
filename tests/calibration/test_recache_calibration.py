"""The policy of learned scores: trained on a small flow, written, read, run, and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gram_tables import smooth_table
from otcache_policies import BudgetError, FieldError, ReCachePolicy
from otcache_policies.recache import highest
from otcache_registry import DocumentError, PolicyDocument, StoredPolicy
from pydantic import ValidationError
from small_calibration import Calibrated, calibrate_policy, task_of

from otcache_plugin.calibration.learning.options import ReCacheOptions
from otcache_plugin.calibration.learning.reinforce import Drawn, train, untrained
from otcache_plugin.calibration.learning.rewards import FormLosses, WeightedMetrics, finite
from otcache_plugin.calibration.recache import SIZES, ReCacheCalibrator
from otcache_plugin.errors import ArgumentError, UnknownNameError
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.plugins.host import plugin_host

OPTIONS = ReCacheOptions(
    smallest_budget=3,
    largest_budget=7,
    budgets=(4, 6),
    pretraining=60,
    iterations=2,
    budgets_at_once=2,
    schedules=3,
    pairs_per_run=2,
    look_back="edges",
    reward="ssim",
    reward_weight=5.0,
)
RECACHE = task_of(OPTIONS, ReCacheCalibrator(), "recache")


@pytest.fixture(scope="module")
def recache(
    make_setup: Callable[[], ModelSetup], tmp_path_factory: pytest.TempPathFactory
) -> Calibrated:
    return calibrate_policy(make_setup(), tmp_path_factory.mktemp("recache") / "work", RECACHE)


def policy_of(stored: StoredPolicy) -> ReCachePolicy:
    policy = plugin_host().policy_of(stored)
    assert isinstance(policy, ReCachePolicy)
    return policy


def test_it_learns_the_form() -> None:
    """Beside every schedule that there is, those of a trained network are in the best tenth."""
    form = smooth_table(3, 12, 0).form(0.1)
    look_backs = np.full((12, 12), 2, dtype=np.uint8)
    lose, rng = FormLosses(form, look_backs), np.random.default_rng(0)
    options = OPTIONS.model_copy(update={"pretraining": 100})
    network = train(untrained(12, range(4, 9), SIZES, rng), options.on_the_form, lose, rng)
    for budget in range(4, 9):
        members = np.zeros((comb(10, budget - 2), 10), dtype=np.bool_)
        for row, chosen in zip(members, combinations(range(10), budget - 2), strict=True):
            row[list(chosen)] = True
        found = highest(network.scores(budget), budget - 2)
        learned, every = lose([Drawn(budget, found[None]), Drawn(budget, members)])
        assert (every < learned[0]).mean() < 0.1, budget


def test_what_is_spent_is_what_was_said(recache: Calibrated) -> None:
    assert list(recache.stages.planned) == [
        "recording full runs",
        "training on the quadratic form",
        "training on real runs",
        "choosing the network",
        "evidence on held-out pairs",
    ]
    for stage, steps in recache.stages.planned.items():
        assert recache.steps.get(stage, 0) <= steps
    assert recache.steps["training on real runs"] > 0
    assert recache.stages.done["training on the quadratic form"] == 60
    assert recache.document.calibration is not None
    # Each run of the training gives a value of both metrics, and counts as one.
    assert recache.document.calibration.settings["reward"] == "ssim"
    assert recache.document.calibration.values > recache.document.calibration.evaluations


def test_its_document(recache: Calibrated) -> None:
    document = recache.document
    assert PolicyDocument.from_json(document.to_json()) == document
    assert document.parameters == {"smallest_budget": 3, "largest_budget": 7}
    assert {(row.budget, row.policy) for row in document.evidence} == {
        (budget, policy) for budget in (4, 6) for policy in ("fewer-steps", "uniform", "recache")
    }
    policy = policy_of(recache.stored)
    assert list(policy.budgets) == [3, 4, 5, 6, 7, 12]
    # Every segment's are the best of the edge table, one of six.
    cached = np.triu_indices(12, 2)
    assert {*policy.look_backs[cached].tolist()} <= {*range(1, 7)}
    assert len({*policy.look_backs[cached].tolist()}) > 1


def test_the_network_that_loses_less_is_taken(
    make_setup: Callable[[], ModelSetup], recache: Calibrated, tmp_path: Path
) -> None:
    """Beside the one that was trained on the form alone."""
    options = OPTIONS.model_copy(update={"iterations": 0})
    task = task_of(options, ReCacheCalibrator(), "recache")
    alone = calibrate_policy(make_setup(), tmp_path / "work", task)
    assert "training on real runs" not in alone.steps
    schedules = [policy_of(each.stored).schedule for each in (alone, recache)]
    losses = [np.mean(recache.losses(of(4), of(6))) for of in schedules]
    assert losses[1] <= losses[0]
    assert recache.document.calibration is not None
    by_runs = recache.document.calibration.settings["trained_on"] == "runs"
    assert by_runs == (losses[1] < losses[0])


def test_look_backs_as_text_or_numbers() -> None:
    for given, expected in (("2", 2), (1, 1), ("edges", "edges")):
        assert ReCacheOptions.model_validate({"look_back": given}).look_back == expected
    for given in (0, 7, "best"):
        with pytest.raises(ValidationError):
            ReCacheOptions.model_validate({"look_back": given})


def test_a_second_time_nothing_is_run(recache: Calibrated, setup: ModelSetup) -> None:
    again = calibrate_policy(setup, recache.folder, RECACHE)
    assert not again.calls
    assert again.document.parameters == recache.document.parameters
    assert again.document.tables_sha256 == recache.document.tables_sha256


def test_its_document_runs(recache: Calibrated, setup: ModelSetup, tmp_path: Path) -> None:
    recache.require_run_as_planned(setup.pipe, tmp_path / "recache", 5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda tables: {**tables, "output_bias": tables["output_bias"][:9]}, "output_bias"),
        (lambda tables: {**tables, "hidden_bias": tables["hidden_bias"][:9]}, "hidden_bias"),
        (lambda tables: {**tables, "look_backs": tables["look_backs"] * 0}, "look_backs"),
    ],
)
def test_tables_that_are_none(recache: Calibrated, change: Any, field: str) -> None:
    with pytest.raises(DocumentError) as caught:
        policy_of(replace(recache.stored, tables=change(recache.stored.tables)))
    assert caught.value.field == f"tables.{field}"


@pytest.mark.parametrize(("smallest", "largest"), [(7, 7), (3, 12)])
def test_budgets_that_it_cannot_be_for(recache: Calibrated, smallest: int, largest: int) -> None:
    parameters = {"smallest_budget": smallest, "largest_budget": largest}
    stored = replace(recache.stored, document=replace_parameters(recache.document, parameters))
    with pytest.raises(DocumentError, match="not above the smallest budget"):
        policy_of(stored)


def replace_parameters(document: PolicyDocument, parameters: dict[str, int]) -> PolicyDocument:
    return document.model_copy(update={"parameters": parameters})


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"smallest_budget": 2}, BudgetError),
        ({"largest_budget": 3}, BudgetError),
        ({"largest_budget": 12}, BudgetError),
        ({"budgets": (4, 9)}, BudgetError),
        ({"default_budget": 9}, BudgetError),
        ({"pretraining": 0, "iterations": 0}, ArgumentError),
        ({"reward": "beauty"}, UnknownNameError),
    ],
)
def test_options_that_nothing_is_trained_by(
    changes: dict[str, Any], error: type[FieldError]
) -> None:
    with pytest.raises(error):
        ReCacheCalibrator().check(OPTIONS.model_copy(update=changes), 12)


def test_a_reward_beside_the_metric() -> None:
    """PSNR is better when higher, the mean squared error when lower."""
    values = {"mse": np.array([0.1, 0.2]), "psnr": np.array([10.0, 30.0])}
    found = WeightedMetrics({"mse": 1.0, "psnr": 0.01}).losses(values)
    np.testing.assert_allclose(found, [0.1 - 0.1, 0.2 - 0.3])


def test_losses_that_are_not_finite_are_the_worst_of_those_beside() -> None:
    losses = np.array([1.0, np.nan, -2.0, np.inf, -np.inf])
    np.testing.assert_array_equal(finite(losses), [1.0, 1.0, -2.0, 1.0, -2.0])
    with pytest.raises(FieldError, match="has a finite loss"):
        finite(np.array([np.nan, np.inf]))
