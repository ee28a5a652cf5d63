"""Calibrations of every effort in one folder, each going on from the one before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from otcache_policies import Schedule
from otcache_policies.displacement import Candidates
from otcache_registry import PolicyDocument, read_policy, render_card, write_policy
from safetensors import safe_open
from small_calibration import SETTINGS, Calibrated, Stages, calibrate_flow, task_of
from stored_policies import HOST, otcache_of

import otcache_plugin
from otcache_plugin.calibration.calibrate import calibrate, manifest_of
from otcache_plugin.calibration.context import MeasuredContext
from otcache_plugin.calibration.cost import stage_costs
from otcache_plugin.calibration.measuring.facts import facts_of
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import NoPool
from otcache_plugin.calibration.measuring.units import Evaluate, unit_key
from otcache_plugin.calibration.measuring.workspace import Workspace
from otcache_plugin.calibration.racing.plan import RacePlan
from otcache_plugin.calibration.racing.verdict import verdict_of
from otcache_plugin.calibration.searching.graph_and_rho import graph_candidates
from otcache_plugin.calibration.searching.journal import TrialJournal
from otcache_plugin.calibration.settings import MAX_LOOK_BACK, OTCacheOptions
from otcache_plugin.errors import ArgumentError
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.models.exact_flow import ExactFlowPipeline
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.parameters.otcache import OTCacheParameters
from otcache_plugin.plugins.host import plugin_host

BUDGETS = range(4, 8)
FEW = replace(SETTINGS, pairs=8, batch_size=4)
"""Two batches of calibration pairs, and one of held-out ones."""

ENOUGH = replace(FEW, pairs=16)
"""Four, the first two as before."""

PLAN = RacePlan(12, 16, BUDGETS)
EVIDENCE = "evidence on held-out pairs"


def options(effort: str, **others: object) -> OTCacheOptions:
    given = {"effort": effort, "budget_anchor": 4, "budget_reference": 7, **others}
    return OTCacheOptions.model_validate(given)


@dataclass(frozen=True)
class Efforts:
    """Calibrations in one folder, and the measurements that were there after each."""

    quick: Calibrated
    standard: Calibrated
    thorough: Calibrated
    after: dict[str, set[str]]


@pytest.fixture(scope="module")
def efforts(
    make_setup: Callable[[], ModelSetup], tmp_path_factory: pytest.TempPathFactory
) -> Efforts:
    folder = tmp_path_factory.mktemp("efforts") / "work"
    found, after = {}, {}
    for effort, settings, others in (
        ("quick", FEW, {}),
        ("standard", ENOUGH, {}),
        ("thorough", ENOUGH, {"trials": 4, "waypoints": (6,)}),
    ):
        found[effort] = calibrate_flow(make_setup(), folder, settings, options(effort, **others))
        after[effort] = {path.stem for path in (folder / "units").iterdir()}
    return Efforts(**found, after=after)


def parameters_of(calibrated: Calibrated) -> OTCacheParameters:
    return OTCacheParameters.model_validate(calibrated.document.parameters)


def spent(folder: Path, name: str) -> int:
    """Denoising steps of a measurement that chose something: the evidence has chosen nothing."""
    with safe_open(folder / "units" / f"{name}.safetensors", "np") as file:
        pairs = [
            file.get_slice(name).get_shape()[0]
            for name in ("grams", "displacement")
            if name in file.keys()  # noqa: SIM118
        ]
        return sum(pairs) * len(json.loads(file.metadata()["calls"]))


@contextmanager
def from_the_folder(calibrated: Calibrated) -> Iterator[MeasuredContext]:
    """What is measured there, with nobody to measure more."""
    manifest = manifest_of(facts_of(calibrated.setup), calibrated.settings)
    with Workspace(calibrated.folder, manifest) as workspace:
        measurements = Measurements(workspace, NoPool(), calibrated.settings)
        journal = TrialJournal(calibrated.folder / "none.log")
        facts = facts_of(calibrated.setup)
        yield MeasuredContext(measurements, journal, Stages(), calibrated.task.policy, facts)


def final_losses(calibrated: Calibrated, schedule: Schedule) -> NDArray[np.float64] | None:
    """What a schedule lost in the final, a batch after the other; None if it was not in it."""
    manifest = manifest_of(facts_of(calibrated.setup), calibrated.settings)
    pairs, found = PLAN.final(schedule.budget), []
    with from_the_folder(calibrated) as context:
        batches = context.batches_within(pairs)
    with Workspace(calibrated.folder, manifest) as workspace:
        for batch in batches:
            measured = workspace.get(Evaluate(batch, schedule, ("psnr",), displaced=True))
            if measured is None:
                return None
            found.append(-measured.arrays["psnr"].astype(np.float64))
    return np.concatenate(found)


def test_quick_takes_the_recording_alone(efforts: Efforts) -> None:
    quick = efforts.quick
    assert quick.calls["recording full runs"] == 2 * 12
    assert set(quick.calls) == {"recording full runs", EVIDENCE}
    assert list(quick.stages.total) == [
        "recording full runs",
        "optimising the quadratic form",
        EVIDENCE,
    ]
    done = quick.document.calibration
    assert done is not None
    assert done.denoising_steps == 8 * 12
    assert done.pairs == 8
    assert quick.stages.done["optimising the quadratic form"] == len(BUDGETS)


def test_quick_minimises_the_form_of_all_pairs(efforts: Efforts) -> None:
    quick = efforts.quick
    parameters, policy = parameters_of(quick), quick.policy
    assert [(each.budget, each.family, each.gain) for each in parameters.served] == [
        (budget, "optimised", None) for budget in BUDGETS
    ]
    with from_the_folder(quick) as context:
        table, edges = context.grams(), context.edges()
    np.testing.assert_array_equal(quick.stored.tables["grams"], table.grams)
    form = table.form(0.1)
    for budget in BUDGETS:
        graph = [each.schedule(budget) for each in graph_candidates(edges)]
        (own,) = form.pooled(Candidates.of([policy.schedule(budget)]))
        assert own <= form.pooled(Candidates.of(graph)).min() + 1e-9


def test_standard_records_the_additional_pairs_alone(efforts: Efforts) -> None:
    quick, standard = efforts.quick, efforts.standard
    assert standard.calls["recording full runs"] == 2 * 12
    assert standard.steps["recording full runs"] == 8 * 12
    assert quick.folder == standard.folder
    names = {path.name for path in (standard.folder / "policies").iterdir()}
    assert names >= {"otcache-quick", "otcache-standard"}
    # What both have recorded of a pair is the same.
    # There are two matrices of each: what its velocities do to the pictures, and their own.
    ours, theirs = (
        each.stored.tables["grams"].reshape(2, each.settings.pairs, 12, 12)
        for each in (standard, quick)
    )
    np.testing.assert_array_equal(ours[:, :8], theirs)


def test_what_standard_cost_is_the_sum_of_its_measurements(efforts: Efforts) -> None:
    standard = efforts.standard
    done = standard.document.calibration
    assert done is not None
    # What came through the transformer, here and when quick recorded.
    through = sum(count for stage, count in standard.steps.items() if stage != EVIDENCE)
    assert done.denoising_steps == through + efforts.quick.steps["recording full runs"]
    # Recorded runs have Gram matrices, those of the race say where they ended. Some of these begin
    # like another one, which is replayed and takes nothing.
    runs = sum(spent(standard.folder, name) for name in efforts.after["standard"])
    assert done.denoising_steps < runs
    bound = sum(
        each.denoising_steps
        for each in stage_costs(standard.task, ENOUGH, MAX_LOOK_BACK)
        if each.stage != EVIDENCE
    )
    assert 16 * 12 < done.denoising_steps <= bound


@pytest.mark.parametrize("effort", ["quick", "standard", "thorough"])
def test_no_stage_takes_more_than_its_bound(efforts: Efforts, effort: str) -> None:
    calibrated: Calibrated = getattr(efforts, effort)
    costs = stage_costs(calibrated.task, calibrated.settings, MAX_LOOK_BACK)
    assert [each.stage for each in costs] == list(calibrated.stages.total)
    calls = steps = 0
    for cost in costs:
        own_calls, own_steps = (
            found.get(cost.stage, 0) for found in (calibrated.calls, calibrated.steps)
        )
        calls += cost.call_steps - own_calls
        steps += cost.denoising_steps - own_steps
        # The last heat of a race and its finals spend what the stages before them have saved.
        assert calls >= 0, cost.stage
        assert steps >= 0, cost.stage
        if cost.stage not in ("last heat", "finals of the last heat"):
            assert own_calls <= cost.call_steps, cost.stage
            assert own_steps <= cost.denoising_steps, cost.stage


def test_who_serves_follows_from_what_was_measured(efforts: Efforts) -> None:
    standard = efforts.standard
    with from_the_folder(standard) as context:
        readings = graph_candidates(context.edges())
    served = parameters_of(standard).served
    assert [each.budget for each in served] == list(BUDGETS)
    for each in served:
        schedule = standard.policy.schedule(each.budget)
        own = final_losses(standard, schedule)
        assert own is not None
        assert each.pairs == len(PLAN.final(each.budget)) == len(own) == 8
        graphs = {reading.schedule(each.budget) for reading in readings}
        (graph,) = [one for one in graphs if final_losses(standard, one) is not None]
        losses = final_losses(standard, graph)
        assert losses is not None
        assert each.gain is not None
        assert each.standard_error is not None
        if each.family == "graph":
            assert schedule == graph
            assert each.gain <= each.standard_error
        else:
            verdict = verdict_of(losses, own)
            assert (each.gain, each.standard_error) == (verdict.gain, verdict.standard_error)
            assert each.gain > each.standard_error


def test_losses_of_a_final_are_those_of_whole_runs(efforts: Efforts) -> None:
    standard = efforts.standard
    schedule = standard.policy.schedule(4)
    pairs = standard.setup.calibration_pairs(16, seed=1)[8:16]
    evaluator = Evaluator(standard.setup.pipe, pairs, {"num_inference_steps": 12}, 4)
    (values,) = evaluator.values(schedule, plugin_host().metric("psnr"))
    np.testing.assert_allclose(final_losses(standard, schedule), -values, rtol=1e-5)


def test_fresh_pairs_ran_in_the_final_alone(efforts: Efforts) -> None:
    """At most two schedules of each budget were run on selection pairs."""
    standard = efforts.standard
    with from_the_folder(standard) as context:
        readings = graph_candidates(context.edges())
        (first, *_) = context.batches_within(PLAN.selecting)
    keys = efforts.after["standard"]
    for budget in BUDGETS:
        graphs = {reading.schedule(budget) for reading in readings}
        run = [
            each
            for each in graphs
            if unit_key(Evaluate(first, each, ("psnr",), displaced=True)) in keys
        ]
        assert len(run) == 1


def test_the_document_says_what_was_done(efforts: Efforts) -> None:
    for calibrated in (efforts.quick, efforts.standard, efforts.thorough):
        document = calibrated.document
        assert PolicyDocument.from_json(document.to_json()) == document
        assert document.calibrated_budgets == tuple(BUDGETS)
        record = calibrated.search
        assert calibrated.task.name == f"otcache-{record.effort}"
        assert (record.anchor_budget, record.reference_budget) == (4, 7)
        assert (record.search, record.trials, record.history) == (None, None, ())
        assert set(calibrated.stored.tables) == {"grams", "sigmas", "velocity_errors", "spread"}
        assert parameters_of(calibrated).damping == 0.1
    assert efforts.quick.search.gains == ()
    for calibrated in (efforts.standard, efforts.thorough):
        record = calibrated.search
        assert len(record.gains) == 12
        assert record.unexplained is not None
        assert record.unexplained_without_gains is not None
        assert 0 <= record.unexplained < record.unexplained_without_gains


def test_the_card_says_families_and_leads(efforts: Efforts) -> None:
    for calibrated in (efforts.quick, efforts.standard, efforts.thorough):
        details = HOST.describe(calibrated.document)
        served = parameters_of(calibrated).served
        assert [schedule for _, schedule in details.schedules] == [
            calibrated.policy.schedule(budget) for budget in BUDGETS
        ]
        assert [label for label, _ in details.schedules] == [each.family for each in served]
        card = render_card(calibrated.document, (), details)
        columns = {each.heading: each.cells for each in details.columns}
        leads = columns.get("ahead of the graph policy by", ("",) * len(served))
        for lead, each in zip(leads, served, strict=True):
            assert bool(lead) == (each.gain is not None)
            assert lead in card
        assert f"Effort: {calibrated.search.effort}" in card
        assert "Every budget has a schedule of its own" in card
        assert ("pairs that nothing was chosen by" in card) == (calibrated is not efforts.quick)


def test_again_in_the_same_folder_nothing_is_measured(
    efforts: Efforts, make_setup: Callable[[], ModelSetup]
) -> None:
    for before in (efforts.quick, efforts.standard, efforts.thorough):
        again = calibrate_flow(make_setup(), before.folder, before.settings, before.task.options)  # type: ignore[arg-type]
        assert again.document == before.document
        assert sum(again.calls.values()) == 0
    names = {path.stem for path in (efforts.quick.folder / "units").iterdir()}
    assert names == efforts.after["thorough"]


def test_alone_it_comes_to_the_same(efforts: Efforts, setup: ModelSetup, tmp_path: Path) -> None:
    """What an effort before it has measured makes no difference to what standard finds."""
    alone = calibrate_flow(setup, tmp_path / "work", ENOUGH, options("standard"))
    assert alone.calls["recording full runs"] == 4 * 12

    def content(document: PolicyDocument) -> object:
        data = document.model_dump()
        del data["calibration"]["seconds"], data["calibration"]["created"]
        return data

    assert content(alone.document) == content(efforts.standard.document)


def test_thorough_searches_from_the_winners(efforts: Efforts) -> None:
    thorough, standard = efforts.thorough, efforts.standard
    assert "recording full runs" not in thorough.calls
    # The race is the one of standard.
    assert not set(thorough.calls) & {"first heat", "second heat", "finals on fresh pairs"}
    assert thorough.stages.done["searching 4 steps"] > 0
    assert [name.partition(",")[0] for name in thorough.studies] == [
        *["4 steps"] * 5,
        *["6 steps"] * 5,
    ]
    before = {each.budget: each for each in parameters_of(standard).served}
    for each in parameters_of(thorough).served:
        if each.family in ("searched", "predicted") and each != before[each.budget]:
            challenger = thorough.policy.schedule(each.budget)
            held = standard.policy.schedule(each.budget)
            assert challenger != held
        else:
            assert each == before[each.budget]
            assert thorough.policy.schedule(each.budget) == standard.policy.schedule(each.budget)


def test_a_document_of_it_accelerates_its_pipeline(
    efforts: Efforts, pipe: ExactFlowPipeline, tmp_path: Path
) -> None:
    document, tables = efforts.standard.document, efforts.standard.result.tables
    write_policy(tmp_path / "policy", document, tables, "# Standard\n")
    policy = otcache_of(read_policy(tmp_path / "policy"))
    for budget in (*BUDGETS, 10):
        otcache_plugin.enable_cache(pipe, policy=str(tmp_path / "policy"), budget=budget)
        pipe("kind 7", num_inference_steps=12, output_type="latent")
        report = otcache_plugin.summary(pipe)
        assert report.as_planned
        assert report.computed_steps == policy.schedule(budget).computed_steps
    # A run of other steps gets a schedule made for it from the Gram matrices.
    otcache_plugin.enable_cache(pipe, policy=str(tmp_path / "policy"), budget=4)
    pipe("kind 7", num_inference_steps=9, output_type="latent")
    report = otcache_plugin.summary(pipe)
    assert report.as_planned
    assert len(report.computed_steps) == 4
    otcache_plugin.disable_cache(pipe)


def test_the_graph_policy_is_in_every_document(efforts: Efforts) -> None:
    """With Gram matrices beside the edge table, the document serves MeanCache too."""
    for calibrated in (efforts.quick, efforts.standard, efforts.thorough):
        policy, graph = calibrated.policy, calibrated.graph
        assert policy.edges is not None
        np.testing.assert_array_equal(graph.edges.velocity_errors, policy.edges.velocity_errors)
        assert graph.settings == policy.settings


def test_evidence_is_of_the_whole_range(efforts: Efforts) -> None:
    """From the smallest to the largest budget, and in between."""
    for calibrated in (efforts.quick, efforts.standard, efforts.thorough):
        budgets = {row.budget for row in calibrated.document.evidence}
        assert {4, 7} <= budgets <= set(BUDGETS)
        policies = {row.policy for row in calibrated.document.evidence}
        assert policies == {"fewer-steps", "uniform", "meancache", "otcache"}


def test_too_few_pairs_are_refused_before_anything_is_measured(
    setup: ModelSetup, tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError, match=r"pairs=8: too few .*Use 16 or more, or the effort q"):
        calibrate_flow(setup, tmp_path / "work", FEW, options("standard"))
    assert not list((tmp_path / "work" / "units").iterdir())
    assert not (tmp_path / "work" / "policies").exists()


def test_from_the_working_folder_alone_it_is_the_same(efforts: Efforts) -> None:
    for calibrated in (efforts.quick, efforts.standard, efforts.thorough):
        facts = facts_of(calibrated.setup)
        manifest = manifest_of(facts, calibrated.settings)
        with Workspace(calibrated.folder, manifest) as workspace:
            measurements = Measurements(workspace, NoPool(), calibrated.settings)
            task = task_of(calibrated.task.options)
            result = calibrate(task, facts, measurements, Stages())
        assert result.document == calibrated.document
