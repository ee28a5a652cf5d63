"""Policies that decide at every step, calibrated: TeaCache, DiCache and a third party's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from otcache_policies import Budgets, Decision
from otcache_registry import Part, PolicyDocument, read_policy, write_policy
from otcache_registry.documents.card import render_card
from plugin_fakes import FakeEntryPoint, plugin
from pydantic import BaseModel
from small_calibration import SETTINGS, Calibrated, calibrate_policy, task_of
from tiny_pipelines import make_flux_img2img
from tiny_text import make_flux_with_text

import otcache_plugin
from otcache_plugin.calibration.calibrate import calibrate, manifest_of
from otcache_plugin.calibration.document import CalibrationResult
from otcache_plugin.calibration.evidence.figures import draw_figures
from otcache_plugin.calibration.evidence.replay import replay
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import LocalPool, NoPool
from otcache_plugin.calibration.measuring.workspace import Workspace
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.calibration.stages import Unwatched
from otcache_plugin.calibration.task import calibration_task
from otcache_plugin.calibration.thresholds import CLOSE_ENOUGH, counted, find_thresholds
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.origins.origin import ModelOrigin
from otcache_plugin.plugins import Calibrated as Found
from otcache_plugin.plugins import Calibrator, PolicyRegistry
from otcache_plugin.plugins import host as hosts
from otcache_plugin.plugins.host import load_plugins, plugin_host

STEPS = 8
BUDGETS = (3, 5)
SIZE = {"height": 32, "width": 32}
TINY = MeasuringSettings(
    num_inference_steps=STEPS, metric="latent-l1", pairs=3, held_out_pairs=3, batch_size=2
)


@pytest.fixture(scope="module")
def flux() -> ModelSetup:
    """Flux with text encoders and a VAE."""
    pipe = make_flux_with_text()
    pipe.register_modules(vae=make_flux_img2img().vae)
    origin = ModelOrigin("tiny/random", "0" * 40, "made here")
    prompts = ("a red fox", "two cups", "rain"), ("a paper boat", "snow on a roof", "moss")
    return ModelSetup("tiny", pipe, SIZE, {}, *prompts, origin)


@pytest.fixture(scope="module", params=["teacache", "dicache"])
def calibrated(
    request: pytest.FixtureRequest, flux: ModelSetup, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """One of the two calibrated, its working folder and its document's."""
    folder = tmp_path_factory.mktemp(request.param)
    task = calibration_task(request.param, {"budgets": BUDGETS}, STEPS)

    def run(pool: Any, facts: Any) -> CalibrationResult:
        with Workspace(folder / "work", manifest_of(facts, TINY)) as workspace:
            return calibrate(task, facts, Measurements(workspace, pool, TINY), Unwatched())

    with LocalPool(lambda: flux, TINY, folder / "scratch") as pool:
        result, facts = run(pool, pool.facts), pool.facts
    write_policy(folder / "policy", result.document, result.tables, "# Tiny\n")
    return SimpleNamespace(
        name=request.param,
        result=result,
        again=lambda: run(NoPool(), facts),
        folder=folder / "policy",
    )


def test_its_document(calibrated: SimpleNamespace) -> None:
    document = calibrated.result.document
    assert PolicyDocument.from_json(document.to_json()) == document
    assert (document.policy.name, document.calibrated_budgets) == (calibrated.name, BUDGETS)
    few, more = document.parameters["thresholds"]
    assert (few["budget"], more["budget"]) == BUDGETS
    assert few["threshold"] >= more["threshold"] > 0
    assert {(row.budget, row.policy, row.metric) for row in document.evidence} == {
        (budget, policy, metric)
        for budget in BUDGETS
        for policy in ("fewer-steps", "uniform", calibrated.name)
        for metric in ("latent-l1", "psnr", "ssim")
    }
    card = render_card(document, details=plugin_host().describe(document))
    assert "It decides at every step by what it observes of the run" in card
    for row in document.evidence:
        assert (row.computed_steps is None) == (row.policy != calibrated.name)
        if row.computed_steps is not None:
            assert f"| {row.budget}, {row.computed_steps:.1f} computed | {row.policy} |" in card
    assert set(draw_figures(document, {})) == {"quality.png", "differences.png"}


