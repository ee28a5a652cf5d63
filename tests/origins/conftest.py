"""Fixtures of the tests of origins: those of all tests with accelerated pipelines."""

from __future__ import annotations

from pipeline_fixtures import enable, fresh_host, installed, one_thread, pytest_generate_tests

__all__ = ["enable", "fresh_host", "installed", "one_thread", "pytest_generate_tests"]
