"""Cache schedules for diffusion pipelines, and the mathematics that makes them.

A policy turns a budget into a schedule: `OTCachePolicy` predicts it between a few calibrated
schedules, `MeanCachePolicy` finds it as a shortest path, `GramPolicy` by minimising a quadratic
form of recorded velocities, `LeMiCaPolicy` by bounding what its worst segments do to the outcome,
`ReCachePolicy` by the scores of a trained network; `SearchedPolicy` holds what a search found,
`UniformPolicy` spaces it evenly. Only numpy is needed, and each name is loaded when it is first
used: whoever only wants the errors does not wait for numpy.
`TeaCachePolicy` and `DiCachePolicy` decide at every step instead, by what they see of the run.
`otcache_policies.testing` is the conformance suite for policies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_policies.lazy_imports import lazy_names

if TYPE_CHECKING:
    from otcache_policies.deciding import (
        AimingPolicy,
        Decider,
        DecidingPolicy,
        Decision,
        RunConditions,
    )
    from otcache_policies.dicache import DiCachePolicy
    from otcache_policies.displacement import euler_response
    from otcache_policies.edges import EdgeSettings, EdgeTable
    from otcache_policies.errors import (
        BudgetError,
        EdgeTableError,
        FieldError,
        GramTableError,
        OTCacheError,
        OutcomeTableError,
        ScheduleError,
        ScoresError,
    )
    from otcache_policies.gains import Gains, RealRun, fit_gains
    from otcache_policies.gram import GramPolicy, GramSettings, GramTable
    from otcache_policies.gram_edges import l2_edges
    from otcache_policies.gram_search import minima, optimise
    from otcache_policies.lemica import LeMiCaPolicy
    from otcache_policies.meancache import MeanCachePolicy
    from otcache_policies.minimax_path import budgeted_minimax_path
    from otcache_policies.otcache import OTCachePolicy
    from otcache_policies.outcomes import OutcomeTable, caching_alone
    from otcache_policies.policy import AdaptingPolicy, Budgets, Policy, budget_for_speedup
    from otcache_policies.prediction import constant_warp, vanishing_warp
    from otcache_policies.quadratic_form import QuadraticForm
    from otcache_policies.recache import ReCachePolicy, ScoreNetwork
    from otcache_policies.schedule import Schedule, Segment
    from otcache_policies.searched import SearchedPolicy
    from otcache_policies.shortest_path import budgeted_shortest_path
    from otcache_policies.sigmas import SAME_SIGMAS, same_sigmas
    from otcache_policies.teacache import TeaCachePolicy, fit_coefficients
    from otcache_policies.thresholds import ThresholdPolicy, Thresholds
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
    "SAME_SIGMAS",
    "AdaptingPolicy",
    "AimingPolicy",
    "BudgetError",
    "Budgets",
    "Decider",
    "DecidingPolicy",
    "Decision",
    "DiCachePolicy",
    "EdgeSettings",
    "EdgeTable",
    "EdgeTableError",
    "FieldError",
    "Gains",
    "GramPolicy",
    "GramSettings",
    "GramTable",
    "GramTableError",
    "LeMiCaPolicy",
    "MeanCachePolicy",
    "OTCacheError",
    "OTCachePolicy",
    "OutcomeTable",
    "OutcomeTableError",
    "Policy",
    "QuadraticForm",
    "ReCachePolicy",
    "RealRun",
    "RunConditions",
    "Schedule",
    "ScheduleError",
    "ScoreNetwork",
    "ScoresError",
    "SearchedPolicy",
    "Segment",
    "TeaCachePolicy",
    "ThresholdPolicy",
    "Thresholds",
    "UniformPolicy",
    "budget_for_speedup",
    "budgeted_minimax_path",
    "budgeted_shortest_path",
    "caching_alone",
    "constant_warp",
    "euler_response",
    "fit_coefficients",
    "fit_gains",
    "geodesic_weights",
    "l2_edges",
    "lift",
    "minima",
    "optimise",
    "predict",
    "project_sum",
    "realise",
    "same_sigmas",
    "transfer",
    "vanishing_warp",
    "wasserstein_barycentre",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "otcache_policies.deciding": (
            "AimingPolicy",
            "Decider",
            "DecidingPolicy",
            "Decision",
            "RunConditions",
        ),
        "otcache_policies.dicache": ("DiCachePolicy",),
        "otcache_policies.displacement": ("euler_response",),
        "otcache_policies.edges": ("EdgeSettings", "EdgeTable"),
        "otcache_policies.errors": (
            "BudgetError",
            "EdgeTableError",
            "FieldError",
            "GramTableError",
            "OTCacheError",
            "OutcomeTableError",
            "ScheduleError",
            "ScoresError",
        ),
        "otcache_policies.gains": ("Gains", "RealRun", "fit_gains"),
        "otcache_policies.gram": ("GramPolicy", "GramSettings", "GramTable"),
        "otcache_policies.gram_edges": ("l2_edges",),
        "otcache_policies.gram_search": ("minima", "optimise"),
        "otcache_policies.lemica": ("LeMiCaPolicy",),
        "otcache_policies.meancache": ("MeanCachePolicy",),
        "otcache_policies.minimax_path": ("budgeted_minimax_path",),
        "otcache_policies.otcache": ("OTCachePolicy",),
        "otcache_policies.outcomes": ("OutcomeTable", "caching_alone"),
        "otcache_policies.policy": ("AdaptingPolicy", "Budgets", "Policy", "budget_for_speedup"),
        "otcache_policies.prediction": ("constant_warp", "vanishing_warp"),
        "otcache_policies.quadratic_form": ("QuadraticForm",),
        "otcache_policies.recache": ("ReCachePolicy", "ScoreNetwork"),
        "otcache_policies.schedule": ("Schedule", "Segment"),
        "otcache_policies.searched": ("SearchedPolicy",),
        "otcache_policies.shortest_path": ("budgeted_shortest_path",),
        "otcache_policies.sigmas": ("SAME_SIGMAS", "same_sigmas"),
        "otcache_policies.teacache": ("TeaCachePolicy", "fit_coefficients"),
        "otcache_policies.thresholds": ("ThresholdPolicy", "Thresholds"),
        "otcache_policies.transport": (
            "geodesic_weights",
            "lift",
            "predict",
            "project_sum",
            "realise",
            "transfer",
            "wasserstein_barycentre",
        ),
        "otcache_policies.uniform": ("UniformPolicy",),
    },
)
