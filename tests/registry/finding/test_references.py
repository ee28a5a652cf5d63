"""Policies named by text: what is understood, what is refused, and what is read from where."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hub_server import HubServer
from otcache_registry import DocumentError, DocumentNotFoundError, PolicyDocument, read_policy
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from otcache_registry.documents.names import document_folder
from otcache_registry.documents.references import (
    BundledReference,
    FolderReference,
    HubReference,
    PolicyReferenceError,
    parse_hub_reference,
    parse_reference,
)
from otcache_registry.finding.loading import load_reference
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.errors import HubNotFoundError, HubOfflineError, HubUnreachableError
from otcache_registry.hub.patience import Patience
from otcache_registry.store.errors import DamagedError
from otcache_registry.store.store import PolicyStore

REPOSITORY = "alice/policies"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FOLDER = "0123abcd/otcache/50-steps-1024x1024-1a2b3c4d"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("./my-policy", FolderReference(Path("my-policy"))),
        ("/a/policy.json", FolderReference(Path("/a/policy.json"))),
        ("alice/policies", FolderReference(Path("alice/policies"))),
        ("bundled:exact-flow", BundledReference("exact-flow")),
        ("hub:alice/policies", HubReference(REPOSITORY)),
        ("hub:alice/policies@v1.0", HubReference(REPOSITORY, "v1.0")),
        ("hub:alice/policies@feature/x", HubReference(REPOSITORY, "feature/x")),
        ("hub:alice/policies@refs/pr/12", HubReference(REPOSITORY, "refs/pr/12")),
        (f"hub:alice/policies@{COMMIT}", HubReference(REPOSITORY, COMMIT)),
        (f"hub:alice/policies#{FOLDER}", HubReference(REPOSITORY, None, FOLDER)),
        (f"hub:a.b-c/d_e@main#{FOLDER}", HubReference("a.b-c/d_e", "main", FOLDER)),
    ],
)
def test_what_a_text_names(text: str, expected: object) -> None:
    assert parse_reference(text) == expected
    assert parse_reference(str(expected)) == expected


@pytest.mark.parametrize("prefix", ["", "hub:"])
def test_hub_prefix_may_be_left_out_where_only_the_hub_is_meant(prefix: str) -> None:
    parsed = parse_hub_reference(f"{prefix}alice/policies@main#{FOLDER}")
    assert parsed == HubReference(REPOSITORY, "main", FOLDER)


def test_only_whole_commits_are_for_good() -> None:
    assert HubReference(REPOSITORY, COMMIT).commit == COMMIT
    for revision in (None, "main", COMMIT[:12], COMMIT.upper(), f"{COMMIT}0"):
        assert HubReference(REPOSITORY, revision).commit is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["names nothing", "bundled:NAME", "hub:user/name[@revision][#folder]"]),
        ("a\0b", ["names nothing"]),
        ("hub:", ["'' is not a repository on the Hub", "Use hub:user/name"]),
        ("hub:alice", ["'alice' is not a repository"]),
        ("hub:alice/a/b", ["'alice/a/b' is not a repository"]),
        ("hub:alice/a--b", ["'alice/a--b' is not a repository"]),
        ("hub:../etc", ["'../etc' is not a repository"]),
        ("hub:alice/" + "n" * 100, ["is not a repository", "up to 96"]),
        ("hub:alice/a@", ["'' is not a revision", "leave @ out"]),
        ("hub:alice/a@-x", ["'-x' is not a revision"]),
        ("hub:alice/a@a..b", ["'a..b' is not a revision"]),
        ("hub:alice/a@a//b", ["'a//b' is not a revision"]),
        ("hub:alice/a@/b", ["'/b' is not a revision"]),
        ("hub:alice/a@b/", ["'b/' is not a revision"]),
        ("hub:alice/a@a b", ["'a b' is not a revision"]),
        ("hub:alice/a@main\n", ["is not a revision"]),
        ("hub:alice/a@" + "r" * 201, ["is not a revision"]),
        ("hub:alice/a@b@c", ["'b@c' is not a revision"]),
        ("hub:alice/a#", ["'' is not a document's folder", "leave # out"]),
        ("hub:alice/a#policies", ["'policies' is not a document's folder"]),
        (f"hub:alice/a#../{FOLDER}", ["is not a document's folder"]),
        (f"hub:alice/a#{FOLDER}/policy.json", ["is not a document's folder"]),
        (f"hub:alice/a#{FOLDER}@main", ["is not a document's folder"]),
    ],
)
def test_refused_texts(text: str, words: list[str]) -> None:
    with pytest.raises(PolicyReferenceError) as refused:
        parse_reference(text)
    assert refused.value.field == "policy"
    assert refused.value.value == text
    for each in words:
        assert each in str(refused.value)


def test_folder_or_its_document(policy_folder: Path) -> None:
    for path in (policy_folder, policy_folder / "policy.json"):
        stored = load_reference(parse_reference(str(path)))
        assert stored.document == read_policy(policy_folder).document
        assert stored.source == str(policy_folder)


def test_bundled() -> None:
    stored = load_reference(parse_reference("bundled:exact-flow"))
    assert stored.document == read_policy(BUNDLED_FOLDER / "exact-flow").document
    assert stored.source == "bundled:exact-flow"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("otcache", ["policy='otcache'", "a policy's name alone names no document"]),
        ("alice/policies", ["no such folder", "is written hub:alice/policies"]),
        ("qwen-image", ["no such folder", "document is written bundled:qwen-image"]),
        ("bundled:flux", ["policy='bundled:flux'", "no such bundled document"]),
        ("bundled:../exact-flow", ["no such bundled document"]),
        ("bundled:", ["no such bundled document"]),
    ],
)
def test_names_that_are_no_documents_list_the_bundled_ones(
    text: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DocumentNotFoundError) as refused:
        load_reference(parse_reference(text))
    for each in (*words, "bundled:embedded, bundled:exact-flow"):
        assert each in str(refused.value)


def test_folder_without_document(tmp_path: Path) -> None:
    with pytest.raises(DocumentNotFoundError, match=r"no policy\.json there"):
        load_reference(FolderReference(tmp_path))


def test_a_folder_of_that_name_is_read(
    policy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(policy_folder, tmp_path / "otcache")
    monkeypatch.chdir(tmp_path)
    assert load_reference(parse_reference("otcache")).source == "otcache"


@pytest.fixture
def hub(hub: HubServer) -> HubServer:
    """With a repository that holds the exact flow's document."""
    hub.create_repo(REPOSITORY)
    put(hub, "exact-flow")
    return hub


