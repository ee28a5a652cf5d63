"""The ReCache policy: a small network scores every step for a budget (arXiv 2606.06060).

The steps with the highest scores are computed, beside the first and the last, which always are. One
network serves all budgets, so what helps at one of them is known at its neighbours. It is trained
by drawing schedules and rewarding those that lose little; what is here is what runs afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from otcache_policies._validation import as_array, as_int
from otcache_policies.array_values import ArrayValue
from otcache_policies.errors import ScoresError
from otcache_policies.policy import Budgets
from otcache_policies.schedule import Schedule, look_backs_of

__all__ = ["ReCachePolicy", "ScoreNetwork", "computing", "highest"]

_ARRAYS = ("hidden_weights", "hidden_bias", "output_weights", "output_bias")


@dataclass(frozen=True, eq=False)
class ScoreNetwork(ArrayValue):
    """Scores of a run's inner steps for a budget: a perceptron with one hidden layer.

    Its inputs are bumps on the axis of the logarithm of the budget, evenly spaced from the smallest
    to the largest one. The arrays are copied and made read-only. Networks compare by identity.

    Args:
        smallest: Smallest budget that it was trained for, 2 or more.
        largest: Largest one, above the smallest and below T.
        hidden_weights: Of shape (F, H), from the F bumps to the H hidden units.
        hidden_bias: Of shape (H,).
        output_weights: Of shape (H, T-2), from the hidden units to the inner steps.
        output_bias: Of shape (T-2,).

    Raises:
        ScoresError: Any of this does not hold, or a number is not finite.
    """

    smallest: int
    largest: int
    hidden_weights: NDArray[np.float64]
    hidden_bias: NDArray[np.float64]
    output_weights: NDArray[np.float64]
    output_bias: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            remedy = "Pass the arrays of one network"
            array = as_array(name, getattr(self, name), ScoresError, remedy)
            if not np.isfinite(array).all():
                raise ScoresError(name, array.shape, "not finite everywhere", "Train it anew")
            self._keep({name: array})
        self._check_shapes()
        self._check_budgets()

    def _check_budgets(self) -> None:
        remedy = f"Use 2 <= smallest < largest < {self.num_inference_steps}"
        for name in ("smallest", "largest"):
            value = as_int(name, getattr(self, name), ScoresError, remedy)
            object.__setattr__(self, name, value)
        if self.smallest < 2:
            raise ScoresError("smallest", self.smallest, "below 2", remedy)
        if self.largest <= self.smallest:
            problem = f"not above the smallest budget {self.smallest}"
            raise ScoresError("largest", self.largest, problem, remedy)
        if self.largest >= self.num_inference_steps:
            problem = f"not below the {self.num_inference_steps} steps of the run"
            raise ScoresError("largest", self.largest, problem, remedy)

    def _check_shapes(self) -> None:
        shape, remedy = self.hidden_weights.shape, "Pass the arrays of one network"
        if len(shape) != 2 or shape[0] < 2 or shape[1] < 1:
            problem = "not of shape (F, H) with two inputs or more"
            raise ScoresError("hidden_weights", shape, problem, remedy)
        if self.hidden_bias.shape != shape[1:]:
            problem = f"not of shape {shape[1:]}"
            raise ScoresError("hidden_bias", self.hidden_bias.shape, problem, remedy)
        if self.output_bias.ndim != 1 or not self.output_bias.size:
            problem = "not one number per inner step"
            raise ScoresError("output_bias", self.output_bias.shape, problem, remedy)
        expected = (shape[1], self.output_bias.size)
        if self.output_weights.shape != expected:
            problem = f"not of shape {expected}"
            raise ScoresError("output_weights", self.output_weights.shape, problem, remedy)

    @property
    def num_inference_steps(self) -> int:
        """Steps of the runs that are scored, T."""
        return len(self.output_bias) + 2

    def inputs(self, budget: int) -> NDArray[np.float64]:
        """Return how near a budget is to each bump's centre: (F,), 1 at the centre itself."""
        position = np.log(budget / self.smallest) / np.log(self.largest / self.smallest)
        last = len(self.hidden_weights) - 1
        distances = position * last - np.arange(last + 1)
        bumps: NDArray[np.float64] = np.exp(-0.5 * distances**2)
        return bumps

    def hidden(self, budget: int) -> NDArray[np.float64]:
        """Return the hidden units' values for a budget: (H,)."""
        units: NDArray[np.float64] = np.tanh(
            self.inputs(budget) @ self.hidden_weights + self.hidden_bias
        )
        return units

    def scores(self, budget: int) -> NDArray[np.float64]:
        """Return the scores of the inner steps 1 … T-2 for a budget: (T-2,)."""
        scores: NDArray[np.float64] = self.hidden(budget) @ self.output_weights + self.output_bias
        return scores


def highest(scores: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Return which items of each row have the highest scores; of equal ones, the first."""
    ranked = np.argsort(-scores, axis=-1, kind="stable")[..., :count]
    members = np.zeros(scores.shape, dtype=np.bool_)
    np.put_along_axis(members, ranked, True, axis=-1)
    return members


@dataclass(frozen=True, eq=False)
class ReCachePolicy(ArrayValue):
    """The steps that score highest for a budget.

    Schedules of neighbouring budgets need not be nested: each budget has scores of its own.

    Args:
        network: Scores the steps.
        look_backs: Of every segment that there can be, integers of shape (T, T): `[i, j]` for the
            one from step i to step j, 1 or more where j > i.

    Raises:
        ScoresError: They are not such integers, or of another number of steps than the network.
    """

    network: ScoreNetwork
    look_backs: NDArray[np.uint8]

    name: ClassVar[str] = "recache"

    def __post_init__(self) -> None:
        total = self.network.num_inference_steps
        look_backs = np.array(self.look_backs)
        remedy = "Pass one look-back of 1 or more for each two steps"
        if look_backs.shape != (total, total) or look_backs.dtype.kind not in "iu":
            given = f"{look_backs.dtype} of shape {look_backs.shape}"
            raise ScoresError("look_backs", given, f"not {total} by {total} integers", remedy)
        smallest = int(look_backs[np.triu_indices(total, 1)].min())
        if smallest < 1:
            raise ScoresError("look_backs", smallest, "one is below 1", remedy)
        self._keep({"look_backs": look_backs})

    @property
    def num_inference_steps(self) -> int:
        """Steps of the runs that the network was trained on."""
        return self.network.num_inference_steps

    @property
    def budgets(self) -> Budgets:
        """Those that the network was trained for."""
        network = self.network
        return Budgets(network.smallest, network.largest, network.num_inference_steps)

    def schedule(self, budget: int) -> Schedule:
        """Return the first, the last, and the `budget` - 2 steps that score highest.

        Raises:
            BudgetError: The network was not trained for the budget.
        """
        budget = self.budgets.require(budget, self.name)
        if budget == self.num_inference_steps:
            return Schedule.full(budget)
        return computing(highest(self.network.scores(budget), budget - 2), self.look_backs)


def computing(members: NDArray[np.bool_], look_backs: NDArray[np.uint8]) -> Schedule:
    """Return the schedule that computes the first, the last, and some of the inner steps.

    Args:
        members: Which of the inner steps 1 … T-2, of shape (T-2,).
        look_backs: Of every segment that there can be, as a policy has them.
    """
    last = len(members) + 1
    steps = [0, *(np.flatnonzero(members) + 1).tolist(), last]
    return Schedule(steps, last + 1, look_backs_of(steps, look_backs))
