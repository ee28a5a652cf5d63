"""One call of a pipeline under the probe executor.

A run begins at `scheduler.set_timesteps`, and what it follows is resolved as soon as its first step
is known (`run_begin`). The policy decides once per step, by what it observes of the first call of
the transformer; each guidance branch, by the number of its call, has residuals of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from otcache_plugin.executors.probe_run import ProbedForward, ProbeRun
from otcache_plugin.executors.reported_call import ReportedCall
from otcache_plugin.executors.run_begin import begin_by_timestep, known_begin
from otcache_plugin.pipelines.parts import transformer_not_called
from otcache_plugin.runs.report import BlockEvaluations, resolved_report
from otcache_plugin.runs.resolution import DecidedRun

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from otcache_registry.finding.nearest import RunSetup

    from otcache_plugin.executors.block_lists import BlockList
    from otcache_plugin.executors.probed_twin import ProbedTwin
    from otcache_plugin.executors.probes import Probe
    from otcache_plugin.runs.plan import Plan
    from otcache_plugin.runs.report import RunReport


@dataclass(frozen=True, eq=False)
class ProbedParts:
    """The parts of a pipeline that a call works on.

    Attributes:
        scheduler: of the pipeline.
        twin: of its transformer.
        probe: how the policy's observation is got.
        lists: of the transformer's blocks.
    """

    scheduler: Any
    twin: ProbedTwin
    probe: Probe
    lists: tuple[BlockList, ...]


class ProbeCall(ReportedCall):
    """Leaves out blocks on the cached steps of one call's runs.

    Args:
        plan: what to follow.
        setup: what the call says of its runs.
        parts: of the pipeline.
        report: what is to be said until the call's first run begins.
    """

    def __init__(self, plan: Plan, setup: RunSetup, parts: ProbedParts, report: RunReport) -> None:
        super().__init__(report)
        self._plan = plan
        self._setup = setup
        self._parts: ProbedParts | None = parts
        self._run: ProbeRun | None = None
        self._run_pending = False

    def _run_report(self) -> RunReport | None:
        run = self._run
        if run is None or not run.is_known:
            return None
        return replace(
            resolved_report(self._before, run.resolution),
            look_backs=run.resolution.look_backs(run.computed_steps),
            computed_steps=tuple(run.computed_steps),
            finished_steps=run.step,
            transformer_calls=run.transformer_calls,
            block_evaluations=BlockEvaluations(run.blocks_run, run.blocks_of_full_run),
        )

    def end(self) -> None:
        """Keep the report alone."""
        self._end_run()
        self._parts = None

    def set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Let the next transformer call begin a run."""
        self._end_run()
        self._run_pending = True
        return original(*args, **kwargs)

    def denoise(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the transformer, all of its blocks or few."""
        parts = self._at_hand
        if self._run_pending:
            self._begin_run(parts)
        run = self._run
        if run is None or run.finished:
            return module(*args, **kwargs)
        forward = ProbedForward(run, run.branch(), parts.probe, parts.lists)
        output = parts.twin.call(forward, module, *args, **kwargs)
        forward.end()
        return output

    def step(
        self,
        original: Callable[..., Any],
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Take a step."""
        run, parts = self._run, self._at_hand
        if run is None or run.finished or run.calls_in_step == 0:
            raise transformer_not_called()
        if not run.is_known:
            self._resolve(run, parts, begin_by_timestep(parts.scheduler, timestep))
        result = original(model_output, timestep, *args, **kwargs)
        run.end_step()
        return result

    @property
    def _at_hand(self) -> ProbedParts:
        assert self._parts is not None, "the call is under way"
        return self._parts

    def _begin_run(self, parts: ProbedParts) -> None:
        self._run = ProbeRun(parts.probe.look_back)
        begin = known_begin(parts.scheduler)
        if begin is not None:
            self._resolve(self._run, parts, begin)
        self._run_pending = False

    def _resolve(self, run: ProbeRun, parts: ProbedParts, begin: int) -> None:
        levels = parts.scheduler.sigmas[begin:].double().cpu().numpy()
        resolution = self._plan.resolve(levels, setup=self._setup)
        assert isinstance(resolution, DecidedRun), "a schedule was refused"
        run.follow(resolution)

    def _end_run(self) -> None:
        self._keep_report()
        self._run, self._run_pending = None, False
