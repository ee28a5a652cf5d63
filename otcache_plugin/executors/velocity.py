"""The velocity executor: on a cached step the transformer is not called at all.

Here it is decided whether a pipeline can be served; what is then done during each of its calls is
in `velocity_call`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from otcache_plugin.errors import ArgumentError, PipelineError
from otcache_plugin.executors.block_arguments import BLOCK_CACHE_ARGUMENTS, set_up_beside
from otcache_plugin.executors.schedulers import Substitute, require_look_back
from otcache_plugin.executors.serving import (
    PASS_BLOCKS,
    beside_velocity,
    or_else,
    require_velocity,
)
from otcache_plugin.executors.velocity_call import VelocityCall
from otcache_plugin.pipelines.call_arguments import usual_steps
from otcache_plugin.pipelines.parts import find_denoisers, find_scheduler, refuse_cache_of_others
from otcache_plugin.runs.mechanism import VELOCITY
from otcache_plugin.runs.plan import SchedulePlan
from otcache_plugin.runs.report import planned_report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diffusers import DiffusionPipeline
    from otcache_policies import DecidingPolicy
    from otcache_registry.finding.nearest import RunSetup

    from otcache_plugin.executors.output_log import OutputLog, Replay
    from otcache_plugin.runs.plan import Plan
    from otcache_plugin.runs.report import RunReport

OBSERVED = "latents"
"""All that a policy is shown here. What else one may want to see is to be got in
`VelocityCall.denoise`, where every transformer call comes by."""


class VelocityExecutor:
    """Skips the whole transformer on cached steps and estimates their velocity.

    Args:
        replay: what an earlier run has computed already of every run under this executor.
        log: where the outputs of the transformer are kept; those of the latest run are in it.
    """

    name: ClassVar[str] = VELOCITY

    def __init__(self, replay: Replay | None = None, log: OutputLog | None = None) -> None:
        self._replay = replay
        self._log = log

    def prepare(
        self, pipe: DiffusionPipeline, plan: Plan, cache_dit_arguments: Mapping[str, Any]
    ) -> VelocityActivation:
        """Check that the pipeline can be served.

        Args:
            pipe: the pipeline to accelerate.
            plan: what to compute.
            cache_dit_arguments: the remaining arguments of `cache_dit.enable_cache`; those that
                configure its block cache contradict this executor, the others go to cache-dit.

        Returns:
            What begins the pipeline's calls, and reports.

        Raises:
            ArgumentError: a block-cache argument was given, or the policy observes what this
                executor cannot show.
            PipelineError: no denoiser, or a scheduler with which no estimate is known to be
                right, or not the one that an explicit schedule or the policy asks for.
        """
        refuse_block_cache_arguments(cache_dit_arguments)
        if plan.deciding is not None:
            _require_observable(plan.deciding)
        find_denoisers(pipe)
        _require_served(pipe, plan, usual_steps(pipe))
        set_up_beside(pipe, cache_dit_arguments)
        return VelocityActivation(plan, self._replay, self._log)


def refuse_block_cache_arguments(cache_dit_arguments: Mapping[str, Any]) -> None:
    """Raise ArgumentError when cache-dit's block cache is configured beside this executor."""
    for name in BLOCK_CACHE_ARGUMENTS:
        if cache_dit_arguments.get(name) is not None:
            raise ArgumentError(
                name,
                cache_dit_arguments[name],
                "contradicts executor='velocity', which skips the whole transformer and leaves "
                "nothing for cache-dit's block cache to decide",
                "Drop it, or pass executor='blocks' to run the schedule inside cache-dit's cache",
            )


def _require_observable(policy: DecidingPolicy[Any]) -> None:
    """Raise ArgumentError when the policy observes something else than latents."""
    if policy.observes != OBSERVED:
        raise ArgumentError(
            "executor",
            VelocityExecutor.name,
            f"policy {policy.name!r} observes {policy.observes!r} to decide, and this "
            f"executor shows {OBSERVED!r}",
            "Leave executor out, or pass one that shows it (`otcache plugins` lists them), or "
            "another policy",
        )


class VelocityActivation:
    """Begins the calls of one pipeline, and knows what the current or last run did."""

    def __init__(self, plan: Plan, replay: Replay | None, log: OutputLog | None) -> None:
        self.plan = plan
        self._replay = replay
        self._log = log
        self._call: VelocityCall | None = None

    def begin(self, pipe: DiffusionPipeline, setup: RunSetup) -> VelocityCall:
        """Return the call that begins.

        Raises:
            PipelineError: the pipeline has other parts by now, which cannot be served.
        """
        refuse_cache_of_others(pipe)
        self._call = VelocityCall(
            self.plan,
            setup,
            pipe,
            _require_served(pipe, self.plan, None),
            _other_executor(pipe, self.plan),
            self.report(),
            self._replay,
            self._log,
        )
        return self._call

    def report(self) -> RunReport:
        """Return the current or last run."""
        if self._call is None:
            return planned_report(self.plan, VelocityExecutor.name)
        return self._call.report()


def _require_served(pipe: DiffusionPipeline, plan: Plan, steps: int | None) -> Substitute:
    """Return what stands in on a cached step; raise PipelineError where nothing does.

    Args:
        pipe: the pipeline.
        plan: to be followed.
        steps: of usual runs; None for a call, whose runs say themselves how far they look back
            where that hangs on their steps.
    """
    substitute = require_velocity(pipe, plan)
    look_back = plan.largest_look_back(steps) if substitute is Substitute.PLAIN_REUSE else None
    if look_back is None:
        return substitute
    whose, of_steps = "the policy", "num_inference_steps"
    if isinstance(plan, SchedulePlan):
        whose, of_steps = "the schedule", str(plan.schedule.num_inference_steps)
    elif plan.deciding is None:
        whose, of_steps = f"the policy's schedule for {steps} steps", str(steps)
    try:
        require_look_back(find_scheduler(pipe), look_back, whose, of_steps)
    except PipelineError as error:
        raise or_else(error, _other_executor(pipe, plan)) from None
    return substitute


def _other_executor(pipe: DiffusionPipeline, plan: Plan) -> str | None:
    """Return the executor that can follow a plan on a pipeline as well, None where none can."""
    return PASS_BLOCKS if beside_velocity(pipe, plan) == PASS_BLOCKS else None
