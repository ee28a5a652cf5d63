"""What the README and the pages say exists: hooks, code, commands, options, make targets, files."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import shutil
import sys
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import typer
from otcache_policies import Schedule
from otcache_policies.testing import DecidingPolicyConformance, PolicyConformance
from otcache_registry import read_policy
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from pages import PAGES, ROOT, blocks, page, shell_lines
from torchmetrics import multimodal

import otcache_plugin
from otcache_plugin import plugins
from otcache_plugin.cli.main import app
from otcache_plugin.evaluation.outputs import Outputs
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.plugins import hookspecs
from otcache_plugin.plugins.registries import (
    MetricRegistry,
    PolicyRegistry,
    UncalibratedDecidingPolicy,
)

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands
EXAMPLE_PLUGIN = "otcache_early"


def hook_signatures(source: str) -> dict[str, str]:
    """Signature and docstring of every hook defined in Python source."""
    return {
        node.name: f"({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}: "
        f"{ast.get_docstring(node)}"
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("otcache_")
        and node.returns is not None
    }


def defaults(command: str) -> dict[str, str]:
    """Long options of a command that have a default, as a page shows it."""
    return {
        parameter.opts[0]: str(parameter.default)
        for parameter in COMMANDS[command].params
        if parameter.opts[0].startswith("--")
        and not parameter.required
        and parameter.default is not None
        and parameter.default is not False
    }


def all_options(command: str) -> set[str]:
    return {name for parameter in COMMANDS[command].params for name in parameter.opts}


def python_blocks() -> list[Any]:
    return [
        pytest.param(block, id=f"{path.name}-{number}")
        for path in PAGES
        for number, block in enumerate(blocks(path.read_text(encoding="utf-8"), "python"))
    ]


def test_every_hook_is_documented_with_its_signature() -> None:
    assert hookspecs.__file__ is not None
    specified = hook_signatures(Path(hookspecs.__file__).read_text(encoding="utf-8"))
    documented = hook_signatures(blocks(page("docs/plugins.md"), "python")[0])
    assert specified
    assert documented == specified


def test_every_name_for_plugin_authors_is_documented() -> None:
    heading = "## What there is to import\n"
    rows = re.findall(r"^\|.*\|$", page("docs/plugins.md").partition(heading)[2], re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", "\n".join(rows))) == plugins.__all__
    for name in plugins.__all__:
        assert getattr(plugins, name) is not None


@pytest.mark.parametrize("block", python_blocks())
def test_python_block_compiles_and_imports_what_exists(block: str) -> None:
    tree = ast.parse(block)
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.module == EXAMPLE_PLUGIN:
            continue
        assert node.module is not None
        if node.module.startswith("otcache_"):
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module} has no {name.name}"


@pytest.mark.parametrize(
    "documented",
    [
        Schedule,
        read_policy,
        otcache_plugin.enable_cache,
        otcache_plugin.load_embedded_pipeline,
        otcache_plugin.summary,
    ],
    ids=lambda documented: documented.__name__,
)
def test_examples_in_docstrings(
    documented: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(BUNDLED_FOLDER / "embedded", tmp_path / "my-policy")
    monkeypatch.chdir(tmp_path)
    own = inspect.getmodule(documented)
    (example,) = doctest.DocTestFinder(recurse=False).find(
        documented, module=own, globs={documented.__name__: documented}
    )
    assert example.examples
    outcome = doctest.DocTestRunner().run(example)
    assert outcome.failed == 0


def test_first_example_of_the_readme_imports_the_plugin() -> None:
    assert "import otcache_plugin" in blocks(page("README.md"), "python")[0].splitlines()[1]


def test_documented_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", page("Makefile"), re.MULTILINE))
    assert {"demo", "test", "test-all", "check", "docs", "clean", "help"} <= targets
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        named = re.findall(r"`make ([a-z-]+)`", text)
        named += [words[1] for words in shell_lines(text) if words[0] == "make"]
        assert set(named) <= targets, path.name


def test_ci_runs_the_tests_by_the_command_of_the_readme() -> None:
    assert "`make test-all`" in page("README.md")
    assert "make test" in page(".ci/run").splitlines()
    (all_tests,) = re.findall(r"^test-all:.*\n\t(.*)", page("Makefile"), re.MULTILINE)
    assert all_tests == "@$(PYTEST)"


def test_documented_commands_and_their_options_exist() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for words in shell_lines(text):
            if Path(words[0]).name == "otcache":
                used = {word for word in words[2:] if word.startswith("--")}
                assert used <= all_options(words[1]), f"{path.name}: {' '.join(words)}"
        for name, rest in re.findall(r"`otcache ([a-z]+)([^`]*)`", text):
            used = set(re.findall(r"--[a-z-]+", rest))
            assert used <= all_options(name), f"{path.name}: otcache {name}{rest}"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_documented_with_its_options(command: str) -> None:
    sections = re.split(r"^## otcache ", page("docs/cli.md"), flags=re.MULTILINE)[1:]
    (section,) = (each for each in sections if each.splitlines()[0] == command)
    rows = re.findall(r"^\| `(--[a-z-]+)` \| *(.*?) *\|", section, re.MULTILINE)
    assert {name: default for name, default in rows if default} == defaults(command)
    assert {name for name, _ in rows} == {
        name for name in all_options(command) if name.startswith("--") and name != "--help"
    }


def test_documented_commands_are_all_there_are() -> None:
    documented = re.findall(r"^## otcache ([a-z]+)$", page("docs/cli.md"), re.MULTILINE)
    assert sorted(documented) == sorted(COMMANDS)


def table(heading: str) -> list[list[str]]:
    """The cells of the rows of a table of CONTRIBUTING.md."""
    section = page("CONTRIBUTING.md").partition(f"### {heading}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [line.strip("| ").split(" | ") for line in lines[2:]]


def test_the_table_of_the_rooms_is_what_is_held() -> None:
    rooms = [row[0].strip("`") for row in table("The rooms of `otcache_plugin`")]
    contracts = tomllib.loads(page("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in contracts if each.get("containers") == ["otcache_plugin"])
    floors = [set(layer.split(" : ")) for layer in reversed(contract["layers"])]
    assert len(rooms) == sum(map(len, floors))
    for floor in floors:
        assert set(rooms[: len(floor)]) == floor
        del rooms[: len(floor)]


def test_where_something_would_go_exists() -> None:
    places = [
        place for row in table("Where would it go?") for place in re.findall(r"`([^`]+)`", row[1])
    ]
    assert len(places) >= 10
    for place in places:
        assert (ROOT / place).exists(), place


@pytest.mark.parametrize("message", re.findall(r"^### `(.+)`$", page("docs/faq.md"), re.MULTILINE))
def test_errors_that_are_explained_are_given(message: str) -> None:
    packages = ("otcache_plugin", "policies", "registry")
    sources = [each for package in packages for each in (ROOT / package).rglob("*.py")]
    code = "\n".join(each.read_text(encoding="utf-8") for each in sources)
    for words in re.split(r" ?… ?", message):
        assert words.removeprefix(", ") in code, words


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_relative_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page(name)):
        assert (ROOT / target).exists(), target


@cache
def documented_policy() -> Any:
    """The policy that docs/plugins.md shows how to write."""
    (block,) = (
        each for each in blocks(page("docs/plugins.md"), "python") if "class EarlyPolicy" in each
    )
    module = ModuleType(EXAMPLE_PLUGIN)
    sys.modules[EXAMPLE_PLUGIN] = module  # dataclasses look their module up
    exec(compile(block, "docs/plugins.md", "exec"), vars(module))
    return module.EarlyPolicy


class TestDocumentedPolicy(PolicyConformance):
    """The example passes the suite that the page recommends."""

    def make_policy(self, num_inference_steps: int) -> Any:
        return documented_policy()(num_inference_steps)


def documented_metric(word: str) -> tuple[str, Any]:
    """The metric of the block of docs/plugins.md with that word, and the name it goes by."""
    (block,) = (each for each in blocks(page("docs/plugins.md"), "python") if word in each)
    module = ModuleType(f"otcache_{word}")
    exec(compile(block, "docs/plugins.md", "exec"), vars(module))
    registry = MetricRegistry("docs")
    vars(module)["otcache_register_metrics"](registry)
    (name,) = registry
    return name, registry.get(name).make()


def test_documented_metric() -> None:
    name, metric = documented_metric("worst_pixel")
    assert (metric.name, metric.space) == (name, "pictures")
    pictures = torch.zeros(2, 3, 8, 8)
    spotted = pictures.clone()
    spotted[1, 2, 5, 6] = 0.5
    assert metric.compare(spotted, pictures).tolist() == [0.0, 0.5]


def test_documented_metric_of_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    def brightness_times_words(picture: torch.Tensor, prompt: str) -> torch.Tensor:
        assert picture.dtype == torch.uint8
        return picture.float().mean() * len(prompt.split())

    # The real one is downloaded.
    monkeypatch.setattr(multimodal, "CLIPScore", lambda model: brightness_times_words)
    name, metric = documented_metric("ClipScore")
    assert (metric.name, metric.space) == (name, "pictures")
    pictures = torch.tensor([0.0, 1.0, 0.2])[:, None, None, None, None].expand(3, 1, 3, 8, 8)
    outputs = Outputs(torch.zeros(3, 4), pictures)
    pairs = [Pair("a dog", 0), Pair("a red dog", 1), Pair("dog", 2)]
    assert metric.values(outputs, outputs, pairs).tolist() == [0.0, 765.0, 51.0]


def test_documented_deciding_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (each for each in blocks(page("docs/plugins.md"), "python") if "MovedPolicy" in each)
    module = ModuleType("otcache_moved")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look it up
    exec(compile(block, "docs/plugins.md", "exec"), vars(module))
    registry = PolicyRegistry("docs")
    vars(module)["otcache_register_policies"](registry)
    entry = registry.get("moved")
    assert isinstance(entry, UncalibratedDecidingPolicy)

    class Suite(DecidingPolicyConformance):
        def make_policy(self) -> Any:
            return entry.make()

        def observations(self) -> list[torch.Tensor]:
            return [torch.full((2, 3), each) for each in (0.0, 0.1, 0.3, 0.4, 0.45, 0.6)]

    for name in dir(Suite):
        if name.startswith("test_"):
            getattr(Suite(), name)()
    # 0.1 and 0.3 from 0, of which 0.3 is computed; then 0.4 and 0.45 from there.
    decisions = [each.value for each in Suite()._decide(entry.make())]
    assert decisions == ["cache", "compute", "cache", "cache"]
