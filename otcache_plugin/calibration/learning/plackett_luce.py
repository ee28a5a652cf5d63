"""Sets drawn without replacement by Plackett and Luce's model: sampling, and their probability.

Items are drawn one after the other, each with a probability in proportion to the exponential of its
score among those that are left. That is the same as adding Gumbel noise to the scores and taking
the largest. What a schedule loses depends on the set that was drawn, not on the order, so it is the
set's probability that matters: the sum over all orders. It needs no sum. The set `S` is drawn when
the smallest perturbed score within is above the largest one outside, so with `w[i] = exp(score[i] -
logsumexp(scores outside))`

    P(S) = integral over z > 0 of exp(-z) prod_{i in S} (1 - exp(-w[i] z))

whose integrand in `log z` is analytic and decays at both ends: the trapezoidal rule is exact to
rounding. The gradient of its logarithm follows from the same values, and has less variance than
that of the order that happened to be drawn, of which it is the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from otcache_policies.recache import highest

SPACING = 0.2
"""Of the nodes in log z: the rule's error is below exp(-2 pi / SPACING), under double rounding."""

_LOG_Z = np.arange(-38.0, 7.0, SPACING)
"""Below, exp(log z) is under rounding beside 1; above, exp(-z) is."""

LARGEST_LOG = 6.5
"""Of w z: beyond, 1 - exp(-w z) is 1, and its exponential soon is no number."""


@dataclass(frozen=True, eq=False)
class SetProbabilities:
    """How likely sets are.

    Attributes:
        logs: `(n,)` logarithms of the sets' probabilities.
        gradients: `(n, m)` of those by the items' scores. They sum to 0 over the items.
    """

    logs: NDArray[np.float64]
    gradients: NDArray[np.float64]


def draw(
    scores: NDArray[np.float64], size: int, count: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw sets of a size: which of the items are in, `(count, m)`."""
    perturbed = scores + rng.gumbel(size=(count, len(scores)))
    return highest(perturbed, size)


def probabilities(scores: NDArray[np.float64], members: NDArray[np.bool_]) -> SetProbabilities:
    """Return how likely sets of items are.

    Args:
        scores: `(m,)` finite scores.
        members: `(n, m)` which items are in each set, neither all nor none.
    """
    outside = np.where(members, -np.inf, scores)
    largest = outside.max(axis=1, keepdims=True)
    total = largest + np.log(np.exp(outside - largest).sum(axis=1, keepdims=True))
    # Of items inside, (n, m, 1): w z at every node is exp(log w + log z).
    log_w = np.where(members, scores - total, 0.0)
    wz = np.exp(np.minimum(log_w[:, :, None] + _LOG_Z, LARGEST_LOG))
    inside = members[:, :, None]
    logs = np.log(-np.expm1(-wz), where=inside, out=np.zeros_like(wz)).sum(axis=1)
    logs += _LOG_Z - np.exp(_LOG_Z)
    peak = logs.max(axis=1, keepdims=True)
    weights = np.exp(logs - peak)
    sums = weights.sum(axis=1)
    # d log(1 - exp(-w z)) / d log w = w z / (exp(w z) - 1), averaged over the integrand.
    slopes = np.divide(wz, np.expm1(wz), where=inside, out=np.zeros_like(wz))
    own = (slopes * weights[:, None, :]).sum(axis=2) / sums[:, None]
    shares = np.exp(outside - total)
    gradients = own - shares * own.sum(axis=1, keepdims=True)
    return SetProbabilities(np.log(SPACING) + peak[:, 0] + np.log(sums), gradients)
