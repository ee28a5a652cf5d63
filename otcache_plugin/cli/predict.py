"""`otcache predict`: the schedule of a budget, for people, for scripts and for cache-dit."""

from __future__ import annotations

import json as json_format
from enum import StrEnum
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer
from otcache_policies import FieldError

from otcache_plugin.cli.common.output import Json, Quiet, print_hint
from otcache_plugin.cli.common.policy_argument import PolicyArgument, load_policy, policy_of
from otcache_plugin.cli.common.refusals import require_steps
from otcache_plugin.runs.mechanism import CacheDitCalibrator, calibrator_named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from otcache_registry import PolicyDocument, StoredPolicy

    from otcache_plugin.runs.resolution import ScheduledRun

EULER = "FlowMatchEulerDiscreteScheduler"


class Format(StrEnum):
    """How a schedule is printed."""

    STEPS = "steps"
    MASK = "mask"
    JSON = "json"
    CACHE_DIT_YAML = "cache-dit-yaml"
    SGLANG_ENV = "sglang-env"


def predict(
    policy: PolicyArgument,
    budget: Annotated[int, typer.Option(help="Steps to compute.")],
    steps: Annotated[
        int | None, typer.Option(help="Steps of the run; by default the calibrated ones.")
    ] = None,
    output: Annotated[
        Format | None, typer.Option("--format", help="What to print; steps unless given.")
    ] = None,
    calibrator: Annotated[
        CacheDitCalibrator | None,
        typer.Option(
            help="With cache-dit-yaml: what extrapolates the residuals on cached steps; that of "
            "the calibration unless given."
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print the schedule that a policy has for a budget."""
    if json and output not in (None, Format.JSON):
        problem = "--json prints JSON, and this is another format"
        raise FieldError("--format", output.value, problem, "Leave one of the two out")
    output = Format.JSON if json else output or Format.STEPS
    if calibrator is not None and output is not Format.CACHE_DIT_YAML:
        problem = f"cache-dit's calibrators are part of its configuration, not of {output.value}"
        remedy = f"Drop it, or pass --format {Format.CACHE_DIT_YAML.value}"
        raise FieldError("--calibrator", calibrator.value, problem, remedy)
    stored = load_policy(policy, quiet)
    resolution = resolve_budget(stored, budget, steps)
    if resolution.adaptation is not None and output is not Format.JSON:
        total = stored.document.num_inference_steps
        print_hint(f"{resolution.adaptation}: the document is of runs of {total} steps")
    if output is Format.CACHE_DIT_YAML:
        typer.echo(cache_dit_yaml(stored, resolution, calibrator))
        return
    typer.echo(PRINTED[output](stored, resolution))


def resolve_budget(stored: StoredPolicy, budget: int, steps: int | None) -> ScheduledRun:
    """Return the schedule of a run, found as `enable_cache` finds it.

    Args:
        stored: the policy's document.
        budget: steps to compute, of those of the run.
        steps: of the run, None for those of the document. For other ones its sigmas are read off
            the document's by linear interpolation over the progress of the run.

    Raises:
        BudgetError: the policy has no schedule of that budget.
        ArgumentError: no run has so few or so many steps.
    """
    from otcache_policies import euler_response

    from otcache_plugin.runs.plan import CalibratedPlan
    from otcache_plugin.runs.request import Request
    from otcache_plugin.runs.resolution import DocumentOrigin

    document = stored.document
    total = document.num_inference_steps if steps is None else steps
    require_steps(total)
    plan = CalibratedPlan(
        policy_of(stored),
        None
        if document.sampling.sigmas is None
        else _sigmas(document, document.num_inference_steps),
        document.require_default_budget(),
        Request(budget),
        DocumentOrigin(stored.source, document.model.id, document.model.revision),
    )
    sigmas = _sigmas(document, total)
    # What another solver makes of velocities depends on its options, which a document leaves out.
    euler = document.sampling.scheduler == EULER
    return plan.resolve(sigmas, partial(euler_response, sigmas) if euler else None)


def _sigmas(document: PolicyDocument, steps: int) -> NDArray[Any]:
    """Return the noise schedule of a run of so many steps.

    Where the document has none, any serves: only the shares of the steps are then carried over.
    """
    import numpy as np

    known = document.sampling.sigmas or tuple(np.linspace(1.0, 0.0, steps + 1).tolist())
    positions = np.linspace(0, len(known) - 1, steps + 1)
    return np.interp(positions, np.arange(len(known)), known)


def _steps(stored: StoredPolicy, resolution: ScheduledRun) -> str:
    return " ".join(map(str, resolution.schedule.computed_steps))


def _mask(stored: StoredPolicy, resolution: ScheduledRun) -> str:
    return json_format.dumps(cache_dit_mask(resolution))


def cache_dit_mask(resolution: ScheduledRun) -> list[int]:
    """Return the schedule as cache-dit's `steps_computation_mask`; it knows no look-backs."""
    return [int(computed) for computed in resolution.schedule.mask]


def _json(stored: StoredPolicy, resolution: ScheduledRun) -> str:
    schedule = resolution.schedule
    data = {
        "source": stored.source,
        "policy": stored.document.policy.name,
        "model": stored.document.model.id,
        "revision": stored.document.model.revision,
        "budget": schedule.budget,
        "adaptation": resolution.adaptation,
        **schedule.to_dict(),
    }
    return json_format.dumps(data, indent=2, ensure_ascii=False)


def cache_dit_yaml(
    stored: StoredPolicy, resolution: ScheduledRun, calibrator: CacheDitCalibrator | None
) -> str:
    """Return a configuration that `cache_dit.load_configs` reads.

    As with `executor="blocks"`: every block runs on the computed steps, and on the others the
    first one alone. With the steps named, cache-dit starts anew with every run even where it only
    sees the transformer.
    """
    import yaml

    schedule = resolution.schedule
    config: dict[str, object] = {
        "Fn_compute_blocks": 1,
        "Bn_compute_blocks": 0,
        "num_inference_steps": schedule.num_inference_steps,
        "steps_computation_mask": cache_dit_mask(resolution),
        "steps_computation_policy": "static",
    }
    if stored.document.sampling.calls_per_step is not None:
        config["enable_separate_cfg"] = stored.document.sampling.calls_per_step == 2
    if calibrator is None and stored.document.sampling.calibrator is not None:
        calibrator = calibrator_named(stored.document.sampling.calibrator)
    if calibrator is not None:
        # Both streams, as a calibrator that is made in Python has it.
        config[f"enable_{calibrator.value}"] = True
        config[f"enable_encoder_{calibrator.value}"] = True
    # In quotes, so that nothing in a name can end the comment.
    about = f"# {schedule.budget} of {schedule.num_inference_steps} steps, {stored.source!r}\n"
    return about + yaml.safe_dump(
        {"cache_config": config}, default_flow_style=None, sort_keys=False, width=96
    ).rstrip("\n")


def bins_of(mask: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return how many steps in a row are computed, and how many cached, one after the other."""
    lengths = [(value, len(list(steps))) for value, steps in groupby(mask)]
    compute = [length for value, length in lengths if value]
    return compute, [length for value, length in lengths if not value]


def _sglang_env(stored: StoredPolicy, resolution: ScheduledRun) -> str:
    """Return the variables that SGLang's native backend reads: the mask, as bins."""
    compute, cache = bins_of(cache_dit_mask(resolution))
    bins = {"COMPUTE": compute, "CACHE": cache}
    lines = [
        f"SGLANG_CACHE_DIT_SCM_{name}_BINS={','.join(map(str, lengths))}"
        for name, lengths in bins.items()
    ]
    return "\n".join(
        ["SGLANG_CACHE_DIT_ENABLED=true", *lines, "SGLANG_CACHE_DIT_SCM_POLICY=static"]
    )


PRINTED: dict[Format, Callable[[StoredPolicy, ScheduledRun], str]] = {
    Format.STEPS: _steps,
    Format.MASK: _mask,
    Format.JSON: _json,
    Format.SGLANG_ENV: _sglang_env,
}
