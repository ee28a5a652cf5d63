"""Calibrating on the executor blocks: what is measured, what the document says, what it runs on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cache_dit
import numpy as np
import pytest
from cache_dit import DBCacheConfig
from diffusers import FlowMatchEulerDiscreteScheduler
from otcache_policies import Schedule
from otcache_registry import PolicyDocument, write_policy
from small_calibration import Calibrated, calibrate_policy, task_of

import otcache_plugin
from otcache_plugin.calibration.calibrate import manifest_of
from otcache_plugin.calibration.direct import DirectCalibrator, DirectOptions
from otcache_plugin.calibration.errors import OtherSettingsError
from otcache_plugin.calibration.evidence.replay import replay
from otcache_plugin.calibration.measuring.units import Evaluate, Record, Reference
from otcache_plugin.calibration.measuring.worker import Worker
from otcache_plugin.calibration.measuring.workspace import Workspace
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.calibration.stages import Unwatched
from otcache_plugin.calibration.task import calibration_task
from otcache_plugin.errors import ArgumentError, PipelineError
from otcache_plugin.evaluation.batches import Batch
from otcache_plugin.evaluation.outputs import generate_outputs
from otcache_plugin.executors.cached_twin import unannounced
from otcache_plugin.models.setups import ModelSetup, load_setup
from otcache_plugin.plugins.host import plugin_host
from otcache_plugin.runs.mechanism import Mechanism
from otcache_plugin.runs.notices import RunWarning
from otcache_plugin.runs.report import RunReport

STEPS, BUDGET = 8, 4
TAYLORSEER = Mechanism("blocks", "taylorseer")
SETTINGS = MeasuringSettings(
    num_inference_steps=STEPS, pairs=2, held_out_pairs=2, batch_size=2, mechanism=TAYLORSEER
)
SCHEDULE = Schedule([0, 1, 4, 7], STEPS)
METRICS = ("psnr", "latent-mse")
CONFIGS = {
    None: None,
    "taylorseer": cache_dit.TaylorSeerCalibratorConfig(),
    "foca": cache_dit.FoCaCalibratorConfig(),
    "dmd": cache_dit.DMDCalibratorConfig(),
}


@pytest.fixture(scope="module")
def embedded() -> ModelSetup:
    """The embedded model, whose guidance is a second call of its transformer."""
    return load_setup("embedded")


@contextmanager
def masked(pipe: Any, schedule: Schedule, calibrator: str | None) -> Iterator[None]:
    """Have cache-dit alone follow a mask, on the pipeline itself."""
    config = DBCacheConfig(
        Fn_compute_blocks=1,
        enable_separate_cfg=True,
        num_inference_steps=schedule.num_inference_steps,
        steps_computation_mask=[int(computed) for computed in schedule.mask],
        steps_computation_policy="static",
    )
    with unannounced(logging.WARNING):
        cache_dit.enable_cache(pipe, cache_config=config, calibrator_config=CONFIGS[calibrator])
        try:
            yield
        finally:
            cache_dit.disable_cache(pipe)


def values_of_cache_dit(setup: ModelSetup) -> dict[str | None, dict[str, Any]]:
    """What the metrics say of the mask's runs, by calibrator."""
    pairs = setup.calibration_pairs(SETTINGS.pairs, SETTINGS.seed)
    arguments = {**setup.call_arguments, "num_inference_steps": STEPS}
    full = generate_outputs(setup.pipe, pairs, arguments)
    found = {}
    for calibrator in CONFIGS:
        with masked(setup.pipe, SCHEDULE, calibrator):
            outputs = generate_outputs(setup.pipe, pairs, arguments)
        metrics = map(plugin_host().metric, METRICS)
        found[calibrator] = {each.name: each.values(outputs, full, pairs) for each in metrics}
    return found


def test_losses_are_those_of_cache_dits_own_runs(embedded: ModelSetup) -> None:
    """Bit for bit, with every calibrator; and no two calibrators give the same."""
    batch, full = Batch("calibration", 0, 2), None
    found = {}
    for calibrator in CONFIGS:
        settings = replace(SETTINGS, mechanism=Mechanism("blocks", calibrator))
        worker = Worker(embedded, settings)
        full = full or worker.measure(Reference(batch), {})[0][1]
        ((_, measured),) = worker.measure(Evaluate(batch, SCHEDULE, METRICS), full.arrays)
        worker.close()
        # Both guidance branches of the steps that are computed in full.
        assert measured.calls == (2,) * BUDGET
        found[calibrator] = measured.arrays
    for calibrator, expected in values_of_cache_dit(load_setup("embedded")).items():
        for name in METRICS:
            np.testing.assert_array_equal(found[calibrator][name], expected[name])
    assert len({tuple(values["latent-mse"]) for values in found.values()}) == len(CONFIGS)


