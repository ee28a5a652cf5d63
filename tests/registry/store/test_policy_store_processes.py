"""The local store under several processes, killed processes, full disks and read-only disks."""

from __future__ import annotations

import itertools
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import otcache_registry.store.folder
import pytest
from filelock import FileLock
from forking import FORKING
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from otcache_registry.documents.folder import folder_contents
from otcache_registry.store.errors import StoreError
from otcache_registry.store.own import OwnDocuments
from otcache_registry.store.store import PolicyStore
from waiting import CEILING, wait_until

REPOSITORY = "user/name"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
EXACT = BUNDLED_FOLDER / "exact-flow"
SMALL = {name: (EXACT / name).read_bytes() for name in ("policy.json", "tables.safetensors")}

pytestmark = pytest.mark.usefixtures("fork_server")


def contents_of(name: str) -> dict[str, bytes]:
    """A document with a card and two figures of its own."""
    figures = {f"figures/{number}.png": f"{name} {number}".encode() for number in range(2)}
    return {**SMALL, "README.md": f"# {name}\n".encode(), **figures}


def add_some(folder: Path, name: str, begin: Any, count: int) -> None:
    """Add a document that every process adds, and one of this process's own, several times."""
    otcache_registry.store.folder.LOCK_SECONDS = CEILING
    store = PolicyStore(folder)
    begin.wait(CEILING)
    for number in range(count):
        store.add(REPOSITORY, f"{number:040x}", "shared", contents_of(f"shared {number}"), NOON)
        own = contents_of(f"{name} {number}")
        store.add(REPOSITORY, f"{number:040x}", name, own, NOON)


def add_for_ever(folder: Path, started: Any, first: int) -> None:
    """Add one document after the other, each with files of its own; say when one is there."""
    tempfile.tempdir = str(folder.parent)  # What a killed process leaves there goes with the test.
    store = PolicyStore(folder)
    for number in itertools.count(first):
        contents = contents_of(str(number))
        store.add(REPOSITORY, f"{number:040x}", f"document-{number}", contents, NOON)
        started.set()


def save_for_ever(folder: Path, started: Any) -> None:
    """Save one document of the user's own in the place of the other."""
    own = OwnDocuments(folder)
    for number in itertools.count():
        own.add(contents_of(str(number)))
        started.set()


def hold(folder: Path, held: Any, release: Any) -> None:
    """Keep other writers out until told otherwise."""
    with FileLock(folder / ".lock"):
        held.set()
        release.wait(CEILING)


@contextmanager
def running(*calls: tuple[Any, ...]) -> Iterator[list[Any]]:
    """Run functions in processes of their own; what is left of them is killed."""
    processes = [FORKING.Process(target=target, args=args) for target, *args in calls]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join(CEILING)


def finish(processes: list[Any]) -> None:
    for process in processes:
        process.join(CEILING)
        assert process.exitcode == 0


def check_consistent(store: PolicyStore) -> None:
    """Every document that is listed can be used, and nothing is damaged."""
    assert store.problems() == ()
    for record in store.records():
        assert store.verify(record) == ()
        name = store.contents(record)["README.md"].decode().removeprefix("# ").strip()
        assert store.contents(record) == contents_of(name)


def kept_files(store: PolicyStore) -> set[str]:
    paths = (path for path in store.folder.rglob("*") if path.is_file())
    return {path.relative_to(store.folder).as_posix() for path in paths} - {".lock"}


def needed_files(store: PolicyStore) -> set[str]:
    records = store.records()
    blobs = {f"blobs/{file.sha256}" for record in records for file in record.files}
    return blobs | {f"locks/{record.file_name}" for record in records}


def test_processes_add_the_same_and_different_documents(tmp_path: Path) -> None:
    names, count = ["a", "b", "c"], 4
    begin = FORKING.Barrier(len(names))
    with running(*((add_some, tmp_path, name, begin, count) for name in names)) as processes:
        finish(processes)
    store = PolicyStore(tmp_path)
    assert {(record.folder, int(record.commit, 16)) for record in store.records()} == set(
        itertools.product(["shared", *names], range(count))
    )
    check_consistent(store)
    # Without any pruning: of each file one, and nothing else. Two files are in all documents.
    assert kept_files(store) == needed_files(store)
    assert len([path for path in kept_files(store) if path.startswith("blobs/")]) == 2 + 3 * 16


def test_pruning_while_others_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otcache_registry.store.folder, "LOCK_SECONDS", CEILING)
    begin = FORKING.Barrier(3)
    store = PolicyStore(tmp_path)
    pruned = []
    with running(*((add_some, tmp_path, name, begin, 10) for name in ("a", "b"))) as processes:
        begin.wait(CEILING)
        while any(process.is_alive() for process in processes):
            pruned.append(store.prune(keep=store.records()))
        finish(processes)
    check_consistent(store)
    # A document may have come after the listing that says what to keep, yet only whole ones go.
    files = [path for each in pruned for path in each.files]
    assert [path for path in files if path.startswith("temporary/")] == []
    latest = {record.folder for record in store.records()}
    assert latest == {"shared", "a", "b"}
    assert kept_files(store) == needed_files(store)


def test_processes_killed_while_they_add(tmp_path: Path) -> None:
    store, chance = PolicyStore(tmp_path / "store"), random.Random(0)
    added, attempts, cut_off = [], itertools.count(), 0
    while cut_off < 5:
        started, first = FORKING.Event(), 1000 * next(attempts)
        with running((add_for_ever, store.folder, started, first)) as (process,):
            wait_until(started.is_set, process.is_alive)
            time.sleep(chance.uniform(0, 0.06))
        check_consistent(store)
        assert {record.folder for record in store.records()}.issuperset(added)
        added = [record.folder for record in store.records()]
        cut_off += kept_files(store) != needed_files(store)
        store.prune()
        assert kept_files(store) == needed_files(store)
        assert [record.folder for record in store.records()] == added
    assert len(added) >= next(attempts)
    # Nobody who was killed keeps the others out.
    store.add(REPOSITORY, "f" * 40, "", contents_of("last"), NOON)


