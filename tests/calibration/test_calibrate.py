"""A whole calibration of a small exact flow, and the settings that it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from otcache_policies import BudgetError, EdgeSettings, FieldError, MeanCachePolicy, Schedule
from otcache_registry import PolicyDocument, read_policy, render_card, write_policy
from small_calibration import SETTINGS, Calibrated, Stages, calibrate_flow

import otcache_plugin
from otcache_plugin.calibration.calibrate import calibrate, manifest_of
from otcache_plugin.calibration.evidence import evidence_schedules
from otcache_plugin.calibration.measurements import Measurements
from otcache_plugin.calibration.pooling import pooled
from otcache_plugin.calibration.pools import LocalPool, NoPool
from otcache_plugin.calibration.recording import EdgeAccumulator, edge_errors, record
from otcache_plugin.calibration.settings import AnchorSettings, CalibrationSettings
from otcache_plugin.calibration.worker import count_transformer_calls, facts_of
from otcache_plugin.calibration.workspace import Workspace
from otcache_plugin.errors import ArgumentError, UnknownNameError
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.metrics import metric_named
from otcache_plugin.evaluation.pairs import generate
from otcache_plugin.models.exact_flow import ExactFlowPipeline, ExactFlowSettings
from otcache_plugin.models.setups import ModelSetup

FLOW = ExactFlowSettings(scenes=150)
PSNR = metric_named("psnr")
ARGUMENTS = {"num_inference_steps": 12}


@pytest.fixture
def folder(calibrated: Calibrated, tmp_path: Path) -> Path:
    """The calibration's document written down."""
    document = calibrated.document
    write_policy(tmp_path / "policy", document, calibrated.result.edges, render_card(document))
    return tmp_path / "policy"


def graph_of(calibrated: Calibrated) -> MeanCachePolicy:
    settings: EdgeSettings = calibrated.document.graph.edge_settings()
    return MeanCachePolicy(calibrated.result.edges, settings)


def losses(calibrated: Calibrated, *schedules: Schedule) -> list[float]:
    """Of whole runs on the calibration pairs, in the calibration's batches."""
    settings, setup = calibrated.settings, calibrated.setup
    pairs = setup.calibration_pairs(settings.pairs, settings.seed)
    arguments = {"num_inference_steps": settings.num_inference_steps}
    evaluator = Evaluator(setup.pipe, pairs, arguments, settings.batch_size)
    return [-pooled(evaluator.values(schedule, PSNR)[0]) for schedule in schedules]


def test_the_document_says_what_was_done(calibrated: Calibrated) -> None:
    document = calibrated.document
    assert PolicyDocument.from_json(document.to_json()) == document
    assert document.name == "otcache"
    assert (document.model.id, document.model.revision) == ("exact-flow", FLOW.revision)
    sampling = document.sampling
    assert (sampling.pipeline, sampling.scheduler) == (
        "ExactFlowPipeline",
        "FlowMatchEulerDiscreteScheduler",
    )
    assert (sampling.num_inference_steps, sampling.height, sampling.width) == (12, 32, 32)
    assert (document.anchor.budget, document.reference.budget) == (4, 7)
    assert document.default_budget == 4  # 15 of 50 of 12 steps
    done = document.calibration
    assert (done.pairs, done.seed, done.metric, done.trials) == (4, 1, "psnr", 30)
    assert (done.batch_size, done.search, done.device) == (3, "joint", "cpu")
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
    table, edges = accumulator.table(), calibrated.result.edges
    np.testing.assert_array_equal(edges.velocity_errors, table.velocity_errors)
    np.testing.assert_array_equal(edges.sigmas, table.sigmas)
    assert edges.spread is not None
    np.testing.assert_array_equal(edges.spread, table.spread)


def test_the_calls_of_the_transformer_are_counted(calibrated: Calibrated) -> None:
    done, calls = calibrated.document.calibration, calibrated.calls
    assert done.transformer_calls == sum(calls.values()) > 100
    # Each schedule ran on both batches of calibration pairs or on the one of held-out pairs.
    runs = len(list((calibrated.folder / "units").glob("evaluate-*")))
    assert done.evaluations < runs <= 2 * done.evaluations + 1


