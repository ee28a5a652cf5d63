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

__all__ = ["Decider", "DecidingPolicy", "Decision", "RunConditions"]

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
        budget: Computed steps that were asked for, None when nothing was.
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
        """What it is shown: "latents", those that the step before gave, in the pipeline's form.

        An executor refuses a policy that observes what it cannot show. One that can show more than
        latents, such as features of the transformer's first blocks, gives it a name of its own.
        """

    @property
    def look_back(self) -> int:
        """Past steps that the estimate of a cached step spans; 1 repeats the last velocity."""

    def begin(self, run: RunConditions, observation: Observation) -> Decider[Observation]:
        """Return a fresh decider for a run.

        Args:
            run: The run's noise levels, and the budget to aim at.
            observation: What the policy observes, before the run's first step.

        Raises:
            BudgetError: It can't aim at this budget, or at any.
        """
