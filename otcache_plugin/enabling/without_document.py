"""What to do with a pipeline for which there is no document: run it as it is, or calibrate."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from otcache_plugin.efforts import effort_costs
from otcache_plugin.executors.schedulers import is_supported
from otcache_plugin.executors.serving import require_blocks, require_velocity
from otcache_plugin.origins.finding import describe_origin
from otcache_plugin.origins.paths import is_repository_id, repository_of
from otcache_plugin.pipelines.call_arguments import usual_arguments
from otcache_plugin.pipelines.parts import find_scheduler
from otcache_plugin.runs.mechanism import BLOCKS, VELOCITY

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from otcache_plugin.enabling.wanted import Wanted

SPEEDUP = 3
"""Asked for by the code that an error names."""

FOLDER = "./my-policy"

WITH_EFFORT = "otcache"
"""The policy whose calibration is chosen by effort, and which a command that names none is for."""

OWN_REVISION = "local"
"""What a folder's weights are called where nobody has called them anything."""


def ways_on(pipe: DiffusionPipeline, to_calibrate: str | None, wanted: Wanted) -> str:
    """Say what works now, and how a document is made and what that costs.

    Args:
        pipe: for which there is no document.
        to_calibrate: the policy that would serve; None where nothing calibrates it.
        wanted: what the user said.

    Raises:
        PipelineError: nothing can run it as the executor that was asked for does.
    """
    if wanted.executor in (None, VELOCITY):
        require_velocity(pipe)  # A document would be of no use either.
    if wanted.executor == BLOCKS:
        require_blocks(pipe)
    if not is_supported(find_scheduler(pipe)):
        now = _without(f"policy='uniform', speedup={SPEEDUP}, executor={wanted.executor!r}")
        return f"{now}\nIt can't be calibrated: that takes executor={VELOCITY!r}"
    now = _without(f"policy='uniform', speedup={SPEEDUP}")
    if to_calibrate is None:
        return f"{now}\nNothing that is installed calibrates this policy"
    command = calibrate_command(pipe, to_calibrate, wanted)
    return f"{now}\n{_cost(to_calibrate)}:\n    {command}\n{_afterwards(to_calibrate)}"


def _without(arguments: str) -> str:
    return f"What runs now:\n    {_enable(arguments)}"


def _enable(arguments: str) -> str:
    return f"cache_dit.enable_cache(pipe, {arguments})"


def _cost(policy: str) -> str:
    if policy != WITH_EFFORT:
        return "What makes a document, at the cost that --dry-run says"
    quick, _ = effort_costs()
    return (
        f"What makes a document, in about the time of {quick.full_pictures} full pictures "
        f"({quick.steps:,} denoising steps, {quick.num_inference_steps} each)"
    )


def _afterwards(policy: str) -> str:
    use = f"Pass policy={FOLDER!r} then"
    if policy != WITH_EFFORT:
        return use
    _, standard = effort_costs()
    return (
        f"{use}. With --effort {standard.effort} it takes at most {standard.steps:,} steps, about "
        f"{standard.full_pictures} full pictures, and real runs choose among the schedules"
    )


def calibrate_command(pipe: DiffusionPipeline, policy: str, wanted: Wanted) -> str:
    """Return the command that calibrates a policy for a pipeline, as far as the pipeline says.

    What it doesn't tell stands in capitals.
    """
    model, revision = _model(pipe, wanted)
    words = ["otcache", "calibrate", model]
    if revision is not None:
        words += ["--revision", revision]
    if policy == WITH_EFFORT:
        words += ["--effort", effort_costs()[0].effort]
    else:
        words += ["--policy", policy]
    call = {**usual_arguments(pipe), **wanted.call_arguments}
    if call and not _is_shipped(model):
        words += ["--call", json.dumps(call)]
    return shlex.join([*words, "--output", FOLDER])


def _model(pipe: DiffusionPipeline, wanted: Wanted) -> tuple[str, str | None]:
    """Return MODEL and its revision, None where it need not be said."""
    if wanted.model is not None:
        return wanted.model, None if _is_shipped(wanted.model) else wanted.revision
    found = describe_origin(pipe)
    if found.model is not None:
        return found.model, None if _is_shipped(found.model) else found.revision
    path = str(pipe.config.get("_name_or_path") or "")
    if not path:
        return "MODEL", "REVISION"
    repository = repository_of(path)
    return (path, OWN_REVISION) if repository is None else (repository, None)


def _is_shipped(model: str) -> bool:
    """Return whether a model ships with the package: it then has a name that no owner stands in."""
    return model != "MODEL" and "/" not in model and is_repository_id(model)
