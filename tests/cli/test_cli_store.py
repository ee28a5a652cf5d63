"""`otcache store`: what was pulled, what is removed, and where it lies."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from otcache_registry.store.store import PolicyStore

OLD, NEW = "1" * 40, "2" * 40
FOLDER = "any/otcache/50-steps-00000000"
DOCUMENT = (BUNDLED_FOLDER / "z-image" / "policy.json").read_bytes()
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PolicyStore:
    """The user's store, empty."""
    monkeypatch.setenv("OTCACHE_CACHE", str(tmp_path / "cache"))
    return PolicyStore()


def add(store: PolicyStore, commit: str, card: bytes, hours: int = 0) -> None:
    contents = {"policy.json": DOCUMENT, "README.md": card}
    store.add("alice/policies", commit, FOLDER, contents, NOON + timedelta(hours=hours))


def test_path(main: Any, tmp_path: Path) -> None:
    shown = main("store", "path")
    assert (shown.code, shown.out, shown.err) == (0, f"{tmp_path}/cache/policies\n", "")
    as_json = json.loads(main("store", "path", "--json").out)
    assert as_json == {"folder": f"{tmp_path}/cache/policies"}
    assert not (tmp_path / "cache").exists()


def test_empty_store(main: Any, tmp_path: Path) -> None:
    shown = main("store", "list")
    assert (shown.code, shown.out) == (0, "")
    assert shown.err == f"Nothing was pulled to {tmp_path}/cache/policies yet.\n"
    assert json.loads(main("store", "list", "--json").out) == {
        "folder": f"{tmp_path}/cache/policies",
        "own": [],
        "documents": [],
        "problems": [],
    }
    assert "Removed 0 documents, 0 files, 0 bytes." in main("store", "prune").err


def test_list(main: Any, store: PolicyStore) -> None:
    add(store, OLD, b"# A card\n")
    shown = main("store", "list")
    size = len(DOCUMENT) + len(b"# A card\n")
    assert (shown.code, shown.err) == (0, "")
    policy, facts = (line.strip() for line in shown.out.splitlines())
    assert policy == f"hub:alice/policies@{OLD}#{FOLDER}"
    assert facts == (
        "otcache for Tongyi-MAI/Z-Image (any revision), 50 steps, "
        f"{size / 1000:.1f} kB, pulled 2026-01-31"
    )
    (document,) = json.loads(main("store", "list", "--json").out)["documents"]
    assert document == {
        "policy": policy,
        "repository": "alice/policies",
        "commit": OLD,
        "folder": FOLDER,
        "policy_name": "otcache",
        "model": "Tongyi-MAI/Z-Image",
        "revision": None,
        "num_inference_steps": 50,
        "bytes": size,
        "pulled": "2026-01-31T12:00:00+00:00",
    }


def test_damaged_record_is_named_and_pruned(main: Any, store: PolicyStore) -> None:
    add(store, OLD, b"# A card\n")
    (lock,) = (store.folder / "locks").iterdir()
    lock.write_text("{}")
    shown = main("store", "list")
    assert shown.code == 0
    assert "not usable: lock=" in shown.err
    assert "not a lock record" in shown.err
    assert "Removed 0 documents, 3 files" in main("store", "prune").err
    assert main("store", "list").err.startswith("Nothing was pulled")


def test_prune(main: Any, store: PolicyStore) -> None:
    add(store, OLD, b"# The old card\n")
    add(store, NEW, b"# The new card\n", hours=1)
    (lock,) = (path for path in (store.folder / "locks").iterdir() if OLD in path.read_text())
    size = lock.stat().st_size + len(b"# The old card\n")
    pruned = main("store", "prune")
    assert pruned.code == 0
    assert pruned.out.splitlines()[0] == f"hub:alice/policies@{OLD}#{FOLDER}"
    # Its record and its card; the new one has the same policy.json.
    assert pruned.err.startswith("Removed 1 document, 2 files, ")
    assert [record.commit for record in store.records()] == [NEW]
    assert store.verify(store.records()[0]) == ()
    add(store, OLD, b"# The old card\n")
    data = json.loads(main("store", "prune", "--json").out)
    assert [document["commit"] for document in data["documents"]] == [NEW]
    assert (len(data["files"]), data["bytes"]) == (2, size)


