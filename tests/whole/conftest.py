"""Fixtures of the tests of the whole: several packages, one story, with accelerated pipelines."""

from __future__ import annotations

from pipeline_fixtures import enable, fresh_host, installed, one_thread, pytest_generate_tests

__all__ = ["enable", "fresh_host", "installed", "one_thread", "pytest_generate_tests"]
