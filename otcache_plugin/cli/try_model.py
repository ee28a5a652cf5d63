"""`otcache try`: a prompt in full, with uniform spacing and with a policy, side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from otcache_plugin.cli.common.again import command_of
from otcache_plugin.cli.common.calibrating_on_the_way import Calibration, Effort, calibrated
from otcache_plugin.cli.common.calibration_output import (
    data_alone_on_stdout,
    noting_what_is_kept,
    print_how_to_save,
    write_result,
)
from otcache_plugin.cli.common.output import (
    Json,
    Quiet,
    StageProgress,
    data_console,
    import_libraries,
    print_json,
)
from otcache_plugin.errors import ArgumentError

if TYPE_CHECKING:
    from otcache_plugin.comparing.settings import SideBySideSettings
    from otcache_plugin.comparing.side_by_side import SideBySide
    from otcache_plugin.models.setups import ModelSetup
    from otcache_plugin.models.source import ModelSource

DEFAULT_OUTPUT = Path("otcache-try")
PAGE, DOCUMENT = "page.html", "policy"
"""What lies in the output folder."""


def try_model(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="embedded, exact-flow, a Hub id or a folder.")
    ],
    prompt: Annotated[
        list[str], typer.Option("--prompt", help="What to show; more than once for several.")
    ],
    policy: Annotated[
        str, typer.Option(help="What policy= takes: a name, a document's folder, hub:user/name.")
    ] = "otcache",
    budget: Annotated[int, typer.Option(help="Steps to compute.")] = 10,
    num_inference_steps: Annotated[int, typer.Option("--steps", help="Inference steps, T.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the page, and of a document made here.")
    ] = DEFAULT_OUTPUT,
    revision: Annotated[
        str | None, typer.Option(help="Commit of the weights; what to call a folder's.")
    ] = None,
    call: Annotated[str, typer.Option(help="JSON of further pipeline call arguments.")] = "{}",
    calibrate: Annotated[
        Effort | None, typer.Option(help="Make a document where there is none.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="With --calibrate: prompts of your own to calibrate on.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="With --calibrate: what is minimised, as for calibrate.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Try a policy on prompts of yours, beside the full run and uniform spacing."""
    from otcache_plugin.comparing.pages import require_writable
    from otcache_plugin.comparing.settings import SideBySideSettings
    from otcache_plugin.models.source import ModelSource

    for name, given in (("prompts", prompts), ("metric", metric)):
        if given is not None and calibrate is None:
            remedy = "Add --calibrate, or leave it out"
            raise ArgumentError(name, str(given), "nothing is calibrated", remedy)
    source = ModelSource(model, revision, prompts, call=call)
    source.check()
    settings = SideBySideSettings(tuple(prompt), policy, budget, num_inference_steps, seed)
    wanted = None if calibrate is None else Calibration(calibrate, output / DOCUMENT, metric)
    page = output / PAGE
    require_writable(page)
    with data_alone_on_stdout(), noting_what_is_kept(), StageProgress(quiet) as progress:
        import_libraries(progress)
        result = _tried(source, settings, wanted, page, progress)
    if json:
        print_json({**result.to_dict(), "page": str(page)})
        return
    console = data_console()
    console.print(_table(result))
    console.print(_caption(result))
    if result.report.document is not None:
        console.print(f"document: {result.report.document}", soft_wrap=True)
    console.print(f"page: {page}", soft_wrap=True)
    if wanted is not None and result.settings.policy != policy:
        print_how_to_save(wanted.folder, policy)


def _tried(
    source: ModelSource,
    settings: SideBySideSettings,
    wanted: Calibration | None,
    page: Path,
    progress: StageProgress,
) -> SideBySide:
    """Try, and write the page."""
    import torch

    from otcache_plugin.calibration import stages
    from otcache_plugin.comparing.pages import write_page
    from otcache_plugin.comparing.side_by_side import try_side_by_side
    from otcache_plugin.comparing.side_by_side_page import render_side_by_side
    from otcache_plugin.models.setups import SETUPS

    if source.model in SETUPS:
        torch.set_num_threads(1)  # They are so small that further threads slow them down.
    progress.announce(stages.LOADING)
    setup = source.load()
    settings = _served(setup, settings, wanted, progress)
    result = try_side_by_side(setup, settings, progress)
    write_page(page, render_side_by_side(result, command_again(source, settings, page.parent)))
    return result


def _served(
    setup: ModelSetup,
    settings: SideBySideSettings,
    wanted: Calibration | None,
    progress: StageProgress,
) -> SideBySideSettings:
    """Return the settings with a policy that has a document, made on the way if need be."""
    from otcache_registry import DocumentNotFoundError

    from otcache_plugin.comparing.side_by_side import require_served
    from otcache_plugin.plugins.host import plugin_host

    try:
        require_served(setup, settings)
        return settings
    except DocumentNotFoundError as error:
        if settings.policy not in plugin_host().policies:
            raise  # It names a document, which is not to be replaced by another.
        if wanted is None:
            remedy = f"{error.remedy.rstrip('.')}.\nOr add --calibrate quick here"
            raise DocumentNotFoundError(error.field, error.value, error.problem, remedy) from error
    folder = wanted.folder
    write_result(folder, calibrated(setup, settings, wanted, progress), str(wanted.work), progress)
    # A bare word would be taken for a policy's name.
    return replace(settings, policy=str(folder) if folder.is_absolute() else f"./{folder}")


def command_again(source: ModelSource, settings: SideBySideSettings, output: Path) -> str:
    """Return the command that makes a page again."""
    from otcache_plugin.comparing.settings import SideBySideSettings

    usual = SideBySideSettings(())
    options = {
        "--policy": (settings.policy, usual.policy),
        "--budget": (settings.budget, usual.budget),
        "--steps": (settings.num_inference_steps, usual.num_inference_steps),
        "--seed": (settings.seed, usual.seed),
        "--revision": (source.revision, None),
        "--call": (source.call, "{}"),
        "--output": (output, DEFAULT_OUTPUT),
    }
    prompts = (word for prompt in settings.prompts for word in ("--prompt", prompt))
    return command_of(["try", source.model, *prompts], options)


def _table(result: SideBySide) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("method")
    for name in ("steps", "seconds", "speed-up", "limit", "PSNR", "SSIM"):
        table.add_column(name, justify="right")
    total = result.settings.num_inference_steps
    table.add_row("full", f"{total}/{total}", f"{result.full_seconds:.2f}", "1.00x")
    for row in result.rows:
        table.add_row(
            row.method,
            f"{row.budget}/{total}",
            f"{row.seconds:.2f}",
            f"{row.speedup:.2f}x",
            f"{row.limit:.2f}x",
            f"{row.psnr.mean():.2f}",
            f"{row.ssim.mean():.4f}",
        )
    return table


def _caption(result: SideBySide) -> str:
    count = len(result.settings.prompts)
    means = f", means over {count} prompts" if count > 1 else ""
    frames = f" and all {result.frames} frames" if result.frames > 1 else ""
    medians = ", medians over the prompts" if count > 1 else ""
    return (
        f"PSNR (dB) and SSIM to the full run's output{means}{frames}. Seconds of a whole call, "
        f"text encoding and decoding included{medians}, on {result.machine}; one run that is not "
        "timed went ahead, and the methods took turns. The limit is all steps over computed ones."
    )
