"""The benchmark of efforts: what it refuses, and what it takes from earlier results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.efforts import PROCEDURES, found_before, main

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--budgets", "8,7,x", "--budgets: 7, x is none of 8,9,10,11,12,13,14,15,16,17,18,19,20"),
        ("--held-out", "1", "--held-out: 1 is below 2: no interval follows from one pair"),
        ("--known", "none.json", "--known: there is no file none.json; leave it out"),
        ("--procedures", "quick,slow", "--procedures: slow is none of quick, standard, thorough"),
    ],
)
def test_what_it_cannot_do_is_said_before_anything_runs(
    option: str,
    value: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["efforts", "flow-1", "--work", str(tmp_path), option, value]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit):
        main()
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_what_was_found_before_is_read_as_it_was_written() -> None:
    result = json.loads((RESULTS / "efforts.json").read_text(encoding="utf-8"))["testbed"]
    found = found_before(result)
    assert list(found) == list(PROCEDURES)
    for name, each in found.items():
        own = result["procedures"][name]
        assert (each.steps, each.pairs) == (own["steps"], own["pairs"])
        assert list(each.schedules) == list(PROCEDURES[name].budgets)
        for budget, schedule in each.schedules.items():
            written = own["schedules"][str(budget)]
            assert schedule.computed_steps == tuple(written["computed_steps"])
            assert schedule.look_backs == tuple(written["look_backs"])
    assert found["standard"].families.keys() == found["standard"].schedules.keys()