def test_an_interrupted_calibration_comes_to_the_same(calibrated: SimpleNamespace) -> None:
    """Everything is there, so nobody is asked to measure."""
    assert calibrated.again().document == calibrated.result.document


def test_the_evidence_is_what_runs_by_name_come_to(
    calibrated: SimpleNamespace, flux: ModelSetup
) -> None:
    for budget in BUDGETS:
        computed, share = [], []
        otcache_plugin.enable_cache(flux.pipe, policy=calibrated.folder, budget=budget)
        try:
            for pair in flux.held_out_pairs(3):
                flux.pipe(
                    [pair.prompt],
                    num_inference_steps=STEPS,
                    generator=[torch.Generator().manual_seed(pair.seed)],
                    output_type="latent",
                    **SIZE,
                )
                report = otcache_plugin.summary(flux.pipe)
                assert (report.executor, report.aims_at, report.as_planned) == (
                    "probe",
                    budget,
                    True,
                )
                assert f"decided at run time, aims at {budget}" in str(report)
                computed.append(len(report.computed_steps))
                assert report.block_evaluations is not None
                cost = report.block_evaluations
                share.append(cost.run / cost.of_full_run)
        finally:
            otcache_plugin.disable_cache(flux.pipe)
        rows = [
            row
            for row in calibrated.result.document.evidence
            if (row.policy, row.budget) == (calibrated.name, budget)
        ]
        for row in rows:
            assert row.computed_steps == pytest.approx(np.mean(computed))
            assert row.block_share == pytest.approx(np.mean(share))


def test_its_evidence_is_verified(calibrated: SimpleNamespace, flux: ModelSetup) -> None:
    found = replay(read_policy(calibrated.folder), flux, 3, Unwatched())
    assert (found.pairs, found.agrees) == (3, True)
    assert len(found.rows) == len(calibrated.result.document.evidence)


CHANGES = np.array([[0.25, 0.5, 0.125, 0.25, 1.0, 0.25, 0.5], [0.5] * 7])


def test_steps_are_counted_as_they_are_decided() -> None:
    # The first reaches 0.75 at its 2nd and 5th change and 0.75 at its 7th; the second at every
    # other one. Both ends are computed besides.
    assert counted(CHANGES, 0.75) == (5 + 5) / 2
    assert counted(CHANGES, 0.0) == 9
    assert counted(CHANGES, 9.0) == 2


class Model:
    """A context whose runs change by more than the full runs do, as far as steps are cached."""

    def __init__(self, changes: np.ndarray[Any, Any]) -> None:
        self.changes, self.runs = changes, 0

    def start_decided(self, stage: str, runs: int) -> None:
        self.most = runs

    def decided(self, parameters: Any, budget: int) -> Any:
        self.runs += 1
        ((aimed, threshold),) = parameters["thresholds"]
        assert aimed == budget
        own = self.changes * (1 + 0.5 * threshold)
        steps = [counted(row[None], threshold) for row in own]
        return SimpleNamespace(computed_steps=np.array(steps))


def test_thresholds_come_to_the_budgets_on_real_runs() -> None:
    changes = np.random.default_rng(0).uniform(0.01, 0.2, (40, 48))
    model = Model(changes)

    def parameters(thresholds: Sequence[tuple[int, float]]) -> dict[str, Any]:
        return {"thresholds": list(thresholds)}

    budgets = (8, 10, 15, 20)
    found, means = find_thresholds(model, budgets, changes, parameters)  # type: ignore[arg-type]
    assert [budget for budget, _ in found] == list(budgets)
    assert np.abs(np.subtract(means, budgets)).max() <= CLOSE_ENOUGH
    assert model.runs <= model.most
    for (budget, threshold), mean in zip(found, means, strict=True):
        steps = model.decided({"thresholds": [(budget, threshold)]}, budget).computed_steps
        assert steps.mean() == mean


