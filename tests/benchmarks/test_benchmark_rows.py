"""Rows of results, held against computations by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.rows import holm, over_budgets, rows_of


def test_p_values_are_corrected_from_the_smallest_on() -> None:
    # 3 x 0.01, then 2 x 0.02, then 1 x 0.3; none may be below the one before.
    assert holm([0.3, 0.01, 0.02]) == pytest.approx([0.3, 0.03, 0.04])
    assert holm([0.5, 0.02, 0.021]) == pytest.approx([0.5, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_rows_are_paired_differences_with_corrected_p_values() -> None:
    rng = np.random.default_rng(0)
    own, other = rng.normal(40, 1, 20), rng.normal(39.5, 1, 20)
    values = {
        ("ours", 8): {"psnr": own},
        ("graph", 8): {"psnr": other},
        ("ours", 9): {"psnr": own},
        ("graph", 9): {"psnr": own},
    }
    first, same = rows_of(values, "ours", "graph", "psnr")
    assert first["difference"] == pytest.approx((own - other).mean())
    assert first["p"] == pytest.approx(stats.ttest_1samp(own - other, 0).pvalue)
    assert first["p_holm"] == pytest.approx(min(1.0, 2 * first["p"]))
    assert (same["difference"], same["p"], same["p_holm"]) == (0.0, 1.0, 1.0)


def test_over_budgets_the_means_of_pairs_are_compared() -> None:
    """Two budgets that gain and lose the same at every pair gain nothing, and that surely."""
    own, other = np.array([40.0, 42.0, 44.0]), np.array([41.0, 41.0, 41.0])
    values = {
        ("ours", 8): {"psnr": own},
        ("theirs", 8): {"psnr": other},
        ("ours", 9): {"psnr": other + 1},
        ("theirs", 9): {"psnr": own},
        ("theirs", 10): {"psnr": other},
    }
    found = over_budgets(values, "ours", "theirs")
    assert (found["mean"], found["low"], found["high"], found["pairs"]) == (0.5, 0.5, 0.5, 3)
