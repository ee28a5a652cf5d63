"""`otcache demo` as users call it: figures on stdout, progress on stderr, errors before work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from otcache_plugin.cli.demo import command_again
from otcache_plugin.cli.main import main
from otcache_plugin.comparing import measuring
from otcache_plugin.models import setups
from otcache_plugin.models.setups import ModelSetup

Call = Callable[..., int]


@pytest.fixture
def otcache_demo(
    small_setup: ModelSetup,
    small_policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Call:
    """Call `otcache demo` on the small flow in an empty folder; return the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(setups.SETUPS, "exact-flow", lambda: small_setup)

    def call(*options: str) -> int:
        arguments = ["demo", "--model", "exact-flow", "--policy", str(small_policy), *options]
        monkeypatch.setattr(sys, "argv", ["otcache", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        return int(exit_.value.code or 0)

    return call


def test_table_and_report(
    otcache_demo: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert otcache_demo("--pairs", "2") == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert [line.split()[:2] for line in lines[2:11]] == [
        [method, str(budget)]
        for method in ("OTCache", "MeanCache", "uniform")
        for budget in (8, 10, 15)
    ]
    assert max(len(line.rstrip()) for line in lines[:11]) <= 80
    assert lines[-1] == "report: otcache-demo/report.html"
    assert "95 % confidence interval" in " ".join(shown.out.split())
    assert "running held-out pairs" in shown.err
    report = tmp_path / "otcache-demo" / "report.html"
    # Two pairs: four methods' pictures on the first screen, and ten variants' below.
    assert report.read_text(encoding="utf-8").count("<img ") == 2 * 4 + 2 * 10
    assert list(report.parent.iterdir()) == [report]


def test_json(otcache_demo: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert otcache_demo("--pairs", "2", "--json", "--quiet", "--output", "here.html") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    figures = json.loads(shown.out)
    assert {"model", "revision", "document", "pairs", "metrics", "timing"} <= set(figures)
    assert {"full", "rows", "not_run", "baseline", "to_baseline"} <= set(figures)
    assert figures["num_inference_steps"] == 20
    assert (tmp_path / figures["report"]).is_file()
    for row in figures["rows"]:
        assert len(row["computed_steps"]) == row["budget"] == len(row["look_backs"]) + 1
        assert row["pairs"] == 2
    for each in figures["to_baseline"]:
        found = each["differences"]["psnr"]
        assert found["low"] <= found["mean"] <= found["high"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pairs", "1"], "--pairs=1: "),
        (["--output", "."], "--output='.': cannot be written (a folder)"),
        (["--model", "nothing"], "--model='nothing': "),
        (["--policy", "nowhere"], "--policy='nowhere': no folder of this name"),
    ],
)
def test_refusals_come_before_work(
    otcache_demo: Call,
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(measuring, "generate_outputs", lambda *_: pytest.fail("work was begun"))
    assert otcache_demo("--quiet", *options) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"error: {said}" in shown.err
    assert list(tmp_path.iterdir()) == []


def test_the_report_says_how_to_make_it_again() -> None:
    assert command_again("exact-flow", "otcache", 32) == "otcache demo --model exact-flow"
    assert command_again("embedded", "my policy", 5) == (
        "otcache demo --policy 'my policy' --pairs 5"
    )


def test_an_interrupted_demo_leaves_nothing(
    otcache_demo: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "generate_outputs", interrupt)
    assert otcache_demo("--pairs", "2", "--quiet") == 130
    assert list(tmp_path.iterdir()) == []


def test_the_command_is_light() -> None:
    code = "import sys, otcache_plugin.cli.demo; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert [name for name in ("torch", "diffusers", "jinja2") if name in loaded] == []
