"""``otcache calibrate``: from a model to a policy document."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otcache_plugin.cli.output import Quiet, StageProgress, silence_loading


def calibrate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="embedded, exact-flow, a Hub id or a folder.")
    ],
    output: Annotated[Path, typer.Option(help="Folder of the document.")],
    revision: Annotated[
        str | None, typer.Option(help="Commit of the weights; what to call a folder's.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Text file, one prompt per line; every third is held out.")
    ] = None,
    call: Annotated[str, typer.Option(help="JSON of further pipeline call arguments.")] = "{}",
    steps: Annotated[int, typer.Option(help="Inference steps, T.")] = 50,
    budget_reference: Annotated[int, typer.Option(help="Budget of the reference.")] = 20,
    budget_anchor: Annotated[int, typer.Option(help="Budget of the anchor.")] = 8,
    trials: Annotated[int, typer.Option(help="Candidates of the anchor search.")] = 200,
    patience: Annotated[int, typer.Option(help="Trials without improvement.")] = 50,
    metric: Annotated[str, typer.Option(help="psnr, ssim, mse or lpips.")] = "psnr",
    pairs: Annotated[int, typer.Option(help="Calibration prompt-seed pairs.")] = 96,
    seed: Annotated[int, typer.Option(help="Seed of pairs and search.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Calibrate a policy for a model."""
    from otcache_registry import check_writable, render_card, write_policy

    check_writable(output)

    from otcache_plugin.calibration.anchor import AnchorSettings
    from otcache_plugin.calibration.calibrate import CalibrationSettings
    from otcache_plugin.calibration.calibrate import calibrate as run
    from otcache_plugin.evaluation.metrics import metric_named
    from otcache_plugin.models.pretrained import load_pretrained_setup
    from otcache_plugin.models.setups import SETUPS, load_setup

    metric_named(metric)
    settings = CalibrationSettings(
        num_inference_steps=steps,
        budget_reference=budget_reference,
        budget_anchor=budget_anchor,
        metric=metric,
        pairs=pairs,
        seed=seed,
        anchor=AnchorSettings(trials=trials, patience=patience, seed=seed),
    )
    silence_loading()
    if model in SETUPS:
        setup = load_setup(model)
    else:
        setup = load_pretrained_setup(model, revision, prompts, call)
    with StageProgress(quiet) as progress:
        result = run(setup, settings, progress)
    write_policy(output, result.document, result.edges, render_card(result.document))
    typer.echo(f"wrote {output}")
