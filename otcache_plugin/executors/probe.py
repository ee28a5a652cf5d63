"""The probe executor: features of the first blocks are seen at every step, the others may rest.

The transformer is called at every step. On a cached one its blocks are left out, but for those that
a policy observes, and what they have added to their input before is added again. So guidance, any
scheduler and whatever else a pipeline does are what they are without a cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from otcache_plugin.errors import ArgumentError
from otcache_plugin.executors.block_arguments import BLOCK_CACHE_ARGUMENTS, set_up_beside
from otcache_plugin.executors.block_lists import REMEDY, find_block_lists
from otcache_plugin.executors.probe_call import ProbeCall, ProbedParts
from otcache_plugin.executors.probed_twin import ProbedTwin, refuse_whole
from otcache_plugin.executors.probes import probe_of, require_probe
from otcache_plugin.executors.serving import require_sigmas
from otcache_plugin.pipelines.parts import refuse_cache_of_others
from otcache_plugin.runs.mechanism import PROBE
from otcache_plugin.runs.report import planned_report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diffusers import DiffusionPipeline
    from otcache_policies import DecidingPolicy
    from otcache_registry.finding.nearest import RunSetup

    from otcache_plugin.runs.plan import Plan
    from otcache_plugin.runs.report import RunReport

REFUSED_ARGUMENTS = (*BLOCK_CACHE_ARGUMENTS, "parallelism_config")


class ProbeExecutor:
    """Shows a policy features of the first blocks, and runs the others where it decides so."""

    name: ClassVar[str] = PROBE

    def prepare(
        self, pipe: DiffusionPipeline, plan: Plan, cache_dit_arguments: Mapping[str, Any]
    ) -> ProbeActivation:
        """Check that the pipeline can be served.

        Args:
            pipe: the pipeline to accelerate.
            plan: what to follow; its policy decides at every step.
            cache_dit_arguments: the remaining arguments of `cache_dit.enable_cache`; those that
                configure its block cache contradict this executor, as do several devices.

        Returns:
            What begins the pipeline's calls, and reports.

        Raises:
            ArgumentError: an argument contradicts this executor, or the policy observes nothing
                that it shows.
            PipelineError: the transformer's blocks cannot be observed, or left out, or the
                scheduler has no sigmas.
        """
        policy = _require_deciding(plan)
        given = {name: value for name, value in cache_dit_arguments.items() if value is not None}
        for name in REFUSED_ARGUMENTS:
            if name in given:
                problem = (
                    "contradicts executor='probe', which leaves out blocks by itself, and decides "
                    "on one device"
                )
                raise ArgumentError(name, given[name], problem, "Drop it, or use another policy")
        _probed(pipe, policy)
        set_up_beside(pipe, given)
        return ProbeActivation(plan, policy)


def _require_deciding(plan: Plan) -> DecidingPolicy[Any]:
    """Return the policy of a plan that decides by features; raise ArgumentError for any other."""
    if plan.deciding is None:
        problem = f"policy {plan.policy_name!r} gives a schedule, and looks at no features"
        raise ArgumentError("executor", ProbeExecutor.name, problem, "Leave executor out")
    require_probe(plan.deciding)
    return plan.deciding


def _probed(pipe: DiffusionPipeline, policy: DecidingPolicy[Any]) -> ProbedParts:
    """Return the parts of a pipeline whose calls are served; raise PipelineError where none are."""
    refuse_whole(pipe)
    lists = find_block_lists(pipe)
    scheduler = require_sigmas(pipe, REMEDY)
    probe = probe_of(pipe, policy, lists)
    return ProbedParts(scheduler, ProbedTwin(pipe.transformer, lists), probe, lists)


class ProbeActivation:
    """Begins the calls of one pipeline, and knows what the current or last run did."""

    def __init__(self, plan: Plan, policy: DecidingPolicy[Any]) -> None:
        self.plan = plan
        self._policy = policy
        self._call: ProbeCall | None = None

    def begin(self, pipe: DiffusionPipeline, setup: RunSetup) -> ProbeCall:
        """Return the call that begins.

        Raises:
            PipelineError: the pipeline has other parts by now, which cannot be served.
        """
        refuse_cache_of_others(pipe)
        parts = _probed(pipe, self._policy)
        self._call = ProbeCall(self.plan, setup, parts, self.report())
        return self._call

    def report(self) -> RunReport:
        """Return the current or last run."""
        if self._call is None:
            return planned_report(self.plan, ProbeExecutor.name)
        return self._call.report()
