"""``enable_cache`` with a policy: arguments to a plan, the plan to an executor on the pipeline."""

from __future__ import annotations

import inspect
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusers import DiffusionPipeline
from otcache_policies import BudgetError, Schedule, budget_for_speedup
from otcache_registry import DocumentError

from otcache_plugin import activation
from otcache_plugin.documents import FoundDocument, Wanted, find_document, open_document
from otcache_plugin.errors import (
    ArgumentError,
    PipelineError,
    UnknownNameError,
)
from otcache_plugin.executors.parts import find_denoisers, find_scheduler
from otcache_plugin.manager import PluginHost, plugin_host
from otcache_plugin.plan import (
    CalibratedPlan,
    DocumentOrigin,
    Plan,
    Request,
    SchedulePlan,
    UncalibratedPlan,
)
from otcache_plugin.registries import CalibratedPolicy, UncalibratedPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_policies import Policy

    from otcache_plugin.registries import Activation
    from otcache_plugin.report import RunReport

DEFAULT_RATIO = 15 / 50
"""Share of computed steps when neither budget nor speed-up is asked for and no document says."""

ATTRIBUTE = "_otcache_activation"


def enable_cache(
    pipe_or_adapter: Any = None,
    *args: Any,
    policy: str | Path | Schedule | None = None,
    budget: int | None = None,
    speedup: float | None = None,
    executor: str = "velocity",
    model: str | None = None,
    revision: str | None = None,
    allow_other_revision: bool = False,
    **cache_dit_arguments: Any,
) -> Any:
    """Accelerates a pipeline by a policy; needs no patch of cache-dit.

    Args:
        pipe_or_adapter: a diffusers pipeline with a transformer and a scheduler.
        *args: further positional arguments of ``cache_dit.enable_cache``.
        policy: a registered name, whose document is looked for in the local store, the package and
            on the Hub; a document's folder or policy.json, ``bundled:NAME``, or
            ``hub:user/name[@revision][#folder]``; or a Schedule.
        budget: steps to compute, the NFE; without it and ``speedup`` the document's default.
        speedup: ratio of all steps to computed ones, instead of ``budget``.
        executor: "velocity" or "blocks", or one that a plugin registered.
        model: the model's id, when the pipeline's origin is unknown.
        revision: the model's revision, with ``model``.
        allow_other_revision: where there is no document for this revision of the model, take one
            of another, with a warning.
        **cache_dit_arguments: everything else that ``cache_dit.enable_cache`` takes.

    Returns:
        The pipeline.

    Raises:
        ArgumentError: a keyword is unknown or contradicts another.
        UnknownNameError: no policy or executor of that name.
        BudgetError: the budget or speed-up is outside the policy's range.
        DocumentNotFoundError: no calibrated document for this model revision.
        PipelineError: the pipeline cannot be accelerated.
    """
    arguments = _bind(pipe_or_adapter, args, cache_dit_arguments)
    if policy is None:
        raise ArgumentError(
            "policy",
            None,
            "budget, speedup, executor, model, revision and allow_other_revision belong to a "
            "policy",
            "Pass policy='otcache', or drop them",
        )
    _check_together(policy, budget, speedup)
    _refuse_ray(arguments)
    host = plugin_host()
    chosen_executor = _find_executor(host, executor)
    if not isinstance(pipe_or_adapter, DiffusionPipeline):
        raise PipelineError(
            "pipe_or_adapter",
            type(pipe_or_adapter).__name__,
            "a policy follows a pipeline's scheduler, so it needs the whole pipeline",
            "Pass the diffusers pipeline",
        )
    find_denoisers(pipe_or_adapter)
    find_scheduler(pipe_or_adapter)
    request = Request(budget, speedup)
    wanted = Wanted(model, revision, allow_other_revision)
    plan = _make_plan(host, pipe_or_adapter, policy, request, wanted)
    _disable_any(pipe_or_adapter)
    applied = chosen_executor.apply(pipe_or_adapter, plan, arguments)
    setattr(pipe_or_adapter, ATTRIBUTE, applied)
    return pipe_or_adapter


def _disable_any(pipe: DiffusionPipeline) -> None:
    """Enabling replaces: an earlier policy, or cache-dit's own cache, comes off first."""
    if not disable_policy(pipe) and getattr(find_denoisers(pipe)[0], "_is_cached", False):
        activation.original("disable_cache")(pipe)


def disable_policy(pipe: Any) -> bool:
    """Takes a policy off a pipeline; False when none was on it."""
    applied: Activation | None = getattr(pipe, ATTRIBUTE, None)
    if applied is None:
        return False
    delattr(pipe, ATTRIBUTE)
    applied.remove()
    return True


def disable_cache(pipe: Any) -> None:
    """Takes a policy off a pipeline, whose outputs are then bit-identical to the untouched one's.

    Raises:
        PipelineError: no policy is enabled on it.
    """
    if not disable_policy(pipe):
        raise _not_enabled(pipe)


def summary(pipe: Any) -> RunReport:
    """What the current or last run of an accelerated pipeline was planned to do and did.

    Raises:
        PipelineError: no policy is enabled on it.
    """
    applied: Activation | None = getattr(pipe, ATTRIBUTE, None)
    if applied is None:
        raise _not_enabled(pipe)
    return applied.report()


