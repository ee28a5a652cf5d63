"""What a calibration costs before it runs: its stages, in pipeline calls and denoising steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from otcache_plugin.evaluation.batches import Batch, parts_of


@dataclass(frozen=True)
class StageCost:
    """One stage at most: identical schedules are run once, hopeless trials not to the end.

    Attributes:
        stage: what it is.
        calls: of the pipeline, each for a batch of pairs.
        call_steps: steps computed in them, a batch counting once.
        denoising_steps: the same, each pair's own: what it costs whatever the batches.
        minimised: schedules that are found without the model, by minimising the quadratic form of
            the recording: what the processor alone takes time for.
        ends_early: whether it usually takes far less, as a search does that finds nothing more.
    """

    stage: str
    calls: int
    call_steps: int
    denoising_steps: int
    minimised: int = 0
    ends_early: bool = False

    @classmethod
    def without_model(cls, stage: str, minimised: int) -> StageCost:
        """Return the cost of a stage that minimises quadratic forms and runs nothing."""
        return cls(stage, 0, 0, 0, minimised)


@dataclass(frozen=True)
class Runs:
    """Schedules of one budget that run on a few pairs.

    Attributes:
        budget: of each of them.
        schedules: how many there are.
        pairs: that each runs on.
    """

    budget: int
    schedules: int
    pairs: range


@dataclass(frozen=True)
class Workload:
    """What the cost of a calibration depends on, besides the options of its calibrator.

    Attributes:
        num_inference_steps: T.
        max_look_back: the largest look-back that is measured.
        batches: all calibration pairs.
        small_batch: most pairs of a run that is made of a few pairs alone.
    """

    num_inference_steps: int
    max_look_back: int
    batches: tuple[Batch, ...]
    small_batch: int

    @property
    def pairs(self) -> int:
        """All calibration pairs."""
        return self.batches[-1].stop

    def tried(self, stage: str, count: int, budgets: Sequence[int]) -> StageCost:
        """Return the cost of running so many schedules at each of the budgets, on all pairs.

        Of several at a budget many are the same, or are given up.
        """
        calls, steps = count * len(self.batches), count * sum(budgets)
        return StageCost(
            stage,
            calls * len(budgets),
            steps * len(self.batches),
            steps * self.pairs,
            ends_early=count > 1,
        )

    def runs(self, stage: str, runs: Sequence[Runs]) -> StageCost:
        """Return the cost of runs on a few pairs each."""
        calls = [each.schedules * len(self._parts(each.pairs)) for each in runs]
        return StageCost(
            stage,
            sum(calls),
            sum(each.budget * count for each, count in zip(runs, calls, strict=True)),
            sum(each.budget * each.schedules * len(each.pairs) for each in runs),
        )

    def _parts(self, pairs: range) -> tuple[Batch, ...]:
        return parts_of(self.batches, pairs, self.small_batch)

    def at_most(self, stage: str, runs: Sequence[Runs]) -> StageCost:
        """Return the cost of runs of which many may turn out not to be needed."""
        return replace(self.runs(stage, runs), ends_early=True)

    @property
    def recording(self) -> StageCost:
        """The cost of recording the full runs, which an edge table takes."""
        return self.tried(RECORDING, 1, [self.num_inference_steps])

    @property
    def full_runs(self) -> StageCost:
        """The cost of full runs to compare with, for who does not record them."""
        return self.tried(FULL_RUNS, 1, [self.num_inference_steps])

    @property
    def watching(self) -> StageCost:
        """The cost of full runs in which something is observed that policies decide by."""
        return self.tried(WATCHING, 1, [self.num_inference_steps])

    def decided(self, stage: str, count: int, budgets: Sequence[int]) -> StageCost:
        """Return the cost of so many runs aiming at each of the budgets, every pair on its own."""
        steps = count * sum(budgets) * self.pairs
        calls = count * len(budgets) * self.pairs
        return StageCost(stage, calls, steps, steps, ends_early=True)


RECORDING = "recording full runs"
FULL_RUNS = "full runs to compare with"
WATCHING = "watching full runs"


@dataclass(frozen=True)
class Alternative:
    """A way to calibrate a policy, to be compared with others before one is begun.

    Attributes:
        name: what it is called.
        options: that it is asked for by.
        outcome: what to expect of it, in words.
    """

    name: str
    options: Any
    outcome: str
