"""The working folder: what it gives back, what it refuses, and that a full disk harms nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from otcache_policies import Schedule

from otcache_plugin.calibration.errors import OtherSettingsError, WorkspaceError
from otcache_plugin.calibration.measuring.units import (
    Evaluate,
    Measured,
    Record,
    Reference,
    Unit,
    unit_key,
)
from otcache_plugin.calibration.measuring.workspace import Workspace
from otcache_plugin.evaluation.batches import Batch

MANIFEST: dict[str, Any] = {
    "settings": {"seed": 1, "default_budget": None, "search": {"rounds": ((4, 9.0),), "trials": 3}},
    "model": {"revision": "abc", "guidance": {"scale": 4.0}},
}
POLICY: dict[str, Any] = {"policy": "otcache", "options": {"trials": 3}}
BATCH = Batch("calibration", 0, 3)
RECORD = Record(BATCH)
EVALUATE = Evaluate(BATCH, Schedule([0, 2, 5], 6), ("psnr",))
MEASURED = Measured({"psnr": np.array([30.5, 28.0, 31.25])}, (2, 1, 3), 0.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "policy.calibration"


def file_of(folder: Path, unit: Unit) -> Path:
    return folder / "units" / f"{unit_key(unit)}.safetensors"


def assert_same(found: Measured | None, expected: Measured) -> None:
    assert found is not None
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)
    assert (found.calls, found.seconds) == (expected.calls, expected.seconds)


def keep(folder: Path, unit: Unit = EVALUATE, measured: Measured = MEASURED) -> None:
    with Workspace(folder, MANIFEST) as workspace:
        workspace.put(unit, measured)


def get(folder: Path, unit: Unit = EVALUATE) -> Measured | None:
    with Workspace(folder, MANIFEST) as workspace:
        return workspace.get(unit)


any_array = st.sampled_from(["f2", "f4", "f8", "i8", "u1", "?"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=3, min_side=0, max_side=3))
)


@given(
    st.dictionaries(st.sampled_from(["errors", "sigmas", "größe", "a b"]), any_array),
    st.lists(st.integers(0, 10**9)),
    st.floats(0, 1e6),
)
@settings(max_examples=30)
def test_what_was_kept_is_given_back(
    arrays: dict[str, np.ndarray], calls: list[int], seconds: float
) -> None:
    measured = Measured(arrays, tuple(calls), seconds)
    for unit in (RECORD, EVALUATE):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with Workspace(folder, MANIFEST) as workspace:
                assert workspace.get(unit) is None
                workspace.put(unit, measured)
                assert_same(workspace.get(unit), measured)
            assert_same(get(folder, unit), measured)


def test_arrays_in_any_memory_order(folder: Path) -> None:
    columns = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    measured = Measured({"transposed": columns, "every_other": np.arange(9)[::2]}, (1,), 1.0)
    keep(folder, RECORD, measured)
    assert_same(get(folder, RECORD), measured)


def test_units_are_told_apart(folder: Path) -> None:
    units = [RECORD, Reference(BATCH), EVALUATE, Record(Batch("calibration", 3, 6))]
    with Workspace(folder, MANIFEST) as workspace:
        for number, unit in enumerate(units):
            workspace.put(unit, Measured({"value": np.array([number])}, (number,), 0.0))
    for number, unit in enumerate(units):
        found = get(folder, unit)
        assert found is not None
        assert found.arrays["value"].tolist() == [number]


def test_a_unit_can_be_measured_anew(folder: Path) -> None:
    keep(folder)
    again = Measured({"psnr": np.array([1.0])}, (7,), 2.0)
    keep(folder, measured=again)
    assert_same(get(folder), again)


OPEN_AND_WAIT = """
import sys
from pathlib import Path
from otcache_plugin.calibration.measuring.workspace import Workspace
with Workspace(Path(sys.argv[1]), {}):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_refused_until_the_first_one_is_gone(folder: Path) -> None:
    command = [sys.executable, "-c", OPEN_AND_WAIT, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(WorkspaceError, match="another process calibrates in"):
            Workspace(folder, {})
        other.kill()  # A lock that outlived its process would be in everyone's way.
        other.communicate()
    with Workspace(folder, {}):
        refused = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    assert "WorkspaceError: another process calibrates in" in refused.stderr
    assert "use another output." in refused.stderr
    assert refused.stdout == ""
    accepted = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    assert (accepted.returncode, accepted.stdout) == (0, "open\n")


def test_a_second_handle_is_refused(folder: Path) -> None:
    with Workspace(folder, MANIFEST), pytest.raises(WorkspaceError, match="another process"):
        Workspace(folder, MANIFEST)
    with Workspace(folder, MANIFEST):
        pass


def changed(path: str, value: object) -> dict[str, Any]:
    """The manifest with another value at a dotted path; None leaves it out."""
    manifest: dict[str, Any] = json.loads(json.dumps(MANIFEST))
    *parents, last = path.split(".")
    place = manifest
    for parent in parents:
        place = place[parent]
    place[last] = value
    return manifest


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("settings.seed", 2, "settings.seed"),
        ("settings.default_budget", 15, "settings.default_budget"),
        ("settings.search.trials", 4, "settings.search.trials"),
        ("settings.search.rounds", [[4, 4.5]], "settings.search.rounds"),
        ("settings.novelty", 1, "settings.novelty"),
        ("model.guidance.scale", 5.0, "model.guidance.scale"),
        ("model.guidance", {}, "model.guidance.scale"),
    ],
)
def test_another_manifest_is_refused(folder: Path, path: str, value: object, field: str) -> None:
    keep(folder)
    other = changed(path, value)
    with pytest.raises(OtherSettingsError, match="was begun with") as caught:
        Workspace(folder, other)
    assert caught.value.field == field
    assert f"delete {folder} to start anew" in str(caught.value)
    # And the other way around: what the folder has and this calibration lacks.
    shutil.rmtree(folder)
    with Workspace(folder, other):
        pass
    with pytest.raises(OtherSettingsError) as caught:
        Workspace(folder, MANIFEST)
    assert caught.value.field == field
    with Workspace(folder, other):  # A refused one leaves no lock behind.
        pass


