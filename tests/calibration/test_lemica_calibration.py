"""LeMiCa: every segment cached alone on real runs, written, read and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from otcache_policies import (
    BudgetError,
    LeMiCaPolicy,
    OutcomeTable,
    Schedule,
    Segment,
    budgeted_minimax_path,
    budgeted_shortest_path,
    caching_alone,
)
from otcache_registry import DocumentError, PolicyDocument, StoredPolicy
from small_calibration import Calibrated, calibrate_policy, task_of

from otcache_plugin.calibration.lemica import CACHING, LeMiCaCalibrator, LeMiCaOptions
from otcache_plugin.calibration.measuring.edges import edge_errors
from otcache_plugin.calibration.measuring.trajectories import record
from otcache_plugin.calibration.task import calibration_task
from otcache_plugin.errors import ArgumentError
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.outputs import generate_outputs
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.plugins.host import plugin_host

TOTAL, GAP, PAIRS = 12, 5, 3
SEGMENTS = [(i, j) for i in range(TOTAL) for j in range(i + 2, min(i + GAP, TOTAL - 1) + 1)]
STEPS_OF_SEGMENTS = sum(TOTAL - end for _, end in SEGMENTS)
OPTIONS = LeMiCaOptions(max_skip=GAP, pairs=PAIRS, budgets=(4, 6), default_budget=5)
"""Of the small calibration's four pairs, three in its first batch."""


def calibrated(setup: ModelSetup, folder: Path, **changes: Any) -> Calibrated:
    options = LeMiCaOptions(**{**OPTIONS.model_dump(), **changes})
    return calibrate_policy(setup, folder, task_of(options, LeMiCaCalibrator(), "lemica"))


@pytest.fixture(scope="module")
def lemica(
    make_setup: Callable[[], ModelSetup], tmp_path_factory: pytest.TempPathFactory
) -> Calibrated:
    return calibrated(make_setup(), tmp_path_factory.mktemp("lemica") / "work")


def policy_of(stored: StoredPolicy) -> LeMiCaPolicy:
    policy = plugin_host().policy_of(stored)
    assert isinstance(policy, LeMiCaPolicy)
    return policy


def outcomes(setup: ModelSetup, segments: list[Segment]) -> list[float]:
    """What each segment does to the last latents, in runs from the start."""
    pairs = setup.calibration_pairs(4, 1)[:PAIRS]
    evaluator = Evaluator(setup.pipe, pairs, {"num_inference_steps": TOTAL}, PAIRS)
    metric = plugin_host().metric("latent-l1")
    found = [evaluator.values(caching_alone(each, TOTAL), metric)[0] for each in segments]
    return [float(each.mean()) for each in found]


def test_the_table_is_of_runs_from_the_start_to_the_bit(
    lemica: Calibrated, setup: ModelSetup
) -> None:
    table = policy_of(lemica.stored).table
    expected = outcomes(setup, [Segment(start, end, 1) for start, end in SEGMENTS])
    np.testing.assert_array_equal(
        [table.errors[place] for place in SEGMENTS], np.array(expected, dtype=np.float32)
    )
    assert np.isinf(table.errors).sum() == TOTAL**2 - len(SEGMENTS) - (TOTAL - 1)
    assert table.look_backs is None


def test_a_run_begins_at_its_segment(lemica: Calibrated) -> None:
    """T - j steps of each, and what comes ahead of the very first, which has T - 2 to compute."""
    assert lemica.steps[CACHING] == PAIRS * (STEPS_OF_SEGMENTS + TOTAL - 2)
    assert lemica.steps["full runs to compare with"] == 4 * TOTAL
    assert lemica.stages.planned[CACHING] == lemica.steps[CACHING]
    assert lemica.stages.total[CACHING] == lemica.stages.done[CACHING] == len(SEGMENTS)
    assert lemica.document.calibration is not None
    assert lemica.document.calibration.denoising_steps == sum(
        lemica.steps[stage] for stage in (CACHING, "full runs to compare with")
    )


def test_its_document_gives_the_best_paths(lemica: Calibrated) -> None:
    document, policy = lemica.document, policy_of(lemica.stored)
    assert PolicyDocument.from_json(document.to_json()) == document
    assert (document.policy.name, document.default_budget) == ("lemica", 5)
    assert (policy.budgets.smallest, policy.budgets.largest) == (4, TOTAL)
    for budget in policy.budgets:
        path = budgeted_minimax_path(policy.table.errors, budget)
        assert policy.schedule(budget) == Schedule(path, TOTAL)
    assert plugin_host().describe(document).others == "minimax path"
    assert {(row.budget, row.policy) for row in document.evidence} == {
        (budget, name) for budget in (4, 6) for name in ("fewer-steps", "uniform", "lemica")
    }


