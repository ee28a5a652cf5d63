"""Public names are loaded when they are first used, and listed before."""

from __future__ import annotations

import subprocess
import sys

import otcache_policies
import pytest


def test_every_public_name_is_there() -> None:
    for name in otcache_policies.__all__:
        assert getattr(otcache_policies, name) is not None, name


def test_names_are_listed_before_anything_is_loaded() -> None:
    script = """
import sys, otcache_policies
listed = dir(otcache_policies)
assert listed == sorted(listed) and {*otcache_policies.__all__, "__name__"} <= set(listed)
assert "numpy" not in sys.modules and "Schedule" not in vars(otcache_policies)
schedule = otcache_policies.Schedule
assert vars(otcache_policies)["Schedule"] is schedule, "looked up anew every time"
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_another_name_is_none() -> None:
    with pytest.raises(AttributeError, match="'otcache_policies' has no attribute 'Shedule'"):
        _ = otcache_policies.Shedule