def test_created_is_when_it_was_begun(folder: Path) -> None:
    with Workspace(folder, MANIFEST) as workspace:
        assert datetime.fromisoformat(workspace.claim("otcache", POLICY).created).tzinfo is not None
    path = folder / "policies" / "otcache" / "calibration.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "created": "2001-02-03T04:05:06+00:00"}))
    for _ in range(2):
        with Workspace(folder, MANIFEST) as workspace:
            assert workspace.claim("otcache", POLICY).created == "2001-02-03T04:05:06+00:00"


def test_what_a_killed_process_left_is_removed(folder: Path) -> None:
    keep(folder)
    for left_over in (
        folder / "calibration.json.17.part",
        file_of(folder, RECORD).with_name("record-0.safetensors.17.part"),
        folder / "scratch" / "otcache-1" / "x-0000.safetensors",
    ):
        left_over.parent.mkdir(parents=True, exist_ok=True)
        left_over.write_bytes(b"half")
    assert_same(get(folder), MEASURED)
    assert sorted(path.name for path in folder.iterdir()) == ["calibration.json", "lock", "units"]
    assert list((folder / "units").iterdir()) == [file_of(folder, EVALUATE)]


@pytest.fixture(scope="module")
def kept_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Path, bytes]]:
    """A recording's file, and the workspace that reads it."""
    folder = tmp_path_factory.mktemp("damaged")
    with Workspace(folder, MANIFEST) as workspace:
        arrays = {"sigmas": np.linspace(1, 0, 5), "errors": np.ones((1, 2, 2), np.float32)}
        workspace.put(RECORD, Measured(arrays, (2, 1, 3), 0.25))
        path = file_of(folder, RECORD)
        yield workspace, path, path.read_bytes()


def assert_refused(workspace: Workspace, path: Path) -> None:
    with pytest.raises(WorkspaceError) as caught:
        workspace.get(RECORD)
    assert str(caught.value).startswith(f"{path} is damaged (")
    assert "Delete this file and start the same command again" in str(caught.value)


