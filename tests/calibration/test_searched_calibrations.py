"""BudCache and direct search: calibrated on the small flow, written, read and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from otcache_policies import BudgetError, Schedule, SearchedPolicy
from otcache_registry import DocumentError, PolicyDocument, StoredPolicy
from small_calibration import SETTINGS, Calibrated, calibrate_policy, task_of

from otcache_plugin.calibration import budcache
from otcache_plugin.calibration.budcache import BudCacheCalibrator
from otcache_plugin.calibration.direct import DirectCalibrator, DirectOptions
from otcache_plugin.calibration.meancache import MeanCacheCalibrator
from otcache_plugin.calibration.searched import SearchedCalibrator, SearchedOptions
from otcache_plugin.calibration.searching import annealing
from otcache_plugin.calibration.settings import MeanCacheOptions
from otcache_plugin.calibration.task import calibration_task
from otcache_plugin.errors import ArgumentError
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.plugins.host import plugin_host

TOTAL, BUDGETS = 12, (4, 6)
SHORT = 12
"""Iterations of an annealing here."""


def calibrated(
    setup: ModelSetup, folder: Path, policy: str, calibrator: SearchedCalibrator, **changes: Any
) -> Calibrated:
    options = calibrator.options(budgets=BUDGETS, **changes)
    return calibrate_policy(setup, folder, task_of(options, calibrator, policy))


@pytest.fixture(scope="module")
def annealed(
    make_setup: Callable[[], ModelSetup], tmp_path_factory: pytest.TempPathFactory
) -> Calibrated:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(annealing, "ITERATIONS", SHORT)
        folder = tmp_path_factory.mktemp("budcache") / "work"
        return calibrated(make_setup(), folder, "budcache", BudCacheCalibrator())


@pytest.fixture(scope="module")
def direct(
    make_setup: Callable[[], ModelSetup], tmp_path_factory: pytest.TempPathFactory
) -> Calibrated:
    folder = tmp_path_factory.mktemp("direct") / "work"
    return calibrated(make_setup(), folder, "direct", DirectCalibrator(), trials=8)


def policy_of(stored: StoredPolicy) -> SearchedPolicy:
    policy = plugin_host().policy_of(stored)
    assert isinstance(policy, SearchedPolicy)
    return policy


def moved_once(schedule: Schedule) -> list[Schedule]:
    """Every schedule with one inner step moved by up to three, segments looking back two."""
    steps, last = set(schedule.computed_steps), TOTAL - 1
    moved = [
        sorted(steps - {old} | {new})
        for old in steps - {0, last}
        for new in set(range(max(1, old - 3), min(last, old + 4))) - steps
    ]
    return [Schedule(each, TOTAL, [min(2, gap) for gap in np.diff(each)]) for each in moved]


def test_no_single_move_has_a_smaller_error_of_latents(
    annealed: Calibrated, setup: ModelSetup
) -> None:
    """Whatever the calibration's own metric is: here it is the pictures' PSNR."""
    metric = plugin_host().metric("latent-mse")
    pairs = setup.calibration_pairs(SETTINGS.pairs, SETTINGS.seed)
    arguments = {"num_inference_steps": TOTAL}
    evaluator = Evaluator(setup.pipe, pairs, arguments, SETTINGS.batch_size)
    found = policy_of(annealed.stored).schedule(4)
    error = evaluator.loss(found, metric)
    assert error <= min(evaluator.loss(each, metric) for each in moved_once(found))
    assert annealed.document.calibration is not None
    assert annealed.document.calibration.metric == "psnr"


def test_its_trials_are_kept(annealed: Calibrated) -> None:
    studies = annealed.studies
    assert set(studies) == {"4 steps", "6 steps"}
    told = annealed.stages.done[budcache.SEARCHING]
    assert told == sum(len(study.trials) for study in studies.values())
    policy = policy_of(annealed.stored)
    for budget in BUDGETS:
        best, schedule = studies[f"{budget} steps"].best_trial, policy.schedule(budget)
        assert best.user_attrs["state"] == repr((schedule.computed_steps, schedule.look_backs))


def test_a_direct_search_is_never_worse_than_the_graph_policys_best(
    direct: Calibrated, make_setup: Callable[[], ModelSetup]
) -> None:
    """In the same folder, what was run of the graph policy is not run again."""
    task = task_of(MeanCacheOptions(budgets=BUDGETS), MeanCacheCalibrator(), "meancache")
    graph = calibrate_policy(make_setup(), direct.folder, task)
    assert set(graph.steps) <= {"evidence on held-out pairs"}
    policy = policy_of(direct.stored)
    for budget in BUDGETS:
        readings = [each.schedule(budget) for each in graph.readings]
        found, *others = direct.losses(policy.schedule(budget), *readings)
        assert found <= min(others)
    assert {"searching 4 steps", "searching 6 steps"} < set(direct.stages.total)
    assert {f"{budget} steps, climb 1" for budget in BUDGETS} < set(direct.studies)


@pytest.mark.parametrize("name", ["annealed", "direct"])
def test_their_documents(
    name: str, setup: ModelSetup, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    found: Calibrated = request.getfixturevalue(name)
    document, policy = found.document, policy_of(found.stored)
    assert PolicyDocument.from_json(document.to_json()) == document
    assert (document.policy.name, document.calibrated_budgets) == (found.task.policy, BUDGETS)
    assert (document.tables_sha256, document.default_budget) == (None, 4)
    assert {(row.budget, row.policy) for row in document.evidence} == {
        (budget, each) for budget in BUDGETS for each in ("fewer-steps", "uniform", policy.name)
    }
    described = plugin_host().describe(document)
    assert described.others == "predicted"
    assert described.schedules == tuple(("searched", policy.schedule(budget)) for budget in BUDGETS)
    found.require_run_as_planned(setup.pipe, tmp_path / "policy", 5)


@pytest.mark.parametrize("name", ["annealed", "direct"])
def test_no_stage_takes_more_than_was_planned(name: str, request: pytest.FixtureRequest) -> None:
    found: Calibrated = request.getfixturevalue(name)
    assert set(found.steps) <= set(found.stages.planned)
    for stage, steps in found.steps.items():
        assert steps <= found.stages.planned[stage]


def test_a_document_whose_budgets_do_not_increase(annealed: Calibrated) -> None:
    schedules = annealed.document.parameters["schedules"]
    changed = annealed.document.model_copy(update={"parameters": {"schedules": schedules[::-1]}})
    with pytest.raises(DocumentError) as caught:
        plugin_host().policy_of(replace(annealed.stored, document=changed))
    assert caught.value.field == "parameters.schedules"


@pytest.mark.parametrize("policy", ["budcache", "direct"])
def test_options_that_do_not_fit(policy: str) -> None:
    with pytest.raises(BudgetError, match=r"default_budget=9: .* Use 4 … 6"):
        calibration_task(policy, {"budgets": (4, 6), "default_budget": 9}, 12)
    with pytest.raises(ArgumentError, match="budgets="):
        calibration_task(policy, {"budgets": (6, 4)}, 12)
    with pytest.raises(ArgumentError, match="trials=-1"):
        DirectOptions(trials=-1).check(50)
    SearchedOptions(budgets=(4, 6), default_budget=12).check(12)
