"""The local store keeps pulled documents whole, notices damage, and drops what is unneeded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_documents import UNKNOWN_TABLES
from otcache_policies import EdgeTable
from otcache_registry import (
    DocumentError,
    ModelReference,
    PolicyDocument,
    Publication,
    read_policy,
    write_policy,
)
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from otcache_registry.documents.tables import NO_TABLES
from otcache_registry.store.errors import DamagedError, RemovedError, StoreError
from otcache_registry.store.folder import LOCK_FILE, StoreFolder, default_store_folder
from otcache_registry.store.lock_record import LockRecord
from otcache_registry.store.store import PolicyStore

REPOSITORY = "user/name"
FIRST, SECOND, THIRD = "1" * 40, "2" * 40, "3" * 40
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TABLE = "tables.safetensors"


def snapshot(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


CONTENTS = snapshot(BUNDLED_FOLDER / "exact-flow")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def lock_path(commit: str, folder: str = "") -> str:
    """Where the record of a document lies, computed anew."""
    key = f"{REPOSITORY}\n{commit}\n{folder}"
    return f"locks/{digest(key.encode())}.json"


def with_card(card: bytes) -> dict[str, bytes]:
    return {**CONTENTS, "README.md": card}


@pytest.fixture
def store(tmp_path: Path) -> PolicyStore:
    return PolicyStore(tmp_path / "cache" / "store")


def add(
    store: PolicyStore,
    commit: str = FIRST,
    folder: str = "",
    contents: dict[str, bytes] = CONTENTS,
    pulled: datetime = NOON,
) -> LockRecord:
    return store.add(REPOSITORY, commit, folder, contents, pulled)


def files(store: PolicyStore) -> dict[str, bytes]:
    """Everything in the store but the file that writers take turns with."""
    found = snapshot(store.folder)
    found.pop(".lock", None)
    return found


def test_what_was_added_is_read(store: PolicyStore) -> None:
    record = add(store, folder="policies/exact")
    expected = read_policy(BUNDLED_FOLDER / "exact-flow")
    stored = store.open(record)
    assert stored.document == expected.document
    assert stored.tables.keys() == expected.tables.keys()
    assert set(stored.tables) == {"sigmas", "velocity_errors", "spread", "grams"}
    for name, table in expected.tables.items():
        np.testing.assert_array_equal(stored.tables[name], table)
    assert stored.source == f"hub:user/name@{FIRST}#policies/exact"
    assert store.contents(record) == CONTENTS
    assert store.verify(record) == ()
    assert store.records() == (record,)
    assert store.record(REPOSITORY, FIRST, "policies/exact") == record
    assert store.record(REPOSITORY, FIRST) is None
    assert store.problems() == ()


def test_files_of_the_store(store: PolicyStore) -> None:
    add(store)
    blobs = {f"blobs/{digest(data)}": data for data in CONTENTS.values()}
    found = files(store)
    lock = json.loads(found.pop(lock_path(FIRST)))
    assert found == blobs
    document = json.loads(CONTENTS["policy.json"])
    assert lock == {
        "schema": "otcache.lock/v1",
        "repository": "user/name",
        "commit": FIRST,
        "folder": "",
        "policy": "otcache",
        "model": document["model"]["id"],
        "revision": document["model"]["revision"],
        "num_inference_steps": document["sampling"]["num_inference_steps"],
        "files": [
            {"path": path, "sha256": digest(CONTENTS[path]), "size": len(CONTENTS[path])}
            for path in sorted(CONTENTS)
        ],
        "pulled": "2026-01-31T12:00:00Z",
        "serial": 1,
        "asked": None,
    }


def test_a_written_folder_survives_the_way_through_the_store(
    store: PolicyStore, policy_folder: Path, valid_document: PolicyDocument
) -> None:
    record = add(store, contents=snapshot(policy_folder))
    assert store.open(record).document == valid_document
    assert store.contents(record) == snapshot(policy_folder)
    assert (record.model, record.revision) == ("example/model", "0123abcd")
    assert record.num_inference_steps == 12
    assert record.size == sum(map(len, snapshot(policy_folder).values()))


def test_published_schedules_need_no_tables(
    store: PolicyStore,
    tmp_path: Path,
    make_document: Callable[..., PolicyDocument],
    valid_edges: EdgeTable,
) -> None:
    document = make_document(
        valid_edges,
        model=ModelReference(id="example/model", revision=None),
        calibration=None,
        published=Publication(authors="A", source="B", paper="C", setting="D"),
        evidence=(),
        tables_sha256=None,
    )
    write_policy(tmp_path / "policy", document, NO_TABLES, "# Card\n")
    record = add(store, contents=snapshot(tmp_path / "policy"))
    stored = store.open(record)
    assert (stored.document, stored.tables) == (document, {})
    assert record.revision is None
    assert [file.path for file in record.files] == ["README.md", "policy.json"]


def test_equal_files_are_kept_once(store: PolicyStore) -> None:
    first = add(store, FIRST)
    second = add(store, SECOND, contents=with_card(b"# New\n"))
    assert len([path for path in files(store) if path.startswith("blobs/")]) == len(CONTENTS) + 1
    assert store.contents(first) == CONTENTS
    assert store.contents(second) == with_card(b"# New\n")


def test_adding_again_keeps_the_later_time(store: PolicyStore) -> None:
    add(store)
    before = files(store)
    add(store)
    assert files(store) == before
    again = add(store, pulled=NOON + HOUR)
    assert store.records() == (again,)
    assert again.pulled == NOON + HOUR


def test_reading_makes_nothing(store: PolicyStore) -> None:
    assert store.records() == ()
    assert store.problems() == ()
    assert store.find("example/model") == ()
    assert store.record(REPOSITORY, FIRST) is None
    assert not store.folder.parent.exists()


@pytest.mark.parametrize(
    "path",
    [
        "../policy.json",
        "figures/../policy.json",
        "figures/../../a.png",
        "/etc/a.png",
        "figures//a.png",
        "figures\\a.png",
        "figures/a\n.png",
        "figures/a\x00.png",
        "figures/.png",
        "figures/.a.png",
        "figures/a.svg",
        "figures/a.png/",
        "figures/a/b.png",
        "figures/" + "a" * 97 + ".png",
        "Figures/a.png",
        "POLICY.JSON",
        "policy.json ",
        "model.bin",
        ".gitattributes",
        "",
    ],
)
def test_names_of_files(store: PolicyStore, path: str) -> None:
    with pytest.raises(DocumentError, match="not a file of a policy document") as caught:
        add(store, contents={**CONTENTS, path: b"x"})
    assert caught.value.value == path
    assert not store.folder.parent.exists()


def test_the_longest_name_of_a_figure(store: PolicyStore) -> None:
    path = "figures/" + "a" * 96 + ".png"
    assert store.contents(add(store, contents={**CONTENTS, path: b"x"}))[path] == b"x"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"README.md": bytes(2**20 + 1)}, "1048577 bytes, above the limit of 1048576"),
        ({"figures/a.png": bytes(10 * 2**20 + 1)}, "above the limit of 10485760"),
        ({f"figures/{number}.png": b"" for number in range(47)}, "51 figures"),
    ],
    ids=["card", "figure", "figures"],
)
def test_limits(store: PolicyStore, changes: dict[str, bytes], words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        add(store, contents={**CONTENTS, **changes})
    assert not store.folder.parent.exists()


def test_up_to_the_limits(store: PolicyStore) -> None:
    figures = {f"figures/{number}.png": b"" for number in range(46)}
    record = add(store, contents={**CONTENTS, **figures, "README.md": bytes(2**20)})
    assert len(record.files) == 53
    assert store.verify(record) == ()


@pytest.mark.parametrize(
    ("path", "data", "words"),
    [
        ("policy.json", None, "this file is missing"),
        ("policy.json", b"{}", "schema=None: this field is missing"),
        ("policy.json", b"\xff", "not UTF-8"),
        (TABLE, None, "this file is missing"),
        (TABLE, CONTENTS[TABLE][:-1], "has the digest"),
    ],
)
def test_only_valid_documents_are_kept(
    store: PolicyStore, path: str, data: bytes | None, words: str
) -> None:
    contents = {name: content for name, content in CONTENTS.items() if name != path}
    with pytest.raises(DocumentError, match=words):
        add(store, contents=contents if data is None else {**contents, path: data})
    assert not store.folder.parent.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("repository", "name"),
        ("repository", "user/name/more"),
        ("repository", "../name"),
        ("repository", "user/.."),
        ("repository", "user/na me"),
        ("repository", "user/name\n"),
        ("commit", "main"),
        ("commit", "A" * 40),
        ("commit", "1" * 39),
        ("folder", "/policies"),
        ("folder", "policies/"),
        ("folder", "a//b"),
        ("folder", "a/../b"),
        ("folder", ".."),
        ("folder", "."),
        ("folder", "a\\b"),
        ("folder", "a\x1bb"),
        ("pulled", datetime(2026, 1, 31)),
    ],
)
def test_keys(store: PolicyStore, field: str, value: Any) -> None:
    key = {"repository": REPOSITORY, "commit": FIRST, "folder": "", "pulled": NOON}
    with pytest.raises(StoreError, match=field) as caught:
        store.add(contents=CONTENTS, **{**key, field: value})
    assert caught.value.field == field
    assert not store.folder.parent.exists()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def grow(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 1)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [flip, truncate, grow, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("path", sorted(CONTENTS))
def test_damage_of_each_file(store: PolicyStore, path: str, damage: Callable[[Path], None]) -> None:
    record = add(store)
    before = files(store)
    damage(store.folder / "blobs" / digest(CONTENTS[path]))
    assert store.verify(record) == (path,)
    for read in (store.open, store.contents):
        with pytest.raises(DamagedError, match="Pull the document again") as caught:
            read(record)
        assert caught.value.value == (path,)
        assert f"hub:user/name@{FIRST}" in caught.value.problem
    add(store)
    assert files(store) == before
    assert store.contents(record) == CONTENTS


def test_all_damaged_files_are_named(store: PolicyStore) -> None:
    record = add(store)
    make_folder(store.folder / "blobs" / digest(CONTENTS["README.md"]))
    flip(store.folder / "blobs" / digest(CONTENTS[TABLE]))
    with pytest.raises(DamagedError) as caught:
        store.open(record)
    assert caught.value.value == ("README.md", TABLE)


def test_damage_elsewhere_does_not_matter(store: PolicyStore) -> None:
    first = add(store, FIRST, contents=with_card(b"first"))
    second = add(store, SECOND, contents=with_card(b"second"))
    flip(store.folder / "blobs" / digest(b"first"))
    assert store.verify(first) == ("README.md",)
    assert store.verify(second) == ()
    assert store.open(second).document == read_policy(BUNDLED_FOLDER / "exact-flow").document


def rewrite(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = json.loads(path.read_bytes())
        change(data)
        path.write_text(json.dumps(data), encoding="utf-8")

    return damage


RECORD_DAMAGES = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 2),
    "halved": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: path.write_bytes(b""),
    "grown": lambda path: os.truncate(path, 2**21),
    "bytes": lambda path: path.write_bytes(b"\xff"),
    "list": lambda path: path.write_bytes(b"[]"),
    "deep": lambda path: path.write_bytes(b"[" * 10**5),
    "repeated": lambda path: path.write_text(path.read_text().replace("{", '{"folder": "",', 1)),
    "schema": rewrite(lambda data: data.update(schema="otcache.lock/v2")),
    "commit": rewrite(lambda data: data.update(commit=SECOND)),
    "folder": rewrite(lambda data: data.update(folder="other")),
    "extra": rewrite(lambda data: data.update(more=1)),
    "path": rewrite(lambda data: data["files"][0].update(path="../README.md")),
    "digest": rewrite(lambda data: data["files"][0].update(sha256="../../secret")),
    "size": rewrite(lambda data: data["files"][0].update(size="1")),
    "twice": rewrite(lambda data: data["files"].insert(0, data["files"][0])),
    "no-document": rewrite(lambda data: data["files"].pop(-2)),
    "time": rewrite(lambda data: data.update(pulled="2026-01-31T12:00:00")),
}


@pytest.mark.parametrize("kind", RECORD_DAMAGES)
def test_damaged_records(store: PolicyStore, kind: str) -> None:
    add(store, FIRST)
    other = add(store, SECOND, "other", with_card(b"other"))
    before = files(store)
    first = json.loads(before[lock_path(FIRST)])
    path = store.folder / lock_path(FIRST)
    RECORD_DAMAGES[kind](path)
    assert store.records() == (other,)
    (problem,) = store.problems()
    assert problem.value == (path.name,)
    assert "Pull the document again, which repairs it" in str(problem)
    with pytest.raises(DamagedError, match="Pull the document again"):
        store.record(REPOSITORY, FIRST)
    assert store.record(REPOSITORY, SECOND, "other") == other
    again = add(store, FIRST)
    now = files(store)
    assert json.loads(now.pop(lock_path(FIRST))) == {**first, "serial": again.serial}
    assert now.items() <= before.items()


def test_damaged_records_are_pruned(store: PolicyStore) -> None:
    add(store, FIRST)
    other = add(store, SECOND, "other", with_card(b"other"))
    (store.folder / lock_path(FIRST)).write_text("{}")
    pruned = store.prune()
    assert pruned.records == ()
    # Everything but its card belongs to the other document too.
    gone = CONTENTS["README.md"]
    assert pruned.files == (lock_path(FIRST), f"blobs/{digest(gone)}")
    assert pruned.size == 2 + len(gone)
    assert store.problems() == ()
    assert store.contents(other) == with_card(b"other")


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": "strata"},
        {"model": "other/model"},
        {"revision": None},
        {"num_inference_steps": 12},
    ],
)
def test_a_record_that_contradicts_its_document(
    store: PolicyStore, changes: dict[str, Any]
) -> None:
    add(store)
    rewrite(lambda data: data.update(changes))(store.folder / lock_path(FIRST))
    (record,) = store.records()
    with pytest.raises(DamagedError, match="another policy, model or number of steps") as caught:
        store.open(record)
    assert caught.value.value == (record.file_name,)
    assert store.open(add(store)).document.num_inference_steps == 50


def test_find(store: PolicyStore, policy_folder: Path) -> None:
    contents = snapshot(policy_folder)
    # In the order of the pulls, whatever the clock said then.
    first = add(store, FIRST, "a", contents, NOON + 2 * HOUR)
    third = add(store, THIRD, "c", contents, NOON + HOUR)
    second = add(store, SECOND, "b", contents, NOON)
    other = add(store, FIRST)
    assert store.find("example/model") == (second, third, first)
    assert store.find("example/model", "0123abcd") == (second, third, first)
    assert store.find("example/model", "0123") == ()
    assert store.find("example") == ()
    assert store.find(other.model, other.revision) == (other,)
    assert store.records() == (other, first, second, third)


def test_two_policies_of_one_model_side_by_side(
    store: PolicyStore, policy_folder: Path, tmp_path: Path, unknown_document: PolicyDocument
) -> None:
    write_policy(tmp_path / "strata", unknown_document, UNKNOWN_TABLES, "# Card\n")
    first = add(store, folder="a", contents=snapshot(policy_folder))
    second = add(store, folder="b", contents=snapshot(tmp_path / "strata"), pulled=NOON + HOUR)
    assert store.find("example/model", "0123abcd") == (second, first)
    assert (first.policy, second.policy) == ("otcache", "strata")
    assert (first.policy, second.policy) == ("otcache", "strata")
    opened = store.open(second)
    assert opened.document == unknown_document
    np.testing.assert_array_equal(opened.tables["scores"], UNKNOWN_TABLES["scores"])


def test_records_of_one_folder_are_listed_from_the_last_one_pulled(store: PolicyStore) -> None:
    first = add(store, FIRST, pulled=NOON + 2 * HOUR)
    second = add(store, SECOND, pulled=NOON + HOUR)
    third = add(store, THIRD, pulled=NOON)
    assert store.records() == (third, second, first)


def test_prune_drops_what_a_later_pull_superseded(store: PolicyStore) -> None:
    old = add(store, SECOND, contents=with_card(b"old"), pulled=NOON + 2 * HOUR)
    kept = add(store, THIRD, contents=with_card(b"kept"), pulled=NOON + HOUR)
    last = add(store, FIRST, contents=with_card(b"last"), pulled=NOON)
    elsewhere = add(store, SECOND, "elsewhere", contents=with_card(b"elsewhere"), pulled=NOON)
    record_size = (store.folder / lock_path(SECOND)).stat().st_size
    before = files(store)
    pruned = store.prune(keep=[kept])
    assert pruned.records == (old,)
    assert pruned.files == (lock_path(SECOND), f"blobs/{digest(b'old')}")
    assert pruned.size == record_size + len(b"old")
    assert files(store) == {path: before[path] for path in before.keys() - set(pruned.files)}
    assert store.prune().records == (kept,)
    assert store.records() == (last, elsewhere)
    assert [store.contents(record)["README.md"] for record in store.records()] == [
        b"last",
        b"elsewhere",
    ]
    assert store.prune() == type(pruned)((), (), 0)


def test_keep_goes_by_document_not_by_time(store: PolicyStore) -> None:
    listed = add(store, FIRST)
    again = add(store, FIRST, pulled=NOON + HOUR)
    last = add(store, SECOND, pulled=NOON + 2 * HOUR)
    assert store.prune(keep=[listed]).records == ()
    assert store.records() == (last, again)


def test_prune_drops_leftovers_and_leaves_what_is_not_its_own(store: PolicyStore) -> None:
    add(store)
    before = files(store)
    foreign = {"notes.txt": b"a", "blobs/notes": b"b", "locks/mine.json": b"c", "temporary/x": b"d"}
    leftovers = {
        f"blobs/{digest(b'orphan')}": b"orphan",
        f"temporary/{digest(b'a')}": b"half",
        f"temporary/{digest(b'b')}.json": b"{",
    }
    for path, data in {**foreign, **leftovers}.items():
        (store.folder / path).write_bytes(data)
    assert len(store.records()) == 1
    assert store.problems() == ()
    pruned = store.prune()
    assert sorted(pruned.files) == sorted(leftovers)
    assert pruned.size == 6 + 4 + 1
    assert files(store) == {**before, **foreign}


def test_a_link_among_what_is_being_written_is_not_followed(
    store: PolicyStore, tmp_path: Path
) -> None:
    """Whoever shares a store may put it there, and let it lead to what is not shared."""
    add(store)
    private = tmp_path / "private"
    private.write_bytes(b"mine")
    (store.folder / "temporary" / digest(b"other")).symlink_to(private)
    record = add(store, SECOND, contents=with_card(b"other"))
    assert private.read_bytes() == b"mine"
    assert not (store.folder / "blobs" / digest(b"other")).is_symlink()
    assert store.contents(record) == with_card(b"other")


def test_a_link_in_the_place_of_the_lock_is_refused(store: PolicyStore, tmp_path: Path) -> None:
    """Opening it as a lock would empty what it leads to, and that may be anywhere."""
    add(store)
    private = tmp_path / "private"
    private.write_bytes(b"mine")
    (store.folder / LOCK_FILE).unlink()
    (store.folder / LOCK_FILE).symlink_to(private)
    with pytest.raises(StoreError, match="symbolic links"):
        add(store, SECOND, contents=with_card(b"other"))
    assert private.read_bytes() == b"mine"


def test_remove(store: PolicyStore) -> None:
    first = add(store, FIRST, contents=with_card(b"first"))
    second = add(store, SECOND, contents=with_card(b"second"))
    removed = store.remove(second.file_name)
    assert removed.records == (second,)
    assert removed.files == (lock_path(SECOND), f"blobs/{digest(b'second')}")
    assert store.records() == (first,)
    assert store.contents(first) == with_card(b"first")
    with pytest.raises(DamagedError) as caught:
        store.open(second)
    assert caught.value.value == ("README.md",)
    assert store.remove(second.file_name).records == ()
    store.remove(first.file_name)
    assert files(store) == {}


class Stop(BaseException):
    """What ends a process at a chosen moment."""


def stop_on_call(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, error: BaseException
) -> None:
    """Let the n-th call of a function fail."""
    original, calls = getattr(owner, name), 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)


# The new document has three files that the old one lacks, and its record: four writes.
@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace")])
@pytest.mark.parametrize("error", [Stop(), OSError(28, "No space left on device")], ids=repr)
def test_interrupted_at_each_moment(
    store: PolicyStore,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    number: int,
    error: BaseException,
) -> None:
    old = add(store, FIRST)
    new = {**CONTENTS, "README.md": b"new", "figures/a.png": b"a", "figures/b.png": b"b"}
    before = files(store)
    with monkeypatch.context() as patch:
        stop_on_call(patch, owner, name, number, error)
        with pytest.raises(Stop if isinstance(error, Stop) else StoreError):
            add(store, SECOND, contents=new, pulled=NOON + HOUR)
    assert store.records() == (old,)
    assert store.problems() == ()
    assert store.contents(old) == CONTENTS
    temporary = [path for path in files(store) if path.startswith("temporary/")]
    assert len(temporary) == (1 if isinstance(error, Stop) else 0)
    store.prune()
    assert files(store) == before
    record = add(store, SECOND, contents=new, pulled=NOON + HOUR)
    assert store.contents(record) == new


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_removal_interrupted_at_each_moment(
    store: PolicyStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    kept = add(store, FIRST, contents=with_card(b"kept"))
    gone = add(store, SECOND, contents={**with_card(b"gone"), "figures/a.png": b"a"})
    with monkeypatch.context() as patch:
        stop_on_call(patch, Path, "unlink", number, Stop())
        with pytest.raises(Stop):
            store.remove(gone.file_name)
    assert store.records() == ((gone, kept) if number == 1 else (kept,))
    for record in store.records():
        assert store.verify(record) == ()
    store.remove(gone.file_name)
    assert len(files(store)) == len(CONTENTS) + 1
    assert store.contents(kept) == with_card(b"kept")


def test_a_store_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    store = PolicyStore(tmp_path / "file" / "store")
    for use in (lambda: add(store), store.records, store.prune):
        with pytest.raises(StoreError, match="OTCACHE_CACHE") as caught:
            use()
        assert caught.value.field == "store"
        assert "Not a directory" in caught.value.problem
    assert (tmp_path / "file").read_text() == "mine"


def test_permissions(store: PolicyStore) -> None:
    record = add(store)
    folders = [store.folder, *(path for path in store.folder.iterdir() if path.is_dir())]
    (store.folder / ".lock").chmod(0o400)
    for folder in folders:
        folder.chmod(0o500)
    try:
        if os.access(store.folder, os.W_OK):
            pytest.skip("this user may write everywhere")
        assert store.contents(store.records()[0]) == CONTENTS
        store.open(record)
        with pytest.raises(StoreError, match=r"Permission denied.*Check its permissions"):
            add(store, SECOND)
        (store.folder / "locks").chmod(0)
        with pytest.raises(StoreError, match="Permission denied"):
            store.records()
    finally:
        for folder in folders:
            folder.chmod(0o700)
        (store.folder / ".lock").chmod(0o600)
    assert store.records() == (record,)


def test_no_temporary_folder_is_needed(
    store: PolicyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = add(store)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert store.open(record).document == read_policy(BUNDLED_FOLDER / "exact-flow").document


# The order of the pulls, and what was asked for.


def test_what_was_pulled_last_is_newest_whatever_the_clock_said(store: PolicyStore) -> None:
    """An author goes back to an earlier commit, and this machine's clock goes back too."""
    earlier = add(store, FIRST, pulled=NOON)
    add(store, SECOND, pulled=NOON + 2 * HOUR)
    again = store.pulled_again(earlier)
    assert store.find(earlier.model)[0] == again
    assert [record.commit for record in store.prune().records] == [SECOND]
    assert store.records() == (again,)


