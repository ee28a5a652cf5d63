"""A whole calibration of a small exact flow: each of its choices, and what it writes down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from otcache_policies import FieldError, Schedule
from otcache_registry import (
    PolicyDocument,
    PolicyIdentity,
    read_policy,
    render_card,
    write_policy,
)
from small_calibration import SETTINGS, Calibrated, Stages, calibrate_flow, evidence_of, task_of
from stored_policies import otcache_of

import otcache_plugin
from otcache_plugin.calibration.calibrate import calibrate, manifest_of
from otcache_plugin.calibration.measuring.counting import count_transformer_calls
from otcache_plugin.calibration.measuring.edges import EdgeAccumulator, edge_errors
from otcache_plugin.calibration.measuring.facts import facts_of
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import LocalPool, NoPool
from otcache_plugin.calibration.measuring.trajectories import record
from otcache_plugin.calibration.measuring.workspace import Workspace
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.errors import ArgumentError, UnknownNameError
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.outputs import generate
from otcache_plugin.models.exact_flow import ExactFlowPipeline, ExactFlowSettings
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.plugins.host import plugin_host

FLOW = ExactFlowSettings(scenes=150)
RHOS = [0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3]
PSNR = plugin_host().metric("psnr")
ARGUMENTS = {"num_inference_steps": 12}


@pytest.fixture
def folder(calibrated: Calibrated, tmp_path: Path) -> Path:
    """The calibration's document written down."""
    document = calibrated.document
    write_policy(tmp_path / "policy", document, calibrated.result.tables, render_card(document))
    return tmp_path / "policy"


def test_the_document_says_what_was_done(calibrated: Calibrated) -> None:
    document = calibrated.document
    assert PolicyDocument.from_json(document.to_json()) == document
    assert document.policy == PolicyIdentity(name="otcache", distribution="otcache-plugin")
    assert (document.model.id, document.model.revision) == ("exact-flow", FLOW.revision)
    sampling = document.sampling
    assert (sampling.pipeline, sampling.scheduler) == (
        "ExactFlowPipeline",
        "FlowMatchEulerDiscreteScheduler",
    )
    assert (sampling.num_inference_steps, sampling.height, sampling.width) == (12, 32, 32)
    assert document.calibrated_budgets == (4, 6, 8)
    assert document.default_budget == 4  # 15 of 50 of 12 steps
    done = document.calibration
    assert (done.pairs, done.seed, done.metric, calibrated.search.trials) == (4, 1, "psnr", 20)
    assert (done.batch_size, calibrated.search.search, done.device) == (3, "joint", "cpu")
    assert done.prompts_digest == calibrated.setup.prompts_digest
    assert done.held_out_digest == calibrated.setup.held_out_digest
    pipe = calibrated.setup.pipe
    pipe("kind 7", num_inference_steps=12)
    np.testing.assert_allclose(sampling.sigmas, pipe.scheduler.sigmas.numpy(), rtol=1e-6)


def test_the_edge_table_is_that_of_the_full_runs(calibrated: Calibrated, tmp_path: Path) -> None:
    setup, accumulator = calibrated.setup, EdgeAccumulator()
    pairs = setup.calibration_pairs(4, seed=1)
    for number, batch in enumerate((pairs[:3], pairs[3:])):
        with record(setup.pipe, tmp_path / str(number)) as trajectory:
            generate(setup.pipe, batch, ARGUMENTS)
        accumulator.add(edge_errors(trajectory), trajectory.sigmas)
    table, edges = accumulator.table(), calibrated.edges
    np.testing.assert_array_equal(edges.velocity_errors, table.velocity_errors)
    np.testing.assert_array_equal(edges.sigmas, table.sigmas)
    assert edges.spread is not None
    np.testing.assert_array_equal(edges.spread, table.spread)


def test_the_calls_of_the_transformer_are_counted(calibrated: Calibrated) -> None:
    done, calls = calibrated.document.calibration, calibrated.calls
    assert done.transformer_calls == sum(calls.values()) > 100
    evidence = calibrated.steps["evidence on held-out pairs"]
    assert done.evidence_steps == evidence > 3 * 12
    assert done.denoising_steps == sum(calibrated.steps.values()) - evidence > 4 * 12
    # Each schedule ran on both batches of calibration pairs or on the one of held-out pairs.
    runs = len(list((calibrated.folder / "units").glob("evaluate-*")))
    assert done.evaluations < runs <= 2 * done.evaluations + 1