def test_removing_several_by_one_name(main: Any, store: PolicyStore) -> None:
    """Only by force, and nothing else than what the name stands for."""
    add(store, OLD, b"# The old card\n")
    add(store, NEW, b"# The new card\n", hours=1)
    contents = {"policy.json": DOCUMENT}
    store.add("alice/others", OLD, FOLDER, contents, NOON)
    refused = main("store", "remove", "hub:alice/policies")
    assert (refused.code, refused.out, len(store.records())) == (2, "", 3)
    assert "stands for 2 documents" in refused.err
    removed = main("store", "remove", "hub:alice/policies", "--force")
    assert removed.code == 0
    assert removed.err.startswith("Removed 2 documents, 4 files, ")  # two records, two cards
    assert removed.out.splitlines()[::2] == [
        f"hub:alice/policies@{commit}#{FOLDER}" for commit in (OLD, NEW)
    ]
    (left,) = store.records()
    assert (left.repository, store.verify(left)) == ("alice/others", ())


def test_a_document_of_ones_own(main: Any, tmp_path: Path) -> None:
    """It is saved, listed, shown by its folder, replaced and removed."""
    source = tmp_path / "calibrated"
    shutil.copytree(BUNDLED_FOLDER / "exact-flow", source)
    saved = main("store", "add", str(source))
    assert saved.code == 0
    folder = Path(saved.out.strip())
    assert folder.parent == tmp_path / "cache" / "policies" / "own" / "exact-flow"
    assert saved.err.startswith("Saved: policy='otcache' finds it before all others for exact-flow")
    assert (folder / "policy.json").read_bytes() == (source / "policy.json").read_bytes()
    assert main("store", "add", str(source)).err.startswith("There already: ")

    assert main("store", "list").out.splitlines()[0] == str(folder)
    first, facts = main("list").out.splitlines()[:2]
    assert (first, facts.endswith(", your own")) == (str(folder), True)
    (listed,) = json.loads(main("store", "list", "--json").out)["own"]
    assert (listed["policy"], listed["model"]) == (str(folder), "exact-flow")
    assert json.loads(main("list", "--json").out)["documents"][0]["place"] == "own"
    assert main("show", str(folder)).out.splitlines()[0] == str(folder)

    (source / "README.md").write_text("# Another card")
    other = json.loads(main("store", "add", str(source), "--json").out)
    assert (other["new"], other["replaced"]) == (True, [str(folder)])
    removed = main("store", "remove", other["policy"])
    assert removed.out == f"{other['policy']}\n"
    assert removed.err.startswith("Removed 1 document, ")
    assert json.loads(main("store", "list", "--json").out)["own"] == []
    assert "not a repository on the Hub" in main("store", "remove", other["policy"]).err


def test_what_is_no_document_is_not_saved(main: Any, tmp_path: Path) -> None:
    source = tmp_path / "calibrated"
    shutil.copytree(BUNDLED_FOLDER / "exact-flow", source)
    (source / "tables.safetensors").write_bytes(b"others")
    refused = main("store", "add", str(source))
    assert (refused.code, refused.out) == (2, "")
    assert "tables.safetensors has the digest" in refused.err
    assert not (tmp_path / "cache").exists()


def test_store_that_cannot_be_written(main: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in its way")
    refused = main("store", "prune")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("error: store=")
    assert "OTCACHE_CACHE" in refused.err


def test_wrong_usage(main: Any) -> None:
    for arguments in ((), ("forget",)):
        refused = main("store", *arguments)
        assert refused.code == 2
        assert "store [OPTIONS] COMMAND [ARGS]" in refused.err
