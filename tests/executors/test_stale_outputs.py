"""What answers a call that is for more or fewer samples than the last computed one was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput

from otcache_plugin.executors.stale_outputs import StaleOutputs, samples_of

TWO = torch.tensor([[1.0], [2.0]])


def answered(output: Any, known: int | None, wanted: int | None) -> Any:
    stale = StaleOutputs()
    stale.keep(0, known, output)
    return stale.answer(0, wanted)


def test_samples_are_those_of_the_first_batch() -> None:
    timestep, batch = torch.tensor(3.0), torch.zeros(4, 2)
    assert samples_of((timestep,), {"hidden_states": batch, "other": TWO}) == 4
    assert samples_of(([batch, batch, batch],), {}) == 3
    assert samples_of((timestep, "text"), {"return_dict": False}) is None


@pytest.mark.parametrize(("wanted", "expected"), [(1, [1.0]), (4, [1.0, 2.0, 1.0, 2.0])])
def test_samples_are_given_in_turn_in_every_form(wanted: int, expected: list[float]) -> None:
    turns = torch.tensor(expected)[:, None]
    assert torch.equal(answered(TWO, 2, wanted), turns)
    (first, scale) = answered((TWO, torch.tensor(5.0)), 2, wanted)
    assert torch.equal(first, turns)
    assert scale == 5.0
    found = answered(Transformer2DModelOutput(sample=TWO), 2, wanted)
    assert isinstance(found, Transformer2DModelOutput)
    assert torch.equal(found.sample, turns)
    # A list of as many as there are samples has one of each; any other is of something else.
    assert answered(["a", "b"], 2, wanted) == [["a"], ["a", "b", "a", "b"]][wanted == 4]
    (only,) = answered([TWO], 2, wanted)
    assert torch.equal(only, turns)
    assert answered("text", 2, wanted) == "text"


@pytest.mark.parametrize(("known", "wanted"), [(2, 2), (None, 3), (2, None)])
def test_the_very_output_is_given_where_nothing_says_otherwise(
    known: int | None, wanted: int | None
) -> None:
    assert answered(TWO, known, wanted) is TWO


def test_calls_of_a_step_are_answered_in_order_and_those_beyond_as_the_last() -> None:
    stale = StaleOutputs()
    for call, output in enumerate(["before", "and", "after"]):
        stale.keep(call, None, output)
    assert [stale.answer(call, None) for call in range(4)] == ["before", "and", "after", "after"]
    stale.keep(0, 1, "next")
    assert stale.samples == (1,)
    assert stale.answer(2, None) == "next"
