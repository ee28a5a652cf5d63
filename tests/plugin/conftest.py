"""Fixtures of the plugin tests: published schedules, pipelines that are never left accelerated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cache_dit
import pytest
import torch
from otcache_policies import Schedule

import otcache_plugin
from otcache_plugin import manager

DATA = Path(__file__).parents[1] / "data" / "meancache-published.json"


@dataclass(frozen=True)
class PublishedSchedule:
    """A schedule of the MeanCache authors, as the plain lists they published."""

    model: str
    steps: tuple[int, ...]
    look_backs: tuple[int, ...]
    num_inference_steps: int = 50

    def __str__(self) -> str:
        return f"{self.model.rpartition('/')[2]}-{len(self.steps)}"

    @property
    def schedule(self) -> Schedule:
        """The same as ``policy=`` takes it."""
        return Schedule(self.steps, self.num_inference_steps, self.look_backs)


def published_schedules() -> list[PublishedSchedule]:
    """All eleven, T = 50."""
    data = json.loads(DATA.read_text())
    return [
        PublishedSchedule(
            model["model"],
            tuple(entry["computed_steps"]),
            tuple(entry["look_backs"]),
            data["num_inference_steps"],
        )
        for model in data["models"]
        for entry in model["schedules"]
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs every test that asks for ``published`` once per published schedule."""
    if "published" in metafunc.fixturenames:
        metafunc.parametrize("published", published_schedules(), ids=str)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny tensors only lose by threads, and bit-identity should not hang on their number."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """``policy=`` is in cache-dit before every test and after it, whatever the test does."""
    otcache_plugin.install()
    yield
    otcache_plugin.install()


@pytest.fixture
def enable() -> Iterator[Any]:
    """``cache_dit.enable_cache``, taken off again at the end: cache-dit itself patches classes."""
    pipes: list[Any] = []

    def enable_cache(pipe: Any, *args: Any, **kwargs: Any) -> Any:
        pipes.append(pipe)
        return cache_dit.enable_cache(pipe, *args, **kwargs)

    yield enable_cache
    for pipe in pipes:
        cache_dit.disable_cache(pipe)


@pytest.fixture
def fresh_host() -> Iterator[None]:
    """Plugins are loaded anew in the test, and again after it."""
    manager.plugin_host.cache_clear()
    yield
    manager.plugin_host.cache_clear()
