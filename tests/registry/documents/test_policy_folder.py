"""A document's folder is whole or refused, and replaced all at once or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from otcache_policies import EdgeTable, Schedule
from otcache_registry import (
    DocumentError,
    DocumentNotFoundError,
    GraphSettings,
    PolicyDocument,
    edges_bytes,
    edges_digest,
    read_document,
    read_policy,
    write_policy,
)

CARD = "# The card\n"
MakeEdges = Callable[[int], EdgeTable]


def snapshot(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def store_edges(folder: Path, tensors: dict[str, Any] | bytes) -> None:
    """Put another edge table into a folder, with the digest that belongs to it."""
    data = tensors if isinstance(tensors, bytes) else safetensors.numpy.save(tensors)
    (folder / "edges.safetensors").write_bytes(data)
    document = read_document(folder)
    digest = hashlib.sha256(data).hexdigest()
    text = document.to_json().replace(document.edges_sha256, digest)
    (folder / "policy.json").write_text(text, encoding="utf-8")


def refusal(path: Path) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        read_policy(path)
    return caught.value


def test_what_was_written_is_read(
    policy_folder: Path, valid_document: PolicyDocument, valid_edges: EdgeTable
) -> None:
    stored = read_policy(policy_folder)
    assert stored.document == valid_document
    np.testing.assert_array_equal(stored.edges.velocity_errors, valid_edges.velocity_errors)
    assert np.isinf(stored.edges.velocity_errors[3, 2]).all()
    np.testing.assert_array_equal(stored.edges.sigmas, valid_edges.sigmas)
    assert stored.source == str(policy_folder)
    assert sorted(snapshot(policy_folder)) == [
        "README.md",
        "edges.safetensors",
        "figures/schedules.png",
        "policy.json",
    ]
    assert (policy_folder / "README.md").read_text() == CARD
    assert (policy_folder / "figures" / "schedules.png").read_bytes() == b"\x89PNG"


def test_writing_what_was_read_gives_the_same_bytes(policy_folder: Path, tmp_path: Path) -> None:
    stored = read_policy(policy_folder)
    write_policy(tmp_path / "again", stored.document, stored.edges, CARD)
    again = snapshot(tmp_path / "again")
    assert again == {name: snapshot(policy_folder)[name] for name in again}


def test_path_of_the_document_itself_and_another_source(policy_folder: Path) -> None:
    stored = read_policy(str(policy_folder / "policy.json"), source="hub:user/repo")
    assert stored.source == "hub:user/repo"
    assert stored.document == read_document(policy_folder)


def test_stored_policies_are_usable(policy_folder: Path) -> None:
    stored = read_policy(policy_folder)
    otcache, meancache = stored.otcache_policy(), stored.meancache_policy()
    assert otcache.schedule(4) == stored.document.anchor_schedule
    assert otcache.schedule(8) == stored.document.reference_schedule == meancache.schedule(8)
    assert otcache.rho == 1.3
    assert meancache.settings == otcache.settings == stored.document.graph.edge_settings()
    assert otcache.schedule(12) == Schedule.full(12)


def test_a_stored_policy_goes_through_the_documents_waypoints(
    tmp_path: Path, waypoint_document: PolicyDocument, valid_edges: EdgeTable
) -> None:
    write_policy(tmp_path / "policy", waypoint_document, valid_edges, CARD)
    policy = read_policy(tmp_path / "policy").otcache_policy()
    assert policy.calibrated == waypoint_document.schedules
    assert [schedule.budget for schedule in policy.calibrated] == [4, 5, 7, 8]
    for schedule in waypoint_document.schedules:
        assert policy.schedule(schedule.budget) == schedule


def test_published_schedules_are_a_folder_without_a_table(
    tmp_path: Path, published_document: PolicyDocument
) -> None:
    write_policy(tmp_path / "policy", published_document, None, CARD)
    assert sorted(snapshot(tmp_path / "policy")) == ["README.md", "policy.json"]
    stored = read_policy(tmp_path / "policy")
    assert stored.document == published_document
    assert stored.edges is None
    policy = stored.otcache_policy()
    assert str(policy.budgets) == "4 … 8, or 12"
    assert policy.schedule(6) == Schedule([0, 1, 3, 6, 8, 11], 12, [1, 2, 3, 4, 5])
    with pytest.raises(DocumentError, match="make no shortest path") as caught:
        stored.meancache_policy()
    assert caught.value.field == "edges_sha256"


def test_a_table_beside_published_schedules_is_not_read(
    tmp_path: Path, published_document: PolicyDocument
) -> None:
    write_policy(tmp_path / "policy", published_document, None, CARD)
    (tmp_path / "policy" / "edges.safetensors").write_bytes(b"not a table")
    assert read_policy(tmp_path / "policy").edges is None


def test_a_table_is_written_with_its_document_only(
    tmp_path: Path,
    valid_document: PolicyDocument,
    published_document: PolicyDocument,
    valid_edges: EdgeTable,
) -> None:
    for document, edges in ((published_document, valid_edges), (valid_document, None)):
        with pytest.raises(DocumentError) as caught:
            write_policy(tmp_path / "new", document, edges, CARD)
        assert caught.value.field == "edges_sha256"
    assert os.listdir(tmp_path) == []


def test_digest_is_that_of_the_file(policy_folder: Path, valid_edges: EdgeTable) -> None:
    data = (policy_folder / "edges.safetensors").read_bytes()
    assert data == edges_bytes(valid_edges)
    assert edges_digest(valid_edges) == hashlib.sha256(data).hexdigest()


def test_memory_layout_of_the_table_makes_no_difference(valid_edges: EdgeTable) -> None:
    transposed = EdgeTable(np.asfortranarray(valid_edges.velocity_errors), valid_edges.sigmas)
    assert not transposed.velocity_errors.flags.c_contiguous
    assert edges_bytes(transposed) == edges_bytes(valid_edges)


def with_spread(edges: EdgeTable) -> EdgeTable:
    """The table with a spread that is half the error."""
    errors = edges.velocity_errors
    spread = np.where(np.isfinite(errors), errors / 2, 0)
    return EdgeTable(errors, edges.sigmas, spread)


def test_a_spread_is_kept(
    tmp_path: Path, valid_edges: EdgeTable, make_document: Callable[..., PolicyDocument]
) -> None:
    edges = with_spread(valid_edges)
    write_policy(tmp_path / "policy", make_document(edges), edges, CARD)
    stored = read_policy(tmp_path / "policy").edges
    np.testing.assert_array_equal(stored.velocity_errors, valid_edges.velocity_errors)
    assert stored.spread is not None
    assert stored.spread[0, 2, 0] == stored.velocity_errors[0, 2, 0] / 2 > 0
    np.testing.assert_array_equal(stored.spread, edges.spread)
    data = safetensors.numpy.load_file(tmp_path / "policy" / "edges.safetensors")
    assert {name: str(tensor.dtype) for name, tensor in data.items()} == {
        "velocity_errors": "float32",
        "sigmas": "float64",
        "spread": "float32",
    }


def test_a_table_without_spread_is_the_same_file_as_ever(valid_edges: EdgeTable) -> None:
    tensors = {"sigmas": valid_edges.sigmas, "velocity_errors": valid_edges.velocity_errors}
    assert edges_bytes(valid_edges) == safetensors.numpy.save(tensors)
    assert edges_digest(with_spread(valid_edges)) != edges_digest(valid_edges)


@pytest.mark.parametrize("name", ["nowhere", "nowhere/policy.json", "empty", "x" * 5000])
def test_no_document(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DocumentNotFoundError, match=r"policy\.json and edges\.safetensors"
    ) as caught:
        read_policy(tmp_path / name)
    assert isinstance(caught.value, LookupError)


def damage_edges(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "edges.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return damage


def grow(name: str, size: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        os.truncate(folder / name, size)  # Sparse: takes no room on the disk.

    return damage


@pytest.mark.parametrize(
    ("damage", "field", "words"),
    [
        (damage_edges(lambda data: data[:-1]), "edges_sha256", "has the digest"),
        (damage_edges(lambda data: data[:-1] + b"\x01"), "edges_sha256", "has the digest"),
        (damage_edges(lambda data: b""), "edges_sha256", "has the digest"),
        (grow("edges.safetensors", 2**28 + 1), "edges.safetensors", "above the limit of 268435456"),
        (grow("policy.json", 2**20 + 1), "policy.json", "above the limit of 1048576"),
        (lambda folder: (folder / "edges.safetensors").unlink(), "edges.safetensors", "missing"),
        (lambda folder: (folder / "policy.json").write_bytes(b"\xff"), "policy.json", "not UTF-8"),
        (lambda folder: (folder / "policy.json").write_text("{}"), "schema", "missing"),
    ],
    ids=["truncated", "changed", "empty", "huge", "huge-json", "no-edges", "bytes", "no-fields"],
)
def test_damaged_folders(
    policy_folder: Path, damage: Callable[[Path], None], field: str, words: str
) -> None:
    damage(policy_folder)
    error = refusal(policy_folder)
    assert error.field == field
    assert words in str(error)


def tensors(make_edges: MakeEdges, total: int = 12, **changes: Any) -> dict[str, Any]:
    edges = make_edges(total)
    return {"velocity_errors": edges.velocity_errors, "sigmas": edges.sigmas, **changes}


def zeros(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("content", "field", "words"),
    [
        (lambda make: edges_bytes(make(12))[:-1], "edges.safetensors", "not a safetensors file"),
        (lambda make: b"\x80\x04K\x01.", "edges.safetensors", "not a safetensors file"),
        (lambda make: tensors(make, extra=zeros(1)), "edges.safetensors", "not the tensors"),
        (lambda make: {"sigmas": make(12).sigmas}, "edges.safetensors", "not the tensors"),
        (lambda make: tensors(make, sigmas=zeros(13)), "edges.safetensors", "float64"),
        (lambda make: tensors(make, 13), "edges.velocity_errors", "shape (12, 12, K)"),
        (
            lambda make: tensors(make, velocity_errors=zeros(12, 12)),
            "edges.velocity_errors",
            "not of shape (T, T, K)",
        ),
        (lambda make: tensors(make, sigmas=np.arange(12.0)), "edges.sigmas", "12 entries, not 13"),
        (
            lambda make: tensors(make, sigmas=make(12).sigmas * 0.9),
            "edges.sigmas",
            "not the document's",
        ),
        (
            lambda make: tensors(make, velocity_errors=zeros(12, 12, 3)),
            "edges.velocity_errors[0, 0, 0]",
            "must be +inf",
        ),
        (
            lambda make: tensors(make, spread=np.zeros((12, 12, 3))),
            "edges.safetensors",
            "spread as float32",
        ),
        (
            lambda make: tensors(make, spread=zeros(12, 12, 2)),
            "edges.spread",
            "not of the velocity errors' shape (12, 12, 3)",
        ),
        (
            lambda make: tensors(make, spread=zeros(12, 12, 3) + 1),
            "edges.spread[0, 0, 0]",
            "must be 0",
        ),
    ],
    ids=[
        "truncated",
        "pickle",
        "extra",
        "lacking",
        "dtype",
        "steps",
        "two-dimensional",
        "few-sigmas",
        "other-sigmas",
        "no-infinity",
        "spread-dtype",
        "spread-shape",
        "spread-without-edge",
    ],
)
def test_tables_that_do_not_belong_to_the_document(
    policy_folder: Path,
    make_edges: MakeEdges,
    content: Callable[[MakeEdges], dict[str, Any] | bytes],
    field: str,
    words: str,
) -> None:
    store_edges(policy_folder, content(make_edges))
    error = refusal(policy_folder)
    assert error.field == field
    assert words in str(error)


def test_sigmas_may_differ_in_the_last_digits(policy_folder: Path, make_edges: MakeEdges) -> None:
    store_edges(policy_folder, tensors(make_edges, sigmas=make_edges(12).sigmas + 1e-7))
    read_policy(policy_folder)


def test_look_back_that_the_table_lacks(
    valid_edges: EdgeTable,
    make_document: Callable[..., PolicyDocument],
    tmp_path: Path,
    policy_folder: Path,
) -> None:
    graph = GraphSettings(cost="velocity", gamma=1.0, look_back=4)
    document = make_document(valid_edges, graph=graph)
    with pytest.raises(DocumentError, match=r"graph\.look_back=4.*1 … 3"):
        write_policy(tmp_path / "new", document, valid_edges, CARD)
    (policy_folder / "policy.json").write_text(document.to_json())
    assert refusal(policy_folder).field == "graph.look_back"


def test_parents_are_made_and_others_may_read(
    tmp_path: Path, valid_document: PolicyDocument, valid_edges: EdgeTable
) -> None:
    mask = os.umask(0o022)
    try:
        write_policy(tmp_path / "a" / "b", valid_document, valid_edges, CARD)
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o755
    assert os.listdir(tmp_path / "a") == ["b"]


def test_an_old_document_is_replaced_whole(
    policy_folder: Path, valid_document: PolicyDocument, valid_edges: EdgeTable
) -> None:
    document = valid_document.model_copy(update={"rho": 1.0})
    write_policy(policy_folder, document, valid_edges, "new card")
    assert read_policy(policy_folder).document.rho == 1.0
    assert sorted(snapshot(policy_folder)) == ["README.md", "edges.safetensors", "policy.json"]
    assert os.listdir(policy_folder.parent) == ["policy"]


def test_an_empty_folder_is_filled(
    tmp_path: Path, valid_document: PolicyDocument, valid_edges: EdgeTable
) -> None:
    write_policy(tmp_path, valid_document, valid_edges, CARD)
    assert read_policy(tmp_path).document == valid_document


def test_a_link_to_a_folder_stays_one(
    policy_folder: Path, tmp_path: Path, valid_document: PolicyDocument, valid_edges: EdgeTable
) -> None:
    (tmp_path / "link").symlink_to(policy_folder)
    write_policy(tmp_path / "link", valid_document, valid_edges, "new card")
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
    valid_edges: EdgeTable,
    names: list[str],
    words: str,
) -> None:
    for name in names:
        (tmp_path / name).write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(DocumentError, match=words):
        write_policy(tmp_path, valid_document, valid_edges, CARD)
    with pytest.raises(DocumentError, match="not a folder"):
        write_policy(tmp_path / names[0], valid_document, valid_edges, CARD)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["../a.png", "/a.png", ".png", "a.svg", "a b.png", "a.png\n", ""])
def test_names_of_figures(
    tmp_path: Path, valid_document: PolicyDocument, valid_edges: EdgeTable, name: str
) -> None:
    with pytest.raises(DocumentError, match="no name for a figure"):
        write_policy(tmp_path / "new", valid_document, valid_edges, CARD, {name: b""})
    assert os.listdir(tmp_path) == []


def test_a_table_of_another_document_is_not_written(
    tmp_path: Path, valid_document: PolicyDocument, make_edges: MakeEdges
) -> None:
    with pytest.raises(DocumentError) as caught:
        write_policy(tmp_path / "new", valid_document, make_edges(13), CARD)
    assert caught.value.field == "edges_sha256"
    other = valid_document.model_copy(update={"edges_sha256": edges_digest(make_edges(13))})
    with pytest.raises(DocumentError) as caught:
        write_policy(tmp_path / "new", other, make_edges(13), CARD)
    assert caught.value.field == "edges.velocity_errors"
    assert os.listdir(tmp_path) == []


def test_an_unchecked_copy_is_not_written(
    tmp_path: Path, valid_document: PolicyDocument, valid_edges: EdgeTable
) -> None:
    document = valid_document.model_copy(update={"default_budget": 99})
    with pytest.raises(DocumentError, match="default_budget=99"):
        write_policy(tmp_path / "new", document, valid_edges, CARD)
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
    valid_edges: EdgeTable,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    number: int,
    error: BaseException,
) -> None:
    before = snapshot(policy_folder)
    document = valid_document.model_copy(update={"rho": 1.0})
    with monkeypatch.context() as patch:
        fail_on_call(patch, method, number, error)
        with pytest.raises(type(error)):
            write_policy(policy_folder, document, valid_edges, "new", {"a.png": b""})
    assert snapshot(policy_folder) == before
    assert os.listdir(policy_folder.parent) == ["policy"]
    write_policy(policy_folder, document, valid_edges, "new")
    assert read_policy(policy_folder).document.rho == 1.0


def test_a_failure_leaves_nothing_where_nothing_was(
    tmp_path: Path,
    valid_document: PolicyDocument,
    valid_edges: EdgeTable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail_on_call(monkeypatch, "rename", 1, OSError("no"))
    with pytest.raises(OSError, match="no"):
        write_policy(tmp_path / "new", valid_document, valid_edges, CARD)
    assert os.listdir(tmp_path) == []


def test_the_old_document_outlives_a_failed_way_back(
    policy_folder: Path,
    valid_document: PolicyDocument,
    valid_edges: EdgeTable,
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
        write_policy(policy_folder, valid_document, valid_edges, "new")
    (kept,) = policy_folder.parent.glob(".policy.*/old")
    assert snapshot(kept) == before
