"""Calibrations whose pairs are shared out, in turns and side by side, and then merged."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from policy_content import content_of
from processes import SETTINGS, STANDARD, Command, at_measurements, count_files, die
from waiting import CEILING

pytestmark = pytest.mark.usefixtures("fork_server")

FEW_TRIALS = ("--trials", "4")
"""Trials need the other shard again and again, so that each few of them take a turn."""

MOST_TURNS = 40


def start(
    folder: Path, *arguments: str, settings: tuple[str, ...] = SETTINGS, **options: Any
) -> Command:
    """A calibration whose document goes to `policy`."""
    output = ("--output", str(folder / "policy"), "--quiet")
    return Command(folder, "calibrate", "exact-flow", *settings, *output, *arguments, **options)


def shard(folder: Path, part: str, *arguments: str, **options: Any) -> Command:
    return start(folder, "--shard", part, *arguments, **options)


def merge(folder: Path, *arguments: str) -> Command:
    return Command(folder, "merge", str(folder / "policy"), *arguments)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same calibration in one process."""
    folder = tmp_path_factory.mktemp("alone")
    command = start(folder, *FEW_TRIALS)
    assert command.wait() == 0, command.err
    return folder / "policy"


@pytest.fixture(scope="module")
def in_turns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of which one is started whenever the other one has stopped, never both at once."""
    folder = tmp_path_factory.mktemp("turns")
    for turn in range(MOST_TURNS):
        part = f"{turn % 2 + 1}/2"
        command = shard(folder, part, *FEW_TRIALS)
        code = command.wait()
        if code == 0:
            return folder
        assert code == 75, command.err
        number = part.partition("/")[0]
        assert command.err.startswith(f"error: shard {number} of 2 has done its part of this stage")
        assert "Run them, then start the same command again. --wait SECONDS" in command.err
        assert command.out == ""
        assert not (folder / "policy").exists()
        # Alone, it has not come any further for want of the other one.
        before = count_files(folder / f"policy.shard-{number}-of-2" / "units")
        if turn == 0:
            assert shard(folder, part, *FEW_TRIALS).wait() == 75
            assert count_files(folder / f"policy.shard-{number}-of-2" / "units") == before
    pytest.fail("the shards never came to an end")


def test_in_turns(alone: Path, in_turns: Path) -> None:
    assert content_of(in_turns / "policy") == content_of(alone)
    folders = [in_turns / f"policy.shard-{number}-of-2" / "units" for number in (1, 2)]
    names = [set(os.listdir(folder)) for folder in folders]
    assert not names[0] & names[1], "each pair is measured by one of them"
    assert len(names[0] | names[1]) == count_files(alone.with_name("policy.calibration") / "units")


def test_merge(alone: Path, in_turns: Path) -> None:
    shutil.rmtree(in_turns / "policy")
    merged = merge(in_turns, "--quiet")
    assert merged.wait() == 0, merged.err
    assert merged.out == f"wrote {in_turns / 'policy'}\n"
    assert content_of(in_turns / "policy") == content_of(alone)
    again = merge(in_turns, "--json")
    assert again.wait() == 0, again.err
    assert json.loads(again.out)["schema"] == "otcache.policy/v1"
    assert content_of(in_turns / "policy") == content_of(alone)


def test_side_by_side_with_one_killed(uninterrupted: Path, tmp_path: Path) -> None:
    for_long = ("--wait", str(CEILING))
    first = shard(tmp_path, "1/2", *for_long)
    second = shard(tmp_path, "2/2", *for_long, prepare=(at_measurements(20, die),))
    assert second.wait() == -signal.SIGKILL
    second = shard(tmp_path, "2/2", *for_long)
    assert second.wait() == 0, second.err
    assert first.wait() == 0, first.err
    assert content_of(tmp_path / "policy") == content_of(uninterrupted)


@pytest.mark.slow
def test_a_race_shared_out_and_merged(uninterrupted_standard: Path, tmp_path: Path) -> None:
    for_long = ("--wait", str(CEILING))
    shards = [shard(tmp_path, part, *for_long, settings=STANDARD) for part in ("1/2", "2/2")]
    for each in shards:
        assert each.wait() == 0, each.err
    assert content_of(tmp_path / "policy") == content_of(uninterrupted_standard)
    shutil.rmtree(tmp_path / "policy")
    merged = merge(tmp_path, "--quiet")
    assert merged.wait() == 0, merged.err
    assert content_of(tmp_path / "policy") == content_of(uninterrupted_standard)
    # Each pair was recorded, and run with every schedule, by one of them.
    folders = [tmp_path / f"policy.shard-{number}-of-2" / "units" for number in (1, 2)]
    names = [set(os.listdir(folder)) for folder in folders]
    assert not names[0] & names[1]
    whole = uninterrupted_standard.with_name("policy.calibration") / "units"
    assert names[0] | names[1] == set(os.listdir(whole))


def test_a_missing_shard(in_turns: Path, tmp_path: Path) -> None:
    shutil.copytree(in_turns / "policy.shard-1-of-2", tmp_path / "policy.shard-1-of-2")
    refused = merge(tmp_path, "--quiet")
    assert refused.wait() == 75
    assert "measurements are missing: there is no shard 2/2. Run all shards" in refused.err
    assert refused.out == ""
    assert not (tmp_path / "policy").exists()


def test_an_unfinished_shard(in_turns: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        name = f"policy.shard-{number}-of-2"
        shutil.copytree(in_turns / name, tmp_path / name)
    units = tmp_path / "policy.shard-2-of-2" / "units"
    for path in list(units.glob("evaluate-*"))[:5]:
        path.unlink()
    refused = merge(tmp_path, "--quiet")
    assert refused.wait() == 75
    assert "measurements are missing. Run all shards" in refused.err
    assert not (tmp_path / "policy").exists()


def test_nothing_to_merge(tmp_path: Path) -> None:
    refused = merge(tmp_path)
    assert refused.wait() == 1
    assert f"error: no policy.shard-I-of-N folder of a shard in {tmp_path}" in refused.err
    assert "Run otcache calibrate with --shard first" in refused.err
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_shards_of_other_settings(in_turns: Path, tmp_path: Path) -> None:
    """A shard sees it before it measures anything, and merging sees it again."""
    shutil.copytree(in_turns / "policy.shard-1-of-2", tmp_path / "policy.shard-1-of-2")
    refused = shard(tmp_path, "2/2", *FEW_TRIALS, "--seed", "5")
    words = "settings.seed=5: the calibration in {} was begun with 0"
    assert refused.wait() == 2
    assert words.format(tmp_path / "policy.shard-1-of-2") in refused.err
    other = tmp_path / "policy.shard-2-of-2"
    assert count_files(other / "units") == 0
    manifest = json.loads((other / "calibration.json").read_text())
    assert manifest["settings"]["seed"] == 5
    unmerged = merge(tmp_path)
    assert unmerged.wait() == 2
    assert f"settings.seed=0: the calibration in {other} was begun with 5" in unmerged.err
    assert not (tmp_path / "policy").exists()
