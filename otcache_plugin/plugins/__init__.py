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

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otcache_policies import (
        BudgetError,
        Budgets,
        Decider,
        DecidingPolicy,
        Decision,
        Policy,
        RunConditions,
        Schedule,
    )
    from otcache_registry import StoredPolicy

    from otcache_plugin.errors import ArgumentError, ExecutionError, PipelineError
    from otcache_plugin.evaluation.metrics import Metric, TensorMetric
    from otcache_plugin.evaluation.outputs import Outputs
    from otcache_plugin.evaluation.pairs import Pair
    from otcache_plugin.plugins.hookspecs import hookimpl
    from otcache_plugin.plugins.registries import (
        Activation,
        Executor,
        ExecutorRegistry,
        MetricRegistry,
        PolicyRegistry,
    )
    from otcache_plugin.runs.plan import DecidingPlan, Plan
    from otcache_plugin.runs.report import RunReport, planned_report
    from otcache_plugin.runs.resolution import Resolution

__all__ = [
    "Activation",
    "ArgumentError",
    "BudgetError",
    "Budgets",
    "Decider",
    "DecidingPlan",
    "DecidingPolicy",
    "Decision",
    "ExecutionError",
    "Executor",
    "ExecutorRegistry",
    "Metric",
    "MetricRegistry",
    "Outputs",
    "Pair",
    "PipelineError",
    "Plan",
    "Policy",
    "PolicyRegistry",
    "Resolution",
    "RunConditions",
    "RunReport",
    "Schedule",
    "StoredPolicy",
    "TensorMetric",
    "hookimpl",
    "planned_report",
]

_MODULES = {
    "otcache_plugin.errors": ("ArgumentError", "ExecutionError", "PipelineError"),
    "otcache_plugin.evaluation.metrics": ("Metric", "TensorMetric"),
    "otcache_plugin.evaluation.outputs": ("Outputs",),
    "otcache_plugin.evaluation.pairs": ("Pair",),
    "otcache_plugin.plugins.hookspecs": ("hookimpl",),
    "otcache_plugin.plugins.registries": (
        "Activation",
        "Executor",
        "ExecutorRegistry",
        "MetricRegistry",
        "PolicyRegistry",
    ),
    "otcache_plugin.runs.plan": ("DecidingPlan", "Plan"),
    "otcache_plugin.runs.report": ("RunReport", "planned_report"),
    "otcache_plugin.runs.resolution": ("Resolution",),
    "otcache_policies": (
        "BudgetError",
        "Budgets",
        "Decider",
        "DecidingPolicy",
        "Decision",
        "Policy",
        "RunConditions",
        "Schedule",
    ),
    "otcache_registry": ("StoredPolicy",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
