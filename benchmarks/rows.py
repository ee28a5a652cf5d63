"""Rows of results: paired differences at each budget, corrected for their number, and a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from otcache_plugin.evaluation.statistics import paired_difference

Values = Mapping[tuple[str, int], Mapping[str, NDArray[np.float64]]]
"""Of each held-out pair, by whose schedule and which budget, then by metric."""


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm)."""
    order = np.argsort(p_values)
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order.tolist()):
        highest = max(highest, (len(p_values) - rank) * p_values[index])
        corrected[index] = min(1.0, highest)
    return corrected


def rows_of(
    values: Values,
    name: str,
    baseline: str,
    metric: str,
) -> list[dict[str, Any]]:
    """Return a procedure's figures at each budget against a baseline's."""
    budgets = [budget for (each, budget), own in values.items() if each == name and metric in own]
    rows = []
    for budget in budgets:
        own, other = values[name, budget][metric], values[baseline, budget][metric]
        difference = paired_difference(own, other)
        same = bool((own == other).all())
        rows.append(
            {
                "budget": budget,
                "mean": float(own.mean()),
                "difference": difference.mean,
                "low": difference.low,
                "high": difference.high,
                "standard_error": difference.standard_error,
                "p": 1.0 if same else float(stats.ttest_rel(own, other).pvalue),
            }
        )
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = corrected
    return rows


def over_budgets(values: Values, name: str, baseline: str) -> dict[str, Any]:
    """Return the paired difference in PSNR of a procedure's mean over its budgets to a baseline's.

    It is of each pair's mean, so that its interval is that of the pairs, whatever budgets have in
    common.
    """
    budgets = [budget for each, budget in values if each == name]
    own, other = (
        np.mean([values[each, budget]["psnr"] for budget in budgets], axis=0)
        for each in (name, baseline)
    )
    return asdict(paired_difference(own, other))


def cell(row: Mapping[str, Any] | None) -> str:
    """Return a difference, marked where it is significant after the correction."""
    if row is None:
        return ""
    return f"{row['difference']:+.2f}±{row['standard_error']:.2f}{mark(row)}"


def mark(row: Mapping[str, Any]) -> str:
    """Return the sign of a difference that is significant after the correction, else nothing."""
    if row["p_holm"] >= 0.05:
        return ""
    return "▲" if row["difference"] > 0 else "▼"


def keep(path: Path | None, model: str, result: Mapping[str, Any]) -> None:
    """Write one model's figures beside those of the others in a file, where one is asked for."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, model: result}, indent=1) + "\n")
