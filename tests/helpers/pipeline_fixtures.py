"""Fixtures of tests with pipelines: published schedules, and none that is left accelerated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cache_dit
import pytest
import torch
from published_schedules import published_schedules

import otcache_plugin
from otcache_plugin.plugins import host as host_module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that asks for `published` once per published schedule."""
    if "published" in metafunc.fixturenames:
        metafunc.parametrize("published", published_schedules(), ids=str)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny tensors only lose by threads, and bit-identity should not hang on their number."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """`policy=` is in cache-dit before every test and after it, whatever the test does."""
    otcache_plugin.install()
    yield
    otcache_plugin.install()


@pytest.fixture
def enable() -> Iterator[Any]:
    """`cache_dit.enable_cache`, taken off again at the end: cache-dit itself patches classes."""
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
    host_module.plugin_host.cache_clear()
    yield
    host_module.plugin_host.cache_clear()
