"""Calibrations that are killed, interrupted or run out of space, and started again."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
from forking import FORKING
from policy_content import content_of
from processes import (
    LEARNED,
    SETTINGS,
    STANDARD,
    Command,
    Preparation,
    at_measurements,
    count_files,
    random_deaths,
)
from waiting import CEILING

from otcache_plugin.calibration.measuring.units import Record, Reference, unit_key
from otcache_plugin.evaluation.batches import Batch

pytestmark = pytest.mark.usefixtures("fork_server")

KILLS = 5


def start(
    folder: Path,
    *arguments: str,
    settings: tuple[str, ...] = SETTINGS,
    prepare: tuple[Preparation, ...] = (),
) -> Command:
    """A calibration whose document goes to `policy`."""
    output = ("--output", str(folder / "policy"))
    work = ("calibrate", "exact-flow", *settings, *output, *arguments)
    return Command(folder, *work, prepare=prepare)


def units(folder: Path) -> Path:
    return folder / "policy.calibration" / "units"


def test_killed_at_random_moments_it_comes_to_the_same(uninterrupted: Path, tmp_path: Path) -> None:
    assert_the_same_after_kills(uninterrupted, SETTINGS, tmp_path)


@pytest.mark.slow
def test_a_race_killed_at_random_moments_comes_to_the_same(
    uninterrupted_standard: Path, tmp_path: Path
) -> None:
    assert_the_same_after_kills(uninterrupted_standard, STANDARD, tmp_path)


@pytest.mark.slow
def test_a_training_killed_at_random_moments_comes_to_the_same(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    command = start(whole, settings=LEARNED)
    assert command.wait() == 0, command.err
    assert_the_same_after_kills(whole / "policy", LEARNED, killed)


def assert_the_same_after_kills(
    uninterrupted: Path, settings: tuple[str, ...], tmp_path: Path
) -> None:
    whole = count_files(uninterrupted.with_name("policy.calibration") / "units")
    killed, survivors = 0, 0
    for death in random_deaths(1, KILLS, whole):
        ended = start(tmp_path, settings=settings, prepare=(death,)).wait()
        assert ended in (0, -signal.SIGALRM)
        killed += ended != 0
        assert count_files(units(tmp_path)) >= survivors
        survivors = count_files(units(tmp_path))
        assert not (tmp_path / "policy").exists() or ended == 0
    assert killed > 0
    last = start(tmp_path, settings=settings)
    assert last.wait() == 0, last.err
    assert content_of(tmp_path / "policy") == content_of(uninterrupted)
    assert count_files(units(tmp_path)) == whole
    assert not list(tmp_path.rglob("*.part"))


def die_at(name: str, call: int) -> None:
    """Have this process killed when it is about to make the call of a method of paths."""
    method, calls = getattr(Path, name), 0

    def dying(self: Path, *arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, *arguments)

    setattr(Path, name, dying)


def test_killed_while_the_document_is_written(uninterrupted: Path, tmp_path: Path) -> None:
    for name, call in (("write_bytes", 3), ("rename", 1)):
        dying = start(tmp_path, prepare=(partial(die_at, name, call),))
        assert dying.wait() == -signal.SIGKILL
        assert not (tmp_path / "policy").exists()
    assert start(tmp_path).wait() == 0
    assert content_of(tmp_path / "policy") == content_of(uninterrupted)
    # A document that is there already is moved away first, then the new one is moved there.
    dying = start(tmp_path, prepare=(partial(die_at, "rename", 2),))
    assert dying.wait() == -signal.SIGKILL
    assert start(tmp_path).wait() == 0
    assert content_of(tmp_path / "policy") == content_of(uninterrupted)


def test_ctrl_c_says_how_to_go_on(uninterrupted: Path, tmp_path: Path) -> None:
    interrupted = at_measurements(30, partial(signal.raise_signal, signal.SIGINT))
    command = start(tmp_path, "--quiet", prepare=(interrupted,))
    assert command.wait() == 130
    assert command.out == ""
    assert command.err == (
        "error: interrupted; what was finished is kept and nothing is half-written. Start the "
        "same command again to go on.\n"
    )
    assert not (tmp_path / "policy").exists()
    assert count_files(units(tmp_path)) >= 30
    again = start(tmp_path)
    assert again.wait() == 0, again.err
    assert content_of(tmp_path / "policy") == content_of(uninterrupted)


def small_files(largest: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))


def test_a_full_disk(uninterrupted: Path, tmp_path: Path) -> None:
    """No file can grow beyond so many bytes."""
    work = tmp_path / "policy.calibration"
    for largest, what, place in (
        (500, "manifest", work),
        (5_000, "trajectory", work / "scratch"),
        (30_000, "measurement", work),
        (60_000, "document", tmp_path / "policy"),
        (5_000, "journal", work / "policies" / "otcache-paper"),
    ):
        if what == "document":  # Recordings are larger than what the document consists of.
            assert start(tmp_path).wait() == 0
            shutil.rmtree(tmp_path / "policy")
        if what == "journal":
            (work / "policies" / "otcache-paper" / "trials.log").unlink()
        full = start(tmp_path, "--quiet", prepare=(partial(small_files, largest),))
        assert full.wait() == 1, full.err
        assert full.out == ""
        assert full.err.startswith("error: ")
        assert "Traceback" not in full.err
        assert "ree some space" in full.err
        assert "start the same command again" in full.err
        assert f"{place} cannot be" in full.err or f"cannot be kept in {place} (" in full.err
        assert not list(tmp_path.rglob("*.part"))
        assert not list(tmp_path.glob(".policy*"))
        assert not (tmp_path / "policy").exists()
    again = start(tmp_path)
    assert again.wait() == 0, again.err
    assert content_of(tmp_path / "policy") == content_of(uninterrupted)


def test_two_at_once(uninterrupted: Path, tmp_path: Path) -> None:
    go_on = FORKING.Event()
    first = start(tmp_path, prepare=(at_measurements(1, partial(go_on.wait, CEILING)),))
    first.wait_until(lambda: count_files(units(tmp_path)))
    second = start(tmp_path)
    assert second.wait() == 1
    assert f"error: another process calibrates in {tmp_path / 'policy'}.calibration" in second.err
    assert "Wait for it, stop it, or use another output" in second.err
    go_on.set()
    assert first.wait() == 0, first.err
    assert content_of(tmp_path / "policy") == content_of(uninterrupted)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seed", "3"], "settings.seed=3: the calibration in {} was begun with 0"),
        (
            ["--trials", "11"],
            "options.trials=11: the calibration in {}/policies/otcache-paper was begun",
        ),
        (
            ["--waypoints", "6"],
            "options.waypoints=[6]: the calibration in {}/policies/otcache-paper",
        ),
        (["--metric", "mse"], "settings.metric='mse': the calibration in {} was begun with 'psnr'"),
    ],
)
def test_other_settings(uninterrupted: Path, arguments: list[str], words: str) -> None:
    before = content_of(uninterrupted)
    folder = uninterrupted.parent
    refused = start(folder, *arguments)
    assert refused.wait() == 2
    assert f"error: {words.format(f'{uninterrupted}.calibration')}" in refused.err
    assert "Use that again to go on with it, another output to begin one beside" in refused.err
    assert content_of(uninterrupted) == before


@pytest.fixture(scope="module")
def measured(uninterrupted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all is measured, to be damaged and mended."""
    folder = tmp_path_factory.mktemp("measured")
    for name in ("policy", "policy.calibration"):
        shutil.copytree(uninterrupted.with_name(name), folder / name)
    return folder


