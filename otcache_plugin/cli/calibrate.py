"""`otcache calibrate` and `otcache merge`: from a model to a policy document."""

from __future__ import annotations

import re
import sys
from contextlib import AbstractContextManager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperCommand

from otcache_plugin.calibration.settings import CalibrationSettings, SearchSettings
from otcache_plugin.cli.output import Json, Quiet, StageProgress, print_json, silence_loading
from otcache_plugin.errors import ArgumentError

if TYPE_CHECKING:
    from otcache_plugin.calibration.document import CalibrationResult
    from otcache_plugin.calibration.settings import SearchKind
    from otcache_plugin.models.source import ModelSource

THIS_MACHINE = "local"
_ADDRESS = re.compile(r"auto|local|ray://\S+|[^/\s]+:[0-9]+")
"""Neither a Hub id nor a folder, which may follow --ray as MODEL."""


class OptionalRayAddress(TyperCommand):
    """Lets `--ray` stand alone, for this machine; typer knows no option of that kind."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        completed = []
        for argument, following in zip(args, [*args, ""][1:], strict=True):
            completed.append(argument)
            if argument == "--ray" and not _ADDRESS.fullmatch(following):
                completed.append(THIS_MACHINE)
        return super().parse_args(ctx, completed)


def calibrate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="embedded, exact-flow, a Hub id or a folder.")
    ],
    output: Annotated[
        Path, typer.Option(help="Folder of the document; OUTPUT.calibration holds the work.")
    ],
    revision: Annotated[
        str | None, typer.Option(help="Commit of the weights; what to call a folder's.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Calibration prompts of your own: txt, jsonl or csv.")
    ] = None,
    evaluation_prompts: Annotated[
        Path | None, typer.Option(help="Held-out prompts of your own, for the evidence.")
    ] = None,
    call: Annotated[str, typer.Option(help="JSON of further pipeline call arguments.")] = "{}",
    free_text_encoders: Annotated[
        bool, typer.Option("--free-text-encoders", help="Encode all prompts first, then free them.")
    ] = False,
    steps: Annotated[int, typer.Option(help="Inference steps, T.")] = 50,
    budget_reference: Annotated[int, typer.Option(help="Budget of the reference.")] = 20,
    budget_anchor: Annotated[int, typer.Option(help="Budget of the anchor.")] = 8,
    waypoints: Annotated[
        str | None, typer.Option(help="Budgets searched between: 10,12,15 for 8 and 20; or none.")
    ] = None,
    search: Annotated[str, typer.Option(help="joint or per-pair.")] = "joint",
    trials: Annotated[int, typer.Option(help="CMA-ES candidates of each search.")] = 200,
    patience: Annotated[int, typer.Option(help="Trials without improvement.")] = 50,
    metric: Annotated[
        str | None, typer.Option(help="What is minimised: lpips; psnr for the small models.")
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(help="Calibration prompt-seed pairs: 50; 96 for the small models.")
    ] = None,
    held_out_pairs: Annotated[
        int | None, typer.Option(help="Pairs of the evidence: 50; 64 for the small models.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Pairs per pipeline call: 1; 16 for the small models.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of pairs and search.")] = 0,
    ray: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS]", help="Measure on a Ray cluster; alone: on this machine."),
    ] = None,
    cpus_per_worker: Annotated[int, typer.Option(help="Threads of each worker on a CPU.")] = 1,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Measure the I-th of N parts of the pairs.")
    ] = None,
    wait: Annotated[
        float, typer.Option(help="Seconds a shard waits for news from the others.")
    ] = 0.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take, and stop.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Calibrate a policy for a model; start it again to go on with an interrupted one."""
    from otcache_registry import check_writable

    from otcache_plugin.models.source import ModelSource

    check_writable(output)
    part = parse_shard(shard)
    if not wait >= 0:
        raise ArgumentError("--wait", wait, "not 0 or more", "Pass such as --wait 600")
    if ray is not None and shard is not None:
        problem = "a shard measures in its own process"
        raise ArgumentError("--ray", ray, problem, "Pass either --ray or --shard")
    source = ModelSource(model, revision, prompts, evaluation_prompts, call, free_text_encoders)
    usual = source.defaults
    settings = CalibrationSettings(
        num_inference_steps=steps,
        budget_reference=budget_reference,
        budget_anchor=budget_anchor,
        waypoints=_budgets(waypoints),
        metric=usual.metric if metric is None else metric,
        pairs=usual.pairs if pairs is None else pairs,
        held_out_pairs=usual.held_out_pairs if held_out_pairs is None else held_out_pairs,
        seed=seed,
        batch_size=usual.batch_size if batch_size is None else batch_size,
        threads=cpus_per_worker,
        # Any other kind is refused there.
        search=SearchSettings(trials=trials, patience=patience, kind=cast("SearchKind", search)),
    )

    from otcache_plugin.plugins.host import plugin_host

    plugin_host().metric(settings.metric)
    silence_loading()
    if dry_run:
        _print_estimate(source, settings, json)
        return
    with _data_alone_on_stdout(), StageProgress(quiet) as progress:
        result = _run(source, settings, output, ray, part, wait, progress)
    _write(output, result, "calibration" if part is None else "shard-*", json)