def test_own_documents_while_they_are_replaced_and_their_writers_killed(tmp_path: Path) -> None:
    """There is one at every moment, whole, and none that cannot be used."""
    own, chance = OwnDocuments(tmp_path), random.Random(0)
    for _ in range(4):
        started = FORKING.Event()
        with running((save_for_ever, tmp_path, started)) as (process,):
            wait_until(started.is_set, process.is_alive)
            for _ in range(chance.randint(1, 20)):
                found = own.of("exact-flow")
                assert (len(found.documents) in (1, 2), found.refused) == (True, {})
        # A writer that was killed between its last two moves leaves the older one beside the new.
        found = own.all()
        assert (len(found.documents) in (1, 2), found.refused) == (True, {})
        for each in found.documents:
            contents = folder_contents(each.path)
            card = contents["README.md"].decode().removeprefix("# ").strip()
            assert contents == contents_of(card)
    last = own.add(contents_of("last")).document
    assert own.all().documents == (last,)


def test_a_writer_does_not_wait_for_ever_nor_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = PolicyStore(tmp_path)
    record = store.add(REPOSITORY, "1" * 40, "", contents_of("first"), NOON)
    monkeypatch.setattr(otcache_registry.store.folder, "LOCK_SECONDS", 0.2)
    held, release = FORKING.Event(), FORKING.Event()
    with running((hold, tmp_path, held, release)) as processes:
        wait_until(held.is_set, processes[0].is_alive)
        for write in (
            lambda: store.add(REPOSITORY, "2" * 40, "", contents_of("second"), NOON),
            lambda: store.remove(record.file_name),
            store.prune,
        ):
            with pytest.raises(StoreError, match=r"writing to it for 0\.2 seconds.*Wait for that"):
                write()
            assert f"Waiting for another process that writes to {tmp_path}" in caplog.messages
            caplog.clear()
        assert store.records() == (record,)
        assert store.contents(record) == contents_of("first")
        release.set()
        finish(processes)
    store.remove(record.file_name)
    assert store.records() == ()


FULL = """
import resource, signal, sys
from datetime import UTC, datetime
from otcache_registry.store.errors import StoreError
from otcache_registry.store.store import PolicyStore

store = PolicyStore(sys.argv[1])
contents = {name: open(f"{sys.argv[2]}/{name}", "rb").read() for name in sys.argv[3:]}
contents["figures/large.png"] = bytes(2_000_000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
try:
    store.add("user/name", "1" * 40, "", contents, datetime.now(UTC))
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX")
def test_a_file_that_cannot_grow(tmp_path: Path) -> None:
    store = PolicyStore(tmp_path / "store")
    before = store.add(REPOSITORY, "2" * 40, "", contents_of("before"), NOON)
    code = [sys.executable, "-c", FULL, str(store.folder), str(EXACT), *SMALL]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert "Free some space, or set OTCACHE_CACHE" in done.stdout
    assert store.records() == (before,)
    check_consistent(store)
    assert list((store.folder / "temporary").iterdir()) == []


DISK = """
import os, subprocess, sys
from datetime import UTC, datetime
from pathlib import Path
from otcache_registry.store.errors import StoreError
from otcache_registry.store.store import PolicyStore

def mount(*options):
    subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", sys.argv[1]], check=True)

def refused(action):
    try:
        action()
    except StoreError as error:
        print(error)
    else:
        sys.exit("not refused")

contents = {name: Path(sys.argv[2], name).read_bytes() for name in sys.argv[3:]}
for number in range(4):
    contents[f"figures/{number}.png"] = bytes([number]) * 50_000
mount("-o", "size=250k")
store = PolicyStore(Path(sys.argv[1], "store"))
add = lambda: store.add("user/name", "1" * 40, "", contents, datetime.now(UTC))
refused(add)
assert store.records() == () and os.listdir(store.folder / "temporary") == []
mount("-o", "remount,size=2m")
record = add()
assert store.prune().files == ()
mount("-o", "remount,ro")
assert store.records() == (record,) and store.contents(record) == contents
assert store.open(record).document.num_inference_steps == 50
for action in (add, store.prune, lambda: store.remove(record.file_name)):
    refused(action)
refused(lambda: PolicyStore(Path(sys.argv[1], "new")).prune())
assert PolicyStore(Path(sys.argv[1], "new")).records() == ()
"""

ALONE = ["unshare", "--map-root-user", "--mount"]


def may_mount() -> bool:
    """Whether a disk of our own may be mounted, for one process and its children."""
    probe = [*ALONE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        bool(shutil.which("unshare")) and not subprocess.run(probe, capture_output=True).returncode
    )


def test_a_disk_that_is_full_and_one_that_is_read_only(tmp_path: Path) -> None:
    if not may_mount():
        pytest.skip("mounting is not permitted")
    code = [*ALONE, sys.executable, "-c", DISK, str(tmp_path), str(EXACT), *SMALL]
    done = subprocess.run(code, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    full, *read_only = done.stdout.splitlines()
    assert "No space left on device" in full
    assert "Free some space, or set OTCACHE_CACHE to a folder on another disk" in full
    assert len(read_only) == 4
    for message in read_only:
        assert "Read-only file system" in message
        assert "set OTCACHE_CACHE to another folder" in message
