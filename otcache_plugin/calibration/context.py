"""What calibrators are given: the one door to measured values, with a journal and progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from otcache_plugin.calibration.measuring.deciding_runs import deciding_run
from otcache_plugin.calibration.measuring.edges import EdgeAccumulator, require_same_sigmas
from otcache_plugin.calibration.measuring.facts import sampling_of
from otcache_plugin.calibration.measuring.grams import gram_table
from otcache_plugin.calibration.measuring.losses import losses_of, lowest
from otcache_plugin.calibration.measuring.units import (
    Evaluate,
    Observe,
    Record,
    Reference,
    comparisons,
)
from otcache_plugin.calibration.settings import SMALL_BATCH
from otcache_plugin.evaluation.batches import between, parts_of
from otcache_plugin.plugins.costs import FULL_RUNS, RECORDING, WATCHING
from otcache_plugin.plugins.host import plugin_host
from otcache_plugin.plugins.measured import DecidedRuns, DisplacedRun, ObservedChanges
from otcache_plugin.runs.request import DEFAULT_RATIO, Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from otcache_policies import EdgeTable, GramTable, Schedule
    from otcache_registry import Sampling, Tables

    from otcache_plugin.calibration.measuring.facts import ModelFacts
    from otcache_plugin.calibration.measuring.losses import ScheduleLoss
    from otcache_plugin.calibration.measuring.measurements import Measurements
    from otcache_plugin.calibration.searching.journal import JournalStudy, TrialJournal
    from otcache_plugin.calibration.stages import CalibrationProgress
    from otcache_plugin.evaluation.batches import Batch
    from otcache_plugin.evaluation.metrics import Metric
    from otcache_plugin.plugins.calibrating import Search

Found = TypeVar("Found")


class MeasuredContext:
    """A `CalibrationContext` over a calibration's measurements.

    Args:
        measurements: by the calibration's settings, kept in its working folder.
        journal: of the policy's trials.
        progress: is told how far it is.
        policy: name of what is calibrated.
        facts: of the model.
    """

    def __init__(
        self,
        measurements: Measurements,
        journal: TrialJournal,
        progress: CalibrationProgress,
        policy: str,
        facts: ModelFacts,
    ) -> None:
        self._measurements = measurements
        self._settings = measurements.settings
        self._journal = journal
        self._progress = progress
        self._policy, self._facts = policy, facts
        self._has_full_runs = False
        self._recordings_read: list[Mapping[str, NDArray[Any]]] | None = None

    @property
    def num_inference_steps(self) -> int:
        """Steps of the full runs, T."""
        return self._settings.num_inference_steps

    @property
    def seed(self) -> int:
        """Of whatever is random."""
        return self._settings.seed

    @property
    def usual_budget(self) -> int:
        """15 of 50, scaled to the steps."""
        return Request().budget_for(self.num_inference_steps, DEFAULT_RATIO)

    @property
    def batches(self) -> tuple[Batch, ...]:
        """All calibration pairs."""
        return self._measurements.calibration_batches

    def batches_within(self, pairs: range) -> tuple[Batch, ...]:
        """Return some of the calibration pairs, in batches that are as large as they can be."""
        cuts = {pairs.start, pairs.stop} | {each.start for each in self.batches} & {*pairs}
        return between("calibration", cuts)

    @property
    def denoising_steps(self) -> int:
        """Computed for calibration pairs so far."""
        return self._measurements.denoising_steps

    @property
    def metric(self) -> str:
        """What losses are measured by."""
        return self._settings.metric

    @property
    def _metric(self) -> Metric:
        return plugin_host().metric(self._settings.metric)

    def start(self, stage: str, schedules: int, pairs: range | None = None) -> None:
        """Begin a stage in which at most so many schedules are run on the same pairs."""
        self._run_in_full()
        self._progress.start(stage, schedules * len(self._batches_of(pairs)))

    def start_runs(self, stage: str, requests: Sequence[tuple[Schedule, range]]) -> None:
        """Begin a stage in which these schedules are run, each on some pairs."""
        self._run_in_full()
        self._progress.start(stage, sum(len(self._parts(pairs)) for _, pairs in requests))

    def start_search(self, stage: str, trials: int) -> None:
        """Begin a stage of at most so many trials, each told by `advance`."""
        self._run_in_full()
        self._progress.start(stage, trials)

    def advance(self) -> None:
        """One trial of a search is done."""
        self._progress.advance()

    def edges(self, pairs: range | None = None) -> EdgeTable:
        """Record every full run, and return the edge table of the mean and spread over the pairs.

        Raises:
            UnfinishedError: other shards have not recorded theirs, likewise with what follows.
        """
        accumulator = EdgeAccumulator()
        accumulator.add(self._recorded("errors", pairs), self._sigmas())
        return accumulator.table()

    def grams(self, pairs: range | None = None) -> GramTable:
        """Record every full run, and return the Gram matrices of their velocities.

        Where pictures are compared there are two of each pair: first the pictures' of all pairs,
        then the latents'. What is good by both is good where the decoder is far from linear, too.
        """
        first = self._recordings()[0]
        names = [name for name in ("grams", "latent_grams") if name in first]
        grams = np.concatenate([self._recorded(name, pairs) for name in names])
        self._sigmas()  # They have one noise schedule in common.
        return gram_table(grams, first)

    def velocities(self, pairs: range) -> NDArray[np.float32]:
        """Record every full run, and return sketches of each pair's velocities: `(N, T, k)`."""
        return self._recorded("velocities", pairs)

    def _recorded(self, name: str, pairs: range | None) -> NDArray[Any]:
        """Return what was recorded of each pair, `(N, …)`."""
        found = np.concatenate([arrays[name] for arrays in self._recordings()])
        return found if pairs is None else found[pairs.start : pairs.stop]

    def _sigmas(self) -> NDArray[np.float64]:
        """Return the noise schedule that all full runs have in common."""
        first, *others = [arrays["sigmas"] for arrays in self._recordings()]
        for sigmas in others:
            require_same_sigmas(sigmas, first)
        return first

    def _recordings(self) -> list[Mapping[str, NDArray[Any]]]:
        """Return what recording gave, a batch after the other; read once."""
        if self._recordings_read is None:
            units = [Record(batch) for batch in self.batches]
            self._progress.start(RECORDING, len(units))
            measured = self._measurements.all_of(units, self._progress.advance)
            self._recordings_read = [each.arrays for each in measured]
            self._has_full_runs = True  # What was recorded is there to be compared with.
        return self._recordings_read

    def losses(self, schedules: Sequence[Schedule]) -> list[float]:
        """Return each schedule's mean loss, infinite where that of any pair is not finite."""
        return [each.pooled for each in self._losses(schedules)]

    def best(self, candidates: Sequence[Sequence[Schedule]]) -> int:
        """Return the number of the candidate with the lowest mean loss, of several the first.

        Raises:
            NotFiniteError: none has a finite loss at all pairs with all its schedules.
        """
        found = iter(self._losses([each for schedules in candidates for each in schedules]))
        return lowest([[next(found) for _ in schedules] for schedules in candidates])

    def _losses(self, schedules: Sequence[Schedule]) -> list[ScheduleLoss]:
        self._run_in_full()
        return self._measurements.losses(schedules, self._metric, self._progress.advance)

    def values(
        self,
        schedules: Sequence[Schedule],
        metrics: Sequence[str],
        pairs: range | None = None,
    ) -> list[Mapping[str, NDArray[Any]]]:
        """Return what metrics give for each schedule, by name, one value per calibration pair."""
        self._run_in_full()
        names, batches = tuple(metrics), self._batches_of(pairs)
        units = [Evaluate(batch, each, names) for each in schedules for batch in batches]
        measured = iter(self._measurements.all_of(units, self._progress.advance))
        found: list[Mapping[str, NDArray[Any]]] = []
        for _ in schedules:
            parts = [next(measured).arrays for _ in batches]
            found.append({name: np.concatenate([part[name] for part in parts]) for name in names})
        return found

    def _batches_of(self, pairs: range | None) -> tuple[Batch, ...]:
        return self.batches if pairs is None else self.batches_within(pairs)

    def changes(self, observes: str) -> ObservedChanges:
        """Watch every full run, and return how far what a policy observes changes in it."""
        units = [Observe(batch, observes) for batch in self.batches]
        self._progress.start(WATCHING, len(units))
        measured = self._measurements.all_of(units, self._progress.advance)
        self._has_full_runs = True  # What was watched is there to be compared with.
        found = {
            name: np.concatenate([each.arrays[name] for each in measured])
            for name in ("observed", "outputs")
        }
        return ObservedChanges(**found)

    def start_decided(self, stage: str, runs: int) -> None:
        """Begin a stage of at most so many runs by `decided`, each on all calibration pairs."""
        self._run_in_full()
        self._progress.start(stage, runs * self._settings.pairs)

    def decided(
        self, parameters: Mapping[str, Any], budget: int, tables: Tables | None = None
    ) -> DecidedRuns:
        """Have the policy decide on every calibration pair, each in a call of its own."""
        self._run_in_full()
        metric, sampling = self._metric, self._sampling()
        run = deciding_run(self._policy, parameters, tables or {}, sampling, budget)
        units = comparisons(run, self.batches, (metric.name,))
        measured = self._measurements.all_of(units, self._progress.advance)
        return DecidedRuns(
            np.concatenate([losses_of(each, metric) for each in measured]),
            np.concatenate([each.arrays["computed_steps"] for each in measured]),
            np.concatenate([each.arrays["block_share"] for each in measured]),
        )

    def _sampling(self) -> Sampling:
        return sampling_of(self._facts, self._measurements.full_run(self.batches[0]))

    def displaced(self, requests: Sequence[tuple[Schedule, range]]) -> list[DisplacedRun]:
        """Run schedules, each on some pairs; return what they lose and where their latents end."""
        self._run_in_full()
        metric, names = self._metric, (self._settings.metric,)
        units = [
            Evaluate(batch, schedule, names, displaced=True)
            for schedule, pairs in requests
            for batch in self._parts(pairs)
        ]
        measured = iter(self._measurements.all_of(units, self._progress.advance))
        found = []
        for schedule, pairs in requests:
            parts = [next(measured) for _ in self._parts(pairs)]
            losses = np.concatenate([losses_of(part, metric) for part in parts])
            ends = np.concatenate([part.arrays["displacement"] for part in parts])
            found.append(DisplacedRun(schedule, pairs, losses, ends))
        return found

    def _parts(self, pairs: range) -> tuple[Batch, ...]:
        """Return pairs in small batches, each within one that was run in full."""
        return parts_of(self.batches, pairs, SMALL_BATCH)

    def drive(
        self, searches: Mapping[str, Search[Found]], metric: str | None = None
    ) -> dict[str, Found]:
        """Run searches side by side, each sent the losses that it asks for."""
        self._run_in_full()
        judge = self._metric if metric is None else plugin_host().metric(metric)
        return self._measurements.drive(searches, judge, self._progress.ran)

    def study(self, name: str) -> JournalStudy:
        """Return the journal's trials of that name."""
        return self._journal.study(name)

    def _run_in_full(self) -> None:
        """Have the full runs that everything is compared with, unless they were recorded."""
        if self._has_full_runs:
            return
        self._progress.start(FULL_RUNS, len(self.batches))
        references = [Reference(batch) for batch in self.batches]
        self._measurements.prepare(references, self._progress.advance)
        self._has_full_runs = True