def test_every_stage_is_told_and_finishes(calibrated: Calibrated) -> None:
    stages = calibrated.stages
    assert list(stages.total) == [
        "recording full runs",
        "tuning the graph policy",
        "searching the anchor",
        "choosing anchor, reference, rho",
        "improving what is predicted",
        "the anchor's look-backs",
        "evidence on held-out pairs",
    ]
    assert all(0 < stages.done[stage] <= total for stage, total in stages.total.items())
    for stage, total in (("recording full runs", 2), ("evidence on held-out pairs", 1 + 4 * 4)):
        assert stages.done[stage] == stages.total[stage] == total


def test_the_graph_policy_is_the_best_on_the_calibration_pairs(calibrated: Calibrated) -> None:
    def mean(settings: EdgeSettings) -> float:
        policy = MeanCachePolicy(calibrated.result.edges, settings)
        found: float = np.mean(losses(calibrated, *map(policy.schedule, (4, 5, 6))))
        return found

    chosen = calibrated.document.graph.edge_settings()
    others = [EdgeSettings("velocity", 1.0, 1), EdgeSettings("displacement", 2.0)]
    assert all(mean(chosen) <= mean(other) + 1e-6 for other in others)


def test_the_anchor_is_no_worse_than_the_graph_policy(calibrated: Calibrated) -> None:
    warm_start = graph_of(calibrated).schedule(4)
    anchor, started = losses(calibrated, calibrated.document.anchor_schedule, warm_start)
    assert anchor <= started + 1e-6


def test_the_history_begins_at_the_warm_start_and_never_rises(calibrated: Calibrated) -> None:
    history = calibrated.document.calibration.history
    (started,) = losses(calibrated, graph_of(calibrated).schedule(4))
    assert history[0] == pytest.approx(started, rel=1e-6)
    assert list(history) == sorted(history, reverse=True)
    # One loss after each trial for the steps, and one after each round's look-backs.
    assert len(history) == 1 + 30 + 3


def test_the_reference_is_a_graph_policys(calibrated: Calibrated) -> None:
    edges = calibrated.result.edges
    candidates = [
        MeanCachePolicy(edges, EdgeSettings(cost, gamma, look_back)).schedule(7)
        for cost in ("velocity", "displacement")
        for gamma in (1.0, 2.0, 4.0)
        for look_back in (None, 1, 2, 3)
    ]
    assert calibrated.document.reference_schedule in candidates


def test_the_journal_has_every_search(calibrated: Calibrated) -> None:
    storage = JournalStorage(JournalFileBackend(str(calibrated.folder / "trials.log")))
    names = optuna.get_all_study_names(storage)
    assert names[:2] == ["joint, steps 1", "joint, look-backs 1"]
    assert names[-2:] == ["improving what is predicted", "the anchor's look-backs"]
    done = calibrated.stages.done
    for name in names[-2:]:
        study = optuna.load_study(study_name=name, storage=storage)
        assert len(study.trials) == done[name]


def test_evidence_covers_the_budgets_once(calibrated: Calibrated) -> None:
    rows = calibrated.document.evidence
    assert [(row.budget, row.policy, row.metric) for row in rows] == [
        (budget, policy, metric)
        for budget in (4, 5, 6, 7)
        for policy in ("fewer-steps", "uniform", "meancache", "otcache")
        for metric in ("psnr", "ssim")
    ]
    assert {row.pairs for row in rows} == {3}


def test_evidence_is_of_pairs_that_the_calibration_has_not_seen(
    calibrated: Calibrated, folder: Path
) -> None:
    setup, stored = calibrated.setup, read_policy(folder)
    held_out = Evaluator(setup.pipe, setup.held_out_pairs(3), ARGUMENTS)
    schedules = evidence_schedules(stored.otcache_policy(), stored.meancache_policy(), (4, 5, 6, 7))
    for row in calibrated.document.evidence:
        schedule = schedules[row.budget, row.policy]
        (values,) = held_out.values(schedule, metric_named(row.metric))
        assert row.mean == pytest.approx(values.mean(), rel=1e-5)


