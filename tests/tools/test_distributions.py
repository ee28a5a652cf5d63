"""What goes to PyPI: complete, typed, with links that hold there, and importable on any system."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "https://example.org/somebody/otcache-plugin"
PACKAGES = ("otcache_plugin", "policies/otcache_policies", "registry/otcache_registry")
POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
"""Modules of the standard library that Windows has not."""


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import distributions

    return distributions


def tracked() -> set[str]:
    """The files that are committed."""
    done = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("there is no repository here to build of")
    return set(done.stdout.splitlines())


def test_links(tool: ModuleType) -> None:
    text = "[a](docs/a.md#b) [c](https://c.org/d) [e](#f) ![g](g.png)"
    files = f"{ADDRESS}/blob/v1"
    assert tool.absolute_links(text, files) == (
        f"[a]({files}/docs/a.md#b) [c](https://c.org/d) [e](#f) ![g]({files}/g.png)"
    )


def test_no_module_needs_posix_to_be_imported() -> None:
    """What only such systems have is imported where it is used."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                names = [each.name for each in getattr(node, "names", ())]
                names.append(getattr(node, "module", None) or "")
                assert not POSIX_ONLY & set(names), path


@pytest.mark.slow
def test_what_is_built(tmp_path: Path) -> None:
    files = tracked()
    command = [sys.executable, ROOT / "tools" / "distributions.py", "--address", f"{ADDRESS}/"]
    done = subprocess.run(
        [*command, "--output", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (source,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")

    with tarfile.open(source) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert files <= names

    with zipfile.ZipFile(wheel) as built:
        inside = set(built.namelist())
        (metadata,) = (name for name in inside if name.endswith(".dist-info/METADATA"))
        message = message_from_bytes(built.read(metadata))
    # Every file of the packages is in it, as the marks that they are typed and the data.
    wanted = {
        name.removeprefix(f"{package.rpartition('/')[0]}/" if "/" in package else "")
        for package in PACKAGES
        for name in files
        if name.startswith(f"{package}/")
    }
    assert {each for each in inside if ".dist-info/" not in each} == wanted
    assert {f"{Path(package).name}/py.typed" for package in PACKAGES} <= inside
    urls = dict(each.split(", ", 1) for each in message.get_all("Project-URL", []) if "," in each)
    assert urls["Repository"] == ADDRESS
    assert urls["Security"] == f"{ADDRESS}/blob/v{message['Version']}/SECURITY.md"
    description = str(message.get_payload())
    assert re.findall(r"\]\((?!https?://|#)", description) == []
    assert f"]({ADDRESS}/blob/v{message['Version']}/docs/calibrating.md)" in description
