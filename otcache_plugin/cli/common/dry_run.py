"""How `otcache calibrate --dry-run` prints what a calibration would take."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from otcache_plugin.cli.common.output import print_json

if TYPE_CHECKING:
    from otcache_plugin.calibration.cost import Estimate


def estimate_data(estimate: Estimate) -> dict[str, Any]:
    """Return the estimate as JSON."""
    return {
        "batch_size": estimate.batch_size,
        "measured": asdict(estimate.measured),
        "stages": [
            {
                "stage": stage.stage,
                "denoising_steps": stage.denoising_steps,
                "transformer_calls": estimate.transformer_calls(stage),
                "seconds": estimate.seconds(stage),
            }
            for stage in estimate.stages
        ],
        "denoising_steps": sum(stage.denoising_steps for stage in estimate.stages),
        "transformer_calls": sum(map(estimate.transformer_calls, estimate.stages)),
        "seconds": sum(map(estimate.seconds, estimate.stages)),
    }


def print_estimate(estimate: Estimate, device: str, json: bool) -> None:
    """Print the estimate as a table, or as JSON."""
    data = estimate_data(estimate)
    if json:
        print_json(data)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("denoising steps", justify="right")
    table.add_column("transformer calls", justify="right")
    table.add_column("time on one worker", justify="right")
    for stage in estimate.stages:
        calls, seconds = estimate.transformer_calls(stage), estimate.seconds(stage)
        table.add_row(stage.stage, f"{stage.denoising_steps:,}", f"{calls:,}", _duration(seconds))
    table.add_section()
    table.add_row(
        "at most",
        f"{data['denoising_steps']:,}",
        f"{data['transformer_calls']:,}",
        _duration(data["seconds"]),
    )
    console = Console(highlight=False)
    console.print(table)
    measured = estimate.measured
    step = measured.call_step_seconds + measured.pair_step_seconds * estimate.batch_size
    console.print(
        f"\nMeasured on {device} with batches of {estimate.batch_size}: a recorded run "
        f"{measured.record_seconds:.3g} s, a step {step:.3g} s, the rest of a run "
        f"{measured.call_seconds:.3g} s; peak memory {measured.peak_bytes / 2**30:.1f} GiB.\n"
        "Identical schedules are run once and hopeless trials cut short, so it will be less.",
        soft_wrap=True,
    )


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
