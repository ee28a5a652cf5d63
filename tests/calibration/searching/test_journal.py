"""The journal of trials: what Optuna reads of it, and what becomes of it when it is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from otcache_plugin.calibration.errors import WorkspaceError
from otcache_plugin.calibration.searching.journal import TrialJournal

ROUND = "joint, round 1"


def trial(number: int) -> FrozenTrial:
    """A trial of two gaps on three pairs."""
    rng = np.random.default_rng(number)
    params = dict(zip(["gap000", "gap001"], rng.uniform(-1, 1, 2).tolist(), strict=True))
    losses = rng.normal(size=3).tolist()
    return create_trial(
        params=params,
        distributions=dict.fromkeys(params, FloatDistribution(-1.0, 1.0)),
        value=sum(losses) / 3,
        intermediate_values=dict(enumerate(losses)),
        user_attrs={"computed_steps": (0, number, 30)},
    )


def refused(number: int) -> FrozenTrial:
    """A trial of a climb that was not run on all pairs."""
    return create_trial(state=TrialState.PRUNED, user_attrs={"state": f"({number}, 1)"})


TRIALS = [*map(trial, range(4)), refused(4), refused(5)]


def keep(path: Path, trials: list[FrozenTrial] = TRIALS, name: str = ROUND) -> None:
    study = TrialJournal(path).study(name)
    for each in trials:
        study.keep(each)


def found(path: Path, name: str = ROUND) -> list[FrozenTrial]:
    """The trials as Optuna reads them, without anything of ours."""
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(study_name=name, storage=storage).trials


def content(trials: list[FrozenTrial]) -> list[tuple[object, ...]]:
    return [(each.state, each.params, each.values, each.intermediate_values) for each in trials]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "trials.log"


def test_optuna_reads_the_trials(journal: Path) -> None:
    keep(journal)
    read = found(journal)
    assert content(read) == content(TRIALS)
    assert [each.number for each in read] == [*range(6)]
    assert read[3].user_attrs == {"computed_steps": [0, 3, 30]}
    assert read[4].user_attrs == {"state": "(4, 1)"}
    assert read[0].distributions == TRIALS[0].distributions
    best = min(TRIALS[:4], key=lambda each: each.value or 0)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.load_study(study_name=ROUND, storage=storage)
    assert (study.best_value, study.best_params) == (best.value, best.params)


def test_nothing_is_logged(journal: Path, capfd: pytest.CaptureFixture[str]) -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    keep(journal)
    assert capfd.readouterr() == ("", "")


def test_studies_lie_side_by_side(journal: Path) -> None:
    keep(journal, TRIALS[:2], "pair 0, round 1")
    keep(journal, TRIALS[2:4], "pair 1, round 1")
    both = TrialJournal(journal)
    one, other = both.study("pair 0, round 1"), both.study("pair 1, round 1")
    for number in (0, 1):
        other.keep(TRIALS[2 + number])
        one.keep(TRIALS[number])
    one.keep(TRIALS[4])
    assert content(found(journal, "pair 0, round 1")) == content([*TRIALS[:2], TRIALS[4]])
    assert content(found(journal, "pair 1, round 1")) == content(TRIALS[2:4])


def test_what_is_there_is_not_written_again(journal: Path) -> None:
    keep(journal, TRIALS[:3])
    data = journal.read_bytes()
    keep(journal, TRIALS[:2])
    assert journal.read_bytes() == data
    keep(journal)
    assert journal.read_bytes().startswith(data)
    assert content(found(journal)) == content(TRIALS)


def edited(original: FrozenTrial, **changes: object) -> FrozenTrial:
    kept = ("state", "params", "distributions", "value", "intermediate_values", "user_attrs")
    fields = {name: getattr(original, name) for name in kept}
    return create_trial(**{**fields, **changes})


@pytest.mark.parametrize(
    ("number", "other"),
    [
        (1, trial(7)),
        (1, edited(trial(1), value=0.125)),
        (1, edited(trial(1), params={**trial(1).params, "gap001": 0.125})),
        (4, refused(7)),
        (4, trial(4)),
        (1, refused(1)),
    ],
    ids=["all", "value", "gap", "state", "run", "not run"],
)
def test_another_trial_in_its_place_is_refused(
    journal: Path, number: int, other: FrozenTrial
) -> None:
    keep(journal)
    data = journal.read_bytes()
    with pytest.raises(WorkspaceError) as caught:
        keep(journal, [*TRIALS[:number], other])
    assert str(caught.value).startswith(
        f"{journal} is damaged (trial {number} of 'joint, round 1' is not the one searched). "
        "Delete it and start the same command again"
    )
    assert journal.read_bytes() == data


def without_moments(path: Path) -> list[dict[str, object]]:
    """The journal's lines but for who wrote them when."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        for name in ("worker_id", "datetime_start", "datetime_complete"):
            line.pop(name, None)
    return lines


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A whole journal, and what is in it."""
    path = tmp_path_factory.mktemp("journal") / "trials.log"
    keep(path)
    return path, path.read_bytes()


@given(st.integers(0, 10**9))
@settings(max_examples=60)
def test_cut_off_anywhere_it_is_completed(written: tuple[Path, bytes], length: int) -> None:
    path, data = written
    path.write_bytes(data)
    whole = without_moments(path)
    cut = data[: length % len(data)]
    path.write_bytes(cut)
    TrialJournal(path)
    assert path.read_bytes() == cut[: cut.rfind(b"\n") + 1]  # Not a trial more is lost.
    keep(path)
    assert without_moments(path) == whole


def test_a_damaged_line_is_refused_with_the_way_out(journal: Path) -> None:
    keep(journal)
    lines = journal.read_bytes().splitlines(keepends=True)
    for damaged in (
        [*lines[:2], b'{"op_code": 4, "study_i\n', *lines[3:]],
        [*lines[:2], b"\x00\xff\n", *lines[3:]],
        [*lines[:2], b"\n", *lines[3:]],
        [*lines[:2], b"[1]\n", *lines[3:]],
        [*lines[:2], b"{}\n", *lines[3:]],
        [*lines[:1], *lines[2:]],  # That of the first trial.
        [*lines[:-1], b"garbage\n"],
    ):
        journal.write_bytes(b"".join(damaged))
        with pytest.raises(WorkspaceError) as caught:
            keep(journal)
        assert str(caught.value).startswith(f"{journal} is damaged (")
        assert "Delete it and start the same command again" in str(caught.value)
    journal.unlink()
    keep(journal)
    assert content(found(journal)) == content(TRIALS)


@given(position=st.integers(0, 10**9), bit=st.integers(0, 7))
@settings(max_examples=150)
def test_whatever_bit_is_flipped_it_is_refused_or_goes_on(
    written: tuple[Path, bytes], position: int, bit: int
) -> None:
    path, data = written
    damaged = bytearray(data)
    damaged[position % len(data)] ^= 1 << bit
    path.write_bytes(damaged)
    with suppress(WorkspaceError):  # Nothing else may come out of it.
        keep(path)


def test_a_lock_left_by_a_killed_process_is_in_nobodys_way(journal: Path) -> None:
    keep(journal, TRIALS[:1])
    lock = journal.with_name("trials.log.lock")
    lock.symlink_to(journal)
    TrialJournal(journal)
    assert not lock.is_symlink()  # Nor does anyone wait until Optuna takes it for abandoned.
    keep(journal)
    assert content(found(journal)) == content(TRIALS)
    assert [path.name for path in journal.parent.iterdir()] == ["trials.log"]


def until_full(write: Callable[[int], object]) -> int:
    """How many writes there was room for."""
    for number in range(10_000):
        try:
            write(number)
        except WorkspaceError as error:
            message = str(error)
            break
    assert "Free some space and start the same command again" in message
    return number


def test_a_full_disk_leaves_the_trials_that_were_there(small_disk: Path) -> None:
    journal = small_disk / "trials.log"
    opened = TrialJournal(journal)
    study = opened.study(ROUND)
    kept = until_full(lambda number: study.keep(trial(number)))
    assert kept > 10
    opened = TrialJournal(journal)
    until_full(lambda number: opened.study(f"joint, round {number}"))
    again = TrialJournal(journal).study(ROUND)
    for number in range(kept):
        again.keep(trial(number))
    assert content(found(journal)) == content([trial(number) for number in range(kept)])


def test_a_folder_in_the_place_of_the_journal(journal: Path) -> None:
    journal.mkdir()
    with pytest.raises(WorkspaceError, match="cannot be used"):
        TrialJournal(journal)
