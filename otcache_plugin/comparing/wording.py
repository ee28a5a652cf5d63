"""What a comparison found, in plain sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_plugin.comparing.differences import subject_of

if TYPE_CHECKING:
    from otcache_plugin.comparing.differences import Difference
    from otcache_plugin.comparing.results import ComparisonResult, Row

SAME, ALIKE = 0.98, 0.9
"""Mean SSIM from which pictures look the same, and from which they look much the same."""

FASTER = 1.05
"""Speed-up below which nobody would call it faster."""


def shown_row(result: ComparisonResult) -> Row | None:
    """Return the row that a report begins with: the subject's fastest that looks the same.

    Where none does it is the one that comes nearest; None where nothing was measured.
    """
    subject = subject_of(result)
    rows = [] if subject is None else result.of_method(subject)
    same = [row for row in rows if row.mean("ssim") >= SAME]
    if same:
        return max(same, key=lambda row: claimed_speedup(result, row))
    return max(rows, key=lambda row: row.mean("ssim"), default=None)


def claimed_speedup(result: ComparisonResult, row: Row) -> float:
    """Return a row's speed-up, but no more than it can be: beyond that it is other work's doing."""
    limit = result.limit(row)
    return row.speedup if limit is None else min(row.speedup, limit)


def headline(result: ComparisonResult, row: Row) -> str:
    """Return what a row did in a sentence: "4.7 times faster, and looks the same: SSIM 0.992"."""
    speedup, ssim = claimed_speedup(result, row), row.mean("ssim")
    speed = f"{speedup:.1f} times faster"
    if speedup < FASTER:
        speed = f"Not faster ({speedup:.2f} times as fast)"
    looks = "looks the same" if ssim >= SAME else "looks much the same"
    if ssim < ALIKE:
        looks = "looks different"
    joined = "but" if (speedup < FASTER) is (ssim >= ALIKE) else "and"
    return f"{speed}, {joined} {looks}: SSIM {ssim:.3f}"


def verdict(difference: Difference, other: str) -> str:
    """Return what an interval allows to say of a row beside another method, in a sentence."""
    paired = difference.paired
    if paired.low == paired.high == 0.0:
        return f"The same pictures as {other}."
    rate = paired.win_rate if difference.higher_is_better else 1 - paired.win_rate
    if difference.verdict == "tie":
        return f"A tie with {other}: no difference that {paired.pairs} pairs can show."
    return f"Closer to the full run than {other} on {100 * rate:.0f} % of the pairs."


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign, a real minus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def interval(difference: Difference, digits: int = 2) -> str:
    """Return a difference with its interval, "+1.20 [+0.40, +2.00]"."""
    paired = difference.paired
    mean, low, high = (signed(each, digits) for each in (paired.mean, paired.low, paired.high))
    return f"{mean} [{low}, {high}]"


def digits_of(metric: str) -> int:
    """Return the decimals that a metric's values are shown with."""
    return 2 if metric == "psnr" else 4
