"""Cache schedules for diffusion pipelines, and the mathematics that makes them.

A policy turns a budget into a schedule: `OTCachePolicy` predicts it between two calibrated
schedules, `MeanCachePolicy` finds it as a shortest path, `UniformPolicy` spaces it evenly. Only
numpy and scipy are needed. `otcache_policies.testing` is the conformance suite for policies.
"""

from .edges import EdgeSettings, EdgeTable
from .errors import BudgetError, EdgeTableError, FieldError, OTCacheError, ScheduleError
from .meancache import MeanCachePolicy
from .otcache import OTCachePolicy
from .policy import Budgets, Policy, budget_for_speedup
from .schedule import Schedule, Segment
from .shortest_path import budgeted_shortest_path
from .transport import (
    geodesic_weights,
    lift,
    predict,
    project_sum,
    realise,
    transfer,
    wasserstein_barycentre,
)
from .uniform import UniformPolicy

__all__ = [
    "BudgetError",
    "Budgets",
    "EdgeSettings",
    "EdgeTable",
    "EdgeTableError",
    "FieldError",
    "MeanCachePolicy",
    "OTCacheError",
    "OTCachePolicy",
    "Policy",
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
    "transfer",
    "wasserstein_barycentre",
]
