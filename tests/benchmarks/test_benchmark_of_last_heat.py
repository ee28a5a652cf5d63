"""What the benchmark of the last heat refuses, and which flows it draws."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.last_heat import drawn, main
from benchmarks.models import FLOWS, SEED, draw_flows


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["flow-1", "flow-9"], "models: flow-9 is none of embedded, testbed, flow-1"),
        (["--draw", str(SEED)], f"--draw: {SEED} drew flow-1 … flow-8, which are not new"),
        (["flow-1", "--held-out", "1"], "--held-out: 1 is below 2"),
        ([], "name models, or --draw flows"),
    ],
)
def test_what_it_cannot_do_is_said_before_anything_runs(
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["last_heat", *words, "--work", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_flows_of_another_seed_are_others() -> None:
    assert list(drawn(7, 2)) == ["drawn-7-1", "drawn-7-2"]
    assert not set(draw_flows(8, 7)) & set(FLOWS.values())
