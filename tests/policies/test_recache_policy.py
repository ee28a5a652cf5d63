"""The policy of learned scores: its network by hand, and what follows from its scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from otcache_policies import BudgetError, Policy, ReCachePolicy, Schedule, ScoreNetwork, ScoresError
from otcache_policies.testing import PolicyConformance


def network_of(total: int, seed: int = 0, **changes: Any) -> ScoreNetwork:
    """Return a random network for the budgets from 3 to half of the steps."""
    rng = np.random.default_rng(seed)
    fields: dict[str, Any] = {
        "smallest": 3,
        "largest": total // 2,
        "hidden_weights": rng.normal(size=(5, 7)),
        "hidden_bias": rng.normal(size=7),
        "output_weights": rng.normal(size=(7, total - 2)),
        "output_bias": rng.normal(size=total - 2),
    }
    return ScoreNetwork(**{**fields, **changes})


def policy_of(total: int, seed: int = 0) -> ReCachePolicy:
    rng = np.random.default_rng(seed)
    look_backs = rng.integers(1, 7, (total, total)).astype(np.uint8)
    return ReCachePolicy(network_of(total, seed), look_backs)


class TestReCachePolicy(PolicyConformance):
    def make_policy(self, num_inference_steps: int) -> Policy:
        return policy_of(num_inference_steps)


def test_scores_are_those_of_a_perceptron_written_out() -> None:
    network = network_of(20)
    for budget in (3, 6, 10):
        position = (np.log(budget) - np.log(3)) / (np.log(10) - np.log(3))
        bumps = [np.exp(-0.5 * (4 * position - centre) ** 2) for centre in range(5)]
        hidden = [
            np.tanh(sum(bumps[f] * network.hidden_weights[f, h] for f in range(5)) + bias)
            for h, bias in enumerate(network.hidden_bias)
        ]
        for inner, score in enumerate(network.scores(budget)):
            expected = sum(hidden[h] * network.output_weights[h, inner] for h in range(7))
            assert score == pytest.approx(expected + network.output_bias[inner], rel=1e-12)


def test_its_arrays_are_copied_and_cannot_be_changed() -> None:
    given = np.zeros(18)
    network = network_of(20, output_bias=given)
    given[0] = 9.0
    assert network.output_bias[0] == 0.0
    policy = ReCachePolicy(network, np.ones((20, 20), np.uint8))
    arrays = network.hidden_weights, network.hidden_bias, network.output_weights
    for array in (*arrays, network.output_bias, policy.look_backs):
        assert not array.flags.writeable


def test_a_bump_is_highest_at_the_ends_that_it_was_made_for() -> None:
    network = network_of(20)
    assert network.inputs(3)[0] == network.inputs(10)[-1] == 1.0


def test_two_bumps_are_the_fewest() -> None:
    """Of one width they are as far apart as they are wide: e^-1/2 at the other's centre."""
    network = network_of(20, hidden_weights=np.ones((2, 7)))
    assert network.inputs(3) == pytest.approx([1.0, np.exp(-0.5)])
    assert network.inputs(10) == pytest.approx([np.exp(-0.5), 1.0])


def test_the_highest_scores_are_computed() -> None:
    """Of equal scores the earlier step's is taken."""
    flat = network_of(
        8,
        largest=6,
        output_weights=np.zeros((7, 6)),
        output_bias=np.array([0.5, 3.0, 0.5, -1.0, 2.0, 0.5]),
    )
    look_backs = np.arange(64, dtype=np.uint8).reshape(8, 8) + 1
    policy = ReCachePolicy(flat, look_backs)
    assert policy.schedule(4).computed_steps == (0, 2, 5, 7)
    assert policy.schedule(5).computed_steps == (0, 1, 2, 5, 7)
    # Segment (i, j) has the entry 8 i + j + 1; where nothing is cached it is 1.
    assert policy.schedule(5).look_backs == (1, 1, 22, 48)
    assert policy.schedule(8) == Schedule.full(8)


def test_only_what_it_was_trained_for_is_served() -> None:
    policy = policy_of(20)
    assert list(policy.budgets) == [*range(3, 11), 20]
    for budget in (2, 11):
        with pytest.raises(BudgetError):
            policy.schedule(budget)


def test_the_widest_range_goes_from_two_steps_to_all_but_one() -> None:
    network = network_of(20, smallest=2, largest=19)
    policy = ReCachePolicy(network, np.ones((20, 20), np.uint8))
    assert list(policy.budgets) == list(range(2, 21))
    assert policy.schedule(2).computed_steps == (0, 19)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hidden_weights": np.zeros((1, 7))}, "hidden_weights"),
        ({"hidden_bias": np.zeros(6)}, "hidden_bias"),
        ({"output_bias": np.zeros(0)}, "output_bias"),
        ({"output_bias": np.zeros((1, 18))}, "output_bias"),
        ({"output_weights": np.zeros((7, 17))}, "output_weights"),
        ({"output_bias": np.full(18, np.nan)}, "output_bias"),
        ({"smallest": 1}, "smallest"),
        ({"smallest": 3.0}, "smallest"),
        ({"largest": 3}, "largest"),
        ({"largest": 20}, "largest"),
        ({"largest": 4.5}, "largest"),
    ],
)
def test_what_is_no_network(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ScoresError) as caught:
        network_of(20, **changes)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("smallest", "largest", "refusal"),
    [
        (1, 10, "smallest=1: below 2"),
        (6, 6, "largest=6: not above the smallest budget 6"),
        (6, 20, "largest=20: not below the 20 steps of the run"),
    ],
)
def test_which_of_the_two_budgets_is_wrong(smallest: int, largest: int, refusal: str) -> None:
    with pytest.raises(ScoresError) as caught:
        network_of(20, smallest=smallest, largest=largest)
    assert str(caught.value) == f"{refusal}. Use 2 <= smallest < largest < 20."


def test_the_look_back_that_is_named_is_one_of_a_segment() -> None:
    """Where no segment can be, in the lower triangle, anything may stand."""
    look_backs = np.tril(np.full((20, 20), -7), -1) + np.triu(np.ones((20, 20), int), 1)
    assert ReCachePolicy(network_of(20), look_backs).schedule(20) == Schedule.full(20)
    look_backs[3, 9] = 0
    with pytest.raises(ScoresError, match="look_backs=0: one is below 1"):
        ReCachePolicy(network_of(20), look_backs)


@pytest.mark.parametrize(
    "look_backs",
    [
        np.ones((20, 19), np.uint8),
        np.ones((20, 20)),
        np.zeros((20, 20), np.uint8),
        # Between neighbours it has no effect, and has to be one all the same.
        np.triu(np.ones((20, 20), np.uint8), 2),
    ],
)
def test_what_are_no_look_backs(look_backs: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ScoresError) as caught:
        ReCachePolicy(network_of(20), look_backs)
    assert caught.value.field == "look_backs"
