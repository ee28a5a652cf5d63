"""Which pipelines each executor serves, and what an error names in its place: only what works.

An error of one executor that sends to the other, which sends back, helps nobody. So a remedy beside
the executor that was asked for is named here, after a look at whether the pipeline can have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otcache_plugin.errors import PipelineError
from otcache_plugin.executors.cache_dit_blocks import is_known, misfit
from otcache_plugin.executors.compiled import is_one_graph
from otcache_plugin.executors.schedulers import (
    SET_EULER,
    Substitute,
    is_supported,
    supported_substitute,
)
from otcache_plugin.pipelines.parts import FEEDERS, find_scheduler, require_one_denoiser
from otcache_plugin.runs.mechanism import BLOCKS, VELOCITY

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from otcache_plugin.runs.plan import Plan

PASS_VELOCITY = f"executor={VELOCITY!r}"
PASS_BLOCKS = f"executor={BLOCKS!r}"
CACHE_DITS_OWN_CACHE = "cache-dit's own cache, without policy="


def require_velocity(pipe: DiffusionPipeline, plan: Plan | None = None) -> Substitute:
    """Return what stands in on a cached step under the velocity executor.

    Args:
        pipe: the pipeline.
        plan: to be followed, where there is one already.

    Raises:
        PipelineError: nothing is known to, or there is no scheduler.
    """
    scheduler = find_scheduler(pipe)
    try:
        return supported_substitute(scheduler)
    except PipelineError as error:
        raise or_else(error, beside_velocity(pipe, plan)) from None


def require_blocks(pipe: DiffusionPipeline) -> Any:
    """Return the scheduler of a pipeline that the blocks executor serves.

    Raises:
        PipelineError: cache-dit does not know the pipeline, or takes its blocks for others; it has
            two transformers or a ControlNet, or is compiled into one graph; or its scheduler does
            not take one step per transformer step at a noise level of its own.
    """
    if not is_known(pipe):
        problem = "cache-dit knows no blocks of this pipeline"
        raise PipelineError(
            "pipe_or_adapter", type(pipe).__name__, problem, _instead_of_blocks(pipe)
        )
    require_one_denoiser(
        pipe,
        "cache-dit counts the steps of each of its transformers on its own",
        _instead_of_blocks(pipe),
    )
    _refuse_feeders(pipe)
    unfit = misfit(pipe)
    if unfit is not None:
        name = type(pipe.transformer).__name__
        raise PipelineError("transformer", name, unfit, _instead_of_blocks(pipe))
    if is_one_graph(pipe.transformer):
        raise _compiled_into_one_graph(pipe)
    return require_sigmas(pipe, f"{SET_EULER}, or use {CACHE_DITS_OWN_CACHE}")


def require_sigmas(pipe: DiffusionPipeline, remedy: str) -> Any:
    """Return the scheduler of a pipeline whose steps are those of the transformer.

    Raises:
        PipelineError: it has no sigmas, or calls the transformer twice for one step; with a remedy.
    """
    scheduler = find_scheduler(pipe)
    name = type(scheduler).__name__
    if not hasattr(scheduler, "sigmas"):
        problem = "it has no sigmas to resolve a schedule from"
        raise PipelineError("scheduler", name, problem, remedy)
    if getattr(scheduler, "order", 1) > 1:
        problem = (
            "it calls the transformer twice for one step, at sigmas that repeat, so its steps are "
            "not those of a schedule"
        )
        raise PipelineError("scheduler", name, problem, remedy)
    return scheduler


def _refuse_feeders(pipe: DiffusionPipeline) -> None:
    """Raise PipelineError for a ControlNet: cache-dit drops what it adds between the blocks."""
    for name in FEEDERS:
        feeder = getattr(pipe, name, None)
        if feeder is not None:
            problem = "cache-dit's blocks do not take what it adds between them"
            raise PipelineError(name, type(feeder).__name__, problem, _instead_of_blocks(pipe))


def _compiled_into_one_graph(pipe: DiffusionPipeline) -> PipelineError:
    """Return the error of a transformer that is compiled with `fullgraph=True`."""
    return PipelineError(
        "transformer",
        type(getattr(pipe.transformer, "_orig_mod", pipe.transformer)).__name__,
        "it is compiled into one graph (fullgraph=True), in which cache-dit cannot decide",
        f"{_instead_of_blocks(pipe)}, or compile it without fullgraph or by its blocks "
        "(compile_repeated_blocks)",
    )


def beside_velocity(pipe: DiffusionPipeline, plan: Plan | None) -> str | None:
    """Return what serves a pipeline that the velocity executor does not; None where nothing.

    Args:
        pipe: the pipeline.
        plan: to be followed; the blocks executor follows none that decides at every step.
    """
    own = CACHE_DITS_OWN_CACHE if _cache_dit_serves(pipe) else None
    if plan is not None and plan.deciding is not None:
        return own
    try:
        require_blocks(pipe)
    except PipelineError:
        return own
    return PASS_BLOCKS


def beside_blocks(pipe: DiffusionPipeline) -> str | None:
    """Return the executor that serves a pipeline that blocks does not; None where none does."""
    return PASS_VELOCITY if is_supported(find_scheduler(pipe)) else None


def or_else(error: PipelineError, other: str | None) -> PipelineError:
    """Return an error whose remedy names something else as well."""
    if other is None:
        return error
    remedy = f"{error.remedy}, or use {other}"
    return PipelineError(error.field, error.value, error.problem, remedy)


def _instead_of_blocks(pipe: DiffusionPipeline) -> str:
    try:
        supported_substitute(find_scheduler(pipe))
    except PipelineError as error:
        others = f" and {PASS_VELOCITY}"
        if _cache_dit_serves(pipe):
            others += f", or use {CACHE_DITS_OWN_CACHE}"
        return error.remedy + others
    return f"Use {PASS_VELOCITY}"


def _cache_dit_serves(pipe: DiffusionPipeline) -> bool:
    return is_known(pipe) and misfit(pipe) is None
