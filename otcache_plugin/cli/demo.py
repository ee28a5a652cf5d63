"""`otcache demo`: what the policy does for a model, measured here and shown with pictures."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from otcache_plugin.cli.common.output import (
    Json,
    Quiet,
    StageProgress,
    data_console,
    import_libraries,
    print_json,
)

if TYPE_CHECKING:
    from otcache_plugin.comparing.results import ComparisonResult, ComparisonSettings, MethodRow

DEFAULT_OUTPUT = Path("otcache-demo/report.html")


def demo(
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="The report, an HTML file.")
    ] = DEFAULT_OUTPUT,
    model: Annotated[str, typer.Option(help="embedded or exact-flow.")] = "embedded",
    policy: Annotated[
        str, typer.Option(help="otcache for the bundled document, or a document's folder.")
    ] = "otcache",
    pairs: Annotated[int, typer.Option(help="Held-out prompt-seed pairs.")] = 64,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Accelerate the embedded model and write a report."""
    with StageProgress(quiet) as progress:
        import_libraries(progress)
        result = _compared(output, model, policy, pairs, progress)
    if json:
        print_json({**result.to_dict(), "report": str(output)})
        return
    console = data_console()
    console.print(_table(result))
    console.print(_caption(result))
    console.print(f"report: {output}", soft_wrap=True)


def _compared(
    output: Path, model: str, policy: str, pairs: int, progress: StageProgress
) -> ComparisonResult:
    """Compare, and write the report."""
    import torch

    from otcache_plugin.calibration import stages
    from otcache_plugin.comparing.comparison import compare
    from otcache_plugin.comparing.html_report import render_report
    from otcache_plugin.comparing.pages import require_writable, write_page
    from otcache_plugin.comparing.results import ComparisonSettings
    from otcache_plugin.models.setups import load_setup

    settings = ComparisonSettings(policy=policy, pairs=pairs)
    require_writable(output)
    # Every operation waits for its slowest thread, and these are tiny: on a busy machine a second
    # thread made a run 28 times slower.
    torch.set_num_threads(1)
    progress.announce(stages.LOADING)
    result = compare(load_setup(model), settings, progress)
    write_page(output, render_report(result, command_again(model, settings)))
    return result


def command_again(model: str, settings: ComparisonSettings) -> str:
    """Return the command that makes a demo's report again."""
    from otcache_plugin.comparing.results import ComparisonSettings
    from otcache_plugin.comparing.three_methods import BUNDLED

    words = ["otcache", "demo", "--model", model]
    if settings.policy != BUNDLED:
        words += ["--policy", settings.policy]
    if settings.pairs != ComparisonSettings().pairs:
        words += ["--pairs", str(settings.pairs)]
    return shlex.join(words)


def _table(result: ComparisonResult) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("steps", justify="right")
    table.add_column("method")
    table.add_column("speed-up", justify="right")
    table.add_column("limit", justify="right")
    table.add_column("PSNR", justify="right")
    table.add_column("SSIM", justify="right")
    table.add_column("pairs", justify="right")
    table.add_column("dB to MeanCache", no_wrap=True)
    for row in result.rows:
        table.add_row(*_cells(row, result), end_section=row.method == "otcache")
    return table


def _cells(row: MethodRow, result: ComparisonResult) -> tuple[str, ...]:
    own = row.method == "otcache"
    return (
        f"{row.budget}/{result.num_inference_steps}",
        row.method,
        f"{row.speedup:.2f}x",
        f"{row.limit:.2f}x",
        f"{row.psnr.mean():.2f}",
        f"{row.ssim.mean():.4f}",
        str(len(row.psnr)),
        str(result.gain(row.budget)) if own else "",
    )


def _caption(result: ComparisonResult) -> str:
    disturbed = "; above it, other work kept the machine busy" if result.disturbed else ""
    return (
        f"Mean PSNR (dB) and SSIM to the pictures of all {result.num_inference_steps} steps; in "
        f"brackets the 95 % confidence interval of the difference, pair by pair. Uniform and "
        f"MeanCache: {result.look_back_rule}; OTCache: the look-backs searched with its steps. "
        f"Speed-up of calls without decoding, {result.timed_pairs} "
        f"pictures each, median of {result.settings.rounds} rounds on {result.machine}; its limit "
        f"is all steps over computed ones{disturbed}. Took {result.seconds:.0f} s."
    )
