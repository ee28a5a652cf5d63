"""Cache schedules for diffusion pipelines, and the mathematics that makes them.

A policy turns a budget into a schedule: `OTCachePolicy` predicts it between a few calibrated
schedules, `MeanCachePolicy` finds it as a shortest path, `UniformPolicy` spaces it evenly. Only
numpy is needed, and each name is loaded when it is first used: whoever only wants the errors does
not wait for it. `otcache_policies.testing` is the conformance suite for policies.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otcache_policies.deciding import Decider, DecidingPolicy, Decision, RunConditions
    from otcache_policies.edges import EdgeSettings, EdgeTable
    from otcache_policies.errors import (
        BudgetError,
        EdgeTableError,
        FieldError,
        OTCacheError,
        ScheduleError,
    )
    from otcache_policies.meancache import MeanCachePolicy
    from otcache_policies.otcache import OTCachePolicy
    from otcache_policies.policy import Budgets, Policy, budget_for_speedup
    from otcache_policies.schedule import Schedule, Segment
    from otcache_policies.shortest_path import budgeted_shortest_path
    from otcache_policies.sigmas import same_sigmas
    from otcache_policies.transport import (
        geodesic_weights,
        lift,
        predict,
        project_sum,
        realise,
        transfer,
        wasserstein_barycentre,
    )
    from otcache_policies.uniform import UniformPolicy

__all__ = [
    "BudgetError",
    "Budgets",
    "Decider",
    "DecidingPolicy",
    "Decision",
    "EdgeSettings",
    "EdgeTable",
    "EdgeTableError",
    "FieldError",
    "MeanCachePolicy",
    "OTCacheError",
    "OTCachePolicy",
    "Policy",
    "RunConditions",
    "Schedule",
    "ScheduleError",
    "Segment",
    "UniformPolicy",
    "budget_for_speedup",
    "budgeted_shortest_path",
    "geodesic_weights",
    "lift",
    "predict",
    "project_sum",
    "realise",
    "same_sigmas",
    "transfer",
    "wasserstein_barycentre",
]

_MODULES = {
    "deciding": ("Decider", "DecidingPolicy", "Decision", "RunConditions"),
    "edges": ("EdgeSettings", "EdgeTable"),
    "errors": ("BudgetError", "EdgeTableError", "FieldError", "OTCacheError", "ScheduleError"),
    "meancache": ("MeanCachePolicy",),
    "otcache": ("OTCachePolicy",),
    "policy": ("Budgets", "Policy", "budget_for_speedup"),
    "schedule": ("Schedule", "Segment"),
    "shortest_path": ("budgeted_shortest_path",),
    "sigmas": ("same_sigmas",),
    "transport": (
        "geodesic_weights",
        "lift",
        "predict",
        "project_sum",
        "realise",
        "transfer",
        "wasserstein_barycentre",
    ),
    "uniform": ("UniformPolicy",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"otcache_policies.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
