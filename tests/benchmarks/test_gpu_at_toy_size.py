"""What runs once on a rare machine has to work at the first try: the same rows, at toy sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from waiting import CEILING

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command writes at toy sizes."""
    output = tmp_path_factory.mktemp("gpu") / "toy.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--toy", "--output", str(output)]
    command += ["--seconds", str(CEILING)]
    # A small machine compiles for a long time before it does nothing faster.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("OTCACHE_LPIPS_HOME", None)
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(output.read_text())
    return found


@pytest.fixture(scope="module")
def rows(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name."""
    return {row["name"]: row for row in document["rows"]}


def test_no_row_fails(rows: dict[str, dict[str, Any]]) -> None:
    assert {name: row["error"] for name, row in rows.items() if "error" in row} == {}


def test_only_what_needs_a_gpu_is_left_out(rows: dict[str, dict[str, Any]]) -> None:
    assert {name for name, row in rows.items() if "skipped" in row} == {
        "flux/synchronisations",
        "flux/same latents, stream of its own",
        "flux/same latents, two threads",
        "flux/same latents, offloaded",
        "flux/same latents, grouped",
        "flux/offloaded velocity 10, first call",
        "flux/offloaded velocity 10, second call",
        "flux/offloaded velocity 10, enabled before offloading",
        "embedded/calibration by LPIPS",
    }


@pytest.mark.parametrize(
    ("model", "budgets", "calls_per_step"),
    [("flux", (20, 15, 13, 12, 10, 8), 1), ("qwen", (15, 10), 2), ("hunyuan", (12, 10), 1)],
)
def test_the_budget_is_what_is_computed(
    rows: dict[str, dict[str, Any]], model: str, budgets: tuple[int, ...], calls_per_step: int
) -> None:
    assert rows[f"{model}/full"]["transformer_forwards"] == 50 * calls_per_step
    for budget in budgets:
        row = rows[f"{model}/velocity {budget}"]
        assert row["computed_steps"] == budget
        assert row["transformer_calls"] == budget * calls_per_step
        assert row["transformer_forwards"] == budget * calls_per_step
        assert row["as_planned"]


def test_cache_dits_mask_computes_what_the_policy_computes(
    rows: dict[str, dict[str, Any]],
) -> None:
    cached = set(rows["flux/steps_mask 10"]["cached_steps"])
    computed = [step for step in range(50) if step not in cached]
    assert computed == rows["flux/velocity 10"]["planned_steps"]


def test_every_output_is_finite(rows: dict[str, dict[str, Any]]) -> None:
    assert all(row["finite"] for row in rows.values() if "finite" in row)
    assert all(
        rows[f"{model}/warm-up"]["finite"] for model in ("flux", "qwen", "hunyuan", "hunyuan-720p")
    )


def test_ratios_are_to_the_full_run_of_the_same_model(document: dict[str, Any]) -> None:
    ratios = document["speedups"]
    assert ratios["flux/velocity 10"].keys() == {"loop", "end_to_end"}
    # Its full run is one of fewer steps, after which decoding takes as long.
    assert ratios["hunyuan-720p/velocity 10"].keys() == {"loop"}
    assert "flux/full" not in ratios


def test_the_same_pictures_come_out_of_the_same_device(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["embedded/pictures full"]["max_abs_difference"] == 0
    assert rows["embedded/pictures otcache 10"]["computed_steps"] == 10


def test_recording_a_pair_calls_the_transformer_as_often_as_its_run(
    rows: dict[str, dict[str, Any]],
) -> None:
    row = rows["flux/recording of a pair"]
    assert row["recording_transformer_calls"] == row["full_run_transformer_calls"] == row["steps"]


def test_a_document_gives_the_latents_of_the_policy_whose_schedules_it_has(
    rows: dict[str, dict[str, Any]],
) -> None:
    row = rows["flux/same latents, document"]
    assert row["identical"]
    assert row["computed_steps"] == 5
    assert row["as_planned"]


@pytest.mark.parametrize("name", ["teacache", "dicache 1", "dicache 2", "dicache 3"])
def test_a_probe_is_called_at_every_step_whatever_it_decides(
    rows: dict[str, dict[str, Any]], name: str
) -> None:
    row = rows[f"flux/{name}, 2 computed"]
    assert row["computed_steps"] == 2
    assert row["transformer_forwards"] == 50
