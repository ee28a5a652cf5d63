"""Calibrating LeMiCa: every segment is cached alone, and what that does to the outcome is measured.

Nothing is searched: the outcome table that comes of it gives the path of any budget. What it costs
is runs, many of them: one for each segment and pair, though each begins at its segment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast

import numpy as np
from otcache_policies import Segment, UniformPolicy, caching_alone
from otcache_policies.lemica import LeMiCaPolicy, PathRule
from otcache_policies.outcomes import OutcomeTable, segments_to_measure, steps_to_measure
from pydantic import Field

from otcache_plugin.calibration.errors import NotFiniteError
from otcache_plugin.calibration.settings import BudgetsOrText, RecordedOptions, require_at_least
from otcache_plugin.errors import ArgumentError
from otcache_plugin.parameters.lemica import LeMiCaParameters, tables_of
from otcache_plugin.plugins.calibrating import Calibrated, Calibrator
from otcache_plugin.plugins.costs import StageCost
from otcache_plugin.runs.mechanism import VELOCITY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from otcache_policies import Policy, Schedule

    from otcache_plugin.plugins.calibrating import CalibrationContext
    from otcache_plugin.plugins.costs import Workload

CACHING = "caching every segment alone"

OUTCOME = "latent-l1"
"""What a segment does to the outcome, in whatever metric the policy is judged afterwards."""

USUAL_SHARE = 2 / 5
"""Of the steps, that a segment goes over at most."""


class LeMiCaOptions(RecordedOptions):
    """How LeMiCa is calibrated."""

    max_skip: Annotated[
        int | None,
        Field(description="Largest gap of a segment: two fifths of the steps unless given."),
    ] = None
    pairs: Annotated[
        int, Field(description="Calibration pairs that every segment is cached on, the first ones.")
    ] = 5
    path: Annotated[
        PathRule,
        Field(description="minimax: worst segments first, as LeMiCa; shortest: by their sum."),
    ] = "minimax"
    estimator: Annotated[
        Literal["reuse", "average-velocity"],
        Field(
            description="Of cached steps: reuse of the last velocity, as LeMiCa; average-velocity, "
            "with the look-back that the edge table has for the segment."
        ),
    ] = "reuse"
    budgets: Annotated[
        BudgetsOrText,
        Field(description="Whose schedules are measured: 8,10,12,15 of 50 steps."),
    ] = None

    def check(self, steps: int) -> None:
        """Refuse what is none of so many steps, and budgets that the largest gap doesn't allow."""
        super().check(steps)
        require_at_least(1, "pairs", self.pairs)
        gap, fewest = self.max_gap(steps), self.usual_budgets(steps)[0]
        if not 2 <= gap < steps:
            problem = f"not from 2 to below the {steps} steps"
            raise ArgumentError("max_skip", gap, problem, "Use such as two fifths of the steps")
        if gap < _even_gap(fewest, steps):
            problem = f"no {fewest} of {steps} steps are that close together"
            remedy = f"Use {_even_gap(fewest, steps)} or more, or larger budgets"
            raise ArgumentError("max_skip", gap, problem, remedy)

    def max_gap(self, steps: int) -> int:
        """Return the largest gap of a segment: given, or usual and enough for every budget."""
        if self.max_skip is not None:
            return self.max_skip
        return max(2, round(steps * USUAL_SHARE), _even_gap(self.usual_budgets(steps)[0], steps))


