"""One call of a pipeline under the blocks executor.

A run begins at `scheduler.set_timesteps`, and cache-dit is given its mask as soon as the run's
first step is known (`run_begin`): at the first transformer call, or when the first step is taken,
which is computed whatever the run follows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from otcache_plugin.errors import ExecutionError
from otcache_plugin.executors.reported_call import ReportedCall
from otcache_plugin.executors.run_begin import begin_by_timestep, known_begin
from otcache_plugin.executors.solver_response import response_of_run
from otcache_plugin.pipelines.parts import transformer_not_called
from otcache_plugin.runs.report import resolved_report
from otcache_plugin.runs.resolution import ScheduledRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch
    from otcache_registry.finding.nearest import RunSetup

    from otcache_plugin.executors.cached_twin import CachedTwin
    from otcache_plugin.runs.plan import Plan
    from otcache_plugin.runs.report import RunReport


class BlocksCall(ReportedCall):
    """Has cache-dit follow the plan in one call's runs.

    Args:
        plan: what to compute.
        setup: what the call says of its runs.
        scheduler: of the pipeline.
        twin: that cache-dit's cache is on.
        other: the executor that serves the pipeline as well, for errors; None where none does.
        report: what is to be said until the call's first run begins.
    """

    def __init__(
        self,
        plan: Plan,
        setup: RunSetup,
        scheduler: Any,
        twin: CachedTwin,
        other: str | None,
        report: RunReport,
    ) -> None:
        super().__init__(report)
        self._plan = plan
        self._setup = setup
        self._scheduler = scheduler
        self._twin: CachedTwin | None = twin
        self._other = other
        self._resolution: ScheduledRun | None = None
        self._run_pending = False
        self._step = 0
        self._step_index: int | None = None
        self._calls = 0
        self._calls_in_step = 0
        self.statistics: list[Any] = []

    def _run_report(self) -> RunReport | None:
        if self._resolution is None or self._twin is None:
            return None
        cached = {
            step
            for context in self._twin.contexts()
            for step in (*context.cached_steps, *context.cfg_cached_steps)
        }
        return replace(
            resolved_report(self._before, self._resolution),
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
        self._keep_report()
        if self._twin is not None:
            self.statistics = self._twin.statistics()
            self._twin.clear()
        self._scheduler = self._twin = None

    def set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Let the next transformer call begin a run."""
        self._keep_report()
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

    def step(
        self,
        original: Callable[..., Any],
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Take a step, for which cache-dit has to have counted the calls as the run has."""
        assert self._twin is not None
        if self._is_taken_again():
            return original(model_output, timestep, *args, **kwargs)
        if self._calls_in_step == 0:
            raise transformer_not_called()
        expected = self._expected_calls(self._twin)
        if self._calls_in_step != expected:
            raise self._wrong_number_of_calls(expected)
        if self._resolution is None:
            self._resolve(self._twin, begin_by_timestep(self._scheduler, timestep))
        result = original(model_output, timestep, *args, **kwargs)
        self._step += 1
        index = self._next_index()
        self._step_index = None if index is None else index - 1
        self._calls_in_step = 0
        return result

    def _is_taken_again(self) -> bool:
        """Return whether the scheduler was set back, to take its last step with something else.

        Cosmos 1 takes every step twice, with one result of its transformer: for the data that the
        step predicts, then with guidance between them.
        """
        if self._calls_in_step > 0 or self._step_index is None:
            return False
        return self._next_index() == self._step_index

    def _next_index(self) -> int | None:
        """Return which of its steps the scheduler takes next, None where it doesn't say."""
        index: int | None = getattr(self._scheduler, "step_index", None)
        return index

    def _begin_run(self, twin: CachedTwin) -> None:
        if self._ended:
            twin.renew()
        self._run_pending = False
        self._step = self._calls = self._calls_in_step = 0
        self._step_index = None
        begin = known_begin(self._scheduler)
        if begin is None:
            _set_mask(twin, [True])
        else:
            self._resolve(twin, begin)

    def _resolve(self, twin: CachedTwin, begin: int) -> None:
        sigmas = self._scheduler.sigmas[begin:].double().cpu().numpy()
        response = response_of_run(self._scheduler, begin)
        resolution = self._plan.resolve(sigmas, response, self._setup)
        assert isinstance(resolution, ScheduledRun), "a policy that decides was refused"
        self._resolution = resolution
        _set_mask(twin, resolution.schedule.mask)

    def _expected_calls(self, twin: CachedTwin) -> int:
        """Return how many transformer calls cache-dit takes for one step."""
        separate = all(context.cache_config.enable_separate_cfg for context in twin.contexts())
        return 2 if separate else 1

    def _wrong_number_of_calls(self, expected: int) -> ExecutionError:
        calls = self._calls_in_step
        if self._step == 0 and calls <= 2:
            separate = calls == 2
            config = f"DBCacheConfig(Fn_compute_blocks=1, enable_separate_cfg={separate})"
            remedy = f"Pass cache_config={config}"
        elif self._other is not None:
            remedy = f"Pass {self._other}"
        else:
            remedy = "Call cache_dit.disable_cache(pipe)"
        return ExecutionError(
            f"calls of the transformer in step {self._step}: {calls}, but cache-dit expects "
            f"{expected}, so its steps are not those of the run. {remedy}."
        )


def _set_mask(twin: CachedTwin, mask: Iterable[bool]) -> None:
    for context in twin.contexts():
        context.cache_config.steps_computation_mask = [int(computed) for computed in mask]
