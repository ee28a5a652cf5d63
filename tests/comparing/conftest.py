"""Fixtures: a small exact flow, a policy calibrated on it, a comparison on both."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparison_helpers import METHODS, PAIRS, STEPS, SilentProgress
from otcache_registry import StoredPolicy, read_policy, write_policy

from otcache_plugin.calibration.calibrate import calibrate, manifest_of
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import LocalPool
from otcache_plugin.calibration.measuring.workspace import Workspace
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.calibration.task import calibration_task
from otcache_plugin.comparing.comparison import compare
from otcache_plugin.comparing.results import ComparisonResult
from otcache_plugin.comparing.settings import ComparisonSettings
from otcache_plugin.models.exact_flow import ExactFlowSettings, load_exact_flow_pipeline
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.origins.finding import find_origin


@pytest.fixture(scope="session")
def small_setup() -> ModelSetup:
    """An exact flow of 200 scenes; every other caption is held out."""
    pipe = load_exact_flow_pipeline(ExactFlowSettings(scenes=200))
    prompts = sorted(set(pipe.transformer.captions))
    return ModelSetup(
        name="exact-flow",
        pipe=pipe,
        call_arguments={},
        guidance={},
        calibration_prompts=tuple(prompts[::2]),
        held_out_prompts=tuple(prompts[1::2]),
        origin=find_origin(pipe),
    )


@pytest.fixture(scope="session")
def small_policy(small_setup: ModelSetup, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a policy of 20 steps, anchor 8 and reference 12."""
    settings = MeasuringSettings(num_inference_steps=STEPS, pairs=4, held_out_pairs=2)
    options = {
        **{"effort": "paper", "search": "joint"},
        **{"budget_reference": 12, "budget_anchor": 8, "waypoints": ()},
        **{"default_budget": 8, "trials": 3, "effort": "paper", "search": "joint"},
    }
    task = calibration_task("otcache", options, STEPS)
    folder = tmp_path_factory.mktemp("policies") / "small"
    work = folder.with_name("work")
    with (
        LocalPool(lambda: small_setup, settings, work / "scratch") as pool,
        Workspace(work, manifest_of(pool.facts, settings)) as workspace,
    ):
        measurements = Measurements(workspace, pool, settings)
        found = calibrate(task, pool.facts, measurements, SilentProgress())
    write_policy(folder, found.document, found.tables, "# Small\n")
    return folder


@pytest.fixture(scope="session")
def small_stored(small_policy: Path) -> StoredPolicy:
    """The same policy, read."""
    return read_policy(small_policy)


@pytest.fixture(scope="session")
def quick_settings(small_policy: Path) -> ComparisonSettings:
    """A quick comparison with that policy, at the default budgets."""
    return ComparisonSettings(
        methods=METHODS,
        num_inference_steps=STEPS,
        pairs=PAIRS,
        timed_pairs=2,
        rounds=2,
        documents=(str(small_policy),),
    )


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where that comparison keeps what it measures."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def compared(
    small_setup: ModelSetup, quick_settings: ComparisonSettings, work: Path
) -> ComparisonResult:
    """What it found."""
    return compare(small_setup, quick_settings, work, SilentProgress())