@pytest.fixture
def client(hub: HubServer) -> HubClient:
    return HubClient(hub.endpoint, patience=Patience(sleep=lambda _: None))


@pytest.fixture
def store(tmp_path: Path) -> PolicyStore:
    return PolicyStore(tmp_path / "store")


def place_of(name: str) -> str:
    return document_folder(read_policy(BUNDLED_FOLDER / name).document)


def put(hub: HubServer, name: str, card: bytes | None = None) -> str:
    """Publish a bundled document from the inside; returns the commit."""
    folder, place = BUNDLED_FOLDER / name, place_of(name)
    paths = ["policy.json", "tables.safetensors", "README.md"]
    files = {f"{place}/{path}": (folder / path).read_bytes() for path in paths}
    if card is not None:
        files[f"{place}/README.md"] = card
    return hub.commit(REPOSITORY, files)


def test_pulled_once_and_then_read_from_the_store(
    hub: HubServer, client: HubClient, store: PolicyStore
) -> None:
    first = load_reference(HubReference(REPOSITORY), store, client)
    assert first.document == read_policy(BUNDLED_FOLDER / "exact-flow").document
    assert first.tables["velocity_errors"].shape[:2] == (50, 50)
    # Its source names it for good, and needs no Hub.
    assert first.source == f"hub:{REPOSITORY}@{head(hub)}#{place_of('exact-flow')}"
    hub.stop_listening()
    again = load_reference(parse_reference(first.source), store, client)
    assert (again.document, again.source) == (first.document, first.source)
    short = load_reference(HubReference(REPOSITORY, head(hub)), store, client)
    assert short.source == first.source


def head(hub: HubServer) -> str:
    return hub.repositories[REPOSITORY].head.sha


def test_branch_follows_the_hub_and_commit_does_not(
    hub: HubServer, client: HubClient, store: PolicyStore
) -> None:
    old = head(hub)
    hub.tag(REPOSITORY, "v1")
    load_reference(HubReference(REPOSITORY), store, client)
    new = put(hub, "exact-flow", b"# Another card\n")
    commits = {
        revision: load_reference(HubReference(REPOSITORY, revision), store, client).source
        for revision in (None, "main", "v1", old, new)
    }
    place = place_of("exact-flow")
    old_source, new_source = (f"hub:{REPOSITORY}@{commit}#{place}" for commit in (old, new))
    assert commits == {
        None: new_source,
        "main": new_source,
        "v1": old_source,
        old: old_source,
        new: new_source,
    }


def test_several_documents_are_told_apart_by_folder(
    hub: HubServer, client: HubClient, store: PolicyStore
) -> None:
    commit = put(hub, "embedded")
    with pytest.raises(PolicyReferenceError) as refused:
        load_reference(HubReference(REPOSITORY, "main"), store, client)
    assert "holds 2 documents" in str(refused.value)
    for name in ("embedded", "exact-flow"):
        text = f"hub:{REPOSITORY}@main#{place_of(name)}"
        assert text in str(refused.value)
        stored = load_reference(parse_reference(text), store, client)
        assert stored.document.model.id == name
    # From the store just the same: two at that commit, so the commit alone does not say which.
    hub.stop_listening()
    with pytest.raises(PolicyReferenceError, match="holds 2 documents"):
        load_reference(HubReference(REPOSITORY, commit), store, client)


