"""How far long work is: lines in a log, bars on a terminal, and what they count."""

from __future__ import annotations

import io
import re
import sys
from threading import Event

import pytest
from fake_clock import FakeClock
from rich.console import Console

from otcache_plugin.cli.common.clock import SystemClock
from otcache_plugin.cli.common.displays import Bars, Lines, display_for
from otcache_plugin.cli.common.output import BEAT_SECONDS, StageProgress
from otcache_plugin.cli.common.pace import Pace
from otcache_plugin.plugins.costs import StageCost

PLAN = (
    StageCost("recording", 2, 100, 100),
    StageCost("searching", 10, 80, 80),
    StageCost("choosing", 3, 20, 20),
)


def test_lines_of_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    with StageProgress(quiet=False, clock=clock) as progress:
        assert [seconds for seconds, _ in clock.wanted] == [BEAT_SECONDS]
        clock.beat()  # Nothing has begun.
        progress.announce("loading the model")
        clock.move(75)
        clock.beat()
        progress.plan(PLAN)
        progress.start("recording", 2)
        for _ in range(2):
            clock.move(50)
            progress.advance(50)
        progress.start("searching", 10)
        clock.move(16)
        progress.ran(8)
        progress.advance()
        clock.beat()
        clock.move(16)
        progress.ran(8)
        progress.advance()
        progress.start("choosing", 3)
        for _ in range(3):
            clock.move(4)
            progress.advance(4)
    assert clock.wanted == []
    shown = capsys.readouterr()
    assert shown.out == ""
    # Planned are 200 steps. 100 of them take 100 s; then 8 of the 80 that are possible take 16 s,
    # so that 20 + 9/10 * 80 steps are left of (116 / 108) s each. The search ends after 16 steps.
    assert shown.err.splitlines() == [
        "loading the model [0:00:00 elapsed]",
        "loading the model [0:01:15 elapsed]",
        "recording: 0 of at most 2 [0 %, 0:01:15 elapsed]",
        "recording: 2 of 2, done [50 %, 0:02:55 elapsed, at most 0:01:40 left]",
        "searching: 0 of at most 10 [50 %, 0:02:55 elapsed, at most 0:01:40 left]",
        "searching: 1 of at most 10 [54 %, 0:03:11 elapsed, at most 0:01:39 left]",
        "searching: 2 of at most 10, done [85 %, 0:03:27 elapsed, at most 0:00:23 left]",
        "choosing: 0 of at most 3 [85 %, 0:03:27 elapsed, at most 0:00:23 left]",
        "choosing: 3 of 3, done [100 %, 0:03:39 elapsed]",
    ]


def test_what_was_there_before_takes_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    with StageProgress(quiet=False, clock=clock) as progress:
        progress.plan(PLAN)
        progress.start("recording", 2)
        for _ in range(2):
            clock.move(1)
            progress.advance(50, before=True)
        progress.start("searching", 10)
        for before in (True, True, False, False):
            clock.move(30)
            progress.ran(8, before)
            progress.advance()
        clock.beat()
        clock.move(30)
        progress.advance()  # asked for again: no steps are added
    # 100 + 32 steps are done and 6/10 * 80 + 20 left. Of those done 16 were run now, in 60 s.
    assert capsys.readouterr().err.splitlines()[1:] == [
        "recording: 2 of 2, done before [50 %, 0:00:02 elapsed]",
        "searching: 0 of at most 10 [50 %, 0:00:02 elapsed]",
        "searching: 4 of at most 10 [66 %, 0:02:02 elapsed, at most 0:04:15 left]",
        "searching: 5 of at most 10, done [86 %, 0:02:32 elapsed, at most 0:01:15 left]",
    ]


def test_a_process_runs_its_part_alone() -> None:
    clock = FakeClock()
    pace = Pace(clock.now)
    pace.plan([StageCost("recording", 8, 80, 80)], part=0.25)
    pace.begin("recording", 8)
    clock.move(10)
    pace.advance()
    pace.ran(10, before=False)
    # 70 steps are left, of which others run three quarters beside it.
    assert pace.standing.steps_left == 70
    assert pace.standing.seconds_left == 70 / 4


