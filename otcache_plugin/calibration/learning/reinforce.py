"""REINFORCE: a network's scores are moved towards the schedules that lose less than others drawn.

Per budget a few schedules are drawn from the network's scores, and run. Each is compared with the
mean of the others that were drawn beside it, so what all of them lose in common, for the pairs that
they ran on or for the budget, cancels. The entropy of what is drawn is rewarded a little, which
keeps a network from settling on the first schedule that does well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from otcache_policies import ScoreNetwork

from otcache_plugin.calibration.learning.plackett_luce import draw, probabilities

SMALLEST_SPREAD = 1e-9
"""Of losses that are no different from each other."""

KEPT = 0.8
"""Of what the spread of a budget's losses was before."""

BETAS = (0.9, 0.99)
LAST_RATE = 0.05
"""Share of the learning rate that is left at the end."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Schedules of a budget, drawn from a network's scores.

    Attributes:
        budget: of each of them.
        members: `(n, T-2)` which inner steps each computes.
    """

    budget: int
    members: NDArray[np.bool_]


Lose = Callable[[Sequence[Drawn]], Sequence[NDArray[np.float64]]]
"""What is lost: an `(n,)` array for each of several draws, smaller is better, all finite."""


@dataclass(frozen=True)
class Training:
    """How long a network is trained, and how boldly.

    Attributes:
        iterations: each a step of the optimiser.
        budgets: that are drawn for in each of them.
        schedules: drawn of each budget, 2 or more.
        learning_rate: of Adam, falling to a twentieth.
        entropy: what one nat of it is worth, in standard deviations of the losses.
    """

    iterations: int
    budgets: int
    schedules: int
    learning_rate: float
    entropy: float


def gradient_estimate(
    scores: NDArray[np.float64],
    members: NDArray[np.bool_],
    losses: NDArray[np.float64],
    entropy: float,
) -> NDArray[np.float64]:
    """Estimate the gradient, by the scores, of the expected loss less what entropy is worth.

    The mean over all draws is that gradient exactly: each set's advantage is taken over the mean of
    the others, which were drawn independently of it.

    Args:
        scores: `(m,)` that sets were drawn from.
        members: `(n, m)` the sets, 2 or more.
        losses: `(n,)` of each.
        entropy: what one nat is worth.
    """
    likely = probabilities(scores, members)
    costs = losses + entropy * likely.logs
    count = len(costs)
    advantages = (costs - costs.mean()) * count / (count - 1)
    estimate: NDArray[np.float64] = advantages @ likely.gradients / count
    return estimate


@dataclass
class Spreads:
    """How far the losses of each budget's schedules lie apart, from iterations before.

    What is drawn now is not among it, or the estimate would lean towards sets that lie close.
    """

    found: dict[int, float] = field(default_factory=dict)

    def scaled(self, budget: int, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return losses in standard deviations of those before, the first time of their own."""
        own = max(float(losses.std()), SMALLEST_SPREAD)
        before = self.found.get(budget, own)
        self.found[budget] = KEPT * before + (1 - KEPT) * own
        return losses / before


def untrained(
    num_inference_steps: int, budgets: range, sizes: tuple[int, int], rng: np.random.Generator
) -> ScoreNetwork:
    """Return a network that scores all steps alike.

    Args:
        num_inference_steps: T.
        budgets: that it is to serve.
        sizes: inputs and hidden units.
        rng: of the hidden weights.
    """
    inputs, hidden = sizes
    inner = num_inference_steps - 2
    return ScoreNetwork(
        budgets[0],
        budgets[-1],
        rng.normal(size=(inputs, hidden)),
        np.zeros(hidden),
        np.zeros((hidden, inner)),
        np.zeros(inner),
    )


def train(
    network: ScoreNetwork,
    training: Training,
    lose: Lose,
    rng: np.random.Generator,
    on_iteration: Callable[[], None] = lambda: None,
) -> ScoreNetwork:
    """Return the network after some more training: the same one for the same losses.

    Args:
        network: to begin with.
        training: how long, and how boldly.
        lose: says what drawn schedules lose.
        rng: of what is drawn.
        on_iteration: is called after each.
    """
    trained = _Trained(network)
    optimiser = torch.optim.Adam(trained.parameters, training.learning_rate, BETAS)
    spreads, budgets = Spreads(), _shuffled(network, rng)
    for iteration in range(training.iterations):
        share = max(1 - iteration / training.iterations, LAST_RATE)
        optimiser.param_groups[0]["lr"] = training.learning_rate * share
        scored = [trained.scores(next(budgets)) for _ in range(training.budgets)]
        drawn = [
            Drawn(each.budget, draw(each.values, each.budget - 2, training.schedules, rng))
            for each in scored
        ]
        optimiser.zero_grad()
        for each, sets, losses in zip(scored, drawn, lose(drawn), strict=True):
            scaled = spreads.scaled(each.budget, losses)
            estimate = gradient_estimate(each.values, sets.members, scaled, training.entropy)
            each.tensor.backward(torch.from_numpy(estimate / training.budgets))
        optimiser.step()
        on_iteration()
    return trained.network()


def most_draws(budgets: range, training: Training) -> dict[int, int]:
    """Return how often each budget is drawn for in a training, at most."""
    rounds, rest = divmod(training.iterations * training.budgets, len(budgets))
    return {budget: rounds + (budget > budgets[-1] - rest) for budget in budgets}


def softened(network: ScoreNetwork, share: float) -> ScoreNetwork:
    """Return the network with scores that lie closer together: the same order, more variety.

    A network that was trained to the end draws the same schedule again and again, from which
    nothing is learned.
    """
    return replace(
        network,
        output_weights=network.output_weights * share,
        output_bias=network.output_bias * share,
    )


def _shuffled(network: ScoreNetwork, rng: np.random.Generator) -> Iterator[int]:
    """Go through all budgets in a random order, and again in another one, without an end."""
    every = np.arange(network.smallest, network.largest + 1)
    while True:
        yield from rng.permutation(every).tolist()


@dataclass(frozen=True, eq=False)
class _Scored:
    """Scores for a budget, as a tensor that leads back to the network, and their values."""

    budget: int
    tensor: torch.Tensor

    @property
    def values(self) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.tensor.detach().numpy()
        return found


class _Trained:
    """A network whose arrays are torch's, so that gradients follow."""

    def __init__(self, network: ScoreNetwork) -> None:
        self._network = network
        arrays = (
            network.hidden_weights,
            network.hidden_bias,
            network.output_weights,
            network.output_bias,
        )
        self.parameters = [torch.tensor(each, requires_grad=True) for each in arrays]

    def scores(self, budget: int) -> _Scored:
        """Score the inner steps, as `ScoreNetwork.scores` does."""
        weights, bias, output_weights, output_bias = self.parameters
        inputs = torch.from_numpy(self._network.inputs(budget))
        return _Scored(budget, torch.tanh(inputs @ weights + bias) @ output_weights + output_bias)

    def network(self) -> ScoreNetwork:
        """Return the network as it is now."""
        arrays = [each.detach().numpy() for each in self.parameters]
        return ScoreNetwork(self._network.smallest, self._network.largest, *arrays)
