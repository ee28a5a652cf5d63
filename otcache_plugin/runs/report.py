"""What a run was planned to do and what it did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otcache_plugin.runs.plan import Plan
    from otcache_plugin.runs.resolution import Adaptation, DocumentOrigin, Resolution

__all__ = ["BlockEvaluations", "RunReport", "planned_report", "report_of_call", "resolved_report"]


@dataclass(frozen=True)
class BlockEvaluations:
    """What the calls of a transformer cost, where they run its blocks in part.

    Attributes:
        run: blocks that ran, each of every call counted.
        of_full_run: that would have run in the same steps, had all of them been computed.
    """

    run: int
    of_full_run: int


@dataclass(frozen=True)
class RunReport:
    """The last run of an accelerated pipeline, and what came before it in the same call.

    One call makes one run, as a rule. Some make several: one for every segment of a video, or a
    second one that enlarges the picture of the first. Then this is the last of them, and the others
    are in `earlier`.

    Attributes:
        policy: name of the policy, or `"schedule"` for an explicit one.
        executor: name of the executor.
        calibrator: what of cache-dit extrapolates on its cached steps, None where nothing does.
        document: where the policy document came from, None for policies without one.
        model: the model that the document was calibrated on, None without a document.
        revision: its revision, None without a document or where it holds for any.
        notes: what to know of how the document was found, and of how the run differs from those
            that it was calibrated on.
        decided: whether the policy decides at every step, so that nothing is planned before.
        num_inference_steps: denoising steps of the run, 0 before the first one.
        planned_steps: the steps that the schedule computes, none where the policy decides.
        look_backs: one per segment of the schedule, or of what was computed.
        computed_steps: the steps in which the transformer was really called.
        finished_steps: denoising steps taken, fewer than `num_inference_steps` when interrupted.
        transformer_calls: calls of the transformer that ran, wholly or (executors "blocks" and
            "probe") in part; every guidance branch counts.
        block_evaluations: what those calls cost, None where each ran wholly or that is unknown.
        aims_at: budget that a policy which decides aims at, None where it has none.
        adaptation: how the schedule came to fit other steps or sigmas than those of the
            calibration, None where nothing was to be done.
        earlier: the runs before this one in the same call.
    """

    policy: str
    executor: str
    document: str | None = None
    model: str | None = None
    revision: str | None = None
    notes: tuple[str, ...] = ()
    decided: bool = False
    num_inference_steps: int = 0
    planned_steps: tuple[int, ...] = ()
    look_backs: tuple[int, ...] = ()
    computed_steps: tuple[int, ...] = ()
    finished_steps: int = 0
    transformer_calls: int = 0
    block_evaluations: BlockEvaluations | None = None
    aims_at: int | None = None
    adaptation: Adaptation | None = None
    earlier: tuple[RunReport, ...] = ()
    calibrator: str | None = None

    @property
    def runs(self) -> tuple[RunReport, ...]:
        """All runs of the call, this one the last."""
        return (*self.earlier, replace(self, earlier=()))

    @property
    def as_planned(self) -> bool:
        """Whether every run of the call finished and computed exactly the planned steps.

        Where the policy decides, there is nothing to compare with but what holds for every run:
        that its first and its last step were computed.
        """
        return all(run._went_as_planned for run in self.runs)

    @property
    def _went_as_planned(self) -> bool:
        if self.finished_steps != self.num_inference_steps:
            return False
        if self.decided:
            return {0, self.num_inference_steps - 1} <= set(self.computed_steps)
        return bool(self.planned_steps) and self.computed_steps == self.planned_steps

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and `as_planned`, for JSON."""
        return {**asdict(self), "as_planned": self.as_planned}

    def __str__(self) -> str:
        origin = f" from {self.document}" if self.document else ""
        by = f"executor {self.executor}" + (f" with {self.calibrator}" if self.calibrator else "")
        if not self.num_inference_steps:
            return "\n".join([f"policy {self.policy}{origin}, {by}: no run yet", *self.notes])
        lines = [f"policy {self.policy}{origin}, {by}"]
        for number, run in enumerate(self.runs, 1):
            name = f"run {number} of the call: " if self.earlier else ""
            first, *others = run._lines()
            lines += [f"{name}{first}", *others]
        return "\n".join([*lines, *self.notes])

    def _lines(self) -> list[str]:
        """Return what there is to say of this run alone."""
        steps = " ".join(map(str, self.computed_steps))
        when = ", decided at run time" if self.decided else ""
        when += f", aims at {self.aims_at}" if self.aims_at is not None else ""
        cost = f"{self.transformer_calls} transformer calls"
        if self.block_evaluations is not None:
            blocks = self.block_evaluations
            cost += f", {blocks.run} of {blocks.of_full_run} block evaluations"
        lines = [
            f"computed {len(self.computed_steps)} of {self.num_inference_steps} steps "
            f"({cost}){when}: {steps}"
        ]
        if self.adaptation is not None:
            lines.append(
                f"schedule {self.adaptation}: these are not the steps and sigmas of the calibration"
            )
        if not self._went_as_planned:
            planned = " ".join(map(str, self.planned_steps)) or "the first and the last at least"
            done = f"NOT AS PLANNED: finished {self.finished_steps} steps"
            lines.append(f"{done}; planned to compute {planned}")
        return lines


def report_of_call(runs: tuple[RunReport, ...], before: RunReport) -> RunReport:
    """Return the report of a call.

    Args:
        runs: of the call, the last one last.
        before: the report of what was before, which stays until the call's first run begins.
    """
    return replace(runs[-1], earlier=runs[:-1]) if runs else before


def planned_report(plan: Plan, executor: str) -> RunReport:
    """Return the report of a plan before any run."""
    report = RunReport(plan.policy_name, executor, decided=plan.deciding is not None)
    return _from(report, plan.origin)


def resolved_report(report: RunReport, resolution: Resolution) -> RunReport:
    """Return the report of a run that has just been resolved, of which no step is taken yet.

    Args:
        report: of the run before, or of the plan.
        resolution: what the run follows.
    """
    return replace(
        _from(report, resolution.origin, resolution.notes),
        num_inference_steps=resolution.num_inference_steps,
        planned_steps=resolution.planned_steps,
        look_backs=resolution.look_backs(()),
        aims_at=resolution.aims_at,
        block_evaluations=None,
        adaptation=resolution.adaptation,
        earlier=(),
    )


def _from(
    report: RunReport, origin: DocumentOrigin | None, notes: tuple[str, ...] = ()
) -> RunReport:
    if origin is None:
        return replace(report, notes=notes)
    return replace(
        report,
        document=origin.source,
        model=origin.model,
        revision=origin.revision,
        notes=(*origin.notes, *notes),
    )
