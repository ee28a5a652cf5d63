"""Documents for models of random weights: of schedules, and of thresholds that decide nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import otcache_policies
from otcache_registry import PolicyDocument, PolicyIdentity
from otcache_registry.documents.document import ServedBudgets
from otcache_registry.documents.folder import write_policy

from otcache_plugin.parameters.published import Published, published_document
from otcache_plugin.parameters.thresholds import (
    DiCacheParameters,
    TeaCacheParameters,
    ThresholdParameters,
    records,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MODEL = "benchmarks/random-weights"
REVISION = "0" * 40

LOOK_BACK = 2
"""Of the policy that is enabled as `uniform`."""

NEVER = 1e9
"""A threshold that no change reaches: only the first and the last step are computed."""


def write_schedules(folder: Path, budgets: Sequence[int], steps: int) -> None:
    """Write a document of the schedules that the policy `uniform` has."""
    _write(folder, _of_uniform(budgets, steps))


def write_thresholds(folder: Path, name: str, steps: int) -> None:
    """Write a document by whose policy a run computes 2 steps, or all.

    Args:
        folder: for it.
        name: "teacache", or "dicache" and the depth of its probe.
        steps: of the run.
    """
    thresholds = records([(2, NEVER)])
    kind, *depth = name.split()
    parameters: ThresholdParameters = (
        DiCacheParameters(thresholds=thresholds, depth=int(depth[0]))
        if kind == "dicache"
        else TeaCacheParameters(thresholds=thresholds, coefficients=(0.0, 0.0, 0.0, 1.0, 0.0))
    )
    changes = {
        "policy": PolicyIdentity(name=kind, distribution="otcache-plugin"),
        "budgets": ServedBudgets(smallest=2, largest=2, calibrated=(2,)),
        "parameters": parameters.model_dump(),
    }
    _write(folder, _of_uniform((2,), steps).model_copy(update=changes))


def _of_uniform(budgets: Sequence[int], steps: int) -> PolicyDocument:
    uniform = otcache_policies.UniformPolicy(steps, LOOK_BACK)
    schedules = [uniform.schedule(budget) for budget in budgets]
    return published_document(schedules, Published(MODEL, REVISION, pipeline="FluxPipeline"))


def _write(folder: Path, document: PolicyDocument) -> None:
    write_policy(folder, document, {}, "# Of a benchmark\n")
