"""What OTCache says of its documents: its schedules by name, and how they were searched."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, Self

from otcache_registry import DocumentError, Part, PolicyDetails
from otcache_registry.documents.refusals import document_error
from otcache_registry.documents.values import Budget, Count
from pydantic import Field, ValidationError, model_validator

if TYPE_CHECKING:
    from otcache_registry import Calibration, PolicyDocument

    from otcache_plugin.parameters.otcache import OTCacheParameters

MAX_HISTORY = 10_000
"""Most losses of a search that a document holds: the warm start's and those of 9,999 trials."""

SEARCHES = {
    "joint": "joint, on all pairs at once",
    "per-pair": "per pair, each on its own",
}


class SearchRecord(Part):
    """How OTCache's schedules were searched: the settings of a calibration in its document.

    Attributes:
        reference_budget: Budget of the reference.
        anchor_budget: Budget of the anchor.
        search: How the schedules were searched: on all pairs at once, or for each pair on its own.
        trials: Candidates that the search of each schedule was allowed.
        history: Lowest loss so far of the anchor search over the calibration pairs: the warm
            start's, then one after each trial. Empty where it was not kept.
    """

    reference_budget: Budget
    anchor_budget: Budget
    search: Literal["joint", "per-pair"]
    trials: Count
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
    """Return a document's schedules by name, and how they were searched.

    Raises:
        DocumentError: A schedule is none of the document's steps, or what is said of the search is
            not valid, or of other budgets than the schedules'.
    """
    schedules = parameters.schedules(document.num_inference_steps)
    names = ("anchor", *["waypoint"] * len(parameters.waypoints), "reference")
    calibration, facts = document.calibration, []
    searched, history = "", tuple[float, ...]()
    if calibration is not None:
        record = SearchRecord.read(calibration)
        _check_budgets(record, parameters)
        text = f"{SEARCHES[record.search]}, up to {record.trials} trials for each schedule"
        facts.append(("search", text))
        searched, history = f"{record.anchor_budget}-step anchor", record.history
    return PolicyDetails(
        schedules=tuple(zip(names, schedules, strict=True)),
        notes=(f"Budgets between two neighbours are predicted with rho = {parameters.rho:g}.",),
        calibration=tuple(facts),
        searched=searched,
        history=history,
    )


def _check_budgets(record: SearchRecord, parameters: OTCacheParameters) -> None:
    for name, schedule in (("anchor", parameters.anchor), ("reference", parameters.reference)):
        field = f"{name}_budget"
        stated = getattr(record, field)
        if stated != schedule.budget:
            problem, remedy = f"not the budget of the {name}", f"Use {schedule.budget}"
            raise DocumentError(f"calibration.settings.{field}", stated, problem, remedy)