@pytest.fixture(scope="module")
def direct(embedded: ModelSetup, tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    options = DirectOptions(budgets=(BUDGET,), trials=4)
    task = task_of(options, DirectCalibrator(), "direct")
    return calibrate_policy(embedded, tmp_path_factory.mktemp("direct") / "work", task, SETTINGS)


@pytest.fixture(scope="module")
def folder(direct: Calibrated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where its document lies."""
    path = tmp_path_factory.mktemp("document") / "policy"
    write_policy(path, direct.document, direct.result.tables, "# On blocks\n")
    return path


def test_the_document_says_what_it_was_calibrated_on(direct: Calibrated) -> None:
    document = direct.document
    sampling = document.sampling
    assert (sampling.executor, sampling.calibrator) == ("blocks", "taylorseer")
    assert sampling.calls_per_step == 2
    assert PolicyDocument.from_json(document.to_json()) == document
    (schedule,) = document.parameters["schedules"]
    assert set(schedule["look_backs"]) == {1}  # Blocks know nothing of look-backs.


def run(setup: ModelSetup, folder: Path, **arguments: Any) -> tuple[RunReport, Any]:
    """Run the held-out pairs by the document, and what they are compared to."""
    pairs = setup.held_out_pairs(SETTINGS.held_out_pairs)
    call = {**setup.call_arguments, "num_inference_steps": STEPS}
    full = generate_outputs(setup.pipe, pairs, call)
    with unannounced():
        otcache_plugin.enable_cache(setup.pipe, policy=folder, budget=BUDGET, **arguments)
    try:
        outputs = generate_outputs(setup.pipe, pairs, call)
        report = otcache_plugin.summary(setup.pipe)
    finally:
        otcache_plugin.disable_cache(setup.pipe)
    return report, plugin_host().metric("psnr").values(outputs, full, pairs)


def test_enabling_it_takes_its_executor_and_its_calibrator(
    direct: Calibrated, folder: Path
) -> None:
    """And gives the very figures of its evidence, without a word of how the model is called."""
    report, values = run(load_setup("embedded"), folder)
    assert (report.executor, report.calibrator, report.as_planned) == ("blocks", "taylorseer", True)
    assert "executor blocks with taylorseer" in str(report)
    assert report.notes == ("The policy was calibrated on this executor.",)
    (row,) = [
        row for row in direct.document.evidence if (row.policy, row.metric) == ("direct", "psnr")
    ]
    assert row.mean == float(values.mean())


@pytest.mark.parametrize(
    ("arguments", "unlike"),
    [
        ({"executor": "velocity"}, "velocity instead of blocks with taylorseer"),
        (
            {"calibrator_config": cache_dit.FoCaCalibratorConfig()},
            "blocks with foca instead of blocks with taylorseer",
        ),
    ],
    ids=["velocity", "foca"],
)
def test_another_executor_or_calibrator_is_warned_of(
    arguments: dict[str, Any], unlike: str, folder: Path, embedded: ModelSetup
) -> None:
    with pytest.warns(RunWarning, match=f"executor {unlike}.*figures need not hold"):
        report, _ = run(embedded, folder, **arguments)
    note = f"This run is unlike those of the calibration: executor {unlike}."
    assert report.notes == (note,)


def test_its_evidence_is_replayed_on_the_same_executor(
    direct: Calibrated, embedded: ModelSetup
) -> None:
    found = replay(direct.stored, embedded, 2, Unwatched())
    assert found.agrees
    assert [row.replayed for row in found.rows] == [row.stated for row in found.rows]


def test_a_folder_begun_on_another_executor_is_refused(
    direct: Calibrated, embedded: ModelSetup
) -> None:
    facts = Worker(embedded, SETTINGS).facts
    for mechanism, said in (
        (Mechanism("blocks", "foca"), r"calibrator='foca': .* begun with 'taylorseer'"),
        (Mechanism(), r"executor='velocity': .* begun with 'blocks'"),
    ):
        settings = replace(SETTINGS, mechanism=mechanism)
        with pytest.raises(OtherSettingsError, match=said):
            Workspace(direct.folder, manifest_of(facts, settings))


@pytest.mark.parametrize(
    ("policy", "options", "instead"),
    [
        ("otcache", {"effort": "quick"}, "effort standard, thorough or paper"),
        ("gram", {}, "Calibrate otcache or direct"),
        ("recache", {"iterations": 0}, "Leave iterations above 0"),
        ("lemica", {}, "calibrate direct"),
        ("teacache", {}, "Leave it out"),
    ],
)
def test_what_measures_nothing_on_the_executor_is_refused(
    policy: str, options: dict[str, Any], instead: str
) -> None:
    task = calibration_task(policy, options, 50)
    task.calibrator.check_executor(task.options, "velocity")
    with pytest.raises(ArgumentError, match=f"executor='blocks': .*{instead}"):
        task.calibrator.check_executor(task.options, "blocks")


def test_an_executor_that_runs_no_schedules_is_refused_at_once(embedded: ModelSetup) -> None:
    with pytest.raises(ArgumentError, match="executor='probe'"):
        Worker(embedded, replace(SETTINGS, mechanism=Mechanism("probe")))


def test_a_scheduler_whose_runs_cannot_be_recorded(
    embedded: ModelSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks would serve it; the error does not send there."""
    config = {**embedded.pipe.scheduler.config, "stochastic_sampling": True}
    monkeypatch.setattr(embedded.pipe, "scheduler", FlowMatchEulerDiscreteScheduler(**config))
    worker = Worker(embedded, SETTINGS)
    with pytest.raises(PipelineError, match="full runs are recorded") as caught:
        worker.measure(Record(Batch("calibration", 0, 2)), {})
    assert "blocks" not in str(caught.value)
    worker.close()


def test_calibrators_are_those_of_blocks() -> None:
    with pytest.raises(ArgumentError, match=r"calibrator='magic': .*taylorseer, foca, dmd"):
        Mechanism("blocks", "magic")
    with pytest.raises(ArgumentError, match="calibrator='dmd': the executor velocity"):
        Mechanism("velocity", "dmd")
