"""The lower ends of what the package requires: each is said in the documentation, and holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from otcache_plugin.patch import OLDEST_CACHE_DIT

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import lowest

    return lowest


def test_every_requirement_begins_somewhere(tool: ModuleType) -> None:
    pins = tool.pins()
    assert "torch" in pins  # as it is
    assert all("==" in pin for pin in pins if pin != "torch")
    assert f"cache-dit=={OLDEST_CACHE_DIT}" in pins
    assert len(pins) == len(set(pins)) > 20


@pytest.mark.parametrize("text", ["rich", "rich<14", "rich==13.7"])
def test_a_requirement_that_begins_nowhere(tool: ModuleType, text: str) -> None:
    with pytest.raises(ValueError, match=f"{text} has not one lower bound"):
        tool.lowest(Requirement(text))


def test_the_page_says_the_same(tool: ModuleType) -> None:
    begins = {
        each.name.lower().replace("-", "_"): tool.lowest(each) for each in tool.requirements()
    }
    page = (ROOT / "docs" / "stack.md").read_text(encoding="utf-8")
    table = page.partition("| library | from |")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| (\S+) \| (\S+) \| \S+ \|$", table, re.MULTILINE))
    names = {"PyTorch": "torch"}
    said = {names.get(name, name.lower().replace("-", "_")): row for name, row in rows.items()}
    assert said.pop("python") == "3.11"
    assert len(said) >= 9
    assert said == {name: begins[name] for name in said}


@pytest.mark.slow
def test_the_lowest_versions_together() -> None:
    """They can be installed, and the command works with them."""
    command = [sys.executable, ROOT / "tools" / "lowest.py", "tests/cli/test_cli_command.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "typer 0.20.0" in done.stdout
