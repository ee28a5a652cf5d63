"""A journal survives whatever ends the process, and is one comparison's alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from otcache_plugin.calibration.errors import OtherSettingsError, WorkspaceError
from otcache_plugin.comparing.journal import JOURNAL_FILE, Journal

SETTINGS = {"pairs": 4, "budgets": [8, 10]}


def test_what_is_written_is_there_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "new" / "work", SETTINGS) as journal:
        journal.write({"kind": "measured", "value": 0.1 + 0.2})
    with Journal(tmp_path / "new" / "work", SETTINGS) as journal:
        assert journal.records("measured") == [{"kind": "measured", "value": 0.1 + 0.2}]
        assert journal.records("round") == []


@pytest.mark.parametrize("cut", [b'{"kind": "meas', '{"kind": "é'.encode()[:-1]])
def test_a_line_that_was_being_written_is_left_out(cut: bytes, tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS) as journal:
        journal.write({"kind": "measured", "value": 1})
    with (tmp_path / JOURNAL_FILE).open("ab") as file:
        file.write(cut)
    with Journal(tmp_path, SETTINGS) as journal:
        journal.write({"kind": "measured", "value": 2})
    with Journal(tmp_path, SETTINGS) as journal:
        assert [record["value"] for record in journal.records("measured")] == [1, 2]


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS):
        pass
    path = tmp_path / JOURNAL_FILE
    path.write_text(f"?{path.read_text()}")
    with pytest.raises(WorkspaceError, match=r"is damaged .* to start anew"):
        Journal(tmp_path, SETTINGS)


def test_one_comparison_and_one_process(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS), pytest.raises(WorkspaceError, match="another process"):
        Journal(tmp_path, SETTINGS)
    with pytest.raises(OtherSettingsError, match=r"budgets=\[8\]: .* begun with \[8, 10\]"):
        Journal(tmp_path, {**SETTINGS, "budgets": [8]})
    with Journal(tmp_path, SETTINGS):
        """A refusal leaves the folder to others."""


def test_what_was_forgotten_no_longer_counts(tmp_path: Path) -> None:
    with Journal(tmp_path, SETTINGS) as journal:
        for kind, value in (("round", 1), ("measured", 2)):
            journal.write({"kind": kind, "value": value})
        journal.forget("round")
        journal.write({"kind": "round", "value": 3})
    with Journal(tmp_path, SETTINGS) as journal:
        assert [record["value"] for record in journal.records("round")] == [3]
        assert [record["value"] for record in journal.records("measured")] == [2]
