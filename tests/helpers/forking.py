"""Processes of tests: forked from one server, and no copies of this process with its threads."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

import pytest

FORKING: ForkServerContext = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["forked"])


@pytest.fixture(scope="session")
def fork_server() -> None:
    """Start the server, before any test changes the environment that all its processes get."""
    with pytest.MonkeyPatch.context() as patch:
        # Python 3.11's server imports before it is told where its parent finds modules.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
