"""From what `policy=` stands for to a plan that is resolved at every run."""

from __future__ import annotations

from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from otcache_policies import BudgetError, DecidingPolicy, Schedule, budget_for_speedup

from otcache_plugin.enabling.documents import FoundDocument, find_document, open_document
from otcache_plugin.errors import ArgumentError
from otcache_plugin.plugins.registries import UncalibratedDecidingPolicy, UncalibratedPolicy
from otcache_plugin.runs.plan import (
    DEFAULT_RATIO,
    CalibratedPlan,
    DecidingPlan,
    DocumentOrigin,
    Plan,
    Request,
    SchedulePlan,
    UncalibratedPlan,
)

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from otcache_policies import Policy

    from otcache_plugin.enabling.wanted import Wanted
    from otcache_plugin.plugins.host import PluginHost

__all__ = ["make_plan"]


def make_plan(
    host: PluginHost,
    pipe: DiffusionPipeline,
    policy: str | Path | Schedule,
    request: Request,
    wanted: Wanted,
) -> Plan:
    """Return the plan that a policy stands for on a pipeline.

    Args:
        host: the registered policies.
        pipe: the pipeline, whose model a document is looked for.
        policy: a registered name, a document, or a schedule.
        request: how many steps to compute.
        wanted: what is said of the document's model and of the runs.

    Raises:
        ArgumentError: it is none of these.
        UnknownNameError: no policy of that name.
        BudgetError: the budget or speed-up is outside the policy's range.
        DocumentNotFoundError: no calibrated document for this model revision.
    """
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
        return _calibrated_plan(host.policy_of(found.stored), found, request)
    entry = host.policy(policy)
    if isinstance(entry, UncalibratedPolicy):
        _check_request(request)
        return UncalibratedPlan(policy, entry.make, request, DEFAULT_RATIO)
    if isinstance(entry, UncalibratedDecidingPolicy):
        _check_request(request)
        return DecidingPlan(entry.make(), request)
    serving = host.serving(policy)
    to_calibrate = serving[-1] if host.can_calibrate(serving[-1]) else None
    found = find_document(pipe, serving, to_calibrate, wanted)
    return _calibrated_plan(host.policy_of(found.stored, policy), found, request)


def _names_document(host: PluginHost, policy: str) -> bool:
    """Name are identifiers, paths as a rule are not; a registered name goes before a folder."""
    return not policy.isidentifier() or (policy not in host.policies and Path(policy).is_dir())


def _calibrated_plan(
    policy: Policy | DecidingPolicy[Any], found: FoundDocument, request: Request
) -> Plan:
    stored, document = found.stored, found.stored.document
    _check_request(request)
    model = document.model
    origin = DocumentOrigin(stored.source, model.id, model.revision, found.notes)
    if isinstance(policy, DecidingPolicy):
        default = document.default_budget
        ratio = None if default is None else default / document.num_inference_steps
        return DecidingPlan(policy, request, ratio, origin)
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
    sigmas = document.sampling.sigmas
    levels = None if sigmas is None else np.array(sigmas)
    return CalibratedPlan(policy, levels, document.require_default_budget(), request, origin)


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
    """Refuse at once what no run could serve; the policy's range is checked at the run."""
    budget = request.budget
    if budget is not None and (
        isinstance(budget, bool) or not isinstance(budget, Integral) or budget < 2
    ):
        raise BudgetError("budget", budget, "not a number of steps", "Use an integer from 2 on")
    if request.speedup is not None:
        budget_for_speedup(request.speedup, 2)  # refuses what is no speed-up, whatever the steps