def test_its_document_runs(lemica: Calibrated, setup: ModelSetup, tmp_path: Path) -> None:
    lemica.require_run_as_planned(setup.pipe, tmp_path / "lemica", 4)


def test_another_path_through_the_same_segments_costs_nothing(
    lemica: Calibrated, make_setup: Callable[[], ModelSetup]
) -> None:
    shortest = calibrated(make_setup(), lemica.folder, path="shortest")
    assert set(shortest.calls) <= {"evidence on held-out pairs"}
    policy = policy_of(shortest.stored)
    np.testing.assert_array_equal(policy.table.errors, policy_of(lemica.stored).table.errors)
    for budget in policy.budgets:
        path = budgeted_shortest_path(policy.table.errors, budget)
        assert policy.schedule(budget).computed_steps == path
    assert shortest.document.calibration is not None
    assert shortest.document.calibration.denoising_steps > 0


def test_the_average_velocity_looks_back_as_the_edge_table_has_it(
    make_setup: Callable[[], ModelSetup], setup: ModelSetup, tmp_path: Path
) -> None:
    changes = {"estimator": "average-velocity", "max_skip": 3, "budgets": (5,)}
    found = calibrated(make_setup(), tmp_path / "work", **changes)
    table = policy_of(found.stored).table
    assert table.look_backs is not None
    with record(setup.pipe, tmp_path / "recorded") as trajectory:
        pairs = setup.calibration_pairs(4, 1)[:PAIRS]
        generate_outputs(setup.pipe, pairs, {"num_inference_steps": TOTAL}, PAIRS)
    best = edge_errors(trajectory).mean(axis=0).argmin(axis=2) + 1
    places = [(start, end) for start, end in SEGMENTS if end - start <= 3]
    segments = [Segment(*place, int(best[place])) for place in places]
    assert [int(table.look_backs[place]) for place in places] == [
        each.look_back for each in segments
    ]
    assert len({each.look_back for each in segments}) > 1
    np.testing.assert_array_equal(
        [table.errors[place] for place in places],
        np.array(outcomes(setup, segments), dtype=np.float32),
    )
    path = budgeted_minimax_path(table.errors, 5)
    assert policy_of(found.stored).schedule(5) == table.schedule(path)


def too_long(tables: Any) -> dict[str, Any]:
    return {"errors": OutcomeTable(tables["errors"]).errors[:-1, :-1]}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda tables: {"errors": -tables["errors"]}, "tables.errors[0, 0]"),
        (too_long, "tables.errors"),
        (lambda tables: {"errors": tables["errors"].astype(np.float64)}, "tables.safetensors"),
        (lambda tables: {**tables, "sigmas": np.ones(3)}, "tables.safetensors"),
    ],
)
def test_tables_that_are_none(lemica: Calibrated, change: Any, field: str) -> None:
    with pytest.raises(DocumentError) as caught:
        plugin_host().policy_of(replace(lemica.stored, tables=change(lemica.stored.tables)))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("steps", "given", "gap"),
    [
        (50, {}, 20),
        (28, {}, 11),
        (12, {}, 11),
        (50, {"budgets": (3,)}, 25),
        (50, {"max_skip": 7}, 7),
    ],
)
def test_the_largest_gap_serves_every_budget(steps: int, given: Any, gap: int) -> None:
    """Two fifths of the steps; by hand, 3 of 50 steps are 49 / 2 apart, 2 of 12 steps 11."""
    options = LeMiCaOptions(**given)
    options.check(steps)
    assert options.max_gap(steps) == gap


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_skip": 6}, "max_skip=6: no 8 of 50 steps are that close together. Use 7 or more"),
        ({"max_skip": 50}, "max_skip=50: not from 2 to below the 50 steps"),
        ({"pairs": 0}, "pairs=0: below 1"),
        ({"budgets": "1"}, "budgets=.*not increasing from 2"),
        ({"path": "longest"}, "path='longest': Input should be 'minimax' or 'shortest'"),
        ({"estimator": "none"}, "estimator='none': Input should be 'reuse' or"),
    ],
)
def test_options_that_do_not_fit(given: dict[str, object], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        calibration_task("lemica", given, 50)
    with pytest.raises(BudgetError):
        calibration_task("lemica", {"default_budget": 51}, 50)


def test_too_few_pairs() -> None:
    with pytest.raises(ArgumentError, match=r"pairs=4: .* on 5 of them\. Use 5 or more, or --set"):
        LeMiCaCalibrator().check_pairs(LeMiCaOptions(), 4)
    assert LeMiCaCalibrator().usual_pairs(LeMiCaOptions(pairs=20)) == 20
