"""`enable_cache` with a policy: what was asked for goes to an executor on the pipeline."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusers import DiffusionPipeline
from otcache_policies import Schedule

from otcache_plugin import cache_dit_originals
from otcache_plugin.enabling.executing import prepared
from otcache_plugin.enabling.planning import make_plan
from otcache_plugin.enabling.wanted import Wanted
from otcache_plugin.enabling.watched import Watched
from otcache_plugin.errors import ArgumentError, PipelineError
from otcache_plugin.executors.block_arguments import calibrator_in
from otcache_plugin.executors.blocks import BlocksActivation
from otcache_plugin.pipelines.attaching import attach, attachment, detach
from otcache_plugin.pipelines.parts import find_denoisers, find_scheduler, refuse_cache_of_others
from otcache_plugin.plugins.host import plugin_host
from otcache_plugin.runs.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otcache_plugin.plugins.registries import Activation
    from otcache_plugin.runs.report import RunReport

__all__ = [
    "disable_cache",
    "disable_policy",
    "enable_cache",
    "replaced_policy",
    "summarise_policy",
    "summary",
]


def enable_cache(
    pipe_or_adapter: Any = None,
    *args: Any,
    policy: str | Path | Schedule | None = None,
    budget: int | None = None,
    speedup: float | None = None,
    executor: str | None = None,
    model: str | None = None,
    revision: str | None = None,
    allow_other_revision: bool = False,
    allow_other_model: bool = False,
    hub_answers: float | None = None,
    **cache_dit_arguments: Any,
) -> Any:
    """Accelerate a pipeline by a policy; needs no patch of cache-dit.

    The policy "otcache" is [OTCache](https://arxiv.org/abs/2606.31026); "meancache" is
    [MeanCache](https://arxiv.org/abs/2601.19961), whose average velocity the executor "velocity"
    puts in the place of the steps that are not computed.

    Args:
        pipe_or_adapter: a diffusers pipeline with a transformer and a scheduler.
        *args: further positional arguments of `cache_dit.enable_cache`.
        policy: a registered name, whose document is looked for in the local store, the package and
            on the Hub; a document's folder or policy.json, `bundled:NAME`, or
            `hub:user/name[@revision][#folder]`; or a Schedule.
        budget: steps to compute, the NFE; without it and `speedup` the document's default.
        speedup: ratio of all steps to computed ones, instead of `budget`.
        executor: "velocity", "blocks" or "probe", or one that a plugin registered; without it the
            one that the document was calibrated on, with its calibrator of cache-dit, or else the
            one that suits the policy: "probe" where it decides by features of the first blocks,
            "velocity" otherwise.
        model: the model's id, when the pipeline's origin is unknown.
        revision: the model's revision, with `model`.
        allow_other_revision: where there is no document for this revision of the model, take one
            of another, with a warning.
        allow_other_model: use a document that is named though it was calibrated on another model,
            with a warning.
        hub_answers: seconds for which the Hub's answers to a search may have been kept; 0 asks it
            anew. OTCACHE_HUB_ANSWERS, or an hour, when left out.
        **cache_dit_arguments: everything else that `cache_dit.enable_cache` takes.

    Returns:
        The pipeline.

    Raises:
        ArgumentError: a keyword is unknown or contradicts another.
        UnknownNameError: no policy or executor of that name.
        BudgetError: the budget or speed-up is outside the policy's range.
        DocumentNotFoundError: no calibrated document for this model revision.
        PipelineError: the pipeline cannot be accelerated.

    Examples:
        >>> import otcache_plugin
        >>> pipe = otcache_plugin.load_embedded_pipeline()
        >>> pipe = otcache_plugin.enable_cache(pipe, policy="otcache", budget=10)
        >>> picture = pipe("red circle left on navy").images[0]
        >>> len(otcache_plugin.summary(pipe).computed_steps)
        10
    """
    arguments = _bind(pipe_or_adapter, args, cache_dit_arguments)
    if policy is None:
        raise ArgumentError(
            "policy",
            None,
            "budget, speedup, executor, model, revision, allow_other_revision, "
            "allow_other_model and hub_answers belong to a policy",
            "Pass policy='otcache', or drop them",
        )
    _check_together(policy, budget, speedup)
    _check_answers(hub_answers)
    _refuse_ray(arguments)
    host = plugin_host()
    if executor is not None:
        host.require_executor(executor)
    if not isinstance(pipe_or_adapter, DiffusionPipeline):
        raise _not_a_pipeline(pipe_or_adapter)
    find_denoisers(pipe_or_adapter)
    find_scheduler(pipe_or_adapter)
    refuse_cache_of_others(pipe_or_adapter)
    request = Request(budget, speedup)
    wanted = Wanted(
        model=model,
        revision=revision,
        allow_other_revision=allow_other_revision,
        allow_other_model=allow_other_model,
        hub_answers=hub_answers,
        executor=executor,
        calibrator=calibrator_in(arguments),
    )
    plan = make_plan(host, pipe_or_adapter, policy, request, wanted)
    activation = prepared(host, pipe_or_adapter, plan, executor, arguments)
    if plan.origin is not None:  # Only what a document says hangs on the weights.
        activation = Watched(activation, pipe_or_adapter)
    # Enabling replaces, cache-dit's own cache too; last of all, so that it does when it succeeds.
    _take_off_cache_dits_own(pipe_or_adapter)
    attach(pipe_or_adapter, activation)
    return pipe_or_adapter


def _take_off_cache_dits_own(pipe: Any) -> None:
    """Disable cache-dit's own cache on a pipeline, if it is enabled there."""
    if "_context_manager" in vars(pipe):
        cache_dit_originals.original("disable_cache")(pipe)


def _not_a_pipeline(given: Any) -> PipelineError:
    from diffusers import ModularPipeline

    problem = "a policy follows a pipeline's scheduler, so it needs the whole pipeline"
    remedy = "Pass the diffusers pipeline"
    if isinstance(given, ModularPipeline):
        problem = "a policy follows the call of a DiffusionPipeline, and a ModularPipeline is none"
        remedy = "Load the same model with DiffusionPipeline.from_pretrained"
    return PipelineError("pipe_or_adapter", type(given).__name__, problem, remedy)


def disable_policy(pipe: Any) -> bool:
    """Take a policy off a pipeline; False when none was on it."""
    return detach(pipe)


@contextmanager
def replaced_policy(pipe: Any) -> Iterator[None]:
    """Take a policy off a pipeline for what is enabled inside the block in its place.

    If that fails, the policy is on the pipeline as before, and nothing else.
    """
    activation = attachment(pipe)
    detach(pipe)
    try:
        yield
    except BaseException:
        if activation is not None:
            # cache-dit may have got half-way: it puts on its cache first.
            _take_off_cache_dits_own(pipe)
            attach(pipe, activation)
        raise


def disable_cache(pipe: Any) -> None:
    """Take a policy off a pipeline, whose outputs are then bit-identical to the untouched one's.

    Raises:
        PipelineError: no policy is enabled on it.
    """
    if not disable_policy(pipe):
        raise _not_enabled(pipe)


def summary(pipe: Any) -> RunReport:
    """Return what the current or last run of an accelerated pipeline was planned to do and did.

    Raises:
        PipelineError: no policy is enabled on it.

    Examples:
        >>> import otcache_plugin
        >>> pipe = otcache_plugin.load_embedded_pipeline()
        >>> pipe = otcache_plugin.enable_cache(pipe, policy="uniform", budget=4)
        >>> picture = pipe("red circle left on navy", num_inference_steps=10).images[0]
        >>> report = otcache_plugin.summary(pipe)
        >>> report.computed_steps, report.as_planned
        ((0, 3, 6, 9), True)
    """
    activation: Activation | None = attachment(pipe)
    if activation is None:
        raise _not_enabled(pipe)
    return activation.report()


def _not_enabled(pipe: Any) -> PipelineError:
    return PipelineError(
        "pipe",
        type(pipe).__name__,
        "no policy is enabled on it",
        "Call cache_dit.enable_cache(pipe, policy='otcache') first",
    )


def summarise_policy(pipe: Any, stats: list[Any], *, logging: bool) -> list[Any]:
    """Return cache-dit's statistics with the run of a policy put first, printed when asked to."""
    activation: Activation | None = attachment(pipe)
    if activation is None:
        return stats
    from cache_dit.summary import CacheStats

    report = activation.report()
    if logging:
        print(report)
    computed = set(report.computed_steps)
    own = CacheStats(
        cache_options={"policy": report.policy, "executor": report.executor},
        cached_steps=[step for step in range(report.finished_steps) if step not in computed],
        accumulated_executed_steps=report.finished_steps,
        accumulated_transformer_executed_steps=len(computed),
    )
    if isinstance(activation, Watched):
        activation = activation.activation
    if isinstance(activation, BlocksActivation):
        stats = [*stats, *activation.statistics()]
    return [own, *(each for each in stats if each != CacheStats())]


def _bind(pipe: Any, args: Sequence[Any], keywords: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments meant for cache-dit by name; refuse unknown ones."""
    signature = inspect.signature(cache_dit_originals.original("enable_cache"))
    known = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    for name in keywords:
        if name not in known:
            allowed = ", ".join([*cache_dit_originals.POLICY_PARAMETERS, *known[1:]])
            raise ArgumentError(name, keywords[name], "unknown keyword", f"Known: {allowed}")
    bound = signature.bind(pipe, *args, **keywords).arguments
    return {name: value for name, value in bound.items() if name != known[0]}


def _check_together(policy: Any, budget: Any, speedup: Any) -> None:
    if budget is not None and speedup is not None:
        raise ArgumentError(
            "budget",
            budget,
            f"given together with speedup={speedup!r}",
            "Pass one of them: the speed-up determines the budget",
        )
    if isinstance(policy, Schedule) and (budget is not None or speedup is not None):
        raise ArgumentError(
            "budget" if speedup is None else "speedup",
            budget if speedup is None else speedup,
            f"the schedule already computes {policy.budget} of {policy.num_inference_steps} steps",
            "Drop it",
        )


def _check_answers(hub_answers: float | None) -> None:
    if hub_answers is not None and not 0 <= hub_answers < float("inf"):
        problem, remedy = "not a number of seconds", "Use a number from 0 on; 0 asks the Hub anew"
        raise ArgumentError("hub_answers", hub_answers, problem, remedy)


def _refuse_ray(arguments: dict[str, Any]) -> None:
    if getattr(arguments.get("parallelism_config"), "use_ray", False):
        raise ArgumentError(
            "parallelism_config.use_ray",
            True,
            "it runs the whole pipeline in worker processes, which the hooks of a policy do not "
            "reach",
            "Enable Ray for the transformer, cache_dit.enable_cache(pipe.transformer, "
            "parallelism_config=…), then the policy on the pipeline with executor='velocity'",
        )