@given(position=st.integers(0, 10**9), bit=st.integers(0, 7))
@settings(max_examples=300)
def test_a_flipped_bit_is_noticed(
    kept_file: tuple[Workspace, Path, bytes], position: int, bit: int
) -> None:
    workspace, path, data = kept_file
    damaged = bytearray(data)
    damaged[position % len(data)] ^= 1 << bit
    path.write_bytes(damaged)
    assert_refused(workspace, path)


@given(st.integers(0, 10**9))
@settings(max_examples=100)
def test_a_cut_file_is_noticed(kept_file: tuple[Workspace, Path, bytes], length: int) -> None:
    workspace, path, data = kept_file
    path.write_bytes(data[: length % len(data)])
    assert_refused(workspace, path)


@pytest.mark.parametrize("number", [b'"[2, 1, 3]"', b'"0.25"'], ids=["calls", "seconds"])
def test_another_count_is_noticed(kept_file: tuple[Workspace, Path, bytes], number: bytes) -> None:
    workspace, path, data = kept_file
    assert data.count(number) == 1
    path.write_bytes(data.replace(number, number.replace(b"2", b"3")))
    assert_refused(workspace, path)
    path.write_bytes(data)
    assert workspace.get(RECORD) is not None


def test_a_deleted_file_is_measured_anew_and_nothing_else(folder: Path) -> None:
    keep(folder)
    keep(folder, RECORD)
    file_of(folder, RECORD).unlink()
    assert get(folder, RECORD) is None
    assert_same(get(folder), MEASURED)