def test_a_commit_pulled_by_another_name_takes_no_place_of_the_default_branchs(
    store: PolicyStore,
) -> None:
    add(store, FIRST)
    proposed = store.add(REPOSITORY, SECOND, "", with_card(b"proposed"), NOON, "refs/pr/1")
    assert store.prune().records == ()
    assert [record.asked for record in store.records()] == ["refs/pr/1", None]
    # Merged, it is the default branch's; and stays so, however it is called later.
    assert store.pulled_again(proposed, None).asked is None
    assert store.pulled_again(proposed, "refs/pr/1").asked is None


def test_a_damaged_document_is_removed(store: PolicyStore) -> None:
    record, other = add(store, FIRST), add(store, SECOND, "other", with_card(b"other"))
    (store.folder / "blobs" / digest(CONTENTS["README.md"])).write_bytes(b"damaged")
    (store.folder / lock_path(FIRST)).write_text("{}")
    store.remove(record.file_name)
    assert (store.records(), store.problems()) == ((other,), ())
    assert store.contents(other) == with_card(b"other")


def test_what_was_removed_meanwhile_is_said_to_be(store: PolicyStore) -> None:
    record = add(store)
    store.remove(record.file_name)
    with pytest.raises(RemovedError, match="another process has removed"):
        store.open(record)


