"""`otcache compare`: a table, a folder of everything there is to see, and going on with it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otcache_plugin.cli.compare import command_again
from otcache_plugin.comparing import measuring
from otcache_plugin.comparing.settings import ComparisonSettings
from otcache_plugin.models.source import ModelSource

FEW = ("--steps", "12", "--budgets", "4,6", "--pairs", "2", "--rounds", "1")
METHODS = ("--methods", "uniform,gram")


@pytest.fixture
def otcache_compare(main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that compares on the exact flow, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: main("compare", "exact-flow", *arguments)


def test_a_folder_of_everything(otcache_compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = otcache_compare(*FEW, *METHODS)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["full", "run", "all"],
        ["uniform", "4", "steps"],
        ["uniform", "6", "steps"],
    ]
    (left_out,) = (line for line in lines if line.startswith("not run: "))
    assert "gram: no gram policy" in left_out
    assert "otcache calibrate exact-flow --policy gram" in left_out
    assert lines[-1] == "page: otcache-compare/index.html"
    assert "timing, methods taking turns" in done.err
    folder = Path("otcache-compare")
    assert {path.name for path in folder.iterdir()} == {
        *("index.html", "results.md", "results.csv", "results.json"),
        *("quality-speed-up.svg", "quality-operations.svg", "sheets", "work"),
    }
    assert {path.name for path in (folder / "sheets").iterdir()} == {"1.png", "2.png"}
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["full", "uniform", "uniform"]

    # The same again runs nothing; a method may join, other settings are refused.
    monkeypatch.setattr(measuring, "generate_outputs", lambda *_: pytest.fail("ran again"))
    again = otcache_compare(*FEW, "--methods", "uniform", "--json", "--quiet")
    assert (again.code, again.err) == (0, "")
    figures = json.loads(again.out)
    assert [float(row["psnr"]) for row in rows[1:]] == [
        row["means"]["psnr"] for row in figures["rows"]
    ]
    refused = otcache_compare(*FEW, *METHODS, "--seed", "1", "--quiet")
    assert (refused.code, refused.out) == (2, "")
    assert "--seed=1: the comparison in otcache-compare/work was begun with 0" in refused.err
    assert "another output" in refused.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--methods", "best"), "--methods='best': no such method. Use full, otcache, meancache"),
        (("--budgets", "8,x"), "--budgets='8,x': not whole numbers"),
        (("--budgets", "60"), "--budgets=60: not a number of steps of the run. Use 2 … 50"),
        (("--pairs", "1"), "--pairs=1: "),
        (("--document", "./nowhere"), "--document='nowhere': no folder of this name"),
        (("--prompts", "mine.txt"), "--prompts='mine.txt': exact-flow ships with its weights"),
        (("--seed", "-1"), "--seed=-1: below 0"),
    ],
)
def test_refusals_come_before_work(
    otcache_compare: Any, options: tuple[str, ...], said: str
) -> None:
    refused = otcache_compare("--quiet", *options)
    assert (refused.code, refused.out) == (2, "")
    assert f"error: {said}" in refused.err
    assert list(Path().iterdir()) == []


def test_the_page_says_how_to_make_it_again() -> None:
    usual = ComparisonSettings()
    source = ModelSource("embedded")
    assert command_again(source, usual, Path("otcache-compare")) == "otcache compare embedded"
    settings = ComparisonSettings(
        methods=("uniform", "gram"), budgets=(4,), pairs=5, baseline="gram"
    )
    own = ModelSource("org/model", "abc", evaluation_prompts=Path("my prompts.txt"))
    assert command_again(own, settings, Path("here")) == (
        "otcache compare org/model --methods uniform,gram --budgets 4 --baseline gram --pairs 5 "
        "--prompts 'my prompts.txt' --revision abc --output here"
    )


def test_the_command_is_light() -> None:
    code = "import sys, otcache_plugin.cli.compare; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert [name for name in ("torch", "diffusers", "jinja2", "PIL") if name in loaded] == []
