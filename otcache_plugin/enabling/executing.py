"""Which executor runs a plan, with which calibrator: as asked for, or as it was calibrated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otcache_plugin.executors.block_arguments import block_arguments, calibrator_in
from otcache_plugin.runs.documents import DocumentsPlan
from otcache_plugin.runs.mechanism import BLOCKS, Mechanism

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otcache_registry import Sampling

    from otcache_plugin.plugins.host import PluginHost
    from otcache_plugin.plugins.registries import Activation
    from otcache_plugin.runs.plan import Plan

__all__ = ["prepared"]


def prepared(
    host: PluginHost, pipe: Any, plan: Plan, asked: str | None, arguments: Mapping[str, Any]
) -> Activation:
    """Return what has an executor follow a plan on a pipeline.

    Args:
        host: the registered executors.
        pipe: the pipeline.
        plan: to be followed.
        asked: name of an executor; None for the one that the plan's document was calibrated on, or
            else the one that suits the policy.
        arguments: of cache-dit. Blocks are given those of the calibration, unless there are others.

    Raises:
        UnknownNameError: no such executor is registered.
        ArgumentError, PipelineError: it cannot do what is asked for.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    if not isinstance(plan, DocumentsPlan):
        name = asked or host.executor_for(plan.deciding)
        return host.executor(name).prepare(pipe, plan, given)
    calibrated_on = plan.sampling.executor if plan.deciding is None else None
    name = asked or calibrated_on or host.executor_for(plan.deciding)
    if name == calibrated_on == BLOCKS:
        given = {**_of_the_calibration(plan.sampling), **given}
    plan = plan.run_by(name, calibrator_in(given))
    return host.executor(name).prepare(pipe, plan, given)


def _of_the_calibration(sampling: Sampling) -> dict[str, Any]:
    """Return what cache-dit was told in the runs of a calibration on blocks."""
    return block_arguments(Mechanism(BLOCKS, sampling.calibrator), sampling.calls_per_step)
