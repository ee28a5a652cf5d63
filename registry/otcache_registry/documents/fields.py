"""The common parts of a policy document: policy, model, sampling set-up, origin and evidence."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Final, Self

from otcache_registry.documents.values import (
    MAX_INFERENCE_STEPS,
    Budget,
    Count,
    Digest,
    Distribution,
    Identifier,
    JsonObject,
    Name,
    NotNegative,
    Part,
    Pixels,
    Seconds,
    Text,
    by_key,
)
from otcache_registry.errors import DocumentError
from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

__all__ = [
    "UNKNOWN",
    "Calibration",
    "EvidenceRow",
    "ModelReference",
    "PolicyIdentity",
    "Publication",
    "Sampling",
    "ServedBudgets",
]

UNKNOWN: Final = "unknown"
"""Stands for what those who published schedules did not say, such as the scheduler's class."""

MAX_ENTRIES = 100
"""Most guidance arguments, and most libraries."""


class PolicyIdentity(Part):
    """The policy that a document is for.

    Attributes:
        name: What it is registered as, such as "otcache".
        distribution: What to install to use it, such as "otcache-plugin"; None where unknown.
    """

    name: Name
    distribution: Distribution | None


class ModelReference(Part):
    """The weights that a policy was calibrated on.

    Attributes:
        id: Repository on the Hub, such as "org/name", or another name that the model goes by.
        revision: Commit of the weights, or what else identifies them exactly; None in a document
            of published schedules, which nobody tied to a commit.
    """

    id: Identifier
    revision: Identifier | None


class Sampling(Part):
    """The sampling set-up of the calibration runs.

    Attributes:
        pipeline: Class name of the pipeline, or `UNKNOWN`.
        scheduler: Class name of the scheduler, likewise.
        num_inference_steps: Steps of the runs, T, 2 … 10000.
        sigmas: Noise schedule as the pipeline set it: T+1 numbers, strictly decreasing to 0 or
            more. None in a document of published schedules, where it is not known.
        height: Height in pixels, None where the pipeline's default holds.
        width: Width in pixels, likewise.
        guidance: Guidance arguments of the call, such as {"true_cfg_scale": 4.0}.
        executor: What made the schedules happen that were run, such as "velocity" or "blocks"; None
            where that is not known, as of published schedules, or where the policy decides during
            the run, on whatever shows it what it observes.
        calibrator: The calibrator of cache-dit that extrapolated on their cached steps, such as
            "taylorseer"; None where none did.
        calls_per_step: Calls of the transformer in a computed step, 2 where guidance is a second
            call; None where unknown.
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
    guidance: Annotated[dict[Text, float], Field(max_length=MAX_ENTRIES), AfterValidator(by_key)]
    executor: Name | None = None
    calibrator: Name | None = None
    calls_per_step: Annotated[Count, Field(ge=1)] | None = None

    @model_serializer(mode="wrap")
    def _without_unknowns(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out by what schedules were run where nobody said so."""
        said = ("executor", "calibrator", "calls_per_step")
        return {
            name: value
            for name, value in dump(self).items()
            if value is not None or name not in said
        }

    @model_validator(mode="after")
    def _check_calibrator(self) -> Self:
        if self.calibrator is not None and self.executor is None:
            problem, remedy = "without an executor", "Name the executor that it was used with, too"
            raise DocumentError("calibrator", self.calibrator, problem, remedy)
        return self

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


class ServedBudgets(Part):
    """The budgets that a policy serves, for those who do not know the policy.

    Attributes:
        smallest: Smallest budget.
        largest: Largest budget of the range. A budget of all the steps is served besides.
        calibrated: Budgets that the policy was calibrated at, or has published schedules of,
            increasing; none where it was calibrated as a whole.
    """

    smallest: Budget
    largest: Budget
    calibrated: Annotated[
        tuple[Budget, ...], Field(max_length=MAX_INFERENCE_STEPS, fail_fast=True)
    ] = ()

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.largest < self.smallest:
            problem = f"below the smallest budget {self.smallest}"
            remedy = f"Use {self.smallest} or more"
            raise DocumentError("largest", self.largest, problem, remedy)
        for index, (budget, following) in enumerate(pairwise(self.calibrated)):
            if following <= budget:
                problem = f"entry {index + 1} is not above the one before"
                raise DocumentError("calibrated", self.calibrated, problem, "Sort them")
        for budget in (*self.calibrated[:1], *self.calibrated[-1:]):
            if not self.smallest <= budget <= self.largest:
                problem = f"{budget} is not among {self.smallest} … {self.largest}"
                raise DocumentError("calibrated", self.calibrated, problem, "Use served budgets")
        return self


class Calibration(Part):
    """How the policy was found, what that cost, and with which software.

    Attributes:
        pairs: Prompt-seed pairs that the policy was judged on.
        seed: Seed of the calibration and of the pairs.
        batch_size: Pairs per pipeline call. Batches decide rounding, so other ones may give other
            results.
        prompts_digest: SHA-256 of the calibration prompts, 64 hexadecimal digits.
        held_out_digest: SHA-256 of the prompts of the evidence, likewise.
        metric: What the calibration minimised, such as "lpips".
        settings: What the policy's calibrator was set to and says of its course, in its own words.
        evaluations: Runs of candidates that were really made.
        values: Values of metrics that were measured, one per run, pair and metric; 0 where they
            were not counted.
        values_not_finite: How many of them are not finite. A schedule with such a value is never
            chosen, nor is a figure of it stated.
        transformer_calls: Calls of the transformer altogether; a batch counts once, every guidance
            branch counts.
        denoising_steps: Steps that were computed for the pairs that the policy was found on, each
            pair's own: what a calibration costs whatever the batches and the guidance.
        evidence_steps: Steps that were computed for the evidence, likewise.
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
    settings: JsonObject
    evaluations: Count
    values: Count
    values_not_finite: Count
    transformer_calls: Count
    denoising_steps: Count
    evidence_steps: Count
    seconds: Seconds
    libraries: Annotated[dict[Text, Text], Field(max_length=MAX_ENTRIES), AfterValidator(by_key)]
    device: Text
    created: Text

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
    """Where schedules come from that others have published and we only pass on.

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
        computed_steps: Mean over the pairs of what really was computed, where the policy decides
            that at every step; it may then miss the budget that it aims at.
        block_share: Likewise the mean share of a full run's block evaluations.
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
    computed_steps: NotNegative | None = None
    block_share: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_serializer(mode="wrap")
    def _without_decisions(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the figures of decisions where nothing was decided."""
        decided = ("computed_steps", "block_share")
        return {
            name: value
            for name, value in dump(self).items()
            if value is not None or name not in decided
        }

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
