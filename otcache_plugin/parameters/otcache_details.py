"""What OTCache says of its documents: its schedules by name, and how they were searched."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, Self

from otcache_registry import Column, DocumentError, Part, PolicyDetails
from otcache_registry.documents.refusals import document_error
from otcache_registry.documents.values import MAX_INFERENCE_STEPS, Budget, Count, NotNegative
from pydantic import Field, ValidationError, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otcache_policies import Schedule
    from otcache_registry import Calibration, PolicyDocument

    from otcache_plugin.parameters.otcache import OTCacheParameters
    from otcache_plugin.parameters.served import ServedBudget

MAX_HISTORY = 10_000
"""Most losses of a search that a document holds: the warm start's and those of 9,999 trials."""

PREDICTED = "predicted"

SEARCHES = {
    "joint": "joint, on all pairs at once",
    "per-pair": "per pair, each on its own",
}


class CalibrationRecord(Part):
    """How OTCache was calibrated: the settings of a calibration in its document.

    Attributes:
        effort: What was spent: quick, standard, thorough, or the paper's own procedure.
        reference_budget: Largest budget of the schedules.
        anchor_budget: Smallest budget.
        gains: What is left at the end of a displacement at each step, fitted to real runs; empty
            where there were none.
        unexplained: Share of the squared displacements of these runs that the fit leaves: how far
            the model is from linear.
        unexplained_without_gains: The same for the recorded velocities as they are.
        search: How schedules were searched: on all pairs at once, or for each pair on its own;
            None where none were.
        trials: Candidates that the search of each schedule was allowed.
        history: Lowest loss so far of the anchor search over the calibration pairs: the warm
            start's, then one after each trial. Empty where it was not kept.
    """

    effort: Literal["quick", "standard", "thorough", "paper"]
    reference_budget: Budget
    anchor_budget: Budget
    gains: Annotated[tuple[float, ...], Field(max_length=MAX_INFERENCE_STEPS, fail_fast=True)] = ()
    unexplained: NotNegative | None = None
    unexplained_without_gains: NotNegative | None = None
    search: Literal["joint", "per-pair"] | None = None
    trials: Count | None = None
    history: Annotated[tuple[float, ...], Field(max_length=MAX_HISTORY, fail_fast=True)] = ()

    @classmethod
    def read(cls, calibration: Calibration) -> Self:
        """Return the record that a document's calibration holds.

        Raises:
            DocumentError: Its settings are none.
        """
        try:
            return cls.model_validate(calibration.settings)
        except ValidationError as error:
            raise document_error(error, "calibration.settings") from None

    @model_validator(mode="after")
    def _check_history(self) -> Self:
        for index, (loss, following) in enumerate(pairwise(self.history)):
            if following > loss:
                problem = f"entry {index + 1} is above the one before"
                remedy = "Use the lowest loss so far, which never rises"
                raise DocumentError("history", self.history, problem, remedy)
        return self


def describe(parameters: OTCacheParameters, document: PolicyDocument) -> PolicyDetails:
    """Return a document's schedules, each with its family, and how they were found.

    Raises:
        DocumentError: A schedule is none of the document's steps, or what is said of the
            calibration is not valid, or of other budgets than the schedules'.
    """
    schedules = parameters.schedules(document.num_inference_steps)
    calibration = document.calibration
    if calibration is None:
        held = _schedules(parameters, schedules)
        return replace(held, others=PREDICTED, notes=_notes(parameters))
    record = CalibrationRecord.read(calibration)
    _check_budgets(record, parameters)
    return replace(
        _schedules(parameters, schedules),
        others=PREDICTED,
        notes=_notes(parameters),
        calibration=tuple(_facts(record)),
        searched=f"{record.anchor_budget}-step anchor" if record.history else "",
        history=record.history,
    )


def _schedules(parameters: OTCacheParameters, schedules: Sequence[Schedule]) -> PolicyDetails:
    """Return the schedules, each after its family, or after its place in the policy."""
    served = parameters.served
    if not served:
        waypoints = ["waypoint"] * len(parameters.waypoints)
        places = ("anchor", *waypoints, "reference")[: len(schedules)]
        return PolicyDetails(tuple(zip(places, schedules, strict=True)))
    families = tuple(
        (each.family, schedule) for each, schedule in zip(served, schedules, strict=True)
    )
    if all(each.gain is None for each in served):
        return PolicyDetails(families, "family")
    leads = Column("ahead of the graph policy by", tuple(map(_lead, served)))
    pairs = Column("pairs", tuple("" if each.pairs is None else str(each.pairs) for each in served))
    return PolicyDetails(families, "family", (leads, pairs))


def _lead(served: ServedBudget) -> str:
    """Return by how much a budget's schedule is ahead, or how the best of others did."""
    if served.gain is None:
        return ""
    lead = f"{served.gain:.2f} ± {served.standard_error:.2f}"
    return f"({lead})" if served.family == "graph" else lead


def _notes(parameters: OTCacheParameters) -> tuple[str, ...]:
    if not parameters.served and len(parameters.budgets) == 1:
        return ("A single schedule: no other budget is predicted from it.",)
    if not parameters.served:
        rho = parameters.rho
        return (f"Budgets between two neighbours are predicted with rho = {rho:g}.",)
    notes = [
        "Every budget has a schedule of its own: of the graph policy, predicted from its "
        "neighbours, minimising the quadratic form of the recorded velocities, or searched."
    ]
    pairs = sorted({each.pairs for each in parameters.served if each.pairs is not None})
    if pairs:
        count = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
        notes.append(
            "How far it is ahead of the graph policy's best was measured on "
            f"{count} pairs that nothing was chosen by, in units of the metric; in brackets "
            "what the best of the other families gains where the graph policy's schedule stays."
        )
    if parameters.damping is not None:
        notes.append(
            "Runs of other steps or noise levels get a schedule optimised on their own, with the "
            f"quadratic form damped by {parameters.damping:g}."
        )
    return tuple(notes)


def _facts(record: CalibrationRecord) -> Iterator[tuple[str, str]]:
    yield "effort", record.effort
    if record.search is not None:
        text = f"{SEARCHES[record.search]}, up to {record.trials} trials for each schedule"
        yield "search", text
    if record.unexplained is not None and record.unexplained_without_gains is not None:
        yield (
            "left unexplained of real runs",
            f"{record.unexplained:.0%} with gains, {record.unexplained_without_gains:.0%} without",
        )


def _check_budgets(record: CalibrationRecord, parameters: OTCacheParameters) -> None:
    for name, schedule in (("anchor", parameters.anchor), ("reference", parameters.reference)):
        field = f"{name}_budget"
        stated = getattr(record, field)
        if stated != schedule.budget:
            problem, remedy = f"not the budget of the {name}", f"Use {schedule.budget}"
            raise DocumentError(f"calibration.settings.{field}", stated, problem, remedy)
