"""A document's folder is whole or refused, and replaced all at once or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from example_documents import UNKNOWN_TABLES
from otcache_registry import (
    DocumentError,
    DocumentNotFoundError,
    PolicyDocument,
    Tables,
    check_writable,
    read_document,
    read_policy,
    tables_bytes,
    tables_digest,
    write_policy,
)
from otcache_registry.documents.files import check_files
from otcache_registry.documents.folder import parse_policy
from otcache_registry.documents.names import document_folder, parse_path
from otcache_registry.documents.tables import NO_TABLES

CARD = "# The card\n"


def snapshot(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def store_tables(folder: Path, tensors: dict[str, Any] | bytes) -> None:
    """Put other tables into a folder, with the digest that belongs to them."""
    data = tensors if isinstance(tensors, bytes) else safetensors.numpy.save(tensors)
    (folder / "tables.safetensors").write_bytes(data)
    document = read_document(folder)
    digest = hashlib.sha256(data).hexdigest()
    text = document.to_json().replace(document.tables_sha256, digest)
    (folder / "policy.json").write_text(text, encoding="utf-8")


def refusal(path: Path) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        read_policy(path)
    return caught.value


def test_what_was_written_is_read(
    policy_folder: Path, valid_document: PolicyDocument, valid_tables: Tables
) -> None:
    stored = read_policy(policy_folder)
    assert stored.document == valid_document
    assert stored.tables.keys() == valid_tables.keys() == {"sigmas", "velocity_errors"}
    for name, table in valid_tables.items():
        np.testing.assert_array_equal(stored.tables[name], table)
        assert stored.tables[name].dtype == table.dtype
    assert np.isinf(stored.tables["velocity_errors"][3, 2]).all()
    assert stored.source == str(policy_folder)
    assert sorted(snapshot(policy_folder)) == [
        "README.md",
        "figures/schedules.png",
        "policy.json",
        "tables.safetensors",
    ]
    assert (policy_folder / "README.md").read_text() == CARD
    assert (policy_folder / "figures" / "schedules.png").read_bytes() == b"\x89PNG"


def test_writing_what_was_read_gives_the_same_bytes(policy_folder: Path, tmp_path: Path) -> None:
    stored = read_policy(policy_folder)
    write_policy(tmp_path / "again", stored.document, stored.tables, CARD)
    again = snapshot(tmp_path / "again")
    assert again == {name: snapshot(policy_folder)[name] for name in again}


def test_path_of_the_document_itself_and_another_source(policy_folder: Path) -> None:
    stored = read_policy(str(policy_folder / "policy.json"), source="hub:user/repo")
    assert stored.source == "hub:user/repo"
    assert stored.document == read_document(policy_folder)


def test_published_schedules_are_a_folder_without_a_table(
    tmp_path: Path, published_document: PolicyDocument
) -> None:
    write_policy(tmp_path / "policy", published_document, NO_TABLES, CARD)
    assert sorted(snapshot(tmp_path / "policy")) == ["README.md", "policy.json"]
    stored = read_policy(tmp_path / "policy")
    assert stored.document == published_document
    assert stored.tables == {}


def test_a_table_beside_published_schedules_is_not_read(
    tmp_path: Path, published_document: PolicyDocument
) -> None:
    write_policy(tmp_path / "policy", published_document, NO_TABLES, CARD)
    (tmp_path / "policy" / "tables.safetensors").write_bytes(b"not a table")
    assert read_policy(tmp_path / "policy").tables == {}


def test_a_table_is_written_with_its_document_only(
    tmp_path: Path,
    valid_document: PolicyDocument,
    published_document: PolicyDocument,
    valid_tables: Tables,
) -> None:
    for document, tables in ((published_document, valid_tables), (valid_document, NO_TABLES)):
        with pytest.raises(DocumentError) as caught:
            write_policy(tmp_path / "new", document, tables, CARD)
        assert caught.value.field == "tables_sha256"
    assert os.listdir(tmp_path) == []


def test_digest_is_that_of_the_file(policy_folder: Path, valid_tables: Tables) -> None:
    data = (policy_folder / "tables.safetensors").read_bytes()
    assert data == tables_bytes(valid_tables) == safetensors.numpy.save(dict(valid_tables))
    assert tables_digest(valid_tables) == hashlib.sha256(data).hexdigest()


def test_order_and_memory_layout_of_tables_make_no_difference() -> None:
    first, second = np.arange(6.0).reshape(2, 3), np.ones(4, np.float32)
    transposed = np.asfortranarray(first)
    assert not transposed.flags.c_contiguous
    one = tables_bytes({"first": first, "second": second})
    assert one == tables_bytes({"second": second, "first": transposed})


def test_tables_of_any_policy_are_kept(tmp_path: Path, unknown_document: PolicyDocument) -> None:
    write_policy(tmp_path / "policy", unknown_document, UNKNOWN_TABLES, CARD)
    stored = read_policy(tmp_path / "policy")
    assert stored.document == unknown_document
    np.testing.assert_array_equal(stored.tables["scores"], UNKNOWN_TABLES["scores"])
    assert not stored.tables["scores"].flags.writeable


@pytest.mark.parametrize("name", ["nowhere", "nowhere/policy.json", "empty", "x" * 5000])
def test_no_document(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DocumentNotFoundError, match=r"policy\.json and tables\.safetensors"
    ) as caught:
        read_policy(tmp_path / name)
    assert isinstance(caught.value, LookupError)


def damage_tables(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "tables.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return damage


def grow(name: str, size: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        os.truncate(folder / name, size)  # Sparse: takes no room on the disk.

    return damage


@pytest.mark.parametrize(
    ("damage", "field", "words"),
    [
        (damage_tables(lambda data: data[:-1]), "tables_sha256", "has the digest"),
        (damage_tables(lambda data: data[:-1] + b"\x01"), "tables_sha256", "has the digest"),
        (damage_tables(lambda data: b""), "tables_sha256", "has the digest"),
        (
            grow("tables.safetensors", 2**28 + 1),
            "tables.safetensors",
            "above the limit of 67108864",
        ),
        (grow("policy.json", 2**20 + 1), "policy.json", "above the limit of 1048576"),
        (lambda folder: (folder / "tables.safetensors").unlink(), "tables.safetensors", "missing"),
        (lambda folder: (folder / "policy.json").write_bytes(b"\xff"), "policy.json", "not UTF-8"),
        (lambda folder: (folder / "policy.json").write_text("{}"), "schema", "missing"),
    ],
    ids=["truncated", "changed", "empty", "huge", "huge-json", "no-tables", "bytes", "no-fields"],
)
def test_damaged_folders(
    policy_folder: Path, damage: Callable[[Path], None], field: str, words: str
) -> None:
    damage(policy_folder)
    error = refusal(policy_folder)
    assert error.field == field
    assert words in str(error)


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray[Any, Any]:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("content", "field", "words"),
    [
        (safetensors.numpy.save({"a": zeros(3)})[:-1], "tables.safetensors", "not a safetensors"),
        (b"\x80\x04K\x01.", "tables.safetensors", "not a safetensors file"),
        ({}, "tables.safetensors", "0 arrays"),
        (
            {f"a{number}": zeros(1) for number in range(101)},
            "tables.safetensors",
            "101 arrays. Use 1 … 100",
        ),
        ({"a b": zeros(1)}, "tables.safetensors", "not a name for an array"),
        ({"\x1b[2J": zeros(1)}, "tables.safetensors", "not a name for an array"),
        ({"x" * 101: zeros(1)}, "tables.safetensors", "not a name for an array"),
        ({"a": zeros(1, dtype="complex64")}, "tables.a", "not a type of tables"),
    ],
    ids=["truncated", "pickle", "none", "many", "blank", "escape", "long", "complex"],
)
def test_tables_that_are_none_whatever_the_policy(
    policy_folder: Path, content: dict[str, Any] | bytes, field: str, words: str
) -> None:
    store_tables(policy_folder, content)
    error = refusal(policy_folder)
    assert error.field == field
    assert words in str(error)
    if isinstance(content, dict):
        with pytest.raises(DocumentError, match=re.escape(words)):
            tables_bytes(content)


def test_parents_are_made_and_others_may_read(
    tmp_path: Path, valid_document: PolicyDocument, valid_tables: Tables
) -> None:
    mask = os.umask(0o022)
    try:
        write_policy(tmp_path / "a" / "b", valid_document, valid_tables, CARD)
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o755
    assert os.listdir(tmp_path / "a") == ["b"]


def test_an_old_document_is_replaced_whole(
    policy_folder: Path, valid_document: PolicyDocument, valid_tables: Tables
) -> None:
    document = valid_document.model_copy(update={"default_budget": 7})
    write_policy(policy_folder, document, valid_tables, "new card")
    assert read_policy(policy_folder).document.default_budget == 7
    assert sorted(snapshot(policy_folder)) == ["README.md", "policy.json", "tables.safetensors"]
    assert os.listdir(policy_folder.parent) == ["policy"]


def test_an_empty_folder_is_filled(
    tmp_path: Path, valid_document: PolicyDocument, valid_tables: Tables
) -> None:
    write_policy(tmp_path, valid_document, valid_tables, CARD)
    assert read_policy(tmp_path).document == valid_document


def test_a_link_to_a_folder_stays_one(
    policy_folder: Path, tmp_path: Path, valid_document: PolicyDocument, valid_tables: Tables
) -> None:
    (tmp_path / "link").symlink_to(policy_folder)
    write_policy(tmp_path / "link", valid_document, valid_tables, "new card")
    assert (tmp_path / "link").is_symlink()
    assert (policy_folder / "README.md").read_text() == "new card"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["notes.txt"], r"not empty, and no policy\.json in it"),
        (["policy.json", "notes.txt"], "replacing it would delete notes.txt"),
        (["README.md"], "not empty"),
    ],
)
def test_other_folders_are_left_alone(
    tmp_path: Path,
    valid_document: PolicyDocument,
    valid_tables: Tables,
    names: list[str],
    words: str,
) -> None:
    for name in names:
        (tmp_path / name).write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(DocumentError, match=words):
        write_policy(tmp_path, valid_document, valid_tables, CARD)
    with pytest.raises(DocumentError, match="not a folder"):
        write_policy(tmp_path / names[0], valid_document, valid_tables, CARD)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine", "not empty"),
        ("mine/notes.txt", "not a folder"),
        # Nothing can have so long a name.
        ("x" * 300, "cannot be written"),
        ("new", None),
        ("new/below", None),
        ("empty", None),
        ("document", None),
    ],
)
def test_whether_a_folder_can_be_written_is_said_before(
    tmp_path: Path, policy_folder: Path, name: str, words: str | None
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "document").symlink_to(policy_folder)
    before = sorted(tmp_path.rglob("*"))
    if words is None:
        check_writable(tmp_path / name)
    else:
        with pytest.raises(DocumentError, match=words):
            check_writable(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_content_without_the_document_is_none(valid_tables: Tables) -> None:
    with pytest.raises(DocumentError, match=r"policy\.json=None: this file is missing"):
        parse_policy({"tables.safetensors": tables_bytes(valid_tables)}, "somewhere")


@pytest.mark.parametrize(
    "name", ["../a.png", "/a.png", ".png", "a.svg", "a b.png", "a.png\n", "", "x" * 97 + ".png"]
)
def test_names_of_figures(
    tmp_path: Path, valid_document: PolicyDocument, valid_tables: Tables, name: str
) -> None:
    with pytest.raises(DocumentError, match="not a name for a figure"):
        write_policy(tmp_path / "new", valid_document, valid_tables, CARD, {name: b""})
    assert os.listdir(tmp_path) == []


def test_the_longest_name_of_a_figure_is_the_same_everywhere(
    tmp_path: Path, valid_document: PolicyDocument, valid_tables: Tables
) -> None:
    name = "x" * 96 + ".png"
    write_policy(tmp_path / "new", valid_document, valid_tables, CARD, {name: b""})
    assert len(name) == 100
    check_files({"policy.json": 1, f"figures/{name}": 1})
    folder = document_folder(valid_document)
    assert parse_path(f"{folder}/figures/{name}") is not None
    with pytest.raises(DocumentError, match="not a file of a policy document"):
        check_files({"policy.json": 1, f"figures/x{name}": 1})
    assert parse_path(f"{folder}/figures/x{name}") is None


def test_tables_of_another_document_are_not_written(
    tmp_path: Path, valid_document: PolicyDocument
) -> None:
    with pytest.raises(DocumentError, match="has the digest") as caught:
        write_policy(tmp_path / "new", valid_document, UNKNOWN_TABLES, CARD)
    assert caught.value.field == "tables_sha256"
    assert os.listdir(tmp_path) == []


def test_an_unchecked_copy_is_not_written(
    tmp_path: Path, valid_document: PolicyDocument, valid_tables: Tables
) -> None:
    document = valid_document.model_copy(update={"default_budget": 99})
    with pytest.raises(DocumentError, match="default_budget=99"):
        write_policy(tmp_path / "new", document, valid_tables, CARD)
    assert os.listdir(tmp_path) == []


def fail_on_call(
    monkeypatch: pytest.MonkeyPatch, method: str, number: int, error: BaseException
) -> None:
    """Let the n-th call of a method of Path fail."""
    original: Callable[..., Any] = getattr(Path, method)
    calls = 0

    def failing(self: Path, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise error
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Path, method, failing)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["os", "int"])
@pytest.mark.parametrize(
    ("method", "number"),
    [("write_bytes", 1), ("write_bytes", 2), ("write_bytes", 4), ("rename", 1), ("rename", 2)],
)
def test_a_failure_leaves_the_old_document_whole(
    policy_folder: Path,
    valid_document: PolicyDocument,
    valid_tables: Tables,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    number: int,
    error: BaseException,
) -> None:
    before = snapshot(policy_folder)
    document = valid_document.model_copy(update={"default_budget": 7})
    with monkeypatch.context() as patch:
        fail_on_call(patch, method, number, error)
        with pytest.raises(type(error)):
            write_policy(policy_folder, document, valid_tables, "new", {"a.png": b""})
    assert snapshot(policy_folder) == before
    assert os.listdir(policy_folder.parent) == ["policy"]
    write_policy(policy_folder, document, valid_tables, "new")
    assert read_policy(policy_folder).document.default_budget == 7


def test_a_failure_leaves_nothing_where_nothing_was(
    tmp_path: Path,
    valid_document: PolicyDocument,
    valid_tables: Tables,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail_on_call(monkeypatch, "rename", 1, OSError("no"))
    with pytest.raises(OSError, match="no"):
        write_policy(tmp_path / "new", valid_document, valid_tables, CARD)
    assert os.listdir(tmp_path) == []


def test_the_old_document_outlives_a_failed_way_back(
    policy_folder: Path,
    valid_document: PolicyDocument,
    valid_tables: Tables,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = snapshot(policy_folder)
    original = Path.rename

    def only_away(self: Path, target: Path) -> Path:
        if target.name == "policy":
            raise OSError("read-only")
        return original(self, target)

    monkeypatch.setattr(Path, "rename", only_away)
    with pytest.raises(OSError, match="read-only"):
        write_policy(policy_folder, valid_document, valid_tables, "new")
    (kept,) = policy_folder.parent.glob(".policy.*/old")
    assert snapshot(kept) == before