class LeMiCaCalibrator(Calibrator):
    """Measures global outcome-aware edges."""

    options = LeMiCaOptions

    def check(self, options: LeMiCaOptions, num_inference_steps: int) -> None:
        """Refuse options that fit neither each other nor the steps."""
        options.check(num_inference_steps)

    def usual_pairs(self, options: LeMiCaOptions) -> int:
        """Return as many as every segment is cached on."""
        return options.pairs

    def check_pairs(self, options: LeMiCaOptions, pairs: int) -> None:
        """Refuse fewer pairs than every segment is to be cached on."""
        if pairs < options.pairs:
            problem = f"every segment is to be cached on {options.pairs} of them"
            remedy = f"Use {options.pairs} or more, or --set pairs={pairs}"
            raise ArgumentError("pairs", pairs, problem, remedy)

    def check_executor(self, options: LeMiCaOptions, executor: str) -> None:
        """Refuse executors that cannot begin a run at its segment, from where a full one was."""
        if executor != VELOCITY:
            problem = "a run cannot begin at its segment on it, and there is one for every segment"
            raise ArgumentError("executor", executor, problem, "Leave it out, or calibrate direct")

    def variant(self, options: LeMiCaOptions) -> str:
        """Return what was measured and how it is read, each beside the others in one folder."""
        return f"{options.path}-{options.estimator}-{options.pairs}"

    def evidence_budgets(self, options: LeMiCaOptions, num_inference_steps: int) -> tuple[int, ...]:
        """Return the budgets whose schedules are measured."""
        return options.usual_budgets(num_inference_steps)

    def costs(self, options: LeMiCaOptions, workload: Workload) -> Sequence[StageCost]:
        """Return the cost of the full runs, and of a run for each segment from where it begins."""
        total = workload.num_inference_steps
        gap = options.max_gap(total)
        batches = sum(batch.start < options.pairs for batch in workload.batches)
        runs = len(segments_to_measure(total, gap))
        # What comes first has nothing to begin like: it is run from the start, its last but one
        # step cached.
        steps = steps_to_measure(total, gap) + total - 2
        first = workload.full_runs if options.estimator == "reuse" else workload.recording
        return first, StageCost(CACHING, runs * batches, steps * batches, steps * options.pairs)

    def calibrate(self, options: LeMiCaOptions, context: CalibrationContext) -> Calibrated:
        """Cache every segment alone, and keep what that does to the outcome."""
        total, pairs = context.num_inference_steps, range(options.pairs)
        segments = _segments(options, context)
        context.start(CACHING, len(segments), pairs)
        schedules = [caching_alone(each, total) for each in segments]
        values = context.values(schedules, [OUTCOME], pairs)
        outcomes = np.array([each[OUTCOME] for each in values])
        _require_finite(outcomes, schedules)
        policy = LeMiCaPolicy(outcome_table(segments, outcomes, total), options.path)
        return Calibrated(
            parameters=LeMiCaParameters.of(policy).model_dump(),
            tables=tables_of(policy.table),
            budgets=(),
            default_budget=options.default_budget
            or max(context.usual_budget, policy.budgets.smallest),
            settings={
                "estimator": options.estimator,
                "max_skip": policy.table.max_gap,
                "outcome": OUTCOME,
                "pairs_per_segment": options.pairs,
                "segments": len(segments),
            },
        )

    def peer(self, name: str, policy: Policy) -> Callable[[int], Schedule]:
        """Return evenly spaced steps, whose cached ones are estimated as the policy's are."""
        largest = cast("LeMiCaPolicy", policy).table.max_look_back
        return UniformPolicy(policy.num_inference_steps, min(2, largest)).schedule


def _even_gap(budget: int, steps: int) -> int:
    """Return the largest gap of as many steps at equal distances."""
    return -(-(steps - 1) // (budget - 1))


def _segments(options: LeMiCaOptions, context: CalibrationContext) -> list[Segment]:
    """Return every segment that is to be cached alone, with its look-back."""
    total = context.num_inference_steps
    places = segments_to_measure(total, options.max_gap(total))
    if options.estimator == "reuse":
        return [Segment(start, end, 1) for start, end in places]
    best = context.edges(range(options.pairs)).velocity_errors.argmin(axis=2) + 1
    return [Segment(start, end, int(best[start, end])) for start, end in places]


def outcome_table(
    segments: Sequence[Segment], outcomes: NDArray[np.float64], steps: int
) -> OutcomeTable:
    """Return the table of segments' mean outcomes.

    Args:
        segments: that were cached alone: all up to some gap.
        outcomes: of each on some pairs, `(segments, pairs)`.
        steps: T.
    """
    errors = np.full((steps, steps), np.inf, dtype=np.float32)
    look_backs = np.ones((steps, steps), dtype=np.uint8)
    errors[np.arange(steps - 1), np.arange(1, steps)] = 0.0
    for segment, values in zip(segments, outcomes, strict=True):
        errors[segment.start, segment.end] = values.mean()
        look_backs[segment.start, segment.end] = segment.look_back
    return OutcomeTable(errors, look_backs if (look_backs > 1).any() else None)


def _require_finite(outcomes: NDArray[np.float64], schedules: Sequence[Schedule]) -> None:
    """Raise NotFiniteError where a segment does something to a pair that cannot be measured."""
    failed = np.argwhere(~np.isfinite(outcomes))
    if len(failed):
        index, pair = failed[0].tolist()
        steps = schedules[index].computed_steps
        cached = sorted(set(range(schedules[index].num_inference_steps)) - set(steps))
        problem = f"not finite at pair {pair} with the steps {cached[0]} … {cached[-1]} cached"
        remedy = "Look at what the model generates then, or use a smaller max_skip"
        raise NotFiniteError("metric", OUTCOME, problem, remedy)
