"""Differences by hand, at the same budget and at the same measured speed-up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from otcache_plugin.comparing.differences import (
    against,
    against_each,
    baseline_of,
    interpolated,
    to_baseline,
)
from otcache_plugin.comparing.methods import Variant
from otcache_plugin.comparing.results import ComparisonResult, Row
from otcache_plugin.errors import UnknownNameError


@pytest.fixture
def with_threshold(compared: ComparisonResult) -> ComparisonResult:
    """The comparison, and a cache that was measured 2 and 4 times as fast, of four pairs."""
    values = {2.0: [30.0, 34.0, 38.0, 30.0], 4.0: [20.0, 30.0, 36.0, 24.0]}
    template = compared.row("uniform", 8)

    def row(method: str, budget: int | None, speedup: float, psnr: list[float]) -> Row:
        return replace(
            template,
            variant=Variant(method, f"{speedup:g}", budget),
            label=method,
            values={"psnr": np.array(psnr), "ssim": np.ones(4)},
            speedups=np.array([speedup, 1.0]),
        )

    rows = [row("cache", None, speedup, psnr) for speedup, psnr in values.items()]
    return replace(
        compared,
        rows=(
            row("otcache", 8, 3.5, [25.0, 35.0, 39.0, 28.0]),
            row("otcache", 10, 1.9, [25.0, 35.0, 39.0, 28.0]),
            row("uniform", 8, 3.0, [24.0, 31.0, 36.0, 25.5]),
            *rows,
        ),
    )


def test_between_two_settings(with_threshold: ComparisonResult) -> None:
    cache = with_threshold.of_method("cache")
    # 3.5 lies at three quarters of the way from 2 to 4.
    between = interpolated(cache[::-1], "psnr", 3.5)
    assert between is not None
    assert between.tolist() == [22.5, 31.0, 36.5, 25.5]
    assert interpolated(cache, "psnr", 2.0) is not None
    for beyond in (1.9, 4.1):
        assert interpolated(cache, "psnr", beyond) is None


def test_each_method_at_budget_or_speed(with_threshold: ComparisonResult) -> None:
    eight, ten = against_each(with_threshold, "psnr")
    cache, uniform = eight.differences["cache"], eight.differences["uniform"]
    assert cache is not None
    assert uniform is not None
    assert cache.at == "3.50× as fast"
    assert cache.paired.mean == pytest.approx(np.mean([2.5, 4.0, 2.5, 2.5]))
    assert cache.verdict == "ahead"
    assert uniform.at == "8 steps"
    assert uniform.paired.mean == pytest.approx(np.mean([1.0, 4.0, 3.0, 2.5]))
    assert ten.differences == {"cache": None, "uniform": None}  # Out of their reach.


def test_less_is_better_for_some(with_threshold: ComparisonResult) -> None:
    row = with_threshold.row("otcache", 8)
    uniform = with_threshold.of_method("uniform")
    for higher, verdict in ((True, "ahead"), (False, "behind")):
        found = against(row, uniform, "psnr", higher)
        assert found is not None
        assert found.verdict == verdict
    same = against(row, uniform, "ssim", higher_is_better=True)
    assert same is not None
    assert same.verdict == "tie"


def test_baselines(with_threshold: ComparisonResult) -> None:
    assert baseline_of(with_threshold) == "uniform"  # where MeanCache was not measured
    settings = with_threshold.settings
    named = replace(with_threshold, settings=replace(settings, baseline="cache"))
    found = to_baseline(named, named.row("uniform", 8), "psnr")
    assert found is not None
    assert found.paired.mean == pytest.approx(np.mean([-1.0, -1.0, -1.0, -1.5]))
    assert to_baseline(named, named.of_method("cache")[0], "psnr") is None
    unknown = replace(with_threshold, settings=replace(settings, baseline="gram"))
    with pytest.raises(UnknownNameError, match="baseline='gram': it was not measured"):
        baseline_of(unknown)
