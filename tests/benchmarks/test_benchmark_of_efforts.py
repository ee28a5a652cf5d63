"""The parts of the benchmark of efforts that can be held against a computation by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.efforts import PROCEDURES, found_before, holm, main, rows_of

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def test_p_values_are_corrected_from_the_smallest_on() -> None:
    # 3 x 0.01, then 2 x 0.02, then 1 x 0.3; none may be below the one before.
    assert holm([0.3, 0.01, 0.02]) == pytest.approx([0.3, 0.03, 0.04])
    assert holm([0.5, 0.02, 0.021]) == pytest.approx([0.5, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_rows_are_paired_differences_with_corrected_p_values() -> None:
    rng = np.random.default_rng(0)
    own, other = rng.normal(40, 1, 20), rng.normal(39.5, 1, 20)
    values = {
        ("ours", 8): {"psnr": own},
        ("graph", 8): {"psnr": other},
        ("ours", 9): {"psnr": own},
        ("graph", 9): {"psnr": own},
    }
    first, same = rows_of(values, "ours", "graph", "psnr")
    assert first["difference"] == pytest.approx((own - other).mean())
    assert first["p"] == pytest.approx(stats.ttest_1samp(own - other, 0).pvalue)
    assert first["p_holm"] == pytest.approx(min(1.0, 2 * first["p"]))
    assert (same["difference"], same["p"], same["p_holm"]) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--budgets", "8,7,x", "--budgets: 7, x is none of 8,9,10,11,12,13,14,15,16,17,18,19,20"),
        ("--held-out", "1", "--held-out: 1 is below 2: no interval follows from one pair"),
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
