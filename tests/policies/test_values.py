"""The package's values: nothing changes them, and those that hold arrays compare by identity."""

from __future__ import annotations

import pkgutil
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

import otcache_policies
import pytest

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
