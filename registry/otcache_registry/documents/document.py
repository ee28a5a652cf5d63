"""The policy document: everything about a policy except its edge table.

One document holds for one model, one number of steps and one sampling set-up. Built in Python from
wrong values, it raises pydantic's `ValidationError`; read from JSON, it raises `DocumentError`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Final, Literal, Self

from otcache_policies import Budgets, Schedule, ScheduleError
from otcache_registry.documents import strict_json
from otcache_registry.documents.fields import (
    Budget,
    Calibration,
    Digest,
    EvidenceRow,
    GraphSettings,
    ModelReference,
    Name,
    Part,
    Positive,
    Publication,
    Sampling,
    ScheduleRecord,
)
from otcache_registry.documents.migrations import migrated
from otcache_registry.documents.refusals import document_error
from otcache_registry.errors import DocumentError
from pydantic import Field, ValidationError, model_validator

__all__ = [
    "POLICY_SCHEMA",
    "Calibration",
    "EvidenceRow",
    "GraphSettings",
    "ModelReference",
    "PolicyDocument",
    "Publication",
    "Sampling",
    "ScheduleRecord",
    "json_schema",
]

POLICY_SCHEMA: Final = "otcache.policy/v1"
"""Name of the schema that this version writes; documents of older ones are migrated to it."""

MAX_WAYPOINTS = 100

MAX_EVIDENCE = 1_000


class PolicyDocument(Part):
    """A policy for one model revision and sampling set-up, calibrated here or published by others.

    Exactly one of `calibration` and `published` is given. A calibrated document names its revision,
    sigmas, graph settings and edge table; one of published schedules has none of the last two, and
    no evidence.

    Attributes:
        schema_: Name of the schema, `POLICY_SCHEMA`; the argument and the key are called "schema".
        name: Name of the policy that the document is made for, such as "otcache".
        model: The weights.
        sampling: The sampling set-up; its number of steps, T, is that of all schedules.
        default_budget: Budget of a run that asks for none, from the anchor's to T.
        anchor: The searched schedule at the smallest budget.
        waypoints: Searched schedules at budgets between, by increasing budget.
        reference: The graph policy's schedule at a larger budget.
        rho: Exponent of the warp between them, above 0.
        graph: How to read the edge table.
        calibration: How all this was found.
        published: Who published the schedules.
        evidence: Held-out figures.
        edges_sha256: SHA-256 of the edge table's file, 64 hexadecimal digits.
    """

    schema_: Literal["otcache.policy/v1"] = Field(alias="schema")
    name: Name
    model: ModelReference
    sampling: Sampling
    default_budget: Budget
    anchor: ScheduleRecord
    waypoints: Annotated[
        tuple[ScheduleRecord, ...], Field(max_length=MAX_WAYPOINTS, fail_fast=True)
    ] = ()
    reference: ScheduleRecord
    rho: Positive
    graph: GraphSettings | None = None
    calibration: Calibration | None = None
    published: Publication | None = None
    evidence: Annotated[
        tuple[EvidenceRow, ...], Field(max_length=MAX_EVIDENCE, fail_fast=True)
    ] = ()
    edges_sha256: Digest | None = None

    @property
    def num_inference_steps(self) -> int:
        """Steps of the calibrated runs, T."""
        return self.sampling.num_inference_steps

    @property
    def anchor_schedule(self) -> Schedule:
        """The anchor, of T steps."""
        return self.anchor.schedule(self.num_inference_steps)

    @property
    def reference_schedule(self) -> Schedule:
        """The reference, of T steps."""
        return self.reference.schedule(self.num_inference_steps)

    @property
    def waypoint_schedules(self) -> tuple[Schedule, ...]:
        """The waypoints, of T steps."""
        return tuple(record.schedule(self.num_inference_steps) for record in self.waypoints)

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The schedules that the document holds, by increasing budget."""
        return (self.anchor_schedule, *self.waypoint_schedules, self.reference_schedule)

    @property
    def calibrated_budgets(self) -> tuple[int, ...]:
        """Budgets of the schedules that the document holds, increasing."""
        return tuple(record.budget for record in (self.anchor, *self.waypoints, self.reference))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a document.

        Raises:
            DocumentError: It is not JSON, of another schema, or not valid; the error names the
                first fields that are refused.
        """
        content = strict_json.parse(text)
        if not isinstance(content, dict):
            problem, remedy = "not a JSON object", "Pass the text of a policy.json"
            raise DocumentError("document", strict_json.excerpt(text), problem, remedy)
        content = migrated(content)
        # Ahead of the rest: under another schema every other complaint would be beside the point.
        schema = content.get("schema", POLICY_SCHEMA)
        if schema != POLICY_SCHEMA:
            remedy = f"This version reads {POLICY_SCHEMA}; a newer one may know the other"
            raise DocumentError("schema", schema, "unknown schema", remedy)
        try:
            # Not from the text: pydantic would copy what it refuses, once per missing field.
            return cls.model_validate(content)
        except ValidationError as error:
            raise document_error(error) from None

    def to_json(self) -> str:
        """Return indented JSON, ending in a newline; equal documents give equal bytes."""
        return strict_json.dump(self.model_dump(mode="json", by_alias=True)) + "\n"

    @model_validator(mode="after")
    def _check_schedules(self) -> Self:
        records = [("anchor", self.anchor)]
        records += [(f"waypoints.{index}", record) for index, record in enumerate(self.waypoints)]
        records += [("reference", self.reference)]
        for field, record in records:
            try:
                record.schedule(self.num_inference_steps)
            except ScheduleError as error:
                path = f"{field}.{error.field}"
                raise DocumentError(path, error.value, error.problem, error.remedy) from None
        for (field, record), (following, larger) in pairwise(records):
            if record.budget >= larger.budget:
                steps, remedy = record.computed_steps, f"Use fewer than {larger.budget}"
                problem = f"{len(steps)} steps, not fewer than those of {following}"
                raise DocumentError(f"{field}.computed_steps", steps, problem, remedy)
        return self

    @model_validator(mode="after")
    def _check_origin(self) -> Self:
        if (self.calibration is None) == (self.published is None):
            field = "calibration" if self.calibration is None else "published"
            problem = "a document is either calibrated or published by others"
            remedy = "Give exactly one of calibration and published"
            raise DocumentError(field, getattr(self, field), problem, remedy)
        of_calibration = {
            "model.revision": self.model.revision,
            "sampling.sigmas": self.sampling.sigmas,
            "graph": self.graph,
            "edges_sha256": self.edges_sha256,
        }
        if self.calibration is not None:
            for field, value in of_calibration.items():
                if value is None:
                    problem = "a calibrated document cannot do without it"
                    raise DocumentError(field, None, problem, "Give what was calibrated")
            return self
        for field in ("graph", "edges_sha256", "evidence"):
            if getattr(self, field):
                problem = "published schedules come without"
                raise DocumentError(field, getattr(self, field), problem, "Remove it")
        return self

    @model_validator(mode="after")
    def _check_calibration(self) -> Self:
        if self.calibration is None:
            return self
        for name in ("anchor", "reference"):
            field, record = f"{name}_budget", getattr(self, name)
            stated = getattr(self.calibration, field)
            if stated != record.budget:
                problem, remedy = f"not the budget of the {name}", f"Use {record.budget}"
                raise DocumentError(f"calibration.{field}", stated, problem, remedy)
        return self

    @model_validator(mode="after")
    def _check_budgets(self) -> Self:
        smallest, total = self.anchor.budget, self.num_inference_steps
        # Above the reference schedules come from the edge table.
        largest = self.reference.budget if self.edges_sha256 is None else total
        budgets = Budgets(smallest, largest, total)
        if self.default_budget not in budgets:
            problem = "not among the budgets that the document serves"
            raise DocumentError("default_budget", self.default_budget, problem, f"Use {budgets}")
        for index, row in enumerate(self.evidence):
            if row.budget > total:
                path, problem = f"evidence.{index}.budget", "above the number of steps"
                raise DocumentError(path, row.budget, problem, f"Use 2 … {total}")
        return self


def json_schema() -> dict[str, Any]:
    """Return the schema of policy.json as JSON Schema (2020-12).

    It says all that JSON Schema can; how fields must fit each other only `from_json` checks.
    """
    schema = PolicyDocument.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
