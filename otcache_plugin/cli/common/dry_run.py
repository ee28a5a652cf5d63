"""How `otcache calibrate --dry-run` prints what a calibration would take, and its alternatives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.table import Table

from otcache_plugin.cli.common.output import data_console, print_json

if TYPE_CHECKING:
    from otcache_plugin.calibration.cost import Estimate


@dataclass(frozen=True)
class ComparedEffort:
    """A way to calibrate, and what it would take.

    Attributes:
        name: what it is called.
        chosen: whether it is the one that was asked for.
        outcome: what to expect of it, or why it cannot be had.
        estimate: None where it cannot be had.
    """

    name: str
    chosen: bool
    outcome: str
    estimate: Estimate | None


def estimate_data(estimate: Estimate) -> dict[str, Any]:
    """Return the estimate as JSON."""
    return {
        "measured": asdict(estimate.measured),
        "loading_seconds": estimate.loading_seconds,
        "stages": [
            {
                "stage": stage.stage,
                "denoising_steps": estimate.steps(stage),
                "denoising_steps_at_most": stage.denoising_steps,
                "transformer_calls": estimate.transformer_calls(stage),
                "minimised": stage.minimised,
                "seconds": estimate.seconds(stage),
                "ends_early": stage.ends_early,
            }
            for stage in estimate.stages
        ],
        **_sums(estimate),
    }


def _sums(estimate: Estimate) -> dict[str, Any]:
    return {
        "pairs": estimate.pairs,
        "denoising_steps": estimate.denoising_steps,
        "evidence_steps": estimate.evidence_steps,
        "transformer_calls": estimate.all_transformer_calls,
        "seconds": estimate.all_seconds,
        "ends_early": estimate.ends_early,
    }


def compared_data(compared: list[ComparedEffort]) -> list[dict[str, Any]]:
    """Return the ways to calibrate as JSON."""
    return [
        {
            "name": each.name,
            "chosen": each.chosen,
            "outcome": each.outcome,
            **({} if each.estimate is None else _sums(each.estimate)),
        }
        for each in compared
    ]


def print_estimate(
    estimate: Estimate, compared: list[ComparedEffort], device: str, batch_size: int, json: bool
) -> None:
    """Print the estimate as tables, or as JSON."""
    if json:
        alternatives = {"alternatives": compared_data(compared)} if compared else {}
        print_json({**estimate_data(estimate), "batch_size": batch_size, **alternatives})
        return
    console = data_console()
    if compared:
        console.print(_comparison(compared))
        for each in compared:
            console.print(f"[bold]{each.name}[/]: {each.outcome}.", soft_wrap=True)
        console.print()
    console.print(_stages(estimate))
    measured = estimate.measured
    step = measured.call_step_seconds + measured.pair_step_seconds * batch_size
    console.print(
        f"\nMeasured on {device} with batches of {batch_size}: a recorded run "
        f"{measured.record_seconds:.3g} s, a step {step:.3g} s, the rest of a run "
        f"{measured.call_seconds:.3g} s, a schedule by the quadratic form "
        f"{measured.minimise_seconds:.3g} s; peak memory {_gibibytes(measured.peak_bytes)}.",
        soft_wrap=True,
    )
    if estimate.ends_early:
        console.print(
            "Identical schedules are run once and hopeless trials cut short, so it will be less.",
            soft_wrap=True,
        )


def _gibibytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"


def _comparison(compared: list[ComparedEffort]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("effort", style="bold")
    for heading in ("pairs", "denoising steps", "and for the evidence", "time on one worker"):
        table.add_column(heading, justify="right")
    for each in compared:
        name = f"{each.name} *" if each.chosen else each.name
        if each.estimate is None:
            table.add_row(name)
            continue
        estimate = each.estimate
        table.add_row(
            name,
            str(estimate.pairs),
            _bounded(estimate.ends_early, f"{estimate.denoising_steps:,}"),
            f"{estimate.evidence_steps:,}",
            _bounded(estimate.ends_early, _duration(estimate.all_seconds)),
        )
    return table


def _stages(estimate: Estimate) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("denoising steps", justify="right")
    table.add_column("transformer calls", justify="right")
    table.add_column("time on one worker", justify="right")
    table.add_row("importing and loading", "", "", _duration(estimate.starting_seconds))
    for stage in estimate.stages:
        seconds = _duration(estimate.seconds(stage))
        if not stage.calls:
            table.add_row(stage.stage, "", "", seconds)
            continue
        table.add_row(
            stage.stage,
            _bounded(stage.ends_early, f"{estimate.steps(stage):,}"),
            _bounded(stage.ends_early, f"{estimate.transformer_calls(stage):,}"),
            _bounded(stage.ends_early, seconds),
        )
    table.add_section()
    table.add_row(
        "at most" if estimate.ends_early else "about",
        f"{estimate.denoising_steps + estimate.evidence_steps:,}",
        f"{estimate.all_transformer_calls:,}",
        _duration(estimate.all_seconds),
    )
    return table


def _bounded(ends_early: bool, text: str) -> str:
    return f"at most {text}" if ends_early else text


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