def test_stages_that_do_not_come_are_not_left() -> None:
    pace = Pace(FakeClock().now)
    pace.plan([*PLAN, StageCost("choosing", 1, 5, 5)], part=1.0)
    pace.begin("unplanned", 3)
    assert pace.standing.steps_left == 205
    pace.begin("choosing", 3)
    assert pace.standing.steps_left == 25
    pace.begin("recording", 2)  # again, after all: its steps are not planned twice
    assert pace.standing.steps_left == 0


def interrupt(kind: type[BaseException], clock: FakeClock, stages: StageProgress) -> None:
    """Raise within a search."""
    with stages as progress:
        progress.plan(PLAN)
        progress.start("searching", 10)
        clock.move(8)
        progress.advance(10)
        raise kind


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_stage_is_not_done(
    kind: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    clock = FakeClock()
    with pytest.raises(kind):
        interrupt(kind, clock, StageProgress(quiet=False, clock=clock))
    assert clock.wanted == []
    shown = capsys.readouterr().err
    assert shown.splitlines()[-1] == (
        "searching: 1 of at most 10, stopped [9 %, 0:00:08 elapsed, at most 0:01:14 left]"
    )
    assert "done" not in shown


def fail_to_load() -> None:
    with StageProgress(quiet=False, clock=FakeClock()) as progress:
        progress.announce("loading the model")
        raise RuntimeError


def test_what_is_only_announced_stops_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError):
        fail_to_load()
    assert capsys.readouterr().err == "loading the model [0:00:00 elapsed]\n"


def test_a_stage_without_anything_to_do_is_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress(quiet=False, clock=FakeClock()) as progress:
        progress.start("choosing", 0)
    assert capsys.readouterr().err == ""


class Bar:
    """Bars on a terminal of some width, drawn into a text."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, width: int = 80) -> None:
        self.file = io.StringIO()
        self.clock = FakeClock()
        self.console = Console(
            file=self.file,
            force_terminal=True,
            width=width,
            color_system=None,
            legacy_windows=False,
        )
        monkeypatch.setattr(
            "otcache_plugin.cli.common.output.display_for",
            lambda quiet, now: Bars(self.console, now),
        )
        self.progress = StageProgress(quiet=False, clock=self.clock)

    def lines(self) -> list[str]:
        """What stands on the terminal."""
        lines, row = [""], 0
        for token in re.findall(
            r"\x1b\[[^a-zA-Z]*[a-zA-Z]|\n|\r|[^\x1b\n\r]+", self.file.getvalue()
        ):
            if token == "\n":
                row += 1
                lines += [""] * (row == len(lines))
            elif token == "\x1b[1A":
                row -= 1
            elif token == "\x1b[2K":
                lines[row] = ""
            elif token not in ("\r", "\x1b[?25l", "\x1b[?25h"):
                lines[row] += token
        return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.parametrize("width", [80, 120])
def test_bars_of_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    bar = Bar(monkeypatch, width)
    with bar.progress as progress:
        progress.announce("loading the model")
        bar.clock.move(5)
        progress.plan(PLAN)
        progress.start("recording", 2)
        bar.clock.move(100)
        for _ in range(2):
            progress.advance(50)
        progress.start("searching", 10)
        progress.advance(8)
    *ended, altogether = bar.lines()
    assert ended == [
        "loading the model, done, 0:00:05",
        "recording: 2 of 2, done, 0:01:40",
        "searching: 1 of at most 10, done, 0:00:00",
    ]
    # 108 of the 200 planned steps, and what the search did not need is not to come.
    assert re.fullmatch(r"altogether +[━╸]+ +84 % 0:01:45 at most 0:00:19 left", altogether)


def test_bars_stay_where_they_were_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = Bar(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        interrupt(KeyboardInterrupt, bar.clock, bar.progress)
    altogether, stage = bar.lines()
    assert re.fullmatch(r"altogether +[━╸]+ +9 % 0:00:08 at most 0:01:14 left", altogether)
    assert re.fullmatch(r"searching +[━╸]+ +1/10 0:00:08", stage)


def test_a_log_has_lines_whatever_is_said_of_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not sys.stderr.isatty()
    assert isinstance(display_for(False, FakeClock().now), Lines)


def test_the_systems_clock_calls_until_it_is_stopped() -> None:
    called = Event()
    stop = SystemClock().every(0.001, called.set)
    called.wait()
    stop()
    called.clear()
    assert not called.wait(0.02)
