"""One call of a pipeline under the velocity executor.

On cached steps the transformer's calls are answered with the outputs of the last computed step,
whatever their number (guidance as two calls, as one doubled batch, or none), and so are those of
what feeds it, a ControlNet. What the pipeline makes of them does not matter, because the model
output that reaches `scheduler.step` is replaced by the estimate: the average velocity, or the last
one again where the scheduler takes no Euler steps.

A run begins at `scheduler.set_timesteps`: the state of any earlier run is dropped there, and what
the run follows is resolved from the scheduler's sigmas as soon as its first step is known
(`run_begin`), at the first transformer call or when the first step is taken.

A policy that decides is asked once per step, before its first transformer call. It observes the
latents that the last `scheduler.step` gave (for the first step, those handed to it), in the
pipeline's own form: the transformer's input may be doubled for guidance or have a picture beside.

What the transformer gives may be kept, and a run that begins like one that was kept replays it: its
first transformer calls are answered with what they gave then.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from otcache_plugin.errors import ExecutionError, PipelineError
from otcache_plugin.executors.reported_call import ReportedCall
from otcache_plugin.executors.run_begin import begin_by_timestep, known_begin
from otcache_plugin.executors.schedulers import Substitute, require_look_back
from otcache_plugin.executors.serving import or_else
from otcache_plugin.executors.solver_response import response_of_run
from otcache_plugin.executors.stale_outputs import samples_of
from otcache_plugin.executors.steps_beside import StepsBeside
from otcache_plugin.executors.velocity_run import VelocityRun
from otcache_plugin.pipelines.call_arguments import guidance_of
from otcache_plugin.pipelines.parts import (
    find_scheduler,
    refuse_token_noise_levels,
    transformer_not_called,
)
from otcache_plugin.runs.plan import UncalibratedPlan
from otcache_plugin.runs.report import resolved_report
from otcache_plugin.runs.resolution import ScheduledRun

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from diffusers import DiffusionPipeline
    from otcache_registry.finding.nearest import RunSetup

    from otcache_plugin.executors.output_log import OutputLog, Replay
    from otcache_plugin.runs.plan import Plan
    from otcache_plugin.runs.report import RunReport


class VelocityCall(ReportedCall):
    """Skips the transformer on the cached steps of one call's runs.

    Args:
        plan: what to compute.
        setup: what the call says of its runs.
        pipe: the pipeline.
        substitute: what stands in on a cached step.
        other: the executor that serves the pipeline as well, for errors; None where none does.
        report: what is to be said until the call's first run begins.
        replay: what an earlier run has computed already.
        log: where the outputs of the transformer are kept.
    """

    def __init__(
        self,
        plan: Plan,
        setup: RunSetup,
        pipe: DiffusionPipeline,
        substitute: Substitute,
        other: str | None,
        report: RunReport,
        replay: Replay | None,
        log: OutputLog | None,
    ) -> None:
        super().__init__(report)
        self._plan = plan
        self._setup = setup
        self._pipe: DiffusionPipeline | None = pipe
        self._scheduler = find_scheduler(pipe)
        self._substitute = substitute
        self._other = other
        self._replay = replay
        self._log = log
        self._run: VelocityRun | None = None
        self._beside: dict[Any, StepsBeside] = {}
        self._run_pending = False

    def _run_report(self) -> RunReport | None:
        run = self._run
        if run is None or not run.is_known:
            return None
        resolution = run.resolution
        report = resolved_report(self._before, resolution)
        return replace(
            report,
            look_backs=resolution.look_backs(run.computed_steps),
            computed_steps=tuple(run.computed_steps),
            finished_steps=run.step,
            transformer_calls=run.transformer_calls,
            notes=(*report.notes, *run.notes),
        )

    def end(self) -> None:
        """Keep the report alone."""
        self._end_run()
        self._pipe = self._scheduler = None

    def set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Let the next transformer call begin a run."""
        self._end_run()
        self._run_pending = True
        if self._log is not None:
            self._log.clear()
        return original(*args, **kwargs)

    def denoise(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the transformer, or answer for it."""
        run = self._run_at_hand()
        if run is None:
            return module(*args, **kwargs)
        call, run.calls_in_step = run.calls_in_step, run.calls_in_step + 1
        samples = samples_of(args, kwargs)
        if not run.computes():
            return run.stale.answer(call, samples)
        if self._replay is not None and self._replay.has(run.step, call):
            output = self._replay.log.read(run.step, call)
        else:
            output = module(*args, **kwargs)
            run.transformer_calls += 1
        if self._log is not None:
            self._log.write(run.step, output)
        run.stale.keep(call, samples, output)
        return output

    def feed(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        """Call what feeds the transformer, or answer for it, as the transformer will be."""
        run = self._run_at_hand()
        if run is None:
            return module(*args, **kwargs)
        call, run.feeds_in_step = run.feeds_in_step, run.feeds_in_step + 1
        if not run.computes() and call < len(run.stale_feeds):
            return run.stale_feeds[call]
        output = module(*args, **kwargs)
        if call == 0:
            run.stale_feeds.clear()
        run.stale_feeds.append(output)
        return output

    def step(
        self,
        original: Callable[..., Any],
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Take a step with the velocity of the transformer, or with its estimate."""
        run = self._run
        if run is None or run.finished:
            raise transformer_not_called()
        disable = "Call cache_dit.disable_cache(pipe)"
        refuse_token_noise_levels(kwargs, f"Use {self._other}" if self._other else disable)
        if not run.is_known:
            self._resolve(run, begin_by_timestep(self._scheduler, timestep))
        run.note_guidance(guidance_of(self._pipe))
        began = x_before, _ = run.log.begin_step(sample)
        if run.step == 0:
            run.resolution.begin(x_before)
        velocity = self._velocity(run, model_output)
        result = original(velocity, timestep, sample, *args, **kwargs)
        run.log.end_step(began, result[0], velocity)
        run.advance()
        return result

    def step_beside(
        self,
        scheduler: Any,
        original: Callable[..., Any],
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Take a step of another scheduler as those of the pipeline's own are taken."""
        run = self._run
        if run is None:
            return original(model_output, timestep, sample, *args, **kwargs)
        if not run.is_known:
            self._resolve(run, begin_by_timestep(scheduler, timestep))
        beside = self._beside.get(scheduler)
        if beside is None:
            beside = self._beside[scheduler] = StepsBeside(run, scheduler, timestep)
        return beside.step(original, model_output, timestep, sample, *args, **kwargs)

    def _run_at_hand(self) -> VelocityRun | None:
        """Return the run that a call of a module belongs to, begun now if it is its first."""
        if self._run_pending:
            self._begin_run()
        return None if self._run is None or self._run.finished else self._run

    def _begin_run(self) -> None:
        self._run = VelocityRun()
        begin = known_begin(self._scheduler)
        if begin is not None:
            self._resolve(self._run, begin)
        self._run_pending = False

    def _resolve(self, run: VelocityRun, begin: int) -> None:
        sigmas = self._scheduler.sigmas[begin:].float()
        response = response_of_run(self._scheduler, begin)
        levels = sigmas.double().cpu().numpy()
        resolution = self._plan.resolve(levels, response, self._setup)
        if isinstance(resolution, ScheduledRun):
            resolution = self._served(resolution)
        run.follow(resolution, sigmas, self._substitute)

    def _served(self, run: ScheduledRun) -> ScheduledRun:
        """Return a run as the scheduler can take it; raise PipelineError where it can't."""
        if isinstance(self._plan, UncalibratedPlan):
            # Nobody has measured that its look-backs are better than none.
            reuse = self._substitute is Substitute.PLAIN_REUSE
            return run.reusing_the_last_velocity() if reuse else run
        try:
            require_look_back(
                self._scheduler, run.largest_look_back, "the schedule", run.num_inference_steps
            )
        except PipelineError as error:
            raise or_else(error, self._other) from None
        return run

    def _end_run(self) -> None:
        self._keep_report()
        self._beside.clear()
        self._run, self._run_pending = None, False

    def _velocity(self, run: VelocityRun, model_output: torch.Tensor) -> torch.Tensor:
        if not run.computes():
            return run.log.estimate(run.resolution.look_back_at(run.step))
        if run.calls_in_step == 0:
            raise ExecutionError(
                f"step {run.step} is to be computed, but the pipeline did not call its transformer "
                "for it, so its steps cannot be followed. Call cache_dit.disable_cache(pipe)."
            )
        run.note_calls()
        run.computed_steps.append(run.step)
        return model_output
