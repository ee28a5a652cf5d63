"""Fixtures of tests with pipelines, for all tests: none is left accelerated, nothing is patched."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

import otcache_plugin


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny tensors only lose by threads, and bit-identity should not hang on their number."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """`policy=` is in cache-dit before every test and after it, whatever the test does."""
    _install_where_it_is_loaded()
    yield
    _install_where_it_is_loaded()


def _install_where_it_is_loaded() -> None:
    if "cache_dit" in sys.modules:
        otcache_plugin.install()


@pytest.fixture
def enable() -> Iterator[Any]:
    """`cache_dit.enable_cache`, taken off again at the end: cache-dit itself patches classes."""
    import cache_dit

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
    from otcache_plugin.plugins import host

    host.plugin_host.cache_clear()
    yield
    host.plugin_host.cache_clear()
