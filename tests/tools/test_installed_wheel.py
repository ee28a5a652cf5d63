"""What an empty environment is given of the one that makes it: PyTorch, and nothing of ours."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    import installed_wheel

    return installed_wheel


def test_what_torch_needs_is_found_through_what_it_needs(tool: ModuleType) -> None:
    found = tool.needed(["torch", "no-such-distribution"], frozenset({"jinja2"}))
    # mpmath is sympy's; only jinja2 needs MarkupSafe.
    assert {"torch", "sympy", "mpmath"} <= set(found)
    assert not {"jinja2", "markupsafe", "no-such-distribution"} & set(found)


def test_an_extra_is_followed_where_it_is_asked_for(tool: ModuleType) -> None:
    plain, with_extra = (
        set(tool.needed([name], frozenset())) for name in ("mkdocstrings", "mkdocstrings[python]")
    )
    assert with_extra - plain >= {"mkdocstrings-python"}


def test_torch_is_there_and_the_rest_is_not(tool: ModuleType, tmp_path: Path) -> None:
    python = tool.make_environment(tmp_path)
    code = (
        "import importlib.util as of\n"
        "print(*(name for name in ('torch', 'sympy', 'numpy', 'diffusers', 'otcache_plugin')"
        " if of.find_spec(name)))"
    )
    command = [python, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["torch", "sympy"]
