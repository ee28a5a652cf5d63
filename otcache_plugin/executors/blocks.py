"""The blocks executor: the schedule as cache-dit's own `steps_computation_mask`.

cache-dit then decides nothing about *when*: on computed steps every block runs, on cached steps
the first `Fn_compute_blocks` run and the rest is reused or, with a calibrator, extrapolated.
Slower than the velocity executor, and at home wherever cache-dit is: its calibrators, context and
tensor parallelism, any scheduler. The mask is set at every run, from that run's steps.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from otcache_plugin.errors import ArgumentError
from otcache_plugin.executors.block_arguments import (
    BLOCK_CACHE_ARGUMENTS,
    CACHE_CONFIG,
    calibrator_in,
    set_up_beside,
)
from otcache_plugin.executors.blocks_call import BlocksCall
from otcache_plugin.executors.cached_twin import CachedTwin, unannounced
from otcache_plugin.executors.serving import beside_blocks, require_blocks
from otcache_plugin.pipelines.parts import refuse_cache_of_others
from otcache_plugin.runs.mechanism import BLOCKS
from otcache_plugin.runs.report import planned_report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diffusers import DiffusionPipeline
    from otcache_registry.finding.nearest import RunSetup

    from otcache_plugin.runs.plan import Plan
    from otcache_plugin.runs.report import RunReport


class BlocksExecutor:
    """Runs a schedule inside cache-dit's block cache."""

    name: ClassVar[str] = BLOCKS

    def prepare(
        self, pipe: DiffusionPipeline, plan: Plan, cache_dit_arguments: Mapping[str, Any]
    ) -> BlocksActivation:
        """Check that cache-dit can put its cache on the pipeline.

        Args:
            pipe: a pipeline that cache-dit supports.
            plan: what to compute.
            cache_dit_arguments: the remaining arguments of `cache_dit.enable_cache`.

        Returns:
            What begins the pipeline's calls, and reports.

        Raises:
            ArgumentError: the `cache_config` says itself which steps to compute, or the policy
                decides it at every step.
            PipelineError: cache-dit does not support the pipeline, it has two transformers or a
                ControlNet, or one that is compiled into one graph, or its scheduler has no sigmas
                to resolve a schedule from, or repeats them.
        """
        if plan.deciding is not None:
            raise ArgumentError(
                "executor",
                BlocksExecutor.name,
                "cache-dit is told the computed steps when a run begins, and policy "
                f"{plan.policy_name!r} decides at every step",
                "Leave executor out, or pass a policy that gives a schedule",
            )
        require_blocks(pipe)
        given = {name: value for name, value in cache_dit_arguments.items() if value is not None}
        arguments = {name: given.pop(name) for name in BLOCK_CACHE_ARGUMENTS if name in given}
        arguments[CACHE_CONFIG] = _cache_config(arguments.get(CACHE_CONFIG))
        CachedTwin(pipe, arguments)  # what cache-dit cannot do, it says now
        set_up_beside(pipe, given)
        return BlocksActivation(plan, arguments)


def _cache_config(given: Any) -> Any:
    from cache_dit import DBCacheConfig

    if given is None:
        return DBCacheConfig(Fn_compute_blocks=1, steps_computation_policy="static")
    for name in ("steps_computation_mask", "num_inference_steps"):
        if getattr(given, name) is not None:
            raise ArgumentError(
                f"cache_config.{name}",
                getattr(given, name),
                "contradicts policy=, which decides at every run which steps are computed",
                "Drop it from the cache_config, or drop policy=",
            )
    return replace(copy.deepcopy(given), steps_computation_policy="static")


class BlocksActivation:
    """Begins the calls of one pipeline, and knows what the current or last run did."""

    def __init__(self, plan: Plan, arguments: Mapping[str, Any]) -> None:
        self.plan = plan
        self._arguments = arguments
        self._call: BlocksCall | None = None

    def begin(self, pipe: DiffusionPipeline, setup: RunSetup) -> BlocksCall:
        """Return the call that begins.

        Raises:
            PipelineError: the pipeline has other parts by now, which cannot be served.
        """
        refuse_cache_of_others(pipe)
        scheduler = require_blocks(pipe)
        with unannounced():
            twin = CachedTwin(pipe, self._arguments)
        self._call = BlocksCall(
            self.plan, setup, scheduler, twin, beside_blocks(pipe), self.report()
        )
        return self._call

    def report(self) -> RunReport:
        """Return the current or last run."""
        if self._call is None:
            report = planned_report(self.plan, BlocksExecutor.name)
            return replace(report, calibrator=calibrator_in(self._arguments))
        return self._call.report()

    def statistics(self) -> list[Any]:
        """Return what cache-dit says of the last run."""
        return [] if self._call is None else self._call.statistics
