"""What the commands share that compare methods: comparing, and the table of what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from otcache_plugin.cli.common.output import data_console

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from otcache_plugin.cli.common.output import StageProgress
    from otcache_plugin.comparing.results import ComparisonResult, Row
    from otcache_plugin.comparing.settings import ComparisonSettings
    from otcache_plugin.models.source import ModelSource


def steps_of(documents: Sequence[str]) -> int:
    """Return the inference steps that documents were calibrated at, or else the usual ones.

    Raises:
        OTCacheError: the first document cannot be read.
    """
    from otcache_registry.documents.references import parse_reference
    from otcache_registry.finding.loading import load_reference

    from otcache_plugin.comparing.settings import STEPS

    if not documents:
        return STEPS
    return load_reference(parse_reference(documents[0])).document.num_inference_steps


def compared(
    source: ModelSource, settings: ComparisonSettings, work: Path, progress: StageProgress
) -> ComparisonResult:
    """Load a model and compare methods on it; unknown ones are refused before."""
    import torch

    from otcache_plugin.calibration import stages
    from otcache_plugin.comparing.comparison import compare
    from otcache_plugin.comparing.contenders.known import chosen_methods
    from otcache_plugin.models.setups import SETUPS

    chosen_methods(settings.methods)
    if source.model in SETUPS:
        # Every operation waits for its slowest thread, and these are tiny: on a busy machine a
        # second thread made a run 28 times slower. One thread serves every method alike.
        torch.set_num_threads(1)
    progress.announce(stages.LOADING)
    return compare(source.load(), settings, work, progress)


def print_comparison(result: ComparisonResult) -> None:
    """Print the figures, what they mean, and what was not run."""
    from otcache_plugin.comparing.tables import notes

    console = data_console()
    console.print(_table(result))
    console.print(notes(result), markup=False)
    for each in result.not_run:
        setting = f", {each.setting}" if each.setting else ""
        console.print(
            f"not run: {each.label}{setting}: {each.reason}", markup=False, soft_wrap=True
        )


def _table(result: ComparisonResult) -> Table:
    from otcache_plugin.comparing.differences import baseline_of
    from otcache_plugin.comparing.tables import label_of

    baseline = baseline_of(result)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))  # 80 columns hold it.
    table.add_column("method")
    table.add_column("setting")
    for name in ("s", "speed-up", *(name.upper() for name in result.metrics)):
        table.add_column(name, justify="right", no_wrap=True)
    if baseline is not None:
        name = result.quality.unit or result.quality.name.upper()
        table.add_column(f"{name} to {label_of(result, baseline)}", no_wrap=True)
    for row in (result.full, *result.rows):
        table.add_row(*_cells(result, row))
    return table


def _cells(result: ComparisonResult, row: Row) -> list[str]:
    from otcache_plugin.comparing.differences import TIE, to_baseline
    from otcache_plugin.comparing.wording import digits_of, interval

    full = row is result.full
    quality = result.quality.name
    difference = None if full else to_baseline(result, row, quality)
    found = ""
    if difference is not None:
        tie = " tie" if difference.verdict == TIE else ""
        found = f"{interval(difference, digits_of(quality))}{tie}"
    return [
        row.label,
        row.variant.setting,
        f"{row.seconds:.2f}",
        f"{row.speedup:.2f}x",
        *(
            ""
            if full and not result.judges_full_run(name)
            else f"{row.mean(name):.{digits_of(name)}f}"
            for name in result.metrics
        ),
        found,
    ]
