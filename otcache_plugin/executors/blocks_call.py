"""One call of a pipeline under the blocks executor.

A run begins at `scheduler.set_timesteps`, and cache-dit is given its mask at the first transformer
call after it, when the scheduler's sigmas are those of the run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from otcache_plugin.errors import ExecutionError
from otcache_plugin.executors.solver_response import response_of_run
from otcache_plugin.pipelines.calls import Call
from otcache_plugin.pipelines.parts import transformer_not_called
from otcache_plugin.runs.report import resolved_report
from otcache_plugin.runs.resolution import ScheduledRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from otcache_registry.finding.nearest import RunSetup

    from otcache_plugin.executors.cached_twin import CachedTwin
    from otcache_plugin.runs.plan import Plan
    from otcache_plugin.runs.report import RunReport


class BlocksCall(Call):
    """Has cache-dit follow the plan in one call's runs.

    Args:
        plan: what to compute.
        setup: what the call says of its runs.
        scheduler: of the pipeline.
        twin: that cache-dit's cache is on.
        report: what is to be said until a run begins.
    """

    def __init__(
        self,
        plan: Plan,
        setup: RunSetup,
        scheduler: Any,
        twin: CachedTwin,
        report: RunReport,
    ) -> None:
        self._plan = plan
        self._setup = setup
        self._scheduler = scheduler
        self._twin: CachedTwin | None = twin
        self._report = report
        self._resolution: ScheduledRun | None = None
        self._run_pending = False
        self._step = 0
        self._calls = 0
        self._calls_in_step = 0
        self.statistics: list[Any] = []

    def report(self) -> RunReport:
        """Return the current or last run."""
        if self._resolution is None or self._twin is None:
            return self._report
        cached = {
            step
            for context in self._twin.contexts()
            for step in (*context.cached_steps, *context.cfg_cached_steps)
        }
        return replace(
            resolved_report(self._report, self._resolution),
            computed_steps=tuple(step for step in range(self._step) if step not in cached),
            finished_steps=self._step,
            transformer_calls=self._calls,
        )

    def run(self, pipeline_call: Callable[[], Any]) -> Any:
        """Make the pipeline's call within cache-dit's contexts."""
        assert self._twin is not None
        return self._twin.run(pipeline_call)

    def end(self) -> None:
        """Keep the report and cache-dit's statistics alone."""
        self._report = self.report()
        if self._twin is not None:
            self.statistics = self._twin.statistics()
            self._twin.clear()
        self._scheduler = self._twin = None

    def set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Let the next transformer call begin a run."""
        self._report = self.report()
        self._resolution, self._run_pending = None, True
        return original(*args, **kwargs)

    def denoise(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the transformer, in which cache-dit skips blocks on cached steps."""
        assert self._twin is not None
        if self._run_pending:
            self._begin_run(self._twin)
        self._calls += 1
        self._calls_in_step += 1
        return self._twin.forward(module, *args, **kwargs)

    def step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take a step, for which cache-dit has to have counted the calls as the run has."""
        assert self._twin is not None
        if self._calls_in_step == 0:
            raise transformer_not_called()
        expected = self._expected_calls(self._twin)
        if self._calls_in_step != expected:
            raise _wrong_number_of_calls(self._calls_in_step, expected)
        result = original(*args, **kwargs)
        self._step += 1
        self._calls_in_step = 0
        return result

    def _begin_run(self, twin: CachedTwin) -> None:
        begin = self._scheduler.begin_index or 0
        sigmas = self._scheduler.sigmas[begin:].double().cpu().numpy()
        response = response_of_run(self._scheduler, begin)
        resolution = self._plan.resolve(sigmas, response, self._setup)
        assert isinstance(resolution, ScheduledRun), "a policy that decides was refused"
        self._resolution = resolution
        self._run_pending = False
        self._step = self._calls = self._calls_in_step = 0
        mask = [int(computed) for computed in resolution.schedule.mask]
        for context in twin.contexts():
            context.cache_config.steps_computation_mask = mask

    def _expected_calls(self, twin: CachedTwin) -> int:
        """Transformer calls that cache-dit takes for one step."""
        separate = all(context.cache_config.enable_separate_cfg for context in twin.contexts())
        return 2 if separate else 1


def _wrong_number_of_calls(calls: int, expected: int) -> ExecutionError:
    separate = expected == 1
    remedy = (
        f"cache_config=DBCacheConfig(Fn_compute_blocks=1, enable_separate_cfg={separate})"
        if calls <= 2
        else "executor='velocity'"
    )
    return ExecutionError(
        f"calls of the transformer in this step: {calls}, but cache-dit counts on {expected}, so "
        f"its steps are not those of the run. Pass {remedy}."
    )