def merge(
    output: Annotated[Path, typer.Argument(help="The --output that the shards were given.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put the measurements of all shards together, and write the document."""
    from otcache_registry import check_writable

    from otcache_plugin.calibration.shards import merged

    check_writable(output)
    with StageProgress(quiet) as progress:
        result = merged(output, progress)
    _write(output, result, "*", json)


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Number and count of `I/N`; raises ArgumentError unless 1 <= I <= N."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ArgumentError("--shard", text, "not I/N with 1 <= I <= N", "Pass such as --shard 1/4")
    return int(match[1]), int(match[2])


def _budgets(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if text == "none":
        return ()
    if not re.fullmatch(r"[0-9]{1,5}(,[0-9]{1,5})*", text):
        remedy = "Pass such as --waypoints 10,12,15, or --waypoints none"
        raise ArgumentError("--waypoints", text, "not budgets with commas between", remedy)
    return tuple(map(int, text.split(",")))


def _run(
    source: ModelSource,
    settings: CalibrationSettings,
    output: Path,
    ray: str | None,
    shard: tuple[int, int] | None,
    wait: float,
    progress: StageProgress,
) -> CalibrationResult:
    from otcache_plugin.calibration.measuring.measurements import Measurements, Share
    from otcache_plugin.calibration.measuring.pools import LocalPool
    from otcache_plugin.calibration.measuring.ray_pool import RayPool
    from otcache_plugin.calibration.measuring.workspace import SCRATCH_FOLDER, Workspace
    from otcache_plugin.calibration.otcache import calibrate as run
    from otcache_plugin.calibration.otcache import manifest_of
    from otcache_plugin.calibration.shards import shard_folder, sibling_folders, work_folder

    folder = work_folder(output) if shard is None else shard_folder(output, *shard)
    siblings = [] if shard is None else sibling_folders(output, *shard)
    share = Share() if shard is None else Share(*shard, wait)
    pool = (
        LocalPool(source.load, settings, folder / SCRATCH_FOLDER)
        if ray is None
        else RayPool(source.load, settings, ray, scratch=folder / SCRATCH_FOLDER)
    )
    with pool, Workspace(folder, manifest_of(pool.facts, settings), siblings) as workspace:
        return run(pool.facts, Measurements(workspace, pool, settings, share), progress)


def _data_alone_on_stdout() -> AbstractContextManager[object]:
    """Whatever a pipeline or Ray prints meanwhile goes to stderr, as Ray's word of a dead worker.

    Has to enclose the progress bars, which put streams of their own in the place of both.
    """
    return redirect_stdout(sys.stderr)


def _write(output: Path, result: CalibrationResult, work: str, json: bool) -> None:
    from otcache_registry import render_card, write_policy

    from otcache_plugin.calibration.errors import WorkspaceError
    from otcache_plugin.calibration.evidence.figures import draw_figures

    figures = draw_figures(result.document, result.edges)
    card = render_card(result.document, figures)
    try:
        write_policy(output, result.document, result.edges, card, figures)
    except OSError as error:
        raise WorkspaceError(
            f"{output} cannot be written ({error.strerror}). Free some space, or make the folder "
            f"writable, then start the same command again: {output}.{work} holds everything that "
            "was measured."
        ) from error
    if json:
        print_json(
            {"output": str(output), **result.document.model_dump(mode="json", by_alias=True)}
        )
        return
    typer.echo(f"wrote {output}")
    typer.echo(f"{output}.{work} holds the measurements; delete it when all is well.", err=True)


def _print_estimate(source: ModelSource, settings: CalibrationSettings, json: bool) -> None:
    from otcache_plugin.calibration.cost import Estimate, measure_costs, stage_costs
    from otcache_plugin.calibration.measuring.edges import max_look_back
    from otcache_plugin.calibration.measuring.worker import Worker
    from otcache_plugin.cli.dry_run import estimate_data, print_estimate

    with _data_alone_on_stdout():
        setup = source.load()
        stages = stage_costs(settings, max_look_back(setup.pipe))
        costs = measure_costs(Worker(setup, settings), settings)
    estimate = Estimate(stages, costs, settings.batch_size)
    if json:
        print_json(estimate_data(estimate))
    else:
        print_estimate(estimate, setup.pipe.device.type)
