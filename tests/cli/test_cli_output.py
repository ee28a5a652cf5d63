"""Progress bars, on stderr and only when they are wanted."""

from __future__ import annotations

import pytest

from otcache_plugin.cli.common.output import StageProgress, print_error, print_json


def work(quiet: bool) -> None:
    with StageProgress(quiet) as progress:
        progress.start("searching", 10)
        for _ in range(4):  # patience: it ends early
            progress.advance()
        progress.start("choosing", 3)
        for _ in range(3):
            progress.advance()


def test_stages_are_shown_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    work(quiet=False)
    shown = capsys.readouterr()
    assert shown.out == ""
    searching, choosing = shown.err.splitlines()[1::2]
    assert searching.startswith("searching")
    assert "4 of at most 10, done" in searching
    assert choosing.startswith("choosing")
    assert "3 of 3, done" in choosing


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    work(quiet=True)
    assert capsys.readouterr() == ("", "")


def fail(*stages: str) -> None:
    with StageProgress(quiet=False) as progress:
        for stage in stages:
            progress.start(stage, 10)
        raise RuntimeError("inside")


def test_an_error_ends_the_bars_and_is_not_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="inside"):
        fail("searching")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("searching")


def test_an_error_before_any_stage_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert capsys.readouterr() == ("", "")


def test_advancing_before_any_stage_does_nothing() -> None:
    with StageProgress(quiet=True) as progress:
        progress.advance()


def test_errors_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    message = "value=['[bold]x[/bold]']: " + "a long line " * 30 + "the end."
    print_error(message)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"error: {message}\n"


def test_json_keeps_its_signs(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"range": "2 … 50"})
    assert capsys.readouterr().out == '{\n  "range": "2 … 50"\n}\n'