def test_the_steps_of_every_stage_are_told(calibrated: Calibrated) -> None:
    done, stages = calibrated.document.calibration, calibrated.stages
    assert done is not None
    assert sum(stages.steps.values()) == done.denoising_steps + done.evidence_steps
    assert stages.steps["evidence on held-out pairs"] == done.evidence_steps
    assert stages.steps_before == 0
    for stage, steps in stages.steps.items():
        assert steps <= stages.planned.get(stage, 0), stage


def test_every_stage_is_told_and_finishes(calibrated: Calibrated) -> None:
    stages = calibrated.stages
    assert list(stages.total) == [
        "recording full runs",
        "tuning the graph policy",
        "choosing the reference",
        "searching the anchor",
        "predicting 6 steps",
        "searching 6 steps",
        "choosing rho",
        "evidence on held-out pairs",
    ]
    assert all(0 < stages.done[stage] <= total for stage, total in stages.total.items())
    assert stages.done["recording full runs"] == stages.total["recording full runs"] == 2
    assert stages.total["evidence on held-out pairs"] == 1 + 5 * 4
    # Identical schedules are run once.
    schedules = evidence_of(calibrated.policy, range(4, 9))
    assert stages.done["evidence on held-out pairs"] == 1 + len(set(schedules.values()))
    # The trials of CMA-ES, and of three climbs two fifths as many each.
    for stage in ("searching the anchor", "searching 6 steps"):
        assert stages.done[stage] == stages.total[stage] == 20 + 3 * 8


def test_evidence_covers_the_budgets_once(calibrated: Calibrated) -> None:
    rows = calibrated.document.evidence
    assert [(row.budget, row.policy, row.metric) for row in rows] == [
        (budget, policy, metric)
        for budget in (4, 5, 6, 7, 8)
        for policy in ("fewer-steps", "uniform", "meancache", "otcache")
        for metric in ("psnr", "ssim")
    ]
    assert {row.pairs for row in rows} == {3}


def test_evidence_is_of_pairs_that_the_calibration_has_not_seen(
    calibrated: Calibrated, folder: Path
) -> None:
    setup, stored = calibrated.setup, read_policy(folder)
    held_out = Evaluator(setup.pipe, setup.held_out_pairs(3), ARGUMENTS)
    schedules = evidence_of(otcache_of(stored), range(4, 9))
    for row in calibrated.document.evidence:
        schedule = schedules[row.budget, row.policy]
        (values,) = held_out.values(schedule, plugin_host().metric(row.metric))
        assert row.mean == pytest.approx(values.mean(), rel=1e-5)


def test_the_document_accelerates_its_pipeline(pipe: ExactFlowPipeline, folder: Path) -> None:
    policy = otcache_of(read_policy(folder))
    assert list(policy.budgets) == list(range(4, 13))
    for budget in policy.budgets:
        otcache_plugin.enable_cache(pipe, policy=str(folder), budget=budget)
        pipe("kind 7", num_inference_steps=12, output_type="latent")
        report = otcache_plugin.summary(pipe)
        assert report.as_planned
        assert report.adaptation is None
        assert report.computed_steps == policy.schedule(budget).computed_steps
        assert report.look_backs == policy.schedule(budget).look_backs
        assert report.transformer_calls == budget
        assert report.revision == FLOW.revision
    otcache_plugin.enable_cache(pipe, policy=folder)
    pipe("kind 7", num_inference_steps=12, output_type="latent")
    assert len(otcache_plugin.summary(pipe).computed_steps) == 4


def test_predictions_inherit_the_look_backs_of_the_nearer_neighbour(
    calibrated: Calibrated,
) -> None:
    """In the middle between two budgets the larger one weighs more, by its logarithm."""
    policy = calibrated.policy
    for budget, nearer in ((5, policy.waypoints[0]), (7, policy.reference)):
        for segment in policy.schedule(budget).segments:
            middle = (segment.start + segment.end) / 2
            index = max(k for k, step in enumerate(nearer.computed_steps[:-1]) if step <= middle)
            assert segment.look_back == (nearer.look_backs[index] if segment.gap > 1 else 1)


def test_it_is_read_as_it_was_written(calibrated: Calibrated, folder: Path) -> None:
    stored, tables = read_policy(folder), calibrated.result.tables
    assert stored.document == calibrated.document
    assert stored.tables.keys() == tables.keys() == {"sigmas", "velocity_errors", "spread"}
    for name, table in tables.items():
        np.testing.assert_array_equal(stored.tables[name], table)


def test_the_pipeline_is_given_back(calibrated: Calibrated, pipe: ExactFlowPipeline) -> None:
    ours = calibrated.setup.pipe
    assert not {"step", "set_timesteps"} & set(vars(ours.scheduler))

    def draw(pipe: ExactFlowPipeline) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        latents: torch.Tensor = pipe("kind 7", generator=generator, output_type="latent").images
        return latents

    assert torch.equal(draw(ours), draw(pipe))
    assert not list(calibrated.folder.glob("scratch/*"))


