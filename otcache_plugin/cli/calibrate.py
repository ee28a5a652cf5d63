"""`otcache calibrate`: from a model to a policy document."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otcache_plugin.cli.common.calibration_options import (
    RunOptions,
    WhereOptions,
    parse_shard,
    policy_options,
    settings_of,
)
from otcache_plugin.cli.common.calibration_output import (
    data_alone_on_stdout,
    noting_what_is_kept,
    print_result,
    write_result,
)
from otcache_plugin.cli.common.command import Command
from otcache_plugin.cli.common.metric import prepare_metric
from otcache_plugin.cli.common.output import Json, Quiet, StageProgress, import_libraries
from otcache_plugin.runs.mechanism import VELOCITY, CacheDitCalibrator, Mechanism

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_plugin.calibration.document import CalibrationResult
    from otcache_plugin.calibration.settings import MeasuringSettings
    from otcache_plugin.calibration.task import CalibrationTask
    from otcache_plugin.models.source import ModelSource
    from otcache_plugin.plugins.costs import Alternative

THIS_MACHINE = "local"
_ADDRESS = re.compile(r"auto|local|ray://\S+|[^/\s]+:[0-9]+")
"""Neither a Hub id nor a folder, which may follow --ray as MODEL."""


class OptionalRayAddress(Command):
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
    policy: Annotated[str, typer.Option(help="Which policy to calibrate.")] = "otcache",
    effort: Annotated[
        str | None,
        typer.Option(
            help="otcache: quick (a recording alone), standard (and few real runs; unless given), "
            "thorough (and searches), or paper (the paper's own procedure)."
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="An option of the policy, as 'otcache plugins POLICY' lists them.",
        ),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder of the work; that of another policy's shares its runs."),
    ] = None,
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
    num_inference_steps: Annotated[int, typer.Option("--steps", help="Inference steps, T.")] = 50,
    budget_reference: Annotated[
        int | None, typer.Option(help="otcache: budget of the reference, 20 unless given.")
    ] = None,
    budget_anchor: Annotated[
        int | None, typer.Option(help="otcache: budget of the anchor, 8 unless given.")
    ] = None,
    waypoints: Annotated[
        str | None,
        typer.Option(help="otcache, searches: budgets between, such as 10,12,15; or none."),
    ] = None,
    search: Annotated[
        str | None, typer.Option(help="otcache, effort paper: per-pair unless given, or joint.")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="otcache, searches: CMA-ES candidates of each, 200 unless given."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="otcache, searches: trials without improvement, 50 unless given."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What is minimised: lpips; psnr for the small models.")
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(help="Calibration prompt-seed pairs; otcache by effort: 32, 48, 96."),
    ] = None,
    held_out_pairs: Annotated[
        int | None, typer.Option(help="Pairs of the evidence: 50; 64 for the small models.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Pairs per pipeline call: 1; 16 for the small models.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of pairs and search.")] = 0,
    executor: Annotated[
        str, typer.Option(help="What schedules are run by, and the policy is for: or blocks.")
    ] = VELOCITY,
    calibrator: Annotated[
        CacheDitCalibrator | None,
        typer.Option(help="Executor blocks: what of cache-dit extrapolates on cached steps."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS]", help="Measure on a Ray cluster; alone: on this machine."),
    ] = None,
    threads: Annotated[
        int, typer.Option("--cpus-per-worker", help="Threads of each worker on a CPU.")
    ] = 1,
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
    begun = time.monotonic()  # Importing is a part of what it takes.
    from otcache_registry import check_writable

    from otcache_plugin.calibration.task import calibration_task
    from otcache_plugin.models.source import ModelSource
    from otcache_plugin.plugins.host import plugin_host

    check_writable(output)
    where = WhereOptions(output, work, ray, threads, parse_shard(shard), wait)
    source = ModelSource(model, revision, prompts, evaluation_prompts, call, free_text_encoders)
    source.check()
    plugin_host().require_executor(executor)
    mechanism = Mechanism(executor, None if calibrator is None else calibrator.value)
    runs = RunOptions(
        num_inference_steps, metric, seed, pairs, held_out_pairs, batch_size, mechanism
    )
    named = {
        "effort": effort,
        "budget_reference": budget_reference,
        "budget_anchor": budget_anchor,
        "waypoints": waypoints,
        "search": search,
        "trials": trials,
        "patience": patience,
    }
    task = calibration_task(policy, policy_options(assignments or (), named), num_inference_steps)
    settings = _settings(source, task, runs, where)
    task.calibrator.check_pairs(task.options, settings.pairs)
    task.calibrator.check_executor(task.options, executor)
    plugin_host().require_metric(settings.metric)
    if dry_run:
        others = _alternatives(task, source, runs, where)
        _print_estimate(task, others, source, settings, begun, json, quiet)
        return
    with data_alone_on_stdout(), noting_what_is_kept(), StageProgress(quiet) as progress:
        import_libraries(progress)
        result = _run(task, source, settings, where, progress)
        write_result(output, result, where.kept, progress)
    print_result(output, result, where.kept, json)


def _settings(
    source: ModelSource, task: CalibrationTask, runs: RunOptions, where: WhereOptions
) -> MeasuringSettings:
    """Return the settings; where the user says nothing, pairs are what the calibrator can use."""
    usual, pairs = source.defaults, task.calibrator.usual_pairs(task.options)
    return settings_of(usual if pairs is None else replace(usual, pairs=pairs), runs, where)


def _alternatives(
    task: CalibrationTask, source: ModelSource, runs: RunOptions, where: WhereOptions
) -> list[tuple[Alternative, CalibrationTask, MeasuringSettings]]:
    """Return the ways in which the policy can be calibrated, each as this command would do it."""
    found = []
    for each in task.calibrator.alternatives(task.options):
        other = replace(task, options=each.options)
        found.append((each, other, _settings(source, other, runs, where)))
    return found


def _run(
    task: CalibrationTask,
    source: ModelSource,
    settings: MeasuringSettings,
    where: WhereOptions,
    progress: StageProgress,
) -> CalibrationResult:
    from otcache_plugin.calibration.calibrate import calibrate as run
    from otcache_plugin.calibration.calibrate import manifest_of
    from otcache_plugin.calibration.measuring.measurements import Measurements, Share
    from otcache_plugin.calibration.measuring.pools import LocalPool
    from otcache_plugin.calibration.measuring.ray_pool import RayPool
    from otcache_plugin.calibration.measuring.workspace import SCRATCH_FOLDER, Workspace
    from otcache_plugin.calibration.shard_folders import shard_folder, sibling_folders, work_folder
    from otcache_plugin.plugins.host import plugin_host

    plugin_host().metric(settings.metric)  # One that is not what it says is refused here.
    if where.shard is None:
        folder = work_folder(where.output) if where.work is None else where.work
        siblings, share = [], Share()
    else:
        folder = shard_folder(where.output, *where.shard)
        siblings = sibling_folders(where.output, *where.shard)
        share = Share(*where.shard, where.wait)
    scratch = folder / SCRATCH_FOLDER
    pool = (
        LocalPool(source.load, settings, scratch, progress)
        if where.ray is None
        else RayPool(source.load, settings, where.ray, scratch=scratch, progress=progress)
    )
    with pool, Workspace(folder, manifest_of(pool.facts, settings), siblings) as workspace:
        prepare_metric(settings.metric, progress)
        return run(task, pool.facts, Measurements(workspace, pool, settings, share), progress)


def _print_estimate(
    task: CalibrationTask,
    others: Sequence[tuple[Alternative, CalibrationTask, MeasuringSettings]],
    source: ModelSource,
    settings: MeasuringSettings,
    begun: float,
    json: bool,
    quiet: bool,
) -> None:
    from otcache_policies import FieldError

    from otcache_plugin.calibration import stages
    from otcache_plugin.calibration.cost import Estimate, measure_costs, stage_costs
    from otcache_plugin.calibration.measuring.edges import max_look_back
    from otcache_plugin.calibration.measuring.worker import Worker
    from otcache_plugin.cli.common.dry_run import ComparedEffort, print_estimate

    with data_alone_on_stdout(), StageProgress(quiet) as progress:
        import_libraries(progress)
        progress.announce(stages.LOADING)
        setup = source.load()
        worker = Worker(setup, settings)
        loading = time.monotonic() - begun
        progress.announce(stages.MEASURING_COSTS)
        budgets = task.calibrator.evidence_budgets(task.options, settings.num_inference_steps)
        costs = measure_costs(worker, settings, min(budgets), max(budgets))
        look_back = max_look_back(setup.pipe)

    def estimate(task: CalibrationTask, settings: MeasuringSettings) -> Estimate:
        costed = stage_costs(task, settings, look_back)
        return Estimate(costed, settings.pairs, costs, loading)

    compared = []
    for each, other, own in others:
        chosen = other.options == task.options
        try:
            other.calibrator.check_pairs(other.options, own.pairs)
            other.calibrator.check_executor(other.options, own.mechanism.executor)
        except FieldError as error:
            compared.append(ComparedEffort(each.name, chosen, error.problem, None))
        else:
            compared.append(ComparedEffort(each.name, chosen, each.outcome, estimate(other, own)))
    device, batch_size = setup.pipe.device.type, settings.batch_size
    print_estimate(estimate(task, settings), compared, device, batch_size, json)
