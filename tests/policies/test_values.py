"""The package's values: nothing changes them, and those that hold arrays compare by identity."""

from __future__ import annotations

import copy
import pickle
import pkgutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

import numpy as np
import otcache_policies
import pytest
from otcache_policies import (
    Budgets,
    EdgeSettings,
    EdgeTable,
    GramSettings,
    GramTable,
    OTCachePolicy,
    OutcomeTable,
    ReCachePolicy,
    Schedule,
    ScoreNetwork,
    UniformPolicy,
)
from otcache_policies.array_values import ArrayValue

MODULES = [
    import_module(f"otcache_policies.{each.name}")
    for each in pkgutil.iter_modules(otcache_policies.__path__)
]
VALUES = [
    value
    for module in MODULES
    for value in vars(module).values()
    if isinstance(value, type) and is_dataclass(value) and value.__module__ == module.__name__
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_a_value_is_frozen_and_can_be_a_key(value: type[Any]) -> None:
    assert value.__dataclass_params__.frozen
    assert value.__hash__ is not None
    types = " ".join(str(each.type) for each in fields(value))
    holds_arrays = any(word in types for word in ("NDArray", "Floats", "Integers"))
    # Arrays that are equal entry by entry have no single answer.
    assert (value.__eq__ is object.__eq__) == holds_arrays, types


def network() -> ScoreNetwork:
    arrays = np.zeros((2, 3)), np.zeros(3), np.zeros((3, 4)), np.zeros(4)
    return ScoreNetwork(np.int64(2), np.int64(4), *arrays)


UPPER = np.triu(np.ones((6, 6)), 1)
"""Of six steps: 1 for every segment, 0 elsewhere."""

ERRORS = np.where(UPPER > 0, np.triu(np.ones((6, 6)), 2), np.inf)
"""Likewise their errors: 1 where a step is cached, none between neighbours."""

SIGMAS = np.linspace(1, 0, 7)

WITH_ARRAYS = [
    EdgeTable(ERRORS[:, :, None], SIGMAS, np.triu(np.ones((6, 6)), 2)[:, :, None]),
    OutcomeTable(ERRORS, np.ones((6, 6), int)),
    GramTable(np.ones((1, 6, 6)), SIGMAS, np.ones(6)),
    network(),
    ReCachePolicy(network(), np.ones((6, 6), int)),
]


def test_every_kind_of_value_with_arrays_of_its_own_is_tried() -> None:
    assert {type(value) for value in WITH_ARRAYS} == set(ArrayValue.__subclasses__())


@pytest.mark.parametrize(
    "again",
    [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))],
    ids=["copy", "pickle"],
)
@pytest.mark.parametrize("value", WITH_ARRAYS, ids=lambda value: type(value).__name__)
def test_copies_have_the_same_arrays_and_nobody_can_change_them(
    value: Any, again: Callable[[Any], Any]
) -> None:
    other, arrays = again(value), 0
    assert type(other) is type(value)
    for field in fields(value):
        if isinstance(getattr(value, field.name), np.ndarray):
            arrays += 1
            np.testing.assert_array_equal(getattr(other, field.name), getattr(value, field.name))
            for each in (value, other):
                with pytest.raises(ValueError, match="read-only"):
                    getattr(each, field.name)[0] = 0
    assert arrays


TWO, THREE, SIX = (np.int64(number) for number in (2, 3, 6))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Budgets(TWO, THREE, SIX), {"smallest": 2, "largest": 3, "num_inference_steps": 6}),
        (UniformPolicy(SIX, TWO), {"num_inference_steps": 6, "look_back": 2}),
        (EdgeSettings(gamma=np.float32(2), look_back=THREE), {"gamma": 2.0, "look_back": 3}),
        (GramSettings(np.float64(0.5), THREE), {"damping": 0.5, "max_look_back": 3}),
        (
            OTCachePolicy(Schedule([0, 5], 6), Schedule([0, 2, 5], 6), np.float64(1.5)),
            {"rho": 1.5},
        ),
        (network(), {"smallest": 2, "largest": 4}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numbers_of_numpy_become_plain_ones(value: Any, plain: dict[str, Any]) -> None:
    """JSON, which documents are written in, takes no others."""
    for name, number in plain.items():
        assert getattr(value, name) == number
        assert type(getattr(value, name)) is type(number), name
