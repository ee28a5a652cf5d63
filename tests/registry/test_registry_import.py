"""Importing and using the registry loads none of the heavy libraries."""

from __future__ import annotations

import subprocess
import sys

import otcache_registry
import pytest

HEAVY = ["torch", "diffusers", "transformers", "huggingface_hub", "cache_dit", "otcache_plugin"]


@pytest.mark.parametrize("use", ["", "otcache_registry.bundled_policies()"])
def test_import_is_light(use: str) -> None:
    code = f"import sys, otcache_registry\n{use}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "otcache_registry" in loaded
    assert [name for name in [*HEAVY, "scipy"] if name in loaded] == []


def test_public_names_exist_and_are_documented() -> None:
    for name in otcache_registry.__all__:
        value = getattr(otcache_registry, name)
        assert isinstance(value, str) or value.__doc__
    assert sorted(set(otcache_registry.__all__)) == sorted(otcache_registry.__all__)
