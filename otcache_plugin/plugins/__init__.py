"""What plugin authors import: the hooks, the registries, and the types that go through them.

Importing it loads neither torch nor a model: each name is loaded when it is first used.

Example:
    A module that an entry point of the group `otcache` names registers a policy:

        from otcache_plugin.plugins import PolicyRegistry, hookimpl

        @hookimpl
        def otcache_register_policies(registry: PolicyRegistry) -> None:
            registry.register_uncalibrated("mine", MyPolicy, "one line for `otcache plugins`")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_policies.lazy_imports import lazy_names

if TYPE_CHECKING:
    from otcache_policies import (
        AimingPolicy,
        BudgetError,
        Budgets,
        Decider,
        DecidingPolicy,
        Decision,
        Policy,
        RunConditions,
        Schedule,
    )
    from otcache_registry import (
        Column,
        DocumentError,
        GraphSettings,
        Part,
        PolicyDetails,
        PolicyDocument,
        Sampling,
        ScheduleRecord,
        StoredPolicy,
        Tables,
    )
    from otcache_registry.finding.nearest import RunSetup

    from otcache_plugin.errors import ArgumentError, ExecutionError, PipelineError
    from otcache_plugin.evaluation.metrics import Metric, TensorMetric
    from otcache_plugin.evaluation.outputs import Outputs
    from otcache_plugin.evaluation.pairs import Pair
    from otcache_plugin.pipelines.calls import Call
    from otcache_plugin.plugins.calibrating import (
        Calibrated,
        CalibrationContext,
        Calibrator,
        Search,
        Study,
    )
    from otcache_plugin.plugins.costs import Alternative, StageCost, Workload
    from otcache_plugin.plugins.hookspecs import hookimpl
    from otcache_plugin.plugins.measured import DecidedRuns, ObservedChanges
    from otcache_plugin.plugins.registries import (
        Activation,
        Executor,
        ExecutorRegistry,
        MetricRegistry,
        PolicyRegistry,
    )
    from otcache_plugin.runs.plan import Plan
    from otcache_plugin.runs.report import (
        RunReport,
        planned_report,
        report_of_call,
        resolved_report,
    )
    from otcache_plugin.runs.resolution import Resolution

__all__ = [
    "Activation",
    "AimingPolicy",
    "Alternative",
    "ArgumentError",
    "BudgetError",
    "Budgets",
    "Calibrated",
    "CalibrationContext",
    "Calibrator",
    "Call",
    "Column",
    "DecidedRuns",
    "Decider",
    "DecidingPolicy",
    "Decision",
    "DocumentError",
    "ExecutionError",
    "Executor",
    "ExecutorRegistry",
    "GraphSettings",
    "Metric",
    "MetricRegistry",
    "ObservedChanges",
    "Outputs",
    "Pair",
    "Part",
    "PipelineError",
    "Plan",
    "Policy",
    "PolicyDetails",
    "PolicyDocument",
    "PolicyRegistry",
    "Resolution",
    "RunConditions",
    "RunReport",
    "RunSetup",
    "Sampling",
    "Schedule",
    "ScheduleRecord",
    "Search",
    "StageCost",
    "StoredPolicy",
    "Study",
    "Tables",
    "TensorMetric",
    "Workload",
    "hookimpl",
    "planned_report",
    "report_of_call",
    "resolved_report",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "otcache_plugin.errors": ("ArgumentError", "ExecutionError", "PipelineError"),
        "otcache_plugin.evaluation.metrics": ("Metric", "TensorMetric"),
        "otcache_plugin.evaluation.outputs": ("Outputs",),
        "otcache_plugin.evaluation.pairs": ("Pair",),
        "otcache_plugin.plugins.calibrating": (
            "Calibrated",
            "CalibrationContext",
            "Calibrator",
            "Search",
            "Study",
        ),
        "otcache_plugin.pipelines.calls": ("Call",),
        "otcache_plugin.plugins.costs": ("Alternative", "StageCost", "Workload"),
        "otcache_plugin.plugins.hookspecs": ("hookimpl",),
        "otcache_plugin.plugins.measured": ("DecidedRuns", "ObservedChanges"),
        "otcache_plugin.plugins.registries": (
            "Activation",
            "Executor",
            "ExecutorRegistry",
            "MetricRegistry",
            "PolicyRegistry",
        ),
        "otcache_plugin.runs.plan": ("Plan",),
        "otcache_plugin.runs.resolution": ("Resolution",),
        "otcache_plugin.runs.report": (
            "RunReport",
            "planned_report",
            "report_of_call",
            "resolved_report",
        ),
        "otcache_registry.finding.nearest": ("RunSetup",),
        "otcache_policies": (
            "AimingPolicy",
            "BudgetError",
            "Budgets",
            "Decider",
            "DecidingPolicy",
            "Decision",
            "Policy",
            "RunConditions",
            "Schedule",
        ),
        "otcache_registry": (
            "Column",
            "DocumentError",
            "GraphSettings",
            "Part",
            "PolicyDetails",
            "PolicyDocument",
            "Sampling",
            "ScheduleRecord",
            "StoredPolicy",
            "Tables",
        ),
    },
)
