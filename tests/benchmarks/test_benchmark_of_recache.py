"""The benchmark of ReCache keeps what was measured before."""

from __future__ import annotations

from pathlib import Path

from benchmarks.recache import joined
from benchmarks.rows import keep


def test_a_training_that_is_measured_later_joins_the_others(tmp_path: Path) -> None:
    path = tmp_path / "recache.json"
    keep(path, "flow", {"model": "flow", "trainings": {"runs": {"steps": 3}, "form": {"steps": 1}}})
    later = {"model": "flow", "trainings": {"form and runs": {"steps": 2}, "runs": {"steps": 4}}}
    found = joined(path, "flow", later)["trainings"]
    assert list(found) == ["form", "form and runs", "runs"]
    assert [each["steps"] for each in found.values()] == [1, 2, 4]
    assert joined(path, "another", later) == joined(None, "another", later) == later
