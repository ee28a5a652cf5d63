"""The parts of a policy document: model, sampling set-up, schedules, origin and evidence.

Every part is frozen and strict: no unknown field, no conversion, no NaN. Lists end at their first
wrong entry and have a largest length, so that refusing a hostile document takes little memory.
"""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Annotated, Literal, Self, TypeVar

from otcache_policies import EdgeSettings, Schedule
from otcache_policies.edges import Cost
from otcache_registry.errors import DocumentError
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

__all__ = [
    "Budget",
    "Calibration",
    "Count",
    "Digest",
    "EvidenceRow",
    "GraphSettings",
    "ModelReference",
    "Name",
    "Part",
    "Positive",
    "Publication",
    "Sampling",
    "ScheduleRecord",
    "Text",
]

MAX_INFERENCE_STEPS = 10_000

MAX_HISTORY = 10_000
"""Most losses of a search that a document holds: the warm start's and those of 9,999 trials."""

MAX_ENTRIES = 100
"""Most guidance arguments, and most libraries."""

Value = TypeVar("Value")


def _by_key(mapping: dict[str, Value]) -> dict[str, Value]:
    # Equal documents are written as equal bytes.
    return dict(sorted(mapping.items()))


# Documents come from strangers and are shown in terminals and cards: one line, no control codes,
# and none of the signs that change the direction of what follows.
_REFUSED_SIGNS = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
Text = Annotated[
    str, StringConstraints(min_length=1, max_length=1000, pattern=rf"^[^{_REFUSED_SIGNS}]+$")
]
Name = Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Pixels = Annotated[int, Field(ge=1, le=2**31 - 1)]
Budget = Annotated[int, Field(ge=2, le=MAX_INFERENCE_STEPS)]
LookBack = Annotated[int, Field(ge=1, le=MAX_INFERENCE_STEPS)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelReference(Part):
    """The weights that a policy was calibrated on.

    Attributes:
        id: Repository on the Hub, such as "org/name", or another name that the model goes by.
        revision: Commit of the weights, or what else identifies them exactly; None in a document
            of published schedules, which nobody tied to a commit.
    """

    id: Text
    revision: Text | None


class Sampling(Part):
    """The sampling set-up of the calibration runs.

    Attributes:
        pipeline: Class name of the pipeline.
        scheduler: Class name of the scheduler.
        num_inference_steps: Steps of the runs, T, 2 … 10000.
        sigmas: Noise schedule as the pipeline set it: T+1 numbers, strictly decreasing to 0 or
            more. None in a document of published schedules, where it is not known.
        height: Height in pixels, None where the pipeline's default holds.
        width: Width in pixels, likewise.
        guidance: Guidance arguments of the call, such as {"true_cfg_scale": 4.0}.
    """

    pipeline: Text
    scheduler: Text
    num_inference_steps: Budget
    sigmas: (
        Annotated[
            tuple[float, ...],
            Field(min_length=3, max_length=MAX_INFERENCE_STEPS + 1, fail_fast=True),
        ]
        | None
    )
    height: Pixels | None
    width: Pixels | None
    guidance: Annotated[dict[Text, float], Field(max_length=MAX_ENTRIES), AfterValidator(_by_key)]

    @model_validator(mode="after")
    def _check_sigmas(self) -> Self:
        if self.sigmas is None:
            return self
        count, expected = len(self.sigmas), self.num_inference_steps + 1
        remedy = f"Use {expected} numbers, strictly decreasing to 0 or more"
        if count != expected:
            problem = f"{count} entries for {self.num_inference_steps} steps"
            raise DocumentError("sigmas", self.sigmas, problem, remedy)
        for index, (sigma, following) in enumerate(pairwise(self.sigmas)):
            if following >= sigma:
                problem = f"entry {index + 1} is not below the one before"
                raise DocumentError("sigmas", self.sigmas, problem, remedy)
        if self.sigmas[-1] < 0:
            raise DocumentError("sigmas", self.sigmas, "the last entry is below 0", remedy)
        return self


class ScheduleRecord(Part):
    """A schedule, for the number of steps that the document's sampling set-up names.

    Attributes:
        computed_steps: Strictly increasing steps from 0 to T-1, both included.
        look_backs: One look-back >= 1 per segment.
    """

    computed_steps: Annotated[
        tuple[Count, ...], Field(max_length=MAX_INFERENCE_STEPS, fail_fast=True)
    ]
    look_backs: Annotated[
        tuple[LookBack, ...], Field(max_length=MAX_INFERENCE_STEPS, fail_fast=True)
    ]

    @classmethod
    def of(cls, schedule: Schedule) -> Self:
        """Return the record of a schedule."""
        return cls(computed_steps=schedule.computed_steps, look_backs=schedule.look_backs)

    @property
    def budget(self) -> int:
        """Number of computed steps."""
        return len(self.computed_steps)

    def schedule(self, num_inference_steps: int) -> Schedule:
        """Return the schedule.

        Raises:
            ScheduleError: It is none for this number of steps.
        """
        return Schedule(self.computed_steps, num_inference_steps, self.look_backs)


class GraphSettings(Part):
    """How the document's edge table is read; `otcache_policies.EdgeSettings` as a record."""

    cost: Cost
    gamma: Positive
    look_back: LookBack | None

    @classmethod
    def of(cls, settings: EdgeSettings) -> Self:
        """Return the record of settings."""
        return cls(cost=settings.cost, gamma=settings.gamma, look_back=settings.look_back)

    def edge_settings(self) -> EdgeSettings:
        """Return the settings."""
        return EdgeSettings(self.cost, self.gamma, self.look_back)


class Calibration(Part):
    """How the policy was found, what that cost, and with which software.

    Attributes:
        pairs: Prompt-seed pairs that the schedules were judged on.
        seed: Seed of the search and of the pairs.
        batch_size: Pairs per pipeline call. Batches decide rounding, so other ones may give other
            results.
        prompts_digest: SHA-256 of the calibration prompts, 64 hexadecimal digits.
        held_out_digest: SHA-256 of the prompts of the evidence, likewise.
        metric: What the anchor search minimised, such as "lpips".
        reference_budget: Budget of the reference.
        anchor_budget: Budget of the anchor.
        search: How the anchor was searched: on all pairs at once, or for each pair on its own.
        trials: Candidates that the search of each schedule was allowed.
        history: Lowest loss so far of the anchor search over the calibration pairs: the warm
            start's, then one after each trial. Empty where it was not kept.
        evaluations: Schedules that were really run.
        transformer_calls: Calls of the transformer altogether.
        seconds: Time that measuring took, of all workers together.
        libraries: Version by name of library.
        device: What it ran on.
        created: ISO 8601 date and time with time zone.
    """

    pairs: Annotated[Count, Field(ge=1)]
    seed: Count
    batch_size: Annotated[Count, Field(ge=1)]
    prompts_digest: Digest
    held_out_digest: Digest
    metric: Text
    reference_budget: Budget
    anchor_budget: Budget
    search: Literal["joint", "per-pair"]
    trials: Count
    history: Annotated[tuple[float, ...], Field(max_length=MAX_HISTORY, fail_fast=True)] = ()
    evaluations: Count
    transformer_calls: Count
    seconds: NotNegative
    libraries: Annotated[dict[Text, Text], Field(max_length=MAX_ENTRIES), AfterValidator(_by_key)]
    device: Text
    created: Text

    @model_validator(mode="after")
    def _check_history(self) -> Self:
        for index, (loss, following) in enumerate(pairwise(self.history)):
            if following > loss:
                problem = f"entry {index + 1} is above the one before"
                remedy = "Use the lowest loss so far, which never rises"
                raise DocumentError("history", self.history, problem, remedy)
        return self

    @model_validator(mode="after")
    def _check_created(self) -> Self:
        remedy = "Use a date and time with time zone, such as 2026-01-31T12:00:00+00:00"
        try:
            moment = datetime.fromisoformat(self.created)
        except ValueError:
            raise DocumentError("created", self.created, "not in ISO 8601", remedy) from None
        if moment.tzinfo is None:
            raise DocumentError("created", self.created, "without time zone", remedy)
        return self


class Publication(Part):
    """Where schedules come from that others published, and that we only pass on.

    Attributes:
        authors: Who found and published them.
        source: Where, such as an address.
        paper: Where their method is described, such as "arXiv 2601.19961".
        setting: What they say they hold for, such as size and guidance.
    """

    authors: Text
    source: Text
    paper: Text
    setting: Text


class EvidenceRow(Part):
    """One held-out figure: a policy at a budget, alone or compared on the same pairs.

    Attributes:
        policy: Name of the policy that was measured.
        budget: Its computed steps.
        metric: What was measured, such as "lpips" or "psnr".
        mean: Mean over the pairs.
        standard_error: Of that mean.
        pairs: Prompt-seed pairs, at least 2, none of them used in the calibration.
        compared_to: Name of the policy that the differences are to, at the same budget.
        difference_mean: Mean over the pairs of this policy's value minus the other's.
        difference_low: Lower end of that mean's 95 % confidence interval.
        difference_high: Upper end.
        win_rate: Share of the pairs on which this policy is the better one, ties counting half.
    """

    policy: Text
    budget: Budget
    metric: Text
    mean: float
    standard_error: NotNegative
    pairs: Annotated[Count, Field(ge=2)]
    compared_to: Text | None = None
    difference_mean: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    win_rate: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _check_comparison(self) -> Self:
        names = "compared_to", "difference_mean", "difference_low", "difference_high", "win_rate"
        absent = [name for name in names if getattr(self, name) is None]
        if absent and len(absent) < len(names):
            remedy = f"Give all of {', '.join(names)}, or none"
            raise DocumentError(absent[0], None, "a comparison lacks this field", remedy)
        low, high = self.difference_low, self.difference_high
        if low is not None and high is not None and low > high:
            problem = f"above difference_high={high!r}"
            raise DocumentError("difference_low", low, problem, "Give the lower end first")
        return self