def test_siblings_are_read(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    keep(one)
    with Workspace(two, MANIFEST, [one, three]) as workspace:
        assert_same(workspace.get(EVALUATE), MEASURED)
        assert workspace.get(RECORD) is None
        workspace.put(Reference(BATCH), MEASURED)
        # The third begins, and measures, while this one is open.
        with Workspace(three, MANIFEST) as sibling:
            assert workspace.get(RECORD) is None
            sibling.put(RECORD, MEASURED)
            assert_same(workspace.get(RECORD), MEASURED)
    # Each writes to its own folder.
    for folder, unit in ((one, EVALUATE), (two, Reference(BATCH)), (three, RECORD)):
        assert list((folder / "units").iterdir()) == [file_of(folder, unit)]


def test_a_sibling_of_other_settings_is_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    other = changed("settings.seed", 2)
    with Workspace(one, MANIFEST, [two]) as workspace:
        with Workspace(two, other):
            pass
        with pytest.raises(OtherSettingsError) as caught:
            workspace.get(RECORD)
        assert (caught.value.field, caught.value.value) == ("settings.seed", 1)
        assert str(two) in str(caught.value)
    with pytest.raises(OtherSettingsError, match=r"settings\.seed=1"):
        Workspace(one, MANIFEST, [two])
    assert get(one, RECORD) is None


def test_policies_share_what_is_measured_and_nothing_else(folder: Path) -> None:
    with Workspace(folder, MANIFEST) as workspace:
        works = {name: workspace.claim(name, {**POLICY, "policy": name}) for name in ("a", "b")}
        works["a"].journal.write_text("one")
        workspace.put(EVALUATE, MEASURED)
    assert works["a"].folder == folder / "policies" / "a"
    assert not works["b"].journal.exists()
    with Workspace(folder, MANIFEST) as workspace:
        again = workspace.claim("b", {**POLICY, "policy": "b"})
        assert again == works["b"]
        assert_same(workspace.get(EVALUATE), MEASURED)


def test_a_policy_that_was_begun_with_other_options_is_refused(folder: Path) -> None:
    other = {**POLICY, "options": {"trials": 4}}
    with Workspace(folder, MANIFEST) as workspace:
        workspace.claim("otcache", POLICY)
        with pytest.raises(OtherSettingsError) as caught:
            workspace.claim("otcache", other)
        assert (caught.value.field, caught.value.value) == ("options.trials", 4)
        assert str(folder / "policies" / "otcache") in str(caught.value)
        workspace.claim("another", other)


def test_a_sibling_is_read_once_it_is_at_the_same_policy(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    keep(two)
    with Workspace(one, MANIFEST, [two]) as workspace:
        workspace.claim("otcache", POLICY)
        assert workspace.get(EVALUATE) is None
        with Workspace(two, MANIFEST) as sibling:
            sibling.claim("otcache", POLICY)
        assert_same(workspace.get(EVALUATE), MEASURED)


def test_a_sibling_at_other_options_is_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with Workspace(two, MANIFEST) as sibling:
        sibling.claim("otcache", {**POLICY, "options": {"trials": 4}})
    with (
        Workspace(one, MANIFEST, [two]) as workspace,
        pytest.raises(OtherSettingsError, match=r"options\.trials=3: .*begun with 4"),
    ):
        workspace.claim("otcache", POLICY)


def test_a_siblings_damaged_file_is_named(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    keep(two)
    file_of(two, EVALUATE).write_bytes(b"nothing")
    with (
        Workspace(one, MANIFEST, [two]) as workspace,
        pytest.raises(WorkspaceError, match="is damaged") as caught,
    ):
        workspace.get(EVALUATE)
    assert str(file_of(two, EVALUATE)) in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\x00", b"[1]", b'"created"', b"{}"], ids=repr)
def test_a_damaged_manifest_is_refused(folder: Path, data: bytes) -> None:
    keep(folder)
    path = folder / "calibration.json"
    whole = path.read_bytes()
    path.write_bytes(data)
    with pytest.raises(WorkspaceError) as caught:
        Workspace(folder, MANIFEST)
    assert str(caught.value).startswith(f"{path} is ")
    assert f"Delete {folder} to start anew" in str(caught.value)
    path.write_bytes(whole)
    assert_same(get(folder), MEASURED)


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(WorkspaceError, match=r"cannot be used.*use another output"):
            Workspace(folder, MANIFEST)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="no permission is denied to root")
def test_a_folder_that_must_not_be_written(folder: Path) -> None:
    keep(folder)
    with Workspace(folder, MANIFEST) as workspace:
        (folder / "units").chmod(0o500)
        try:
            with pytest.raises(WorkspaceError, match="Check its permissions"):
                workspace.put(RECORD, MEASURED)
            assert workspace.get(RECORD) is None
            assert_same(workspace.get(EVALUATE), MEASURED)
        finally:
            (folder / "units").chmod(0o700)
    assert_same(get(folder), MEASURED)


LARGE = Measured({"errors": np.zeros(2**18)}, (1,), 1.0)


def test_a_full_disk_harms_nothing(small_disk: Path) -> None:
    folder = small_disk / "policy.calibration"
    with Workspace(folder, MANIFEST) as workspace:
        workspace.put(EVALUATE, MEASURED)
        for unit in (RECORD, EVALUATE):
            with pytest.raises(WorkspaceError) as caught:
                workspace.put(unit, LARGE)
            assert "No space left on device" in str(caught.value)
            assert "Free some space and start the same command again" in str(caught.value)
        assert workspace.get(RECORD) is None
        assert_same(workspace.get(EVALUATE), MEASURED)
        workspace.put(Reference(BATCH), MEASURED)
    assert not list(folder.rglob("*.part"))
    assert_same(get(folder), MEASURED)
    assert_same(get(folder, Reference(BATCH)), MEASURED)


def test_a_disk_without_room_for_the_folder(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(b"0" * 2**20)
    with pytest.raises(WorkspaceError, match="Free some space"):
        Workspace(small_disk / "policy.calibration", MANIFEST)


PUT_UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
import numpy as np
from otcache_plugin.calibration.measuring.units import Measured, Record
from otcache_plugin.evaluation.batches import Batch
from otcache_plugin.calibration.measuring.workspace import Workspace
resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
with Workspace(Path(sys.argv[1]), {}) as workspace:
    workspace.put(Record(Batch("calibration", 0, 1)), Measured({"a": np.arange(9.0)}, (1,), 1.0))
    workspace.put(Record(Batch("calibration", 1, 2)), Measured({"a": np.zeros(2**18)}, (1,), 1.0))
"""


def test_files_that_must_not_grow_harm_nothing(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PUT_UNDER_A_LIMIT, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "(File too large). Free some space and start the same command again" in done.stderr
    with Workspace(folder, {}) as workspace:
        kept = workspace.get(Record(Batch("calibration", 0, 1)))
        assert kept is not None
        assert kept.arrays["a"].tolist() == [*range(9)]
        assert workspace.get(Record(Batch("calibration", 1, 2))) is None
