"""What `--help` says, and what a command that fails says: to people, and to programs."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from otcache_plugin.cli import main as command_line
from otcache_plugin.cli.common.examples import EXAMPLES
from otcache_plugin.cli.main import app

GROUP: Any = typer.main.get_command(app)
COMMANDS = {
    name: command for name, command in GROUP.commands.items() if not hasattr(command, "commands")
} | {f"store {name}": command for name, command in GROUP.commands["store"].commands.items()}


def test_every_command_has_examples() -> None:
    assert sorted(EXAMPLES) == sorted(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS)
def test_help_ends_with_lines_to_copy(words: str) -> None:
    helped = CliRunner().invoke(app, [*words.split(), "--help"], terminal_width=60).output
    *_, end = helped.split("Examples:\n")
    assert [line.strip() for line in end.splitlines()] == list(EXAMPLES[words])
    assert max(map(len, helped.splitlines())) <= 60
    for line in EXAMPLES[words]:
        program, *given = shlex.split(line)
        assert [program, *given[: len(words.split())]] == ["otcache", *words.split()]
        COMMANDS[words].make_context(words, given[len(words.split()) :])


def test_short_help_is_whole_in_a_narrow_terminal() -> None:
    for arguments in (["--help"], ["store", "--help"]):
        helped = CliRunner().invoke(app, arguments, terminal_width=60).output
        assert [line for line in helped.splitlines()[1:] if line.endswith("...")] == []


def ended(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[object, str, str]:
    monkeypatch.setattr(sys, "argv", ["otcache", *arguments])
    with pytest.raises(SystemExit) as end:
        command_line.main()
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (
            ["show", "nothing", "--json"],
            2,
            {"type": "DocumentNotFoundError", "field": "POLICY", "value": "nothing"},
        ),
        (
            ["show", "bundled:embedded", "--budget", "2", "--json"],
            2,
            {"type": "BudgetError", "value": 2},
        ),
        (["show", "--json"], 2, {"message": "Missing argument 'POLICY'."}),
        (["merge", "./nothing", "--json"], 1, {"type": "NoShardsError"}),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_errors_are_json_where_the_output_was_to_be(
    arguments: list[str],
    status: int,
    expected: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = ended(arguments, monkeypatch, capsys)
    assert (code, out) == (status, "")
    said = json.loads(err)["error"]
    assert {name: said.get(name) for name in expected} == expected
    assert said["message"]


def test_an_unknown_option_is_json_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ended(["list", "--json", "--nothing"], monkeypatch, capsys)
    assert (code, out) == (2, "")
    # Versions of click quote it differently.
    assert re.match("No such option:? '?--nothing", json.loads(err)["error"]["message"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["demo", "--pairs", "many"],
            "--pairs='many': not a whole number. Use digits alone, such as 10.",
        ),
        (
            ["calibrate", "embedded", "--output", "new", "--ray", "--wait", "soon"],
            "--wait='soon': not a number. Use such as 600 or 0.5.",
        ),
        (
            ["try", "embedded", "--prompt", "x", "--calibrate", "fast"],
            "--calibrate='fast': no such choice. Use quick, standard.",
        ),
        (
            ["import", "steps.json", "--model", "org/name", "--steps", "1"],
            "--steps=1: not the steps of a run. Use 2 … 10000.",
        ),
        (
            ["calibrate", "embedded", "--output", "pyproject.toml/new"],
            "--output='{cwd}/pyproject.toml/new': cannot be written (Not a directory). "
            "Give another folder.",
        ),
        (
            ["compare", "./nothing"],
            "MODEL='./nothing': no such folder, and a Hub id is of the form org/name. Pass "
            "embedded, exact-flow, a Hub id such as org/name, or a pipeline's folder.",
        ),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_a_refused_value_is_named_with_what_is_allowed(
    arguments: list[str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By typer or by the library, in words or as JSON."""
    monkeypatch.chdir(Path(__file__).parents[2])
    expected = expected.format(cwd=Path.cwd())
    code, out, err = ended(arguments, monkeypatch, capsys)
    assert (code, out, err) == (2, "", f"error: {expected}\n")
    code, out, err = ended([*arguments, "--json"], monkeypatch, capsys)
    said = json.loads(err)["error"]
    assert (code, out, said["message"]) == (2, "", expected)
    assert expected.startswith(f"{said['field']}={said['value']!r}: {said['problem']}. ")
    assert said["remedy"]


def test_a_baseline_that_is_not_compared_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", "embedded", "--methods", "uniform", "--baseline", "meancache"]
    code, out, err = ended([*arguments, "--quiet"], monkeypatch, capsys)
    problem = "not compared. Use one of these: full, uniform."
    assert (code, out, err) == (2, "", f"error: --baseline='meancache': {problem}\n")


def test_json_ends_well_where_nothing_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ended(["store", "list", "--json"], monkeypatch, capsys)
    assert (code, err) == (0, "")
    json.loads(out)