def test_model_revision_says_which_of_several_is_meant(
    hub: HubServer, client: HubClient, store: PolicyStore
) -> None:
    put(hub, "embedded")
    for name in ("embedded", "exact-flow"):
        revision = read_policy(BUNDLED_FOLDER / name).document.model.revision
        found = load_reference(HubReference(REPOSITORY), store, client, model_revision=revision)
        assert found.document.model.id == name
    with pytest.raises(PolicyReferenceError, match="holds 2 documents"):
        load_reference(HubReference(REPOSITORY), store, client, model_revision="another")


def test_missing_documents_and_repositories(
    hub: HubServer, client: HubClient, store: PolicyStore
) -> None:
    hub.create_repo("alice/empty")
    with pytest.raises(DocumentNotFoundError, match="no policy document in alice/empty"):
        load_reference(HubReference("alice/empty"), store, client)
    with pytest.raises(DocumentNotFoundError) as missing:
        load_reference(HubReference(REPOSITORY, folder=FOLDER), store, client)
    assert f"Its documents: {place_of('exact-flow')}" in str(missing.value)
    with pytest.raises(HubNotFoundError):
        load_reference(HubReference("alice/none"), store, client)
    with pytest.raises(HubNotFoundError):
        load_reference(HubReference(REPOSITORY, "v9"), store, client)
    assert store.records() == ()


def test_refused_document_is_not_kept(
    hub: HubServer, client: HubClient, store: PolicyStore
) -> None:
    place = place_of("exact-flow")
    data = json.loads((BUNDLED_FOLDER / "exact-flow" / "policy.json").read_text())
    del data["parameters"]
    hub.commit(REPOSITORY, {f"{place}/policy.json": json.dumps(data).encode()})
    with pytest.raises(DocumentError, match="parameters=None: this field is missing"):
        load_reference(HubReference(REPOSITORY), store, client)
    assert store.records() == ()


@pytest.mark.parametrize("variable", ["OTCACHE_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_the_one_pulled_last_is_read(
    hub: HubServer,
    client: HubClient,
    store: PolicyStore,
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = load_reference(HubReference(REPOSITORY), store, client).source
    put(hub, "exact-flow", b"# Another card\n")
    new = load_reference(HubReference(REPOSITORY), store, client).source
    hub.clear_requests()
    monkeypatch.setenv(variable, "1")
    assert old != new
    assert load_reference(HubReference(REPOSITORY), store, client).source == new
    assert load_reference(parse_reference(old), store, client).source == old
    with pytest.raises(HubOfflineError) as refused:  # Where main is now, only the Hub knows.
        load_reference(HubReference(REPOSITORY, "main"), store, client)
    assert f"the Hub is not asked while {variable} is set" in str(refused.value)
    assert f"In the store: {new}, {old}." in str(refused.value)
    with pytest.raises(HubOfflineError, match="Nothing of it is in the store"):
        load_reference(HubReference("alice/other"), store, client)
    assert hub.requests == []


def test_offline_repository_of_several_needs_a_folder(
    hub: HubServer, client: HubClient, store: PolicyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(hub, "embedded")
    for name in ("embedded", "exact-flow"):
        load_reference(HubReference(REPOSITORY, folder=place_of(name)), store, client)
    monkeypatch.setenv("OTCACHE_OFFLINE", "1")
    with pytest.raises(PolicyReferenceError, match="holds 2 documents"):
        load_reference(HubReference(REPOSITORY), store, client)
    reference = HubReference(REPOSITORY, folder=place_of("embedded"))
    assert load_reference(reference, store, client).document.model.id == "embedded"


def test_unreachable_hub_is_said_and_so_is_what_is_there(
    hub: HubServer, client: HubClient, store: PolicyStore
) -> None:
    pulled = load_reference(HubReference(REPOSITORY), store, client).source
    hub.stop_listening()
    with pytest.raises(HubUnreachableError) as refused:
        load_reference(HubReference(REPOSITORY), store, client)
    assert refused.value.value == f"hub:{REPOSITORY}"
    assert f"In the store: {pulled}." in str(refused.value)


def test_damaged_document_is_pulled_again_unless_offline(
    hub: HubServer, client: HubClient, store: PolicyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled = load_reference(HubReference(REPOSITORY), store, client)
    for blob in (store.folder / "blobs").iterdir():
        blob.write_bytes(b"damaged")
    monkeypatch.setenv("OTCACHE_OFFLINE", "1")
    with pytest.raises(DamagedError, match="Pull the document again"):
        load_reference(parse_reference(pulled.source), store, client)
    monkeypatch.delenv("OTCACHE_OFFLINE")
    repaired = load_reference(parse_reference(pulled.source), store, client)
    assert isinstance(repaired.document, PolicyDocument)
    assert repaired.document == pulled.document
    (record,) = store.records()
    assert store.verify(record) == ()


def test_progress_is_told(hub: HubServer, client: HubClient, store: PolicyStore) -> None:
    told: list[tuple[int, int]] = []
    load_reference(
        HubReference(REPOSITORY), store, client, lambda done, total: told.append((done, total))
    )
    size = sum(
        (BUNDLED_FOLDER / "exact-flow" / name).stat().st_size
        for name in ("policy.json", "tables.safetensors", "README.md")
    )
    assert told[-1] == (size, size)
    assert told == sorted(told)
