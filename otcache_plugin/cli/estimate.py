"""How ``otcache calibrate --dry-run`` prints what a calibration would take."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from otcache_plugin.calibration.cost import Estimate


def estimate_data(estimate: Estimate) -> dict[str, Any]:
    """The estimate as JSON."""
    step = estimate.step
    return {
        "batch_size": estimate.batch_size,
        "step_seconds": step.seconds,
        "overhead_seconds_per_call": step.overhead_seconds,
        "transformer_calls_per_step": step.transformer_calls,
        "peak_bytes": step.peak_bytes,
        "stages": [
            {
                "stage": stage.stage,
                "transformer_calls": estimate.transformer_calls(stage),
                "seconds": estimate.seconds(stage),
            }
            for stage in estimate.stages
        ],
        "transformer_calls": sum(map(estimate.transformer_calls, estimate.stages)),
        "seconds": sum(map(estimate.seconds, estimate.stages)),
    }


def print_estimate(estimate: Estimate, device: str) -> None:
    """The estimate as a table."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("transformer calls", justify="right")
    table.add_column("time on one worker", justify="right")
    for stage in estimate.stages:
        calls, seconds = estimate.transformer_calls(stage), estimate.seconds(stage)
        table.add_row(stage.stage, f"{calls:,}", _duration(seconds))
    data = estimate_data(estimate)
    table.add_section()
    table.add_row("at most", f"{data['transformer_calls']:,}", _duration(data["seconds"]))
    console = Console(highlight=False)
    console.print(table)
    step = estimate.step
    console.print(
        f"\nMeasured here: {step.seconds:.3g} s a step of {estimate.batch_size} pairs on "
        f"{device}, {step.overhead_seconds:.3g} s a call besides; peak memory "
        f"{step.peak_bytes / 2**30:.1f} GiB.\nIdentical schedules are run once and hopeless "
        "trials cut short, so it will be less.",
        soft_wrap=True,
    )


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
