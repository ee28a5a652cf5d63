"""Policies that decide while a run is under way, from what they see of it at every step.

A static policy (`otcache_policies.policy`) answers a budget with a schedule before anything runs.
One of this kind is begun anew for every run and then asked, step by step, whether to compute or to
cache. As with schedules, the first and the last step of a run are always computed: a decider is
shown the first one when it begins, and asked about those between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from otcache_policies.policy import Budgets

__all__ = [
    "MODULATED_INPUT",
    "AimingPolicy",
    "Decider",
    "DecidingPolicy",
    "Decision",
    "RunConditions",
    "after_blocks",
]

MODULATED_INPUT = "modulated-input"
"""Name of an observation: the first block's input, modulated by the time embedding."""


def after_blocks(depth: int) -> str:
    """Return the name of an observation: the output of the first blocks, so many of them."""
    return f"after-{depth}-block{'s' if depth > 1 else ''}"


Observation = TypeVar("Observation", contravariant=True)


class Decision(Enum):
    """What is to happen at a step."""

    COMPUTE = "compute"
    CACHE = "cache"


@dataclass(frozen=True, eq=False)
class RunConditions:
    """What is known of a run when it begins.

    Attributes:
        sigmas: Noise levels of its T steps, shape (T+1,), strictly decreasing as a rule.
        budget: Computed steps that were asked for, None where no budget was.
    """

    sigmas: NDArray[np.float64]
    budget: int | None = None

    @property
    def num_inference_steps(self) -> int:
        """Steps of the run, T."""
        return len(self.sigmas) - 1


class Decider(Protocol[Observation]):
    """Decides one run; whatever it remembers of it dies with it."""

    def decide(self, step: int, observation: Observation) -> Decision:
        """Return what is to happen at a step.

        It is asked once about each step from 1 to T-2, in their order, however often the
        transformer is called for one.

        Args:
            step: The step that is about to be taken, from 0 for the run's first one.
            observation: What the policy observes, before that step. A tensor stays on its device:
                reduce it there and read a single number, because reading waits for the device.
                One such wait per step is the price of deciding, and two are twice the price.
        """


@runtime_checkable
class DecidingPolicy(Protocol[Observation]):
    """A policy that decides at every step, generic in what it observes.

    `otcache_policies.testing.DecidingPolicyConformance` checks an implementation.
    """

    @property
    def name(self) -> str:
        """The policy's word in `policy=`: an identifier such as "teacache"."""

    @property
    def observes(self) -> str:
        """What it is shown.

        "latents" are those that the step before left, in the pipeline's form. `MODULATED_INPUT` and
        `after_blocks` name features of the transformer's first blocks. An executor refuses a policy
        that observes what it cannot show, and may show more under a name of its own.
        """

    @property
    def look_back(self) -> int:
        """Past steps that the estimate of a cached step spans; 1 repeats the last one's.

        Where latents are observed, all steps count and the velocity is estimated. Where features
        are observed, only computed steps count, 1 or 2 of them, and the residual of the blocks is
        estimated.
        """

    def begin(self, run: RunConditions, observation: Observation) -> Decider[Observation]:
        """Return a fresh decider for a run.

        Args:
            run: The run's noise levels, and the budget to aim at.
            observation: What the policy observes, before the run's first step.

        Raises:
            BudgetError: It cannot aim at this budget, or the run names none.
        """


@runtime_checkable
class AimingPolicy(DecidingPolicy[Observation], Protocol[Observation]):
    """A policy that decides at every step, and aims at a budget by what was calibrated."""

    @property
    def num_inference_steps(self) -> int:
        """Steps of the runs that it was calibrated for, T."""

    @property
    def budgets(self) -> Budgets:
        """Budgets of such a run that it can aim at."""
