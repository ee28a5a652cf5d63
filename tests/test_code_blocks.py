"""Every Python block of README and pages runs, in the order of its page, and prints what is shown.

Where a block names a model of the reader's, `org/model` or one that can't be had here, the embedded
pipeline stands in for it; where it names a policy of the reader's, the embedded model's document.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from diffusers import DiffusionPipeline
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from pages import SITE, shell_lines
from typer.testing import CliRunner

import otcache_plugin
from otcache_plugin.cli.main import app
from otcache_plugin.models.embedded import FluxScenesPipeline

BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n+^```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


def pages_with_blocks() -> list[Path]:
    return [path for path in SITE if BLOCK.search(path.read_text(encoding="utf-8"))]


class ReadersPipeline(FluxScenesPipeline):
    """The embedded pipeline as one of the reader's: on any device, and of frames as well."""

    def to(self, *args: Any, **kwargs: Any) -> ReadersPipeline:
        return self

    def __call__(self, prompt: str, **arguments: Any) -> Any:
        output = super().__call__("red circle left on black", **arguments)
        output.frames = [output.images]
        return output


# Documents and cache-dit go by the name.
ReadersPipeline.__name__ = FluxScenesPipeline.__name__


@pytest.fixture
def readers_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with the reader's policies, and a stand-in for what would be downloaded."""
    for name in ("my-policy", "blocks-policy", "flux-policy", "otcache-try/policy"):
        shutil.copytree(BUNDLED_FOLDER / "embedded", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    original = DiffusionPipeline.from_pretrained.__func__

    def from_pretrained(own: Any, name: str | Path, **arguments: Any) -> Any:
        if isinstance(name, Path):  # the embedded model itself
            return original(own, name, **arguments)
        pipe = otcache_plugin.load_embedded_pipeline()
        pipe.__class__ = ReadersPipeline
        return pipe

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", classmethod(from_pretrained))
    otcache_plugin.install()
    yield
    otcache_plugin.install()


@pytest.mark.parametrize("page", pages_with_blocks(), ids=lambda page: page.stem)
def test_blocks_run_and_print_what_is_shown(
    page: Path, readers_place: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType(f"otcache_page_{page.stem}")
    for name in (module.__name__, "otcache_early"):  # the module that docs/plugins.md writes
        monkeypatch.setitem(sys.modules, name, module)
    for number, block in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8"))):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block["code"], f"{page.name}, block {number}", "exec"), vars(module))
        if block["output"] is not None and "print(" in block["code"]:
            assert printed.getvalue() == block["output"], f"{page.name}, block {number}"


def command_lines() -> list[Any]:
    """The words after `otcache` of every such line of the shell blocks."""
    found = {}
    for path in SITE:
        for line in shell_lines(path.read_text(encoding="utf-8")):
            program, *words = line[: line.index(">")] if ">" in line else line
            if program == "otcache":
                found.setdefault(tuple(words), path.stem)
    return [
        pytest.param(words, id=f"{stem}: {' '.join(words)[:60]}") for words, stem in found.items()
    ]


@pytest.mark.parametrize("words", command_lines())
def test_command_lines_are_understood(words: tuple[str, ...], readers_place: None) -> None:
    command: Any = typer.main.get_command(app)
    name, *arguments = words
    command = command.commands[name]
    if hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context(name, arguments)  # raises where an option or a value is not known
    if words[0] in ("list", "show", "predict", "plugins"):  # quick, and changes nothing
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, result.output
