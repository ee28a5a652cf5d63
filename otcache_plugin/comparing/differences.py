"""Differences between methods, pair by pair: at the same budget, or at the same measured speed-up.

Where a method's budget is an outcome, as a threshold's is, there is nothing to compare at. Its
quality at a speed-up is then interpolated, pair by pair and linearly, between the two of its own
variants that were measured on either side of it; nothing is extrapolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from otcache_plugin.comparing.contenders.policies import MEANCACHE, OTCACHE, UNIFORM
from otcache_plugin.errors import UnknownNameError
from otcache_plugin.evaluation.statistics import paired_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from otcache_plugin.comparing.results import ComparisonResult, Row
    from otcache_plugin.evaluation.statistics import PairedDifference

AHEAD, BEHIND, TIE = "ahead", "behind", "tie"


@dataclass(frozen=True)
class Difference:
    """A row's values of a metric minus those of another method.

    Attributes:
        at: what both have in common, "10 steps" or "4.31× as fast".
        paired: the difference, with its 95 % confidence interval.
        higher_is_better: the direction of quality.
    """

    at: str
    paired: PairedDifference
    higher_is_better: bool

    @property
    def verdict(self) -> str:
        """What the interval allows to say: the row is ahead, behind, or it is a tie."""
        if not self.paired.excludes_zero:
            return TIE
        return AHEAD if (self.paired.low > 0) is self.higher_is_better else BEHIND

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        paired = self.paired
        return {
            "at": self.at,
            "mean": paired.mean,
            "low": paired.low,
            "high": paired.high,
            "win_rate": paired.win_rate if self.higher_is_better else 1 - paired.win_rate,
            "verdict": self.verdict,
        }


def baseline_of(result: ComparisonResult) -> str | None:
    """Return the method that others are compared with: MeanCache, or else uniform, if not named.

    Raises:
        UnknownNameError: the one that is named was not measured.
    """
    named = result.settings.baseline
    if named is None:
        return next((name for name in (MEANCACHE, UNIFORM) if name in result.methods), None)
    if named not in result.methods:
        measured = ", ".join(result.methods) or "none"
        problem = "it was not measured"
        raise UnknownNameError("baseline", named, problem, f"Use one of these: {measured}")
    return named


def to_baseline(result: ComparisonResult, row: Row, metric: str) -> Difference | None:
    """Return a row's difference to the baseline, at its budget or else at its speed-up.

    None for the baseline itself, and where its variants do not reach that speed-up.
    """
    baseline = baseline_of(result)
    if baseline is None or row.method == baseline:
        return None
    rows = result.of_method(baseline)
    higher = result.metrics[metric].higher_is_better
    return against(row, rows, metric, higher)


def against(
    row: Row, others: Sequence[Row], metric: str, higher_is_better: bool
) -> Difference | None:
    """Return a row's difference to another method at the row's budget, or else at its speed-up.

    None where the other's variants do not reach that speed-up.
    """
    for other in others:
        if row.budget is not None and other.budget == row.budget:
            paired = paired_difference(row.values[metric], other.values[metric])
            return Difference(f"{row.budget} steps", paired, higher_is_better)
    values = interpolated(others, metric, row.loop_speedup)
    if values is None:
        return None
    paired = paired_difference(row.values[metric], values)
    return Difference(f"{row.loop_speedup:.2f}× as fast", paired, higher_is_better)


def interpolated(rows: Sequence[Row], metric: str, speedup: float) -> NDArray[np.float64] | None:
    """Return `(N,)` values of a method at a speed-up between those of its variants.

    Args:
        rows: the method's variants.
        metric: of which the values are.
        speedup: of calls without decoding.
    """
    ordered = sorted(rows, key=lambda row: row.loop_speedup)
    for slower, faster in pairwise(ordered):
        low, high = slower.loop_speedup, faster.loop_speedup
        if low <= speedup <= high:
            share = 0.0 if high == low else (speedup - low) / (high - low)
            between: NDArray[np.float64] = (1 - share) * slower.values[metric]
            return between + share * faster.values[metric]
    return None


def subject_of(result: ComparisonResult) -> str | None:
    """Return the method that others are held against at its speed-ups: OTCache, or the first."""
    methods = result.methods
    return OTCACHE if OTCACHE in methods else next(iter(methods), None)


@dataclass(frozen=True)
class AgainstEach:
    """The subject's variant against every other method.

    Attributes:
        row: the subject's.
        differences: the subject minus the other, by method; None out of that method's reach.
    """

    row: Row
    differences: dict[str, Difference | None]


def against_each(result: ComparisonResult, metric: str) -> list[AgainstEach]:
    """Return the subject against every other method at each of its own settings."""
    subject = subject_of(result)
    if subject is None:
        return []
    higher = result.metrics[metric].higher_is_better
    others = [name for name in result.methods if name != subject]
    return [
        AgainstEach(
            row,
            {name: against(row, result.of_method(name), metric, higher) for name in others},
        )
        for row in result.of_method(subject)
    ]


def differences_dict(result: ComparisonResult) -> dict[str, Any]:
    """Return all differences as plain values, for JSON."""
    baseline, subject = baseline_of(result), subject_of(result)
    return {
        "baseline": baseline,
        "to_baseline": [
            {
                "method": row.method,
                "setting": row.variant.setting,
                "differences": {
                    name: _plain(to_baseline(result, row, name)) for name in result.metrics
                },
            }
            for row in result.rows
            if row.method != baseline
        ],
        "subject": subject,
        "against_each": {
            name: [
                {
                    "setting": each.row.variant.setting,
                    "speedup": each.row.loop_speedup,
                    "differences": {
                        other: _plain(found) for other, found in each.differences.items()
                    },
                }
                for each in against_each(result, name)
            ]
            for name in result.metrics
        },
    }


def _plain(difference: Difference | None) -> dict[str, Any] | None:
    return None if difference is None else difference.to_dict()
