"""The choices of whole calibrations, each the best of what there was to choose from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_calibration import OPTIONS, Calibrated, calibrate_flow

from otcache_plugin.calibration.measuring.units import Evaluate, unit_key
from otcache_plugin.calibration.searching.hill_climbing import all_coordinates
from otcache_plugin.calibration.settings import MeasuringSettings, OTCacheOptions
from otcache_plugin.evaluation.batches import batches_of
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.plugins.host import plugin_host

PSNR = plugin_host().metric("psnr")
RHOS = [0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3]
PARTS = ["climb 1", "round 1", "climb 2", "round 2", "climb 3"]
"""Of every search."""


def test_the_graph_policy_is_the_best_at_what_is_searched(calibrated: Calibrated) -> None:
    means = {
        policy.settings: np.mean(calibrated.losses(policy.schedule(4), policy.schedule(6)))
        for policy in calibrated.readings
    }
    chosen = calibrated.graph.settings
    assert means[chosen] <= min(means.values()) + 1e-6
    assert len(set(means.values())) > 1


def test_the_reference_is_the_best_of_the_graph_policys(calibrated: Calibrated) -> None:
    candidates = [policy.schedule(8) for policy in calibrated.readings]
    reference = calibrated.policy.reference
    (chosen,) = calibrated.losses(reference)
    assert reference in candidates
    assert chosen <= min(calibrated.losses(*candidates)) + 1e-6


def test_the_anchors_search_begins_at_the_best_of_the_graph_policys(
    calibrated: Calibrated,
) -> None:
    history = calibrated.search.history
    started = min(calibrated.losses(*(each.schedule(4) for each in calibrated.readings)))
    assert history[0] == pytest.approx(started, rel=1e-6)
    assert list(history) == sorted(history, reverse=True)
    assert len(history) == 1 + 20 + 3 * 8
    (anchor,) = calibrated.losses(calibrated.policy.anchor)
    assert history[-1] == pytest.approx(anchor, rel=1e-6)


def test_a_waypoints_search_begins_at_the_best_of_predictions_and_graph_policys(
    calibrated: Calibrated,
) -> None:
    edges = calibrated.edges
    (waypoint,) = calibrated.policy.waypoints
    predictions = [replace(calibrated.policy, waypoints=(), rho=rho).schedule(6) for rho in RHOS]
    starts = [*predictions, *(policy.schedule(6) for policy in calibrated.readings)]
    assert len(set(predictions)) > 1
    assert len(set(starts)) > len(set(predictions))
    found = calibrated.losses(*starts)
    assert calibrated.losses(waypoint)[0] <= min(found) + 1e-6
    # All of them were run on both batches, and what is tried first is beside the best.
    units = {path.stem for path in (calibrated.folder / "units").iterdir()}
    batches = batches_of("calibration", 4, 3)
    run = {Evaluate(batch, each, ("psnr",)) for batch in batches for each in starts}
    assert set(map(unit_key, run)) <= units
    start = starts[int(np.argmin(found))]
    first = all_coordinates(start, edges.max_look_back)[0](start)[0]
    tried = calibrated.studies["6 steps, climb 1"].trials[0].user_attrs["state"]
    assert tried == repr((first.computed_steps, first.look_backs))


def test_rho_is_the_best_for_what_is_predicted(calibrated: Calibrated) -> None:
    policies = {rho: replace(calibrated.policy, rho=rho) for rho in RHOS}
    means = {
        rho: np.mean(calibrated.losses(policy.schedule(5), policy.schedule(7)))
        for rho, policy in policies.items()
    }
    assert means[calibrated.policy.rho] <= min(means.values()) + 1e-6
    assert len(set(means.values())) > 1


def test_the_journal_has_every_search(calibrated: Calibrated) -> None:
    studies = calibrated.studies
    names = ("the anchor", "6 steps")
    assert list(studies) == [f"{name}, {part}" for name in names for part in PARTS]
    for name in names:
        tried = [len(studies[f"{name}, {part}"].trials) for part in PARTS]
        assert tried == [8, 1 + 10, 8, 1 + 10, 8]  # A round has its centre too.


@pytest.fixture(scope="module")
def per_pair(
    make_setup: Callable[[], ModelSetup], tmp_path_factory: pytest.TempPathFactory
) -> Calibrated:
    """A calibration that searches for every pair on its own, and for the anchor only."""
    options = OPTIONS.model_copy(update={"waypoints": (), "trials": 10, "search": "per-pair"})
    folder = tmp_path_factory.mktemp("per-pair") / "work"
    return calibrate_flow(make_setup(), folder, options=options)


def test_a_search_of_every_pair(per_pair: Calibrated) -> None:
    document, stages = per_pair.document, per_pair.stages
    assert per_pair.search.search == "per-pair"
    assert document.calibration.transformer_calls == sum(per_pair.calls.values())
    assert stages.done["searching the anchor"] == 4 * (10 + 3 * 4)
    assert stages.done["pooling the anchor"] > 0
    starts = [policy.schedule(4) for policy in per_pair.readings]
    (anchor,) = per_pair.losses(per_pair.policy.anchor)
    assert anchor <= min(per_pair.losses(*starts)) + 1e-6
    names = {f"the anchor, pair {pair}, {part}" for pair in range(4) for part in PARTS}
    assert set(per_pair.studies) == names


def test_the_history_of_every_pair_is_their_mean(per_pair: Calibrated) -> None:
    history = per_pair.search.history
    setup, starts = per_pair.setup, [policy.schedule(4) for policy in per_pair.readings]
    warm_start = starts[int(np.argmin(per_pair.losses(*starts)))]
    values = [
        Evaluator(setup.pipe, [each], {"num_inference_steps": 12}).values(warm_start, PSNR)[0]
        for each in setup.calibration_pairs(4, seed=1)
    ]
    assert history[0] == pytest.approx(-np.mean(values), rel=1e-5)
    assert len(history) == 1 + 10 + 3 * 4
    assert list(history) == sorted(history, reverse=True)


def test_without_waypoints_all_between_is_predicted(per_pair: Calibrated) -> None:
    document, policy = per_pair.document, per_pair.policy
    assert policy.waypoints == ()
    assert [stage for stage in per_pair.stages.total if "steps" in stage] == []
    # rho is chosen at 6 steps, in the middle.
    found = [per_pair.losses(replace(policy, rho=rho).schedule(6))[0] for rho in RHOS]
    assert found[RHOS.index(policy.rho)] <= min(found) + 1e-6
    assert [row.budget for row in document.evidence if row.policy == "otcache"] == [
        budget for budget in (4, 6, 8) for _ in ("psnr", "ssim")
    ]


def test_without_trials_every_schedule_is_the_best_start(setup: ModelSetup, tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"waypoints": (5, 6), "trials": 0})
    calibrated = calibrate_flow(setup, tmp_path / "work", options=options)
    document, policy = calibrated.document, calibrated.policy
    assert document.calibrated_budgets == (4, 5, 6, 8)
    assert len(calibrated.search.history) == 1
    for number, waypoint in enumerate(policy.waypoints):
        # Predicted from all that is smaller, and from the reference.
        before = replace(policy, waypoints=policy.waypoints[:number])
        starts = [replace(before, rho=rho).schedule(waypoint.budget) for rho in RHOS]
        starts += [each.schedule(waypoint.budget) for each in calibrated.readings]
        assert waypoint in starts
        assert calibrated.losses(waypoint)[0] <= min(calibrated.losses(*starts)) + 1e-6


def test_neighbouring_budgets_give_evidence_once(setup: ModelSetup, tmp_path: Path) -> None:
    settings = MeasuringSettings(num_inference_steps=5, metric="mse", pairs=1, held_out_pairs=2)
    options = OTCacheOptions(
        effort="paper",
        search="joint",
        budget_reference=4,
        budget_anchor=3,
        default_budget=5,
        trials=3,
    )
    document = calibrate_flow(setup, tmp_path / "work", settings, options).document
    assert document.default_budget == 5
    assert [(row.budget, row.metric) for row in document.evidence if row.policy == "otcache"] == [
        (budget, metric) for budget in (3, 4) for metric in ("mse", "psnr", "ssim")
    ]


def test_the_smallest_calibration_without_any_trial(setup: ModelSetup, tmp_path: Path) -> None:
    settings = MeasuringSettings(
        num_inference_steps=4, metric="latent-mse", pairs=1, held_out_pairs=2, batch_size=1
    )
    options = OTCacheOptions(
        effort="paper", search="joint", budget_reference=3, budget_anchor=2, trials=0
    )
    calibrated = calibrate_flow(setup, tmp_path / "work", settings, options)
    document = calibrated.document
    starts = [policy.schedule(2) for policy in calibrated.readings]
    assert calibrated.policy.anchor in starts
    assert calibrated.policy.rho == 1.0  # There is nothing to predict.
    assert "choosing rho" not in calibrated.calls
    assert document.default_budget == 2
    assert len(calibrated.search.history) == 1
    assert {row.metric for row in document.evidence} == {"latent-mse", "psnr", "ssim"}
