"""What a policy brings that can be calibrated: a calibrator, and what that is given and gives.

A calibrator decides from measured values alone: what it is given answers from the working folder
where it can, and measures where it has to. So an interrupted calibration goes on where it was, and
the policies that are calibrated in one folder share their runs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from otcache_policies import Schedule

from otcache_plugin.errors import ArgumentError
from otcache_plugin.evaluation.batches import Batch
from otcache_plugin.plugins.measured import DecidedRuns, DisplacedRun, ObservedChanges
from otcache_plugin.runs.mechanism import VELOCITY

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from optuna.trial import FrozenTrial
    from otcache_policies import EdgeTable, GramTable
    from otcache_registry import Tables
    from pydantic import BaseModel

    from otcache_plugin.plugins.costs import Alternative, StageCost, Workload

LossRequest = tuple[Schedule, Batch]
"""A schedule to be run on a batch of pairs; answered with an `(n,)` array of losses."""

Losses = Mapping[LossRequest, "NDArray[Any]"]
"""What is answered."""

Found = TypeVar("Found")

Search = Generator[list[LossRequest], Losses, Found]
"""A search: it yields what it wants measured, is sent the losses, and returns what it found."""


class Study(Protocol):
    """The trials of one part of a search, in Optuna's journal."""

    def keep(self, trial: FrozenTrial) -> None:
        """Write the next trial down, or see that it is the one that stands there already."""
        ...


class CalibrationContext(Protocol):
    """What a calibrator may ask for: measured values, a journal, and whom to tell how far it is."""

    @property
    def num_inference_steps(self) -> int:
        """Steps of the full runs, T."""
        ...

    @property
    def seed(self) -> int:
        """Of whatever is random."""
        ...

    @property
    def usual_budget(self) -> int:
        """Budget of a run that asks for none, if it were up to the package."""
        ...

    @property
    def batches(self) -> tuple[Batch, ...]:
        """All calibration pairs."""
        ...

    def batches_within(self, pairs: range) -> tuple[Batch, ...]:
        """Return some of the calibration pairs, in batches that are as large as they can be."""
        ...

    @property
    def denoising_steps(self) -> int:
        """What was asked for so far takes, each calibration pair's own.

        It is the same wherever and however often a calibration is resumed.
        """
        ...

    @property
    def metric(self) -> str:
        """What losses are measured by."""
        ...

    def start(self, stage: str, schedules: int, pairs: range | None = None) -> None:
        """Begin a stage in which at most so many schedules are run on the same calibration pairs.

        The full runs that they are compared with are made before, unless they were recorded.

        Args:
            stage: what it is.
            schedules: how many at most.
            pairs: that they are run on; None for all.
        """
        ...

    def start_runs(self, stage: str, requests: Sequence[tuple[Schedule, range]]) -> None:
        """Begin a stage in which these schedules are run by `displaced`."""
        ...

    def start_search(self, stage: str, trials: int) -> None:
        """Begin a stage of at most so many trials, each told by `advance`."""
        ...

    def advance(self) -> None:
        """One trial of a search is done."""
        ...

    def edges(self, pairs: range | None = None) -> EdgeTable:
        """Return what caching each segment costs, from a recording of every full run.

        Nothing but the full runs is computed for it, and that once for all policies.

        Args:
            pairs: that alone count; None for all.
        """
        ...

    def grams(self, pairs: range | None = None) -> GramTable:
        """Return the Gram matrices of full runs' velocities, from the same recording.

        Where the metric compares pictures there are two of each pair: first, of all pairs, those of
        what the velocities do to the pictures, then those of the velocities.
        """
        ...

    def velocities(self, pairs: range) -> NDArray[np.float32]:
        """Return sketches of what full runs' velocities do to the pictures: `(N, T, k)`.

        They come from the same recording, and are of the velocities themselves where the metric
        compares latents.

        The inner product of two sketches is the mean over elements of the product of what they
        stand for: exactly for small latents, otherwise on average.
        """
        ...

    def changes(self, observes: str) -> ObservedChanges:
        """Watch every full run, and return how far what a policy observes changes in it.

        Args:
            observes: what it is shown, as the policy calls it.
        """
        ...

    def start_decided(self, stage: str, runs: int) -> None:
        """Begin a stage of at most so many runs by `decided`, each on all calibration pairs."""
        ...

    def decided(
        self, parameters: Mapping[str, Any], budget: int, tables: Tables | None = None
    ) -> DecidedRuns:
        """Have the policy decide on every calibration pair, each in a call of its own.

        Args:
            parameters: of the policy, as its parameter model reads them.
            budget: to aim at.
            tables: of the policy, None where it has none.
        """
        ...

    def displaced(self, requests: Sequence[tuple[Schedule, range]]) -> list[DisplacedRun]:
        """Run schedules, each on some pairs; return what they lose and where their latents end.

        Losses that are not finite are left to the caller.
        """
        ...

    def losses(self, schedules: Sequence[Schedule]) -> list[float]:
        """Return each schedule's mean loss over the calibration pairs, smaller is better.

        The best and the worst few pairs are left out of the mean. It is infinite where the loss of
        any pair is not finite.
        """
        ...

    def best(self, candidates: Sequence[Sequence[Schedule]]) -> int:
        """Return the number of the candidate with the lowest mean loss, of several the first.

        Args:
            candidates: the schedules that each stands for, as many of each.

        Raises:
            NotFiniteError: none has a finite loss at all pairs with all its schedules.
        """
        ...

    def values(
        self,
        schedules: Sequence[Schedule],
        metrics: Sequence[str],
        pairs: range | None = None,
    ) -> list[Mapping[str, NDArray[Any]]]:
        """Return what metrics give for each schedule, by name, one value per calibration pair.

        What schedules of one call have in common is computed once: of schedules that each cache one
        segment alone (`otcache_policies.caching_alone`), every run begins at its segment, from the
        state that a run of every step has there.

        Args:
            schedules: to be run.
            metrics: names of any that are registered, whatever the calibration's own is.
            pairs: that alone are run; None for all.
        """
        ...

    def drive(
        self, searches: Mapping[str, Search[Found]], metric: str | None = None
    ) -> dict[str, Found]:
        """Run searches side by side, each sent the losses that it asks for.

        Args:
            searches: by a name of each.
            metric: what losses are measured by; None for the calibration's own.
        """
        ...

    def study(self, name: str) -> Study:
        """Return the journal's trials of that name, for a search to keep its own in."""
        ...


