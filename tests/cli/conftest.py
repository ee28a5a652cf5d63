"""Fixtures of the command line tests: the command as a process of its own, and within this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from otcache_plugin.models.setups import SETUPS, ModelSetup, load_setup


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture(scope="session")
def otcache() -> Run:
    """Return a function that runs the installed command, on one thread and as plain text."""
    command = Path(sys.executable).with_name("otcache")

    def run(*arguments: str, **environment: str) -> Outcome:
        plain = {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}
        inherited = {name: each for name, each in os.environ.items() if "OTCACHE" not in name}
        done = subprocess.run(
            [command, *arguments],
            env={**inherited, **plain, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def exact_flow() -> ModelSetup:
    """The exact flow, which no command alters."""
    return load_setup("exact-flow")


@pytest.fixture
def main(
    exact_flow: ModelSetup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Return a function that runs the same entry point here, where torch is loaded already."""
    from otcache_plugin.cli.main import main as entry_point

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(SETUPS, "exact-flow", lambda: exact_flow)

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["otcache", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            entry_point()
        code = ended.value.code
        assert isinstance(code, int)
        return Outcome(code, *capsys.readouterr())

    return run
