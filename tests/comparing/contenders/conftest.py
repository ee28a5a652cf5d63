"""Benches to try methods of others on: the embedded model and an exact flow, of few steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from otcache_plugin.comparing.methods import Bench
from otcache_plugin.models.exact_flow import ExactFlowSettings, load_exact_flow_pipeline
from otcache_plugin.models.setups import ModelSetup, load_setup
from otcache_plugin.origins.finding import find_origin

STEPS = 6


@pytest.fixture(scope="session")
def embedded() -> ModelSetup:
    """The embedded model, which calls its transformer twice a step: for guidance."""
    return load_setup("embedded")


@pytest.fixture
def bench_of(tmp_path: Path) -> Callable[..., Bench]:
    """Makes a bench of a set-up, with more call arguments."""
    folders = (tmp_path / str(number) for number in count())

    def make(setup: ModelSetup, *, steps: int = STEPS, **call_arguments: Any) -> Bench:
        of_calls = {**setup.call_arguments, **call_arguments}
        return Bench(replace(setup, call_arguments=of_calls), steps, (3,), next(folders))

    return make


@pytest.fixture
def bench(embedded: ModelSetup, bench_of: Callable[..., Bench]) -> Bench:
    """A bench of the embedded model."""
    return bench_of(embedded)


@pytest.fixture(scope="session")
def exact_flow() -> ModelSetup:
    """An exact flow of 200 scenes."""
    pipe = load_exact_flow_pipeline(ExactFlowSettings(scenes=200))
    prompts = tuple(sorted(set(pipe.transformer.captions)))
    return ModelSetup("exact-flow", pipe, {}, {}, prompts[::2], prompts[1::2], find_origin(pipe))
