"""Whole calibrations of tiny random pipelines, images and videos, each with its own scheduler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from otcache_policies import Policy
from otcache_registry import PolicyDocument, StoredPolicy, read_policy, write_policy
from stored_policies import otcache_of
from tiny_pipelines import make_flux_img2img
from tiny_text import make_flux_with_text, make_ltx_with_text, make_wan_with_vae

import otcache_plugin
from otcache_plugin.calibration.calibrate import calibrate, manifest_of
from otcache_plugin.calibration.document import CalibrationResult
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import LocalPool
from otcache_plugin.calibration.measuring.workspace import Workspace
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.calibration.stages import Unwatched
from otcache_plugin.calibration.task import calibration_task
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.origins.origin import ModelOrigin
from otcache_plugin.plugins.host import plugin_host

STEPS = 8


def make_flux() -> Any:
    """Flux with text encoders and a VAE."""
    pipe = make_flux_with_text()
    pipe.register_modules(vae=make_flux_img2img().vae)
    return pipe


OPTIONS = {
    **{"effort": "paper", "search": "joint"},
    **{"budget_reference": 5, "budget_anchor": 3, "waypoints": (), "trials": 5},
}


def calibrated(
    setup: ModelSetup,
    metric: str,
    folder: Path,
    policy: str = "otcache",
    options: Mapping[str, object] = OPTIONS,
) -> CalibrationResult:
    chosen = MeasuringSettings(
        num_inference_steps=STEPS, metric=metric, pairs=2, held_out_pairs=2, batch_size=1
    )
    task = calibration_task(policy, options, STEPS)
    with (
        LocalPool(lambda: setup, chosen, folder / "scratch") as pool,
        Workspace(folder, manifest_of(pool.facts, chosen)) as workspace,
    ):
        return calibrate(task, pool.facts, Measurements(workspace, pool, chosen), Unwatched())


@pytest.mark.parametrize(
    ("make", "arguments", "look_backs"),
    [
        pytest.param(make_flux, {"height": 32, "width": 48}, 6, id="flux"),
        pytest.param(
            make_ltx_with_text, {"height": 32, "width": 64, "num_frames": 9}, 6, id="ltx-video"
        ),
        pytest.param(
            make_wan_with_vae, {"height": 16, "width": 32, "num_frames": 5}, 1, id="wan-video"
        ),
    ],
)
def test_a_pipeline_is_calibrated_and_runs_its_policy(
    make: Callable[[], Any], arguments: dict[str, Any], look_backs: int, tmp_path: Path
) -> None:
    pipe = make()
    origin = ModelOrigin("tiny/random", "0" * 40, "made here")
    prompts = ("a red fox", "two cups"), ("a paper boat", "snow on a roof")
    setup = ModelSetup("tiny", pipe, arguments, {}, *prompts, origin)
    result = calibrated(setup, "latent-l1", tmp_path / "work")
    document = result.document
    assert PolicyDocument.from_json(document.to_json()) == document
    assert document.sampling.scheduler == type(pipe.scheduler).__name__
    size = document.sampling.height, document.sampling.width
    assert size == (arguments["height"], arguments["width"])
    assert result.tables["velocity_errors"].shape == (STEPS, STEPS, look_backs)
    assert {row.metric for row in document.evidence} == {"latent-l1", "psnr", "ssim"}

    write_policy(tmp_path / "policy", document, result.tables, "# Tiny")
    policy = otcache_of(read_policy(tmp_path / "policy"))
    otcache_plugin.enable_cache(pipe, policy=str(tmp_path / "policy"), budget=4)
    pipe(prompts[0][0], num_inference_steps=STEPS, output_type="latent", **arguments)
    report = otcache_plugin.summary(pipe)
    assert report.as_planned
    assert report.computed_steps == policy.schedule(4).computed_steps


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        ("gram", {}),
        ("lemica", {"pairs": 2, "max_skip": 3, "budgets": (4,), "estimator": "average-velocity"}),
        ("budcache", {"budgets": (3,)}),
        ("direct", {"budgets": (3,), "trials": 5}),
    ],
)
def test_a_multistep_solver_is_calibrated_without_look_backs(
    policy: str, options: dict[str, object], tmp_path: Path
) -> None:
    """Neither the policy nor uniform spacing beside it looks back, which such a solver forbids."""
    origin = ModelOrigin("tiny/random", "0" * 40, "made here")
    prompts = ("a red fox", "two cups"), ("a paper boat", "snow on a roof")
    size = {"height": 16, "width": 32, "num_frames": 5}
    setup = ModelSetup("tiny", make_wan_with_vae(), size, {}, *prompts, origin)
    result = calibrated(setup, "latent-l1", tmp_path / "work", policy, options)
    assert result.document.parameters.get("max_look_back", 1) == 1
    found = plugin_host().policy_of(StoredPolicy(result.document, result.tables, ""))
    assert isinstance(found, Policy)
    for budget in found.budgets:
        assert max(found.schedule(budget).look_backs) == 1
    assert {row.policy for row in result.document.evidence} == {"fewer-steps", "uniform", policy}
