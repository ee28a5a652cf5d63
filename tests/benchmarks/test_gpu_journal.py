"""The rows of a long run are on disk as they come, and what is made of them is by hand's."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from waiting import CEILING

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that keeps the rows."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.gpu import journal

    return journal


def test_every_row_is_on_disk_before_the_next_one(journal: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    kept = journal.Journal(path, {"date": "today"}, CEILING)

    def on_disk() -> list[str]:
        return [row["name"] for row in json.loads(path.read_text())["rows"]]

    assert on_disk() == []
    kept.attempt("first", {}, lambda: {"loop_seconds": 2.0})
    assert on_disk() == ["first"]
    kept.attempt("second", {}, lambda: {"seen": on_disk()})
    assert on_disk() == ["first", "second"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_row_is_told_and_not_the_end(journal: ModuleType, tmp_path: Path) -> None:
    kept = journal.Journal(tmp_path / "rows.json", {}, CEILING)

    def fail() -> dict[str, Any]:
        raise ValueError("out of luck")

    assert not kept.attempt("broken", {"model": "flux"}, fail)
    kept.guard("stage", fail)
    assert kept.attempt("sound", {}, lambda: {"loop_seconds": 1.0})
    error = kept.row("broken")["error"]
    assert (error["type"], error["message"]) == ("ValueError", "out of luck")
    assert any("in fail" in line for line in error["traceback"])
    assert kept.failures() == ["broken", "stage"]


def test_a_row_that_does_not_fit_is_left_out(journal: ModuleType, tmp_path: Path) -> None:
    kept = journal.Journal(tmp_path / "rows.json", {}, CEILING)
    assert not kept.attempt("long", {}, lambda: {}, estimate=2 * CEILING)
    assert f"{2 * CEILING:.0f} s" in kept.row("long")["skipped"]


def test_a_row_measured_again_keeps_both(journal: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    kept = journal.Journal(path, {}, CEILING)
    for seconds in (10.0, 12.0):
        values = {"loop_seconds": seconds, "steps": 50}
        kept.attempt("m/full", {"model": "m"}, lambda values=values: values)
    kept.attempt("m/b", {"model": "m"}, lambda: {"loop_seconds": 2.2, "steps": 50})
    assert kept.row("m/full")["loop_seconds"] == [10.0, 12.0]
    assert json.loads(path.read_text())["speedups"] == {"m/b": {"loop": 5.0}}


def test_a_full_run_of_fewer_steps_counts_by_its_steps(journal: ModuleType) -> None:
    rows = {
        "m/full": {"model": "m", "steps": 10, "loop_seconds": [20.0]},
        "m/b": {"model": "m", "steps": 50, "loop_seconds": [25.0]},
    }
    assert journal.speedups(rows) == {"m/b": {"loop": 4.0}}


def test_rows_of_an_earlier_run_stay_unless_they_are_measured_again(
    journal: ModuleType, tmp_path: Path
) -> None:
    facts = {"toy": True, "steps": 50, "hardware": {"gpu": "one"}, "versions": {"torch": "2"}}
    earlier = journal.Journal(tmp_path / "earlier.json", {**facts, "date": "then"}, CEILING)
    for name in ("again", "kept", "left out now"):
        earlier.attempt(name, {}, lambda: {"value": 1})
    now = journal.Journal(tmp_path / "now.json", {**facts, "date": "today"}, CEILING)
    now.keep_rows_of(tmp_path / "earlier.json")
    now.attempt("again", {}, lambda: {"value": 2})
    now.skip("left out now", {}, "no time")
    rows = {row["name"]: row for row in json.loads((tmp_path / "now.json").read_text())["rows"]}
    assert {name: (row["value"], row.get("of")) for name, row in rows.items()} == {
        "again": (2, None),
        "kept": (1, "then"),
        "left out now": (1, "then"),
    }


def test_rows_of_another_machine_are_refused(journal: ModuleType, tmp_path: Path) -> None:
    facts = {"toy": True, "steps": 50, "hardware": {"gpu": "one"}, "versions": {}, "date": "then"}
    journal.Journal(tmp_path / "earlier.json", facts, CEILING)
    now = journal.Journal(tmp_path / "now.json", {**facts, "hardware": {"gpu": "two"}}, CEILING)
    with pytest.raises(ValueError, match=r"hardware was .*one.* and is .*two"):
        now.keep_rows_of(tmp_path / "earlier.json")
