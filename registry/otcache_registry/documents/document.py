"""The policy document: everything about a calibrated policy except its tables.

One document holds for one policy, one model, one number of steps and one sampling set-up. What the
policy's own parameters mean only the policy knows; everything else is read here, whatever the
policy. Built in Python from wrong values, it raises pydantic's `ValidationError`; read from JSON,
it raises `DocumentError`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from otcache_policies import Budgets
from otcache_registry.documents import strict_json
from otcache_registry.documents.fields import (
    Calibration,
    EvidenceRow,
    ModelReference,
    PolicyIdentity,
    Publication,
    Sampling,
    ServedBudgets,
)
from otcache_registry.documents.migrations import migrated
from otcache_registry.documents.refusals import document_error
from otcache_registry.documents.values import Budget, Digest, JsonObject, Part
from otcache_registry.errors import DocumentError
from pydantic import BaseModel, Field, ValidationError, model_validator

__all__ = [
    "POLICY_SCHEMA",
    "Calibration",
    "EvidenceRow",
    "ModelReference",
    "PolicyDocument",
    "PolicyIdentity",
    "Publication",
    "Sampling",
    "ServedBudgets",
    "json_schema",
]

POLICY_SCHEMA: Final = "otcache.policy/v1"
"""Name of the schema that this version writes; documents of older ones are migrated to it."""

MAX_EVIDENCE = 1_000

_MOST_GROWTH = 25
"""How many times as long a text may get when it is written: deeply nested, `[],` fills a line."""


class PolicyDocument(Part):
    """A policy for one model revision and sampling set-up, calibrated here or published by others.

    Exactly one of `calibration` and `published` is given. A calibrated document names its revision
    and sigmas; one of published schedules has no evidence.

    Attributes:
        schema_: Name of the schema, `POLICY_SCHEMA`; the argument and the key are called "schema".
        policy: The policy that the document is for.
        model: The weights.
        sampling: The sampling set-up.
        default_budget: Budget of a run that asks for none, among `budgets`; None where there are
            none.
        budgets: The budgets that the policy serves, or aims at where it decides during the run;
            None for one that decides and aims at none.
        parameters: What belongs to the policy, as JSON.
        calibration: How all this was found.
        published: Who published the schedules.
        evidence: Held-out figures.
        tables_sha256: SHA-256 of the tables' file, 64 hexadecimal digits; None without tables.
    """

    schema_: Literal["otcache.policy/v1"] = Field(alias="schema")
    policy: PolicyIdentity
    model: ModelReference
    sampling: Sampling
    default_budget: Budget | None
    budgets: ServedBudgets | None
    parameters: JsonObject
    calibration: Calibration | None = None
    published: Publication | None = None
    evidence: Annotated[
        tuple[EvidenceRow, ...], Field(max_length=MAX_EVIDENCE, fail_fast=True)
    ] = ()
    tables_sha256: Digest | None = None

    @property
    def num_inference_steps(self) -> int:
        """Steps of the calibrated runs, T."""
        return self.sampling.num_inference_steps

    @property
    def calibrated_budgets(self) -> tuple[int, ...]:
        """Budgets that the policy was calibrated at, increasing."""
        return () if self.budgets is None else self.budgets.calibrated

    def require_default_budget(self) -> int:
        """Return the default budget.

        Raises:
            DocumentError: There is none, since the policy serves no budgets.
        """
        if self.default_budget is None:
            problem = "a policy that serves no budgets has none by default"
            raise DocumentError("default_budget", None, problem, "Use it without a budget")
        return self.default_budget

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
            document = cls.model_validate(content)
        except ValidationError as error:
            raise document_error(error) from None
        # Whatever is read can be written, and read again.
        limit = strict_json.MAX_DOCUMENT_BYTES
        if len(text) * _MOST_GROWTH > limit and len(document.to_json()) > limit:
            problem = f"longer than {limit} characters when it is written"
            remedy = "Make its parameters shorter, or less deep"
            raise DocumentError("document", strict_json.excerpt(text), problem, remedy)
        return document

    def to_json(self) -> str:
        """Return indented JSON, ending in a newline; equal documents give equal bytes."""
        return strict_json.dump(self.model_dump(mode="json", by_alias=True)) + "\n"

    @model_validator(mode="after")
    def _check_origin(self) -> Self:
        if (self.calibration is None) == (self.published is None):
            field = "calibration" if self.calibration is None else "published"
            problem = "a document is either calibrated or published by others"
            remedy = "Give exactly one of calibration and published"
            raise DocumentError(field, getattr(self, field), problem, remedy)
        if self.published is not None:
            if self.evidence:
                problem = "published schedules come without evidence"
                raise DocumentError("evidence", self.evidence, problem, "Remove it")
            return self
        of_calibration = {
            "model.revision": self.model.revision,
            "sampling.sigmas": self.sampling.sigmas,
        }
        for field, value in of_calibration.items():
            if value is None:
                problem = "a calibrated document cannot do without it"
                raise DocumentError(field, None, problem, "Give what was calibrated")
        return self

    @model_validator(mode="after")
    def _check_budgets(self) -> Self:
        total, served = self.num_inference_steps, self.budgets
        if (self.default_budget is None) != (served is None):
            problem = "a default budget and the budgets that are served come together"
            remedy = "Give both, or null for both"
            raise DocumentError("default_budget", self.default_budget, problem, remedy)
        if served is not None:
            if served.largest > total:
                problem, remedy = f"above the {total} steps", f"Use {served.smallest} … {total}"
                raise DocumentError("budgets.largest", served.largest, problem, remedy)
            budgets = Budgets(served.smallest, served.largest, total)
            if self.default_budget not in budgets:
                problem = "not among the budgets that the document serves"
                remedy = f"Use {budgets}"
                raise DocumentError("default_budget", self.default_budget, problem, remedy)
        for index, row in enumerate(self.evidence):
            if row.budget > total:
                path, problem = f"evidence.{index}.budget", "above the number of steps"
                raise DocumentError(path, row.budget, problem, f"Use 2 … {total}")
        return self


def json_schema(part: type[BaseModel] = PolicyDocument) -> dict[str, Any]:
    """Return the schema of policy.json, or of another class, as JSON Schema (2020-12).

    It says all that JSON Schema can; how fields must fit each other only `from_json` checks. The
    parameters are whatever the policy's own schema says.
    """
    schema = part.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