def _not_enabled(pipe: Any) -> PipelineError:
    return PipelineError(
        "pipe",
        type(pipe).__name__,
        "no policy is enabled on it",
        "Call cache_dit.enable_cache(pipe, policy='otcache') first",
    )


def summarise_policy(pipe: Any, stats: list[Any], *, logging: bool) -> list[Any]:
    """cache-dit's statistics with the run of a policy put first, printed when asked to."""
    applied: Activation | None = getattr(pipe, ATTRIBUTE, None)
    if applied is None:
        return stats
    from cache_dit.summary import CacheStats

    report = applied.report()
    if logging:
        print(report)
    computed = set(report.computed_steps)
    own = CacheStats(
        cache_options={"policy": report.policy, "executor": report.executor},
        cached_steps=[step for step in range(report.finished_steps) if step not in computed],
        accumulated_executed_steps=report.finished_steps,
        accumulated_transformer_executed_steps=len(computed),
    )
    return [own, *(each for each in stats if each != CacheStats())]


def _bind(pipe: Any, args: Sequence[Any], keywords: dict[str, Any]) -> dict[str, Any]:
    """The arguments meant for cache-dit by name; unknown ones are refused, not passed over."""
    signature = inspect.signature(activation.original("enable_cache"))
    known = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    for name in keywords:
        if name not in known:
            allowed = ", ".join([*activation.POLICY_PARAMETERS, *known[1:]])
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


def _find_policy(host: PluginHost, name: str) -> UncalibratedPolicy | CalibratedPolicy:
    try:
        return host.policies.get(name)
    except UnknownNameError as error:
        raise host.mention_broken(error) from None


def _find_executor(host: PluginHost, name: str) -> Any:
    try:
        return host.executors.get(name).make()
    except UnknownNameError as error:
        raise host.mention_broken(error) from None


def _make_plan(
    host: PluginHost,
    pipe: DiffusionPipeline,
    policy: str | Path | Schedule,
    request: Request,
    wanted: Wanted,
) -> Plan:
    if isinstance(policy, Schedule):
        return SchedulePlan(policy)
    if not isinstance(policy, str | Path):
        raise ArgumentError(
            "policy",
            policy,
            "neither a name, a path nor a Schedule",
            f"Use one of {', '.join(host.policies)}, a document's folder, or a Schedule",
        )
    if isinstance(policy, Path) or _names_document(host, policy):
        found = open_document(pipe, policy, wanted)
        name = found.stored.document.name
        entry = _find_policy(host, name)
        if not isinstance(entry, CalibratedPolicy):
            problem = "a policy that needs no document"
            raise DocumentError("name", name, problem, f"Pass policy={name!r}")
        return _calibrated_plan(entry, found, request)
    entry = _find_policy(host, policy)
    if isinstance(entry, UncalibratedPolicy):
        _check_request(request)
        return UncalibratedPlan(policy, entry.make, request, DEFAULT_RATIO)
    return _calibrated_plan(entry, find_document(pipe, wanted), request)


def _names_document(host: PluginHost, policy: str) -> bool:
    """Names are identifiers, paths as a rule are not; a registered name goes before a folder."""
    return not policy.isidentifier() or (policy not in host.policies and Path(policy).is_dir())


def _calibrated_plan(entry: CalibratedPolicy, found: FoundDocument, request: Request) -> Plan:
    stored, document = found.stored, found.stored.document
    policy = entry.make(stored)
    _check_request(request)
    if request.budget is not None and request.budget not in policy.budgets:
        raise BudgetError(
            "budget",
            request.budget,
            f"outside the range of policy {policy.name!r}, which was calibrated at "
            f"{policy.num_inference_steps} steps",
            f"Use budget={policy.budgets}; a run of another number of steps takes speedup=, which "
            "scales with it",
        )
    _check_speedup(request.speedup, policy)
    model = document.model
    origin = DocumentOrigin(stored.source, model.id, model.revision, found.notes)
    sigmas = None if stored.edges is None else stored.edges.sigmas
    return CalibratedPlan(policy, sigmas, document.default_budget, request, origin)


def _check_speedup(speedup: float | None, policy: Policy) -> None:
    """A speed-up scales with the run, and so does the range that it has to lie in."""
    if speedup is None:
        return
    steps, budgets = policy.num_inference_steps, policy.budgets
    budget = budget_for_speedup(speedup, steps)
    if budget not in budgets:
        raise BudgetError(
            "speedup",
            speedup,
            f"{budget} of {steps} steps are outside the range of policy {policy.name!r}",
            f"Use a speed-up for {budgets} of {steps} steps, up to {steps / budgets.smallest:.2f}",
        )


def _check_request(request: Request) -> None:
    """Refuses at once what no run could serve; the policy's range is checked at the run."""
    budget = request.budget
    if budget is not None and (
        isinstance(budget, bool) or not isinstance(budget, Integral) or budget < 2
    ):
        raise BudgetError("budget", budget, "not a number of steps", "Use an integer from 2 on")
    if request.speedup is not None:
        budget_for_speedup(request.speedup, 2)  # refuses what is no speed-up, whatever the steps