def content(document: PolicyDocument) -> dict[str, Any]:
    """All that does not depend on when and how fast it was calibrated."""
    data = document.model_dump(by_alias=True)
    del data["calibration"]["seconds"], data["calibration"]["created"]
    return data


def test_the_seed_determines_the_document(
    calibrated: Calibrated, setup: ModelSetup, tmp_path: Path
) -> None:
    again = calibrate_flow(setup, tmp_path / "work").document
    assert content(again) == content(calibrated.document)


def test_from_the_working_folder_alone_it_is_the_same(calibrated: Calibrated) -> None:
    facts = facts_of(calibrated.setup)
    before = {path: path.read_bytes() for path in calibrated.folder.rglob("*.*")}
    with Workspace(calibrated.folder, manifest_of(facts, SETTINGS)) as workspace:
        measurements = Measurements(workspace, NoPool(), SETTINGS)
        again = Stages()
        result = calibrate(task_of(), facts, measurements, again)
    assert result.document == calibrated.document
    assert again.done == calibrated.stages.done
    assert again.steps == calibrated.stages.steps
    assert again.steps_before == sum(again.steps.values())
    assert {path: path.read_bytes() for path in calibrated.folder.rglob("*.*")} == before


def test_the_manifests_are_all_that_a_document_depends_on(calibrated: Calibrated) -> None:
    calibration = calibrated.document.calibration
    assert calibration is not None
    measured = json.loads((calibrated.folder / "calibration.json").read_text())
    assert set(measured) == {"created", "settings", "model"}
    assert set(measured["settings"]) == {
        *("num_inference_steps", "metric", "held_out_pairs"),
        *("seed", "batch_size", "threads", "mechanism"),
    }
    assert measured["settings"]["mechanism"] == {"executor": "velocity", "calibrator": None}
    assert measured["model"]["libraries"] == calibration.libraries
    assert set(measured["model"]["libraries"]) >= {"torch", "diffusers", "optuna", "cmaes"}
    policy = calibrated.folder / "policies" / "otcache-paper" / "calibration.json"
    decided = json.loads(policy.read_text())
    assert set(decided) == {
        *("created", "policy", "distribution", "options", "algorithm", "pairs"),
    }
    assert decided["created"] == calibration.created
    assert (decided["policy"], decided["distribution"]) == ("otcache", "otcache-plugin")
    assert decided["pairs"] == 4
    assert decided["options"] == {
        "effort": "paper",
        "budget_reference": 8,
        "budget_anchor": 4,
        "waypoints": [6],
        "default_budget": None,
        "search": "joint",
        "trials": 20,
        "patience": 50,
    }
    assert decided["algorithm"]["name"] == "climbs and rounds"
    assert decided["algorithm"]["settings"]["rounds"][0] == {"parts": 4, "half_width": 9.0}


def test_seeds_of_held_out_pairs_are_refused_before_anything_runs(setup: ModelSetup) -> None:
    settings = MeasuringSettings(seed=100)
    with pytest.raises(ArgumentError, match=r"seed=100: .*Use 0 … 99"):
        LocalPool(lambda: setup, settings, Path("unused"))


def test_an_unknown_metric_is_refused_before_anything_runs(
    setup: ModelSetup, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match="beauty"):
        calibrate_flow(setup, tmp_path / "work", MeasuringSettings(metric="beauty"))
    assert not list((tmp_path / "work" / "units").iterdir())


@pytest.fixture
def counting(pipe: ExactFlowPipeline) -> Iterator[Any]:
    with count_transformer_calls(pipe) as counter:
        yield counter


def test_only_calls_that_run_are_counted(pipe: ExactFlowPipeline, counting: Any) -> None:
    pipe(["kind 7", "kind 2"], num_inference_steps=6, output_type="latent")
    assert counting.calls == [1] * 6  # a batch counts once
    otcache_plugin.enable_cache(pipe, policy=Schedule([0, 2, 5], 6))
    pipe("kind 7", num_inference_steps=6, output_type="latent")
    assert counting.calls == [1] * (6 + 3)
    otcache_plugin.disable_cache(pipe)


def test_counting_ends_with_the_block(pipe: ExactFlowPipeline) -> None:
    with pytest.raises(FieldError), count_transformer_calls(pipe) as counter:
        pipe("nothing the flow knows")
    pipe("kind 7", num_inference_steps=3, output_type="latent")
    assert counter.calls == []