def test_the_document_accelerates_its_pipeline(pipe: ExactFlowPipeline, folder: Path) -> None:
    policy = read_policy(folder).otcache_policy()
    assert list(policy.budgets) == list(range(4, 13))
    for budget in policy.budgets:
        otcache_plugin.enable_cache(pipe, policy=str(folder), budget=budget)
        pipe("kind 7", num_inference_steps=12, output_type="latent")
        report = otcache_plugin.summary(pipe)
        assert report.as_planned
        assert not report.transferred
        assert report.computed_steps == policy.schedule(budget).computed_steps
        assert report.look_backs == policy.schedule(budget).look_backs
        assert report.transformer_calls == budget
        assert report.revision == FLOW.revision
    otcache_plugin.enable_cache(pipe, policy=folder)
    pipe("kind 7", num_inference_steps=12, output_type="latent")
    assert len(otcache_plugin.summary(pipe).computed_steps) == 4


def test_predictions_inherit_the_look_backs_of_the_document(
    calibrated: Calibrated, folder: Path
) -> None:
    document, policy = calibrated.document, read_policy(folder).otcache_policy()
    assert document.look_backs is not None
    steps = document.anchor.computed_steps
    for budget in (5, 6):
        for segment in policy.schedule(budget).segments:
            middle = (segment.start + segment.end) / 2
            index = max(number for number, step in enumerate(steps[:-1]) if step <= middle)
            assert segment.look_back == (document.look_backs[index] if segment.gap > 1 else 1)


def test_it_is_read_as_it_was_written(calibrated: Calibrated, folder: Path) -> None:
    stored, edges = read_policy(folder), calibrated.result.edges
    assert stored.document == calibrated.document
    np.testing.assert_array_equal(stored.edges.velocity_errors, edges.velocity_errors)
    np.testing.assert_array_equal(stored.edges.spread, edges.spread)


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
        result = calibrate(facts, SETTINGS, workspace, measurements, Stages())
    assert result.document == calibrated.document
    assert {path: path.read_bytes() for path in calibrated.folder.rglob("*.*")} == before


def test_the_manifest_is_all_that_a_document_depends_on(calibrated: Calibrated) -> None:
    manifest = json.loads((calibrated.folder / "calibration.json").read_text())
    assert set(manifest) == {"created", "settings", "model"}
    assert manifest["created"] == calibrated.document.calibration.created
    assert manifest["settings"]["anchor"]["trials"] == 30
    assert manifest["model"]["libraries"] == calibrated.document.calibration.libraries
    assert set(manifest["model"]["libraries"]) >= {"torch", "diffusers", "optuna", "cmaes"}


@pytest.fixture(scope="module")
def per_pair(
    make_setup: Callable[[], ModelSetup], tmp_path_factory: pytest.TempPathFactory
) -> Calibrated:
    """A calibration that searches for every pair on its own."""
    settings = replace(SETTINGS, anchor=AnchorSettings(trials=15, kind="per-pair"))
    return calibrate_flow(make_setup(), tmp_path_factory.mktemp("per-pair") / "work", settings)


def test_a_search_of_every_pair(per_pair: Calibrated) -> None:
    document, stages = per_pair.document, per_pair.stages
    assert document.calibration.search == "per-pair"
    assert document.calibration.transformer_calls == sum(per_pair.calls.values())
    assert stages.done["searching the anchor"] <= 4 * (15 + 3 * 3)
    assert stages.done["pooling what the pairs found"] > 0
    warm_start = graph_of(per_pair).schedule(4)
    anchor, started = losses(per_pair, document.anchor_schedule, warm_start)
    assert anchor <= started + 1e-6
    storage = JournalStorage(JournalFileBackend(str(per_pair.folder / "trials.log")))
    names = set(optuna.get_all_study_names(storage))
    assert {f"pair {pair}, steps {number}" for pair in range(4) for number in (1, 2, 3)} < names


def test_the_history_of_every_pair_is_their_mean(per_pair: Calibrated) -> None:
    history = per_pair.document.calibration.history
    setup, warm_start = per_pair.setup, graph_of(per_pair).schedule(4)
    pairs = setup.calibration_pairs(4, seed=1)
    values = [
        Evaluator(setup.pipe, [each], ARGUMENTS).values(warm_start, PSNR)[0] for each in pairs
    ]
    assert history[0] == pytest.approx(-np.mean(values), rel=1e-5)
    assert len(history) == 1 + 15 + 3
    assert list(history) == sorted(history, reverse=True)


