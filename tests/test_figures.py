"""The figures in the README are those in benchmarks/results, to the digit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otcache_plugin.calibration.cost import stage_costs
from otcache_plugin.calibration.settings import CalibrationSettings

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def table_row(rows: list[dict], budget: int) -> str:
    """A budget's row as the README writes it."""
    psnr = {
        row["policy"]: row for row in rows if (row["budget"], row["metric"]) == (budget, "psnr")
    }
    names = "fewer-steps", "uniform", "meancache", "otcache"
    means = (f"{psnr[name]['mean']:.2f}" for name in names)
    own = psnr["otcache"]
    low, high = own["difference_low"], own["difference_high"]
    difference = f"{own['difference_mean']:+.2f} [{low:+.2f}, {high:+.2f}]"
    return f"| {budget} | {' | '.join(means)} | {difference} |"


def prediction_rows(result: str, compared_to: str) -> dict[str, list[dict]]:
    """The PSNR rows of a result of benchmarks/predictions.py, by model."""
    rows = json.loads((RESULTS / f"{result}.json").read_text())
    found: dict[str, list[dict]] = {}
    for row in rows:
        if (row["metric"], row["compared_to"]) == ("psnr", compared_to):
            found.setdefault(row["model"], []).append(row)
    return found


@pytest.mark.parametrize(
    ("result", "budgets"),
    [("exact-flow", (8, 10, 12, 15)), ("embedded", (8, 10, 12, 15))],
)
def test_tables_are_measured(result: str, budgets: tuple[int, ...]) -> None:
    measured = json.loads((RESULTS / f"{result}.json").read_text())
    for budget in budgets:
        assert table_row(measured["rows"], budget) in README


def test_speed_ups_are_measured() -> None:
    measured = json.loads((RESULTS / "speed.json").read_text())
    for budget, row in measured["speedup"].items():
        assert f"| {budget} | {row['median']:.2f}x | {row['limit']:.2f}x |" in README


def test_the_embedded_model_is_as_described() -> None:
    measured = json.loads((RESULTS / "check-embedded.json").read_text())
    assert f"{measured['recovered_from_generated']['all']:.0%}" in README
    assert f"smoothness ratio {measured['smoothness']:.2f}" in README
    jitter = measured["jitter"]
    assert f"{jitter['jitter_std']:.2f} dB (standard deviation of 12)" in README
    assert f"is {jitter['gap']:.2f} dB" in README


def test_the_larger_sample_is_measured() -> None:
    measured = json.loads((RESULTS / "exact-flow-256.json").read_text())
    for row in measured["rows"]:
        if (row["policy"], row["metric"]) == ("otcache", "psnr") and row["budget"] < 20:
            low, high = row["difference_low"], row["difference_high"]
            assert f"{row['difference_mean']:+.2f} [{low:+.2f}, {high:+.2f}]" in README


@pytest.mark.parametrize("compared_to", ["best-tuned meancache", "direct search"])
def test_predictions_are_measured(compared_to: str) -> None:
    models = prediction_rows("predictions-exact-flow", compared_to)
    assert len(models) == 5
    for rows in models.values():
        cells = [
            f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]" for row in rows
        ]
        assert f"| {' | '.join(cells)} |" in README


@pytest.mark.parametrize("result", ["search-joint-24", "search-per-pair-24"])
def test_searches_are_measured(result: str) -> None:
    (rows,) = prediction_rows(result, "best-tuned meancache").values()
    cells = [f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]" for row in rows]
    assert f"| {' | '.join(cells)} |" in README


@pytest.mark.parametrize("result", ["predictions-embedded", "predictions-embedded-5"])
def test_the_embedded_model_is_compared_as_measured(result: str) -> None:
    (rows,) = prediction_rows(result, "best-tuned meancache").values()
    for row in rows:
        assert f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]" in README


def test_what_the_anchor_saves_is_measured() -> None:
    for rows in prediction_rows("predictions-exact-flow", "best-tuned meancache").values():
        (anchor,) = (row for row in rows if row["budget"] == 8)
        assert f"| {anchor['squared_error_saved']:.0%} |" in README


def test_the_cost_table_follows_from_the_formula() -> None:
    settings = CalibrationSettings(pairs=50, held_out_pairs=50, batch_size=1, metric="lpips")
    steps = sum(stage.steps for stage in stage_costs(settings, max_look_back=6))
    page = (ROOT / "docs" / "calibrating.md").read_text(encoding="utf-8")
    for latency in (11.57, 32.68, 105.92):  # seconds of 50 steps, as the page says whose
        hours = steps * latency / 50 / 3600
        assert f"| {steps:,} | {latency / 50:.3f} | {hours:,.0f} |" in page


def test_the_speed_of_two_workers_is_measured() -> None:
    measured = json.loads((RESULTS / "ray-speed.json").read_text())
    assert f"{measured['ratio']:.2f} times as fast" in README
