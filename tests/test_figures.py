"""The figures in the README are those in benchmarks/results, to the digit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def table_row(rows: list[dict], budget: int) -> str:
    """A budget's row as the README writes it."""
    psnr = {
        row["policy"]: row for row in rows if (row["budget"], row["metric"]) == (budget, "psnr")
    }
    means = (f"{psnr[name]['mean']:.2f}" for name in ("uniform", "meancache", "otcache"))
    own = psnr["otcache"]
    low, high = own["difference_low"], own["difference_high"]
    difference = f"{own['difference_mean']:+.2f} [{low:+.2f}, {high:+.2f}]"
    return f"| {budget} | {' | '.join(means)} | {difference} |"


@pytest.mark.parametrize(
    ("result", "budgets"),
    [("exact-flow", (8, 10, 12, 15)), ("embedded", (8, 10, 12, 15)), ("embedded-5", (5, 6))],
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


def test_the_other_settings_are_as_told() -> None:
    measured = json.loads((RESULTS / "exact-flow-settings.json").read_text())
    rows = [
        row
        for setting in measured[1:]
        for row in setting["rows"]
        if (row["policy"], row["metric"]) == ("otcache", "psnr")
    ]
    ahead = [row for row in rows if row["difference_mean"] > 0]
    surely = [row for row in rows if row["difference_low"] > 0]
    assert len(ahead) == len(rows)
    text = " ".join(README.split())
    assert f"mean PSNR is ahead in all {len(rows)} comparisons" in text
    assert f"the interval excludes zero in {len(surely)} of them" in text
