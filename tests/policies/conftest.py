"""Fixtures of the policy tests: published schedules, random schedules and random edge tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from otcache_policies import EdgeTable, Schedule

DATA = Path(__file__).parents[1] / "data" / "meancache-published.json"

Published = dict[str, dict[int, Schedule]]


@pytest.fixture(scope="session")
def published() -> Published:
    """The published MeanCache schedules, by model and budget."""
    data = json.loads(DATA.read_text())
    return {
        model["model"]: {
            entry["budget"]: Schedule(
                entry["computed_steps"], data["num_inference_steps"], entry["look_backs"]
            )
            for entry in model["schedules"]
        }
        for model in data["models"]
    }


@pytest.fixture(scope="session")
def make_table() -> Callable[..., EdgeTable]:
    """Return a factory of edge tables with random errors and random, uneven sigmas."""

    def make(total: int, max_look_back: int = 3, seed: int = 0) -> EdgeTable:
        rng = np.random.default_rng(seed)
        errors = rng.uniform(0.1, 2.0, (total, total, max_look_back)).astype(np.float32)
        start, end = np.indices((total, total))
        errors[end <= start] = np.inf
        errors[end == start + 1] = 0
        return EdgeTable(errors, np.append(np.sort(rng.uniform(0.1, 1, total))[::-1], 0.0))

    return make


@pytest.fixture(scope="session")
def random_schedule() -> Callable[[np.random.Generator, int, int], Schedule]:
    """Return a function that draws a schedule of a given budget and number of steps."""

    def draw(rng: np.random.Generator, budget: int, total: int) -> Schedule:
        inner = rng.choice(np.arange(1, total - 1), budget - 2, replace=False) if budget > 2 else []
        return Schedule([0, *sorted(inner), total - 1], total, rng.integers(1, 7, budget - 1))

    return draw
