"""The figures of a comparison as tables: Markdown for people, CSV for programs."""

from __future__ import annotations

import csv
from io import StringIO
from typing import TYPE_CHECKING

from otcache_plugin.comparing.differences import against_each, baseline_of, subject_of, to_baseline
from otcache_plugin.comparing.wording import digits_of, interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_plugin.comparing.results import ComparisonResult, Row

GIBI = 2**30
HOW = (
    "At the same budget; where that is an outcome of the other's setting, as a threshold's is, at "
    "the same measured speed-up of the loop: there the other is interpolated, pair by pair and "
    "linearly, between its own settings, and never extrapolated. A tie is a 95 % confidence "
    "interval that includes zero."
)
NONE = "–"


def label_of(result: ComparisonResult, method: str) -> str:
    """Return what people call a method that was measured."""
    return result.of_method(method)[0].label


def flops_unit(result: ComparisonResult) -> tuple[float, str]:
    """Return the unit that the full run's operations are read in, and its name."""
    return (1e12, "TFLOPs") if result.full.counts.flops >= 1e12 else (1e9, "GFLOPs")


def headings(result: ComparisonResult) -> list[str]:
    """Return the headings of `cells`."""
    baseline = baseline_of(result)
    metrics = [
        f"{name.upper()}, {metric.unit}" if metric.unit else name.upper()
        for name, metric in result.metrics.items()
    ]
    quality = result.quality
    unit = f", {quality.unit}" if quality.unit else ""
    to = "" if baseline is None else f" to {label_of(result, baseline)}"
    peak = [] if result.full.peak_memory is None else ["peak memory, GiB"]
    return [
        "method",
        "setting",
        "seconds",
        "speed-up",
        *metrics,
        f"{quality.name.upper()}{to}{unit}",
        "loop, s",
        "loop speed-up",
        "limit",
        "calls",
        "blocks",
        f"{flops_unit(result)[1]} per picture",
        *peak,
        "calibration, steps",
    ]


def cells(result: ComparisonResult, row: Row) -> list[str]:
    """Return a row's figures, as people read them."""
    counts, limit = row.counts, result.limit(row)
    full = row is result.full
    difference = None if full else to_baseline(result, row, result.quality.name)
    compared = NONE
    if difference is not None:
        found = interval(difference, digits_of(result.quality.name))
        at = "" if difference.at == f"{row.budget} steps" else f" at {difference.at}"
        compared = f"{found}, {difference.verdict}{at}"
    return [
        row.label,
        row.variant.setting,
        f"{row.seconds:.2f}",
        f"{row.speedup:.2f}×",
        *(
            NONE
            if full and not result.judges_full_run(name)
            else f"{row.mean(name):.{digits_of(name)}f}"
            for name in result.metrics
        ),
        compared,
        f"{row.loop_seconds:.2f}",
        f"{row.loop_speedup:.2f}×",
        NONE if limit is None or full else f"{limit:.2f}×",
        f"{counts.transformer_calls:g}",
        NONE if counts.block_evaluations is None else f"{counts.block_evaluations:g}",
        f"{counts.flops / flops_unit(result)[0]:.3g}",
        *([] if row.peak_memory is None else [f"{row.peak_memory / GIBI:.2f}"]),
        "unknown" if row.calibration_steps is None else f"{row.calibration_steps:,}",
    ]


def subject_table(result: ComparisonResult) -> list[list[str]]:
    """Return the subject against each other method at its own speed-ups, headings first."""
    metric = result.quality.name
    rows = against_each(result, metric)
    table = [
        [
            "method",
            *(f"at {each.row.loop_speedup:.2f}× ({each.row.variant.setting})" for each in rows),
        ]
    ]
    for method in rows[0].differences if rows else ():
        found = [each.differences[method] for each in rows]
        table.append(
            [
                label_of(result, method),
                *(
                    NONE
                    if difference is None
                    else f"{interval(difference, digits_of(metric))}, {difference.verdict}"
                    for difference in found
                ),
            ]
        )
    return table


def markdown(result: ComparisonResult) -> str:
    """Return all figures as Markdown."""
    rows = [cells(result, row) for row in (result.full, *result.rows)]
    subject = subject_of(result)
    parts = [f"# {result.model}: methods side by side\n", _table([headings(result), *rows])]
    if subject is not None and len(result.methods) > 1:
        name, label = result.quality.name.upper(), label_of(result, subject)
        parts += [
            f"## {label} against each other method\n",
            f"{name} of {label} minus that of the other. {HOW}\n",
            _table(subject_table(result)),
        ]
    if result.not_run:
        reasons = [[each.label, each.setting, each.reason] for each in result.not_run]
        parts += ["## Not run\n", _table([["method", "setting", "why"], *reasons])]
    return "\n".join([*parts, notes(result)]) + "\n"


def notes(result: ComparisonResult) -> str:
    """Return what is to be known of the figures."""
    pairs, rounds = len(result.pairs), result.settings.rounds
    medians = "in one round" if rounds == 1 else f"medians of {rounds} rounds"
    busy = (
        " A speed-up above its limit says that other work kept the machine busy: these times "
        "scatter."
        if result.disturbed
        else ""
    )
    return (
        f"Means over {pairs} held-out prompt-seed pairs, to the full run's pictures. Differences "
        "are pair by pair, with 95 % confidence intervals of the mean (Student's t); a tie is one "
        "whose interval includes zero. Seconds of a call that makes "
        f"{result.timed_pairs} pictures, text encoding included, the loop's without decoding, "
        f"{medians} in which all took turns; speed-ups are medians of the "
        f"rounds' ratios. On {result.machine}. The limit is all steps over computed ones. "
        f"Operations as PyTorch counts them.{busy}"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def csv_text(result: ComparisonResult) -> str:
    """Return one line per variant, values unrounded; what is unknown is empty."""
    metrics = list(result.metrics)
    quality = result.quality.name
    written = StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(
        [
            *("method", "setting", "budget", "seconds", "speedup", "loop_seconds", "loop_speedup"),
            *("transformer_calls", "block_evaluations", "flops", "peak_memory"),
            *metrics,
            *("difference", "low", "high", "verdict", "calibration_steps"),
        ]
    )
    for row in (result.full, *result.rows):
        counts = row.counts
        difference = None if row is result.full else to_baseline(result, row, quality)
        paired = None if difference is None else difference.paired
        compared = (
            [None] * 4
            if difference is None or paired is None
            else [paired.mean, paired.low, paired.high, difference.verdict]
        )
        writer.writerow(
            [
                *(row.method, row.variant.setting, row.budget, row.seconds, row.speedup),
                *(row.loop_seconds, row.loop_speedup, counts.transformer_calls),
                *(counts.block_evaluations, counts.flops, row.peak_memory),
                *(row.mean(name) for name in metrics),
                *(*compared, row.calibration_steps),
            ]
        )
    return written.getvalue()
