"""Parameters of policies that decide by a threshold: TeaCache's and DiCache's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from otcache_policies import DiCachePolicy, FieldError, TeaCachePolicy, Thresholds
from otcache_policies.dicache import DEEPEST
from otcache_policies.teacache import DEGREE
from otcache_registry import Part, PolicyDetails
from otcache_registry.documents.values import MAX_INFERENCE_STEPS, Budget
from pydantic import Field

from otcache_plugin.parameters.checks import refuse_tables, said_of_the_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_registry import PolicyDocument, Sampling, Tables


class BudgetThreshold(Part):
    """The threshold that comes to a budget.

    Attributes:
        budget: Computed steps in the mean over the calibration pairs.
        threshold: That the accumulated change reaches at a computed step.
    """

    budget: Budget
    threshold: Annotated[float, Field(gt=0)]


class ThresholdParameters(Part):
    """What a document of a policy holds that decides by a threshold.

    Attributes:
        thresholds: By increasing budget; between two of them they are interpolated.
    """

    thresholds: Annotated[
        tuple[BudgetThreshold, ...], Field(min_length=1, max_length=MAX_INFERENCE_STEPS)
    ]

    def of_steps(self, num_inference_steps: int) -> Thresholds:
        """Return the thresholds of runs of so many steps.

        Raises:
            DocumentError: They are none.
        """
        with said_of_the_document(FieldError, "parameters"):
            by_budget = {each.budget: each.threshold for each in self.thresholds}
            return Thresholds(by_budget, num_inference_steps)


class TeaCacheParameters(ThresholdParameters):
    """What a document of the policy "teacache" holds.

    Attributes:
        coefficients: Of the polynomial from the change of the first block's modulated input to
            that of the model's output, the highest power first.
    """

    coefficients: Annotated[tuple[float, ...], Field(min_length=DEGREE + 1, max_length=DEGREE + 1)]


class DiCacheParameters(ThresholdParameters):
    """What a document of the policy "dicache" holds.

    Attributes:
        depth: Blocks of the probe.
    """

    depth: Annotated[int, Field(ge=1, le=DEEPEST)]


def make_teacache(
    parameters: TeaCacheParameters, tables: Tables, sampling: Sampling
) -> TeaCachePolicy:
    """Make the policy of a document.

    Raises:
        DocumentError: There are tables, or the thresholds are none of its steps.
    """
    refuse_tables(tables)
    thresholds = parameters.of_steps(sampling.num_inference_steps)
    return TeaCachePolicy(parameters.coefficients, thresholds)


def make_dicache(
    parameters: DiCacheParameters, tables: Tables, sampling: Sampling
) -> DiCachePolicy:
    """Make the policy of a document.

    Raises:
        DocumentError: There are tables, or the thresholds are none of its steps.
    """
    refuse_tables(tables)
    return DiCachePolicy(parameters.depth, parameters.of_steps(sampling.num_inference_steps))


def records(thresholds: Sequence[tuple[int, float]]) -> tuple[BudgetThreshold, ...]:
    """Return thresholds, each after its budget, as documents have them."""
    return tuple(BudgetThreshold(budget=budget, threshold=each) for budget, each in thresholds)


def describe(parameters: ThresholdParameters, document: PolicyDocument) -> PolicyDetails:
    """Return what there is to say of a document that decides by a threshold."""
    found = ", ".join(f"{each.budget} at {each.threshold:.3g}" for each in parameters.thresholds)
    return PolicyDetails(
        notes=(
            "It decides at every step by what it observes of the run: a budget is what it aims "
            "at, and a run may compute more steps or fewer. The evidence is of the budgets aimed "
            "at, each pair in a call of its own.",
        ),
        calibration=(("thresholds", found),),
    )