class Moved:
    """A third party's policy: computes what its latents have moved enough for."""

    name: ClassVar[str] = "moved"
    observes: ClassVar[str] = "latents"
    look_back: ClassVar[int] = 1

    def __init__(self, share: float, num_inference_steps: int) -> None:
        self.share, self.num_inference_steps = share, num_inference_steps
        self.budgets = Budgets(3, 6, num_inference_steps)

    def begin(self, run: Any, latents: torch.Tensor) -> Any:
        share, total = self.share, [0.0, latents]

        class Decider:
            def decide(self, step: int, latents: torch.Tensor) -> Decision:
                total[0] += float((latents - total[1]).abs().mean() / total[1].abs().mean())
                total[1] = latents
                if total[0] < share:
                    return Decision.CACHE
                total[0] = 0.0
                return Decision.COMPUTE

        return Decider()


class Share(Part):
    share: float


class NoOptions(BaseModel):
    pass


class MovedCalibrator(Calibrator):
    options = NoOptions
    decides = True

    def evidence_budgets(self, options: Any, num_inference_steps: int) -> tuple[int, ...]:
        return (4,)

    def costs(self, options: Any, workload: Any) -> Any:
        return workload.watching, workload.decided("trying", 1, (4,))

    def calibrate(self, options: Any, context: Any) -> Found:
        changes = context.changes("latents")
        assert changes.observed.shape == changes.outputs.shape == (4, 10)
        share = float(changes.observed.sum(axis=1).mean() / 4)
        context.start_decided("trying", 1)
        runs = context.decided({"share": share}, 4)
        assert runs.losses.shape == runs.computed_steps.shape == (4,)
        return Found({"share": share}, {}, (), 4, {"computed": runs.computed_steps.tolist()})


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A plugin that registers the policy is there."""

    def otcache_register_policies(registry: PolicyRegistry) -> None:
        registry.register_calibrated(
            "moved",
            parameters=Share,
            make=lambda parameters, _, sampling: Moved(
                parameters.share, sampling.num_inference_steps
            ),
            description="follows the latents",
            calibrator=MovedCalibrator,
        )

    module = plugin(otcache_register_policies=otcache_register_policies)
    hosts.plugin_host.cache_clear()
    found = load_plugins([FakeEntryPoint("theirs", lambda: module, "otcache-theirs")], None)
    monkeypatch.setattr(hosts, "load_plugins", lambda *_: found)
    yield
    hosts.plugin_host.cache_clear()


@pytest.mark.usefixtures("moved")
def test_a_third_partys_policy_that_decides_by_latents(setup: ModelSetup, tmp_path: Path) -> None:
    task = task_of(NoOptions(), MovedCalibrator(), "moved")
    done: Calibrated = calibrate_policy(setup, tmp_path / "work", task)
    document = done.document
    assert document.calibration is not None
    assert document.budgets is not None
    assert (document.budgets.smallest, document.budgets.largest) == (3, 6)
    # Watched are the full runs of all pairs, a batch after the other; each decides on its own.
    assert done.calls["watching full runs"] == 2 * SETTINGS.num_inference_steps
    computed = document.calibration.settings["computed"]
    assert done.calls["trying"] == sum(computed)
    own = [row for row in document.evidence if row.policy == "moved"]
    assert {row.metric for row in own} == {"psnr", "ssim"}
    for row in own:
        assert row.computed_steps is not None
        # Nothing runs of a cached step, so blocks are as many as steps.
        assert row.block_share == pytest.approx(row.computed_steps / SETTINGS.num_inference_steps)
    assert document.calibration.denoising_steps == 4 * 12 + sum(computed)
