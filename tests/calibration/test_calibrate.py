"""A whole calibration of a small exact flow, and the settings that it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from otcache_policies import BudgetError, FieldError, Schedule
from otcache_registry import PolicyDocument, read_policy, render_card, write_policy

import otcache_plugin
from otcache_plugin.calibration.anchor import AnchorSettings
from otcache_plugin.calibration.calibrate import (
    CalibrationResult,
    CalibrationSettings,
    calibrate,
    count_transformer_calls,
)
from otcache_plugin.errors import ArgumentError, UnknownNameError
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.metrics import metric_named
from otcache_plugin.models.exact_flow import (
    ExactFlowPipeline,
    ExactFlowSettings,
    ExactFlowTransformer,
)
from otcache_plugin.models.setups import ModelSetup

FLOW = ExactFlowSettings(scenes=150)
SETTINGS = CalibrationSettings(
    num_inference_steps=12,
    budget_reference=7,
    budget_anchor=4,
    pairs=4,
    held_out_pairs=3,
    batch_size=3,
    seed=1,
    anchor=AnchorSettings(trials=12, seed=1),
)


class Stages:
    """Progress kept to be looked at."""

    def __init__(self) -> None:
        self.total: dict[str, int] = {}
        self.done: dict[str, int] = {}

    def start(self, stage: str, total: int) -> None:
        self.stage = stage
        self.total[stage], self.done[stage] = total, 0

    def advance(self) -> None:
        self.done[self.stage] += 1


@dataclass
class Calibrated:
    """A calibration, what it went through, and the transformer calls counted at the class."""

    setup: ModelSetup
    result: CalibrationResult
    stages: Stages
    calls: int

    @property
    def document(self) -> PolicyDocument:
        return self.result.document


def run(setup: ModelSetup, settings: CalibrationSettings = SETTINGS) -> Calibrated:
    stages, calls = Stages(), 0
    forward = ExactFlowTransformer.forward

    def counted(self: ExactFlowTransformer, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return forward(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExactFlowTransformer, "forward", counted)
        result = calibrate(setup, settings, stages)
    return Calibrated(setup, result, stages, calls)


@pytest.fixture(scope="module")
def calibrated(make_setup: Callable[[], ModelSetup]) -> Calibrated:
    """One calibration for all tests of it."""
    return run(make_setup())


@pytest.fixture
def folder(calibrated: Calibrated, tmp_path: Path) -> Path:
    """It written down."""
    document = calibrated.document
    write_policy(tmp_path / "policy", document, calibrated.result.edges, render_card(document))
    return tmp_path / "policy"


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
    record = document.calibration
    assert (record.pairs, record.seed, record.metric, record.trials) == (4, 1, "psnr", 12)
    assert record.prompts_digest == calibrated.setup.prompts_digest
    assert record.device == "cpu"
    pipe = calibrated.setup.pipe
    pipe("kind 7", num_inference_steps=12)
    np.testing.assert_allclose(sampling.sigmas, pipe.scheduler.sigmas.numpy(), rtol=1e-6)


def test_the_calls_of_the_transformer_are_counted(calibrated: Calibrated) -> None:
    assert calibrated.document.calibration.transformer_calls == calibrated.calls > 100


def test_every_stage_is_told_and_finishes(calibrated: Calibrated) -> None:
    assert list(calibrated.stages.total) == [
        "recording full runs",
        "tuning the graph policy",
        "searching the anchor",
        "choosing anchor and rho",
        "evidence on held-out pairs",
    ]
    assert calibrated.stages.done == calibrated.stages.total


def test_the_anchor_is_no_worse_than_the_graph_policy(calibrated: Calibrated, folder: Path) -> None:
    stored = read_policy(folder)
    setup = calibrated.setup
    pairs = setup.calibration_pairs(SETTINGS.pairs, SETTINGS.seed)
    evaluator = Evaluator(setup.pipe, pairs, {"num_inference_steps": 12})
    psnr = metric_named("psnr")
    warm_start = stored.meancache_policy().schedule(4)
    anchor = stored.document.anchor_schedule
    assert evaluator.loss(anchor, psnr) <= evaluator.loss(warm_start, psnr) + 1e-6
    assert stored.document.reference_schedule == stored.meancache_policy().schedule(7)


def test_evidence_covers_the_budgets_once(calibrated: Calibrated) -> None:
    rows = calibrated.document.evidence
    assert [(row.budget, row.policy, row.metric) for row in rows] == [
        (budget, policy, metric)
        for budget in (4, 5, 6, 7)
        for policy in ("uniform", "meancache", "otcache")
        for metric in ("psnr", "ssim")
    ]
    assert {row.pairs for row in rows} == {3}
    # At its own budget the reference is the graph policy's schedule: no difference at all.
    for row in rows:
        if (row.budget, row.policy) == (7, "otcache"):
            assert (row.difference_mean, row.win_rate) == (0, 0.5)


def test_evidence_is_of_pairs_that_the_calibration_has_not_seen(
    calibrated: Calibrated, folder: Path
) -> None:
    setup, policy = calibrated.setup, read_policy(folder).otcache_policy()
    held_out = Evaluator(setup.pipe, setup.held_out_pairs(3), {"num_inference_steps": 12})
    for row in calibrated.document.evidence:
        if row.policy == "otcache":
            (values,) = held_out.values(policy.schedule(row.budget), metric_named(row.metric))
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


def test_it_is_read_as_it_was_written(calibrated: Calibrated, folder: Path) -> None:
    stored = read_policy(folder)
    assert stored.document == calibrated.document
    np.testing.assert_array_equal(
        stored.edges.velocity_errors, calibrated.result.edges.velocity_errors
    )


def test_the_pipeline_is_given_back(calibrated: Calibrated, pipe: ExactFlowPipeline) -> None:
    ours = calibrated.setup.pipe
    assert not {"step", "set_timesteps"} & set(vars(ours.scheduler))

    def draw(pipe: ExactFlowPipeline) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        latents: torch.Tensor = pipe("kind 7", generator=generator, output_type="latent").images
        return latents

    assert torch.equal(draw(ours), draw(pipe))


def test_the_seed_determines_the_document(calibrated: Calibrated, setup: ModelSetup) -> None:
    def content(document: PolicyDocument) -> dict[str, Any]:
        data = document.model_dump(by_alias=True)
        del data["calibration"]["seconds"], data["calibration"]["created"]
        return data

    assert content(run(setup).document) == content(calibrated.document)


def test_neighbouring_budgets_give_evidence_once(setup: ModelSetup) -> None:
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
    document = run(setup, settings).document
    assert document.default_budget == 5
    assert [(row.budget, row.metric) for row in document.evidence if row.policy == "otcache"] == [
        (budget, metric) for budget in (3, 4) for metric in ("mse", "psnr", "ssim")
    ]


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
    ("field", "value"), [("pairs", 0), ("held_out_pairs", 1), ("batch_size", 0)]
)
def test_settings_that_measure_nothing(field: str, value: int) -> None:
    with pytest.raises(ArgumentError, match=f"{field}={value}: below"):
        CalibrationSettings(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"metric": "beauty"}, UnknownNameError),
        ({"seed": 100}, FieldError),
        ({"seed": -1}, FieldError),
    ],
)
def test_refused_before_anything_runs(
    setup: ModelSetup, changes: dict[str, Any], error: type[Exception]
) -> None:
    settings, stages = CalibrationSettings(**changes), Stages()
    with pytest.raises(error):
        calibrate(setup, settings, stages)
    assert stages.total == {}


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
