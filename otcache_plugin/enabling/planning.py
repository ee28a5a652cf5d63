"""From what `policy=` stands for to a plan that is resolved at every run."""

from __future__ import annotations

from functools import partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from otcache_policies import BudgetError, DecidingPolicy, Schedule, budget_for_speedup

from otcache_plugin.enabling.documents import FoundDocument, find_document, open_document, usual_run
from otcache_plugin.errors import ArgumentError
from otcache_plugin.plugins.registries import UncalibratedDecidingPolicy, UncalibratedPolicy
from otcache_plugin.runs.documents import DocumentsPlan, PlannedDocument
from otcache_plugin.runs.plan import (
    CalibratedPlan,
    DecidingPlan,
    Plan,
    SchedulePlan,
    UncalibratedPlan,
)
from otcache_plugin.runs.request import DEFAULT_RATIO, Request
from otcache_plugin.runs.resolution import DocumentOrigin

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from otcache_registry import StoredPolicy
    from otcache_registry.finding.candidates import Candidate

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
        BudgetError: the budget or speed-up is not one of any run; whether the policy serves it is
            known when a run's steps are.
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
        return _documents_plan(host, pipe, found, request, wanted)
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
    return _documents_plan(host, pipe, found, request, wanted, policy)


def _names_document(host: PluginHost, policy: str) -> bool:
    """Return whether a text names a document, and no registered policy.

    Names are identifiers, and paths as a rule are not; a registered name goes before a folder.
    """
    return not policy.isidentifier() or (policy not in host.policies and Path(policy).is_dir())


def _documents_plan(
    host: PluginHost,
    pipe: DiffusionPipeline,
    found: FoundDocument,
    request: Request,
    wanted: Wanted,
    policy: str | None = None,
) -> DocumentsPlan:
    """Return the plan of the documents that were found.

    Args:
        host: the registered policies.
        pipe: the pipeline.
        found: the documents.
        request: how many steps to compute.
        wanted: what the user says.
        policy: to make of them; None for the one that each is of.
    """
    _check_request(request)

    def plan_of(candidate: Candidate) -> CalibratedPlan | DecidingPlan:
        return _document_plan(host, candidate.load(), found.notes, request, policy)

    return DocumentsPlan(
        _document_plan(host, found.stored, found.notes, request, policy),
        found.stored.document.sampling,
        [
            PlannedDocument(each.source, each.document.sampling, partial(plan_of, each))
            for each in found.others
        ],
        usual_run(pipe, wanted),
    )


def _document_plan(
    host: PluginHost,
    stored: StoredPolicy,
    notes: tuple[str, ...],
    request: Request,
    policy: str | None,
) -> CalibratedPlan | DecidingPlan:
    """Return the plan of one document."""
    made = host.policy_of(stored, policy)
    document = stored.document
    origin = DocumentOrigin(stored.source, document.model.id, document.model.revision, notes)
    if isinstance(made, DecidingPolicy):
        default = document.default_budget
        ratio = None if default is None else default / document.num_inference_steps
        return DecidingPlan(made, request, ratio, origin)
    sigmas = document.sampling.sigmas
    levels = None if sigmas is None else np.array(sigmas)
    return CalibratedPlan(made, levels, document.require_default_budget(), request, origin)


def _check_request(request: Request) -> None:
    """Refuse at once what no run could serve; the range is that of the run's own steps."""
    budget = request.budget
    if budget is not None and (
        isinstance(budget, bool) or not isinstance(budget, Integral) or budget < 2
    ):
        raise BudgetError("budget", budget, "not a number of steps", "Use an integer from 2 on")
    if request.speedup is not None:
        budget_for_speedup(request.speedup, 2)  # refuses what is no speed-up, whatever the steps