@dataclass(frozen=True)
class Calibrated:
    """What a calibrator found: its policy's part of a document.

    Attributes:
        parameters: as the policy's parameter model reads them.
        tables: named arrays, none where the policy has none.
        budgets: budgets that the policy was calibrated at, increasing; none where it was calibrated
            as a whole.
        default_budget: of a run that asks for none.
        settings: what is to be known of the way to it, as JSON.
    """

    parameters: Mapping[str, Any]
    tables: Mapping[str, NDArray[Any]]
    budgets: tuple[int, ...]
    default_budget: int
    settings: Mapping[str, Any] = field(default_factory=dict)


Options = Any
"""An instance of a calibrator's own pydantic class of options."""


class Calibrator(Protocol):
    """Finds the parameters of a policy for a model.

    Subclass it: what has an answer here need not be said again.
    """

    options: type[BaseModel]
    """What `--set NAME=VALUE` sets, each field with its description for `otcache plugins NAME`."""

    peers: tuple[str, ...] = ("uniform",)
    """The methods beside which the evidence is gathered, the weakest first. Each is compared to the
    one before, and the policy to the last."""

    decides: bool = False
    """Whether the policy decides at every step. Its runs are then of one pair each, because a call
    decides for all of its pairs at once."""

    def check(self, options: Options, num_inference_steps: int) -> None:
        """Refuse options that do not fit each other, before anything runs.

        Raises:
            FieldError: they do not.
        """

    def usual_pairs(self, options: Options) -> int | None:
        """Return the calibration pairs where none are asked for; None for the model's own usual."""
        return None

    def check_pairs(self, options: Options, pairs: int) -> None:
        """Refuse too few calibration pairs for what is asked, before anything runs.

        Raises:
            FieldError: they are too few.
        """
        return

    def check_executor(self, options: Options, executor: str) -> None:
        """Refuse an executor of which nothing that is found would know, before anything runs.

        A calibrator that goes by the losses of runs fits whatever they were run on.

        Args:
            options: that are asked for.
            executor: that schedules are run by.

        Raises:
            ArgumentError: nothing would be measured on it.
        """
        if self.decides and executor != VELOCITY:
            problem = "a policy that decides runs on the executor that shows what it observes"
            raise ArgumentError("executor", executor, problem, "Leave it out")

    def variant(self, options: Options) -> str:
        """Return what tells calibrations of the policy apart that go on in one folder, if any do.

        Each variant keeps its own settings and trials there; what is measured they share.
        """
        return ""

    def determined_by(self, options: Options) -> Mapping[str, Any]:
        """Return what else a calibration is determined by, as JSON."""
        return {}

    def evidence_budgets(self, options: Options, num_inference_steps: int) -> Sequence[int]:
        """Return the budgets at which the policy is measured on held-out pairs, increasing."""
        ...

    def costs(self, options: Options, workload: Workload) -> Sequence[StageCost]:
        """Return what each stage takes at most, named as it is begun; the evidence is added."""
        ...

    def alternatives(self, options: Options) -> Sequence[Alternative]:
        """Return the ways to calibrate that `--dry-run` compares, cheapest first, if any.

        Args:
            options: that are asked for; what the ways have in common is taken from them.
        """
        return ()

    def calibrate(self, options: Options, context: CalibrationContext) -> Calibrated:
        """Calibrate the policy.

        The same measured values have to lead to the same requests and to the same result.
        """
        ...

    def peer(self, name: str, policy: Any) -> Callable[[int], Schedule]:
        """Return a peer's schedule of a budget, on the terms of the calibrated policy.

        Args:
            name: of the peer.
            policy: as it was calibrated, a `Policy`, or an `AimingPolicy` where it decides.
        """
        from otcache_policies import UniformPolicy

        return UniformPolicy(policy.num_inference_steps, look_back=2).schedule