def refused(folder: Path) -> str:
    """What a calibration says that fails."""
    command = start(folder, "--quiet")
    assert command.wait() == 1
    assert command.out == ""
    assert command.err.startswith("error: ")
    assert "Traceback" not in command.err
    return command.err


def test_damaged_measurements(uninterrupted: Path, measured: Path) -> None:
    """Deleting what is damaged, as the error says, is all there is to do."""
    first, second = Batch("calibration", 0, 2), Batch("calibration", 2, 4)
    last = Batch("held-out", 2, 3)
    damaged = {
        units(measured) / f"{unit_key(unit)}.safetensors"
        for unit in (Record(second), Reference(first), Reference(last))
    }
    damaged.add(next(units(measured).glob("evaluate-*")))
    for path in damaged:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    while damaged:
        said = refused(measured)
        (found,) = [path for path in damaged if f"error: {path} is damaged" in said]
        assert "Delete this file and start the same command again" in said
        found.unlink()
        damaged.remove(found)
    again = start(measured)
    assert again.wait() == 0, again.err
    assert content_of(measured / "policy") == content_of(uninterrupted)


def test_a_damaged_journal(uninterrupted: Path, measured: Path) -> None:
    journal = measured / "policy.calibration" / "policies" / "otcache-paper" / "trials.log"
    whole = journal.read_text().splitlines(keepends=True)
    trial = next(number for number, line in enumerate(whole) if "computed_steps" in line)
    for damage in (
        [*whole[:trial], "\0" * 80 + "\n", *whole[trial + 1 :]],  # what a file system may leave
        [*whole[:trial], *whole[trial + 1 :]],
        [*whole[:trial], "{}\n", *whole[trial + 1 :]],
        ["[]\n"],
    ):
        journal.write_text("".join(damage))
        said = refused(measured)
        assert f"error: {journal} is damaged" in said
        assert "Delete it and start the same command again" in said
        assert journal.read_text() == "".join(damage)
    journal.unlink()
    again = start(measured)
    assert again.wait() == 0, again.err
    assert content_of(measured / "policy") == content_of(uninterrupted)
    assert len(journal.read_text().splitlines()) == len(whole)


def test_a_journal_that_a_kill_cut_off(uninterrupted: Path, measured: Path) -> None:
    journal = measured / "policy.calibration" / "policies" / "otcache-paper" / "trials.log"
    whole = journal.read_text()
    journal.write_text(whole[:-20])
    again = start(measured)
    assert again.wait() == 0, again.err
    assert content_of(measured / "policy") == content_of(uninterrupted)
    assert len(journal.read_text().splitlines()) == len(whole.splitlines())


def test_a_damaged_manifest(uninterrupted: Path, measured: Path) -> None:
    manifest = measured / "policy.calibration" / "calibration.json"
    data = manifest.read_text()
    for damage in (data[:50], "[]"):
        manifest.write_text(damage)
        said = refused(measured)
        assert f"error: {manifest} is " in said
        assert f"Delete {manifest.parent} to start anew" in said
    manifest.write_text(data)
    assert content_of(measured / "policy") == content_of(uninterrupted)