def test_a_list_of_one_moment(store: PolicyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One record appears behind the place that was reached, another vanishes before it."""
    first = add(store, FIRST)
    second = add(store, SECOND)
    both = {record.file_name: record for record in (first, second)}
    moments = iter([[], [second.file_name], [second.file_name]])

    def own(folder: StoreFolder, name: str) -> list[Path]:
        return [folder.path / name / each for each in next(moments)]

    monkeypatch.setattr(StoreFolder, "own", own)
    assert store.records() == (both[second.file_name],)


@pytest.mark.parametrize(("mode", "shared"), [(0o2775, True), (0o755, False), (0o1777, False)])
def test_a_folder_that_a_group_shares(tmp_path: Path, mode: int, shared: bool) -> None:
    home = tmp_path / "cache"
    home.mkdir()
    home.chmod(mode)
    store = PolicyStore(home / "policies")
    before = os.umask(0o022)
    try:
        add(store)
    finally:
        os.umask(before)
    for path in [store.folder, *store.folder.rglob("*")]:
        assert bool(path.stat().st_mode & 0o020) == shared, path
        assert not path.stat().st_mode & 0o002


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OTCACHE_CACHE", str(tmp_path))
    assert default_store_folder() == tmp_path / "policies"
    assert PolicyStore().folder == tmp_path / "policies"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OTCACHE_CACHE", "~/mine")
    assert default_store_folder() == tmp_path / "mine" / "policies"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTCACHE_CACHE", "here")
    assert default_store_folder() == tmp_path / "here" / "policies"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    for unset in (monkeypatch.setenv, lambda name, _: monkeypatch.delenv(name)):
        unset("OTCACHE_CACHE", "")
        assert default_store_folder().parts[-2:] == ("otcache", "policies")
