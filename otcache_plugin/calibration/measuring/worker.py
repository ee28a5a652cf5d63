"""A worker: one model, and everything that is measured on it."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from otcache_policies import Schedule
from safetensors import SafetensorError

from otcache_plugin.calibration.errors import WorkspaceError
from otcache_plugin.calibration.measuring.counting import count_transformer_calls
from otcache_plugin.calibration.measuring.deciding_runs import cost_of, decide, observe
from otcache_plugin.calibration.measuring.edges import edge_errors
from otcache_plugin.calibration.measuring.facts import facts_of
from otcache_plugin.calibration.measuring.grams import gram_matrices, scheduler_response
from otcache_plugin.calibration.measuring.kept_runs import KeptRuns
from otcache_plugin.calibration.measuring.output_arrays import (
    arrays_of,
    displacement,
    outputs_of,
)
from otcache_plugin.calibration.measuring.picture_responses import (
    EndsLog,
    OtherLatents,
    picture_responses,
)
from otcache_plugin.calibration.measuring.prompt_memo import memoise_prompts
from otcache_plugin.calibration.measuring.schedule_runs import ScheduleRuns
from otcache_plugin.calibration.measuring.sketches import sketch
from otcache_plugin.calibration.measuring.trajectories import record, watch_sigmas
from otcache_plugin.calibration.measuring.units import (
    Compared,
    Decide,
    Evaluate,
    Measured,
    Observe,
    Record,
    Reference,
    Unit,
)
from otcache_plugin.calibration.settings import evidence_metrics
from otcache_plugin.calibration.stages import ENCODING, Unwatched
from otcache_plugin.errors import PipelineError
from otcache_plugin.evaluation.batches import Batch, batches_of
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.outputs import Outputs, generate_outputs
from otcache_plugin.executors.cached_twin import unannounced
from otcache_plugin.executors.output_log import Replay
from otcache_plugin.executors.schedulers import SET_EULER, is_supported
from otcache_plugin.executors.velocity import VelocityExecutor
from otcache_plugin.pipelines.parts import find_scheduler
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from otcache_plugin.calibration.measuring.counting import CallCounter
    from otcache_plugin.calibration.measuring.trajectories import Trajectory
    from otcache_plugin.calibration.settings import MeasuringSettings
    from otcache_plugin.calibration.stages import CalibrationProgress
    from otcache_plugin.evaluation.outputs import Space
    from otcache_plugin.evaluation.pairs import Pair
    from otcache_plugin.models.setups import ModelSetup


class Worker:
    """Measures units on one model.

    Args:
        setup: the model, without any cache enabled.
        settings: of the calibration.
        scratch: folder for the trajectory of a run under way, and for outputs that later runs
            replay; None for the system's.
        progress: is told what it does before it can measure.
    """

    def __init__(
        self,
        setup: ModelSetup,
        settings: MeasuringSettings,
        scratch: Path | None = None,
        progress: CalibrationProgress | None = None,
    ) -> None:
        self.facts = facts_of(setup)
        self._setup = setup
        self._settings = settings
        self._scratch = scratch
        self._kept_runs = KeptRuns(scratch)
        self._pairs: dict[str, list[Pair]] = {
            "calibration": setup.calibration_pairs(settings.pairs, settings.seed),
            "held-out": setup.held_out_pairs(settings.held_out_pairs),
        }
        self._threads = torch.get_num_threads()
        torch.set_num_threads(settings.threads)
        self._memo = memoise_prompts(setup.pipe)
        try:
            self._schedule_runs = ScheduleRuns(setup, settings)
            if setup.free_text_encoders:
                self._encode_prompts(progress or Unwatched())
        except BaseException:
            self.close()
            raise

    def _encode_prompts(self, progress: CalibrationProgress) -> None:
        """Encode all prompts, and free the memory of what encodes them."""
        batches = self._prompt_batches()
        progress.start(ENCODING, len(batches))
        self._memo.encode_ahead(batches, self._setup.call_arguments, progress.advance)
        self._memo.free_text_encoders()

    def _prompt_batches(self) -> list[list[str]]:
        """Return the prompts of every pipeline call that may come."""
        settings = self._settings
        batches = [
            *batches_of("calibration", settings.pairs, settings.batch_size),
            *batches_of("held-out", settings.held_out_pairs, settings.batch_size),
        ]
        if settings.batch_size > 1:  # A search may run every pair on its own.
            batches += batches_of("calibration", settings.pairs, 1)
            batches += batches_of("held-out", settings.held_out_pairs, 1)  # Whoever decides, too.
        return [[pair.prompt for pair in self._pairs_of(batch)] for batch in batches]

    def _pairs_of(self, batch: Batch) -> list[Pair]:
        return self._pairs[batch.pair_set][batch.start : batch.stop]

    def measure(
        self, unit: Unit, reference: Mapping[str, NDArray[Any]]
    ) -> list[tuple[Unit, Measured]]:
        """Measure a unit.

        Args:
            unit: what to measure.
            reference: outputs of the batch's full run, where the unit compares with them.

        Returns:
            What it gave; recording gives the outputs of its batch too, ahead of the errors.
        """
        started = time.monotonic()
        with count_transformer_calls(self._setup.pipe) as counter:
            given = self._measure(unit, reference, counter)
        seconds = time.monotonic() - started
        *extra, (_, arrays) = given
        return [
            *((each, Measured(outputs, (), 0.0)) for each, outputs in extra),
            (unit, Measured(arrays, tuple(counter.calls), seconds)),
        ]

    def _measure(
        self, unit: Unit, reference: Mapping[str, NDArray[Any]], counter: CallCounter
    ) -> list[tuple[Unit, Mapping[str, NDArray[Any]]]]:
        if isinstance(unit, Record):
            return self._record(unit)
        if isinstance(unit, Reference):
            with watch_sigmas(self._setup.pipe) as watched:
                outputs = self._run(unit.batch)
            return [(unit, arrays_of(outputs, watched.sigmas))]
        if isinstance(unit, Observe):
            return self._observe(unit)
        if isinstance(unit, Decide):
            return [(unit, self._decide(unit, reference, counter))]
        return [(unit, self._evaluate(unit, reference, counter))]

    def reset_peak_memory(self) -> None:
        """Begin to watch the accelerator's memory anew; a process's own peak only ever grows."""
        if self.facts.device == "cuda":
            torch.cuda.reset_peak_memory_stats(self._setup.pipe.device)

    def peak_memory(self) -> int | None:
        """Most bytes that were in use, on the accelerator where there is one; None if unknown."""
        if self.facts.device == "cuda":
            return torch.cuda.max_memory_allocated(self._setup.pipe.device)
        if sys.platform == "win32":
            return None
        import resource  # Windows has none.

        # Linux counts in kilobytes, macOS in bytes.
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def close(self) -> None:
        """Give the pipeline back as it was, but for text encoders that were freed, and PyTorch."""
        torch.set_num_threads(self._threads)
        self._memo.remove()
        self._kept_runs.forget()

    def _record(self, unit: Record) -> list[tuple[Unit, Mapping[str, NDArray[Any]]]]:
        self._require_recordable()
        with self._keeping("the trajectory of a run"):
            if self._scratch is not None:
                self._scratch.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="otcache-", dir=self._scratch) as folder:
                steps = self._settings.num_inference_steps
                log = EndsLog(Path(folder) / "ends", steps)
                runs = self._recorder(unit.batch, VelocityExecutor(log=log))
                with record(self._setup.pipe, Path(folder)) as trajectory:
                    outputs = runs.outputs(Schedule.full(steps), self._spaces(unit.batch))
                arrays = {
                    **_recorded(trajectory, self._settings.max_look_back),
                    **self._responses(unit, trajectory, outputs, log),
                }
        return [
            (Reference(unit.batch), arrays_of(outputs, trajectory.sigmas)),
            (unit, arrays),
        ]

    def _require_recordable(self) -> None:
        """Refuse a scheduler under which nothing is known to follow from recorded velocities."""
        scheduler = find_scheduler(self._setup.pipe)
        if not is_supported(scheduler):
            problem = "full runs are recorded, and nothing is known to follow from such a one's"
            remedy = f"{SET_EULER}, or calibrate a policy that goes by losses alone"
            raise PipelineError("scheduler", type(scheduler).__name__, problem, remedy)

    def _recorder(self, batch: Batch, executor: VelocityExecutor) -> Evaluator:
        """Return what makes full runs of a batch, whose velocities are looked at."""
        pairs, arguments = self._pairs_of(batch), self._setup.call_arguments
        return Evaluator(self._setup.pipe, pairs, arguments, len(batch), executor=executor)

    def _responses(
        self, unit: Record, trajectory: Trajectory, outputs: Outputs, log: EndsLog
    ) -> dict[str, NDArray[Any]]:
        """Return Gram matrices and sketches of what is compared: pictures, or else latents."""
        grams, steps = gram_matrices(trajectory), trajectory.num_inference_steps
        if outputs.pictures is None:
            return {"grams": grams, "velocities": _sketches(trajectory)}
        ends = Schedule([0, steps - 1], steps)
        runs = self._recorder(unit.batch, VelocityExecutor(Replay(log, log.ends)))

        def decode(latents: torch.Tensor) -> torch.Tensor:
            last = OtherLatents(find_scheduler(self._setup.pipe), steps, latents)
            try:
                pictures = runs.outputs(ends, self._spaces(unit.batch)).pictures
            finally:
                last.remove()
            assert pictures is not None
            return pictures

        found = picture_responses(trajectory, grams, outputs.pictures, decode)
        return {"grams": found.grams, "latent_grams": grams, "velocities": found.sketches}

    def _evaluate(
        self, unit: Evaluate, reference: Mapping[str, NDArray[Any]], counter: CallCounter
    ) -> Mapping[str, NDArray[Any]]:
        run = self._kept_runs.begin(unit)
        pairs, full = self._pairs_of(unit.batch), outputs_of(reference)
        evaluator = self._schedule_runs.of(pairs, full, run)
        spaces = _spaces_of(unit)
        full = evaluator.reference(spaces)
        with self._keeping("the outputs of a run"), unannounced():
            outputs = evaluator.outputs(unit.schedule, spaces)
            self._kept_runs.end(unit, run)
        if run.replay is not None:
            counter.calls[:0] = map(run.replay.log.calls, unit.replayed_steps)
        elif len(counter.calls) > unit.schedule.budget:  # Some blocks run on every step.
            counter.calls[:] = [counter.calls[each] for each in unit.schedule.computed_steps]
        values = self._values(unit, outputs, full)
        if not unit.displaced:
            return values
        return {**values, "displacement": displacement(outputs, full)}

    def _values(
        self, unit: Compared, outputs: Outputs, full: Outputs
    ) -> dict[str, NDArray[np.float64]]:
        """Return what a unit's metrics say of its outputs."""
        pairs, metrics = self._pairs_of(unit.batch), map(plugin_host().metric, unit.metrics)
        return {each.name: each.values(outputs, full, pairs) for each in metrics}

    def _observe(self, unit: Observe) -> list[tuple[Unit, Mapping[str, NDArray[Any]]]]:
        with watch_sigmas(self._setup.pipe) as watched:
            outputs, arrays = observe(
                self._setup.pipe, unit.observes, len(unit.batch), lambda: self._run(unit.batch)
            )
        return [(Reference(unit.batch), arrays_of(outputs, watched.sigmas)), (unit, arrays)]

    def _decide(
        self, unit: Decide, reference: Mapping[str, NDArray[Any]], counter: CallCounter
    ) -> Mapping[str, NDArray[Any]]:
        outputs, report = decide(
            self._setup.pipe, unit.run, lambda: self._run(unit.batch, _spaces_of(unit))
        )
        # A step whose blocks rest has its calls as well, and is none that is computed.
        counter.calls[:] = [counter.calls[0]] * len(report.computed_steps)
        return {**self._values(unit, outputs, outputs_of(reference)), **cost_of(report)}

    @contextmanager
    def _keeping(self, what: str) -> Iterator[None]:
        """Turn an error of the file system into one that says what to do about it."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            place = self._scratch or tempfile.gettempdir()
            raise WorkspaceError(
                f"{what} cannot be kept in {place} ({error}). Free some space, "
                "then start the same command again; everything measured so far is kept."
            ) from error

    def _spaces(self, batch: Batch) -> frozenset[Space]:
        """Return what the metrics that are measured on a batch look at."""
        name = self._settings.metric
        names = evidence_metrics(name) if batch.pair_set == "held-out" else (name,)
        return frozenset(plugin_host().metric(each).space for each in names)

    def _run(self, batch: Batch, spaces: frozenset[Space] | None = None) -> Outputs:
        """Return what a run of all steps gives of a batch, as the pipeline is.

        Args:
            batch: the pairs.
            spaces: that are looked at; None for those of all metrics that may be.
        """
        steps = {"num_inference_steps": self._settings.num_inference_steps}
        return generate_outputs(
            self._setup.pipe,
            self._pairs_of(batch),
            {**self._setup.call_arguments, **steps},
            len(batch),
            self._spaces(batch) if spaces is None else spaces,
        )


def _recorded(trajectory: Trajectory, max_look_back: int) -> dict[str, NDArray[Any]]:
    return {
        "errors": edge_errors(trajectory, max_look_back),
        "response": scheduler_response(trajectory),
        "sigmas": trajectory.sigmas.double().numpy(),
    }


def _spaces_of(unit: Compared) -> frozenset[Space]:
    """Return what a unit's metrics look at."""
    return frozenset(plugin_host().metric(name).space for name in unit.metrics)


def _sketches(trajectory: Trajectory) -> NDArray[np.float32]:
    """Return `(N, T, k)`, of the velocity of every step."""
    steps = range(trajectory.num_inference_steps)
    return np.stack([sketch(trajectory.v(step)) for step in steps], axis=1)