def test_neighbouring_budgets_give_evidence_once(setup: ModelSetup, tmp_path: Path) -> None:
    settings = CalibrationSettings(
        num_inference_steps=5,
        budget_reference=4,
        budget_anchor=3,
        default_budget=5,
        metric="mse",
        pairs=1,
        held_out_pairs=2,
        anchor=AnchorSettings(trials=3),
    )
    document = calibrate_flow(setup, tmp_path / "work", settings).document
    assert document.default_budget == 5
    assert [(row.budget, row.metric) for row in document.evidence if row.policy == "otcache"] == [
        (budget, metric) for budget in (3, 4) for metric in ("mse", "psnr", "ssim")
    ]


def test_the_smallest_calibration_without_any_trial(setup: ModelSetup, tmp_path: Path) -> None:
    settings = CalibrationSettings(
        num_inference_steps=4,
        budget_reference=3,
        budget_anchor=2,
        metric="latent-mse",
        pairs=1,
        held_out_pairs=2,
        batch_size=1,
        anchor=AnchorSettings(trials=0),
    )
    calibrated = calibrate_flow(setup, tmp_path / "work", settings)
    document, warm_start = calibrated.document, graph_of(calibrated).schedule(2)
    assert document.anchor_schedule == warm_start
    assert document.default_budget == 2
    assert len(document.calibration.history) == 1
    assert {row.metric for row in document.evidence} == {"latent-mse", "psnr", "ssim"}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"budget_reference": 50}, "budget_reference", "not from 3 to below the 50 steps"),
        ({"budget_reference": 2}, "budget_reference", "not from 3"),
        ({"num_inference_steps": 12}, "budget_reference", "below the 12 steps"),
        ({"budget_anchor": 20}, "budget_anchor", "not from 2 to below the reference's 20"),
        ({"budget_anchor": 1}, "budget_anchor", "not from 2"),
        ({"default_budget": 7}, "default_budget", "Use 8 … 50"),
        ({"default_budget": 51}, "default_budget", "above the number of steps"),
    ],
)
def test_budgets_that_make_no_policy(changes: dict[str, int], field: str, words: str) -> None:
    with pytest.raises(BudgetError, match=words) as caught:
        CalibrationSettings(**changes)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [("pairs", 0), ("held_out_pairs", 1), ("batch_size", 0), ("threads", 0), ("seed", -1)],
)
def test_settings_that_measure_nothing(field: str, value: int) -> None:
    with pytest.raises(ArgumentError, match=f"{field}={value}: below"):
        CalibrationSettings(**{field: value})  # type: ignore[arg-type]


def test_seeds_of_held_out_pairs_are_refused_before_anything_runs(setup: ModelSetup) -> None:
    settings = CalibrationSettings(seed=100)
    with pytest.raises(ArgumentError, match=r"seed=100: .*Use 0 … 99"):
        LocalPool(lambda: setup, settings, Path("unused"))


def test_an_unknown_metric_is_refused_before_anything_runs(
    setup: ModelSetup, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match="beauty"):
        calibrate_flow(setup, tmp_path / "work", CalibrationSettings(metric="beauty"))
    assert not list((tmp_path / "work" / "units").iterdir())


@pytest.fixture
def counting(pipe: ExactFlowPipeline) -> Iterator[Any]:
    with count_transformer_calls(pipe) as counter:
        yield counter


def test_only_calls_that_run_are_counted(pipe: ExactFlowPipeline, counting: Any) -> None:
    pipe(["kind 7", "kind 2"], num_inference_steps=6, output_type="latent")
    assert counting.calls == 6  # a batch counts once
    otcache_plugin.enable_cache(pipe, policy=Schedule([0, 2, 5], 6))
    pipe("kind 7", num_inference_steps=6, output_type="latent")
    assert counting.calls == 6 + 3
    otcache_plugin.disable_cache(pipe)


def test_counting_ends_with_the_block(pipe: ExactFlowPipeline) -> None:
    with pytest.raises(FieldError), count_transformer_calls(pipe) as counter:
        pipe("nothing the flow knows")
    pipe("kind 7", num_inference_steps=3, output_type="latent")
    assert counter.calls == 0
