"""Fixtures of the tests of models: accelerated pipelines."""

from __future__ import annotations

from pipeline_fixtures import enable, installed, one_thread

__all__ = ["enable", "installed", "one_thread"]
