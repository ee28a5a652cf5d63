"""Documents on the Hub are listed, searched and fetched into the store, whole or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hub_server import Fault, HubServer
from hub_world import (
    MODEL,
    OFFICIAL,
    REPOSITORY,
    REVISION,
    client_of,
    document_of,
    files_of,
    publish,
    searched,
    write,
)
from otcache_registry import DocumentError, DocumentNotFoundError, PolicyDocument
from otcache_registry.documents.names import document_folder
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.errors import GatedError, HubContentError, HubError, HubNotFoundError
from otcache_registry.hub.fetching import (
    pull,
    read_documents,
)
from otcache_registry.hub.searching import fetch
from otcache_registry.store.errors import DamagedError
from otcache_registry.store.store import PolicyStore

OTHER_REVISION = "f" * 40


@pytest.fixture
def alice(hub: HubServer) -> HubClient:
    return client_of(hub)


@pytest.fixture
def store(tmp_path: Path) -> PolicyStore:
    return PolicyStore(tmp_path / "store")


@pytest.fixture
def document() -> PolicyDocument:
    return document_of()


@pytest.fixture
def folder(document: PolicyDocument) -> str:
    return document_folder(document)


@pytest.fixture
def commit(hub: HubServer, tmp_path: Path, document: PolicyDocument) -> str:
    """The commit that published the document."""
    return publish(hub, tmp_path / "document", document, REPOSITORY)


def downloads(hub: HubServer) -> list[str]:
    """Paths in the repository of all files that were downloaded."""
    requests = hub.requests_to("GET", "/resolve/")
    return [request.path.partition("/resolve/")[2].partition("/")[2] for request in requests]


# Pulling.


@pytest.mark.parametrize("mode", ["regular", "lfs"])
def test_a_pulled_document_is_the_one_published(
    hub: HubServer, alice: HubClient, store: PolicyStore, tmp_path: Path, mode: str
) -> None:
    hub.upload_mode = mode  # type: ignore[assignment]
    document = document_of()
    commit = publish(hub, tmp_path / "document", document, REPOSITORY)
    (record,) = pull(alice, store, REPOSITORY).records
    assert store.contents(record) == files_of(tmp_path / "document")
    assert store.open(record).document == document
    assert store.records() == (record,)
    key = record.repository, record.commit, record.folder
    assert key == (REPOSITORY, commit, document_folder(document))
    assert (record.model, record.revision) == (MODEL, REVISION)
    assert len(hub.requests_to("GET", "/storage/")) == (1 if mode == "lfs" else 0)


def test_only_files_of_a_document_are_fetched(
    hub: HubServer, alice: HubClient, store: PolicyStore, tmp_path: Path, commit: str, folder: str
) -> None:
    strange = ["setup.py", "model.bin", "figures/a.svg", "figures/deep/a.png", "sub/policy.json"]
    others = ["policy.json", "a/policy.json", f"a/{folder}/policy.json"]
    others.append("a/otcache/50-steps/policy.json")
    added = {f"{folder}/{name}": b"strange" for name in strange} | dict.fromkeys(others, b"{}")
    hub.commit(REPOSITORY, added)
    (record,) = pull(alice, store, REPOSITORY).records
    assert store.contents(record) == files_of(tmp_path / "document")
    assert {path.rpartition(folder)[0] for path in downloads(hub)} == {""}
    assert not {path.removeprefix(f"{folder}/") for path in downloads(hub)} & {*strange}


def test_a_revision_is_resolved_once(
    hub: HubServer, alice: HubClient, store: PolicyStore, tmp_path: Path, commit: str
) -> None:
    hub.tag(REPOSITORY, "v1")
    write(tmp_path / "later", document_of(rho=2.5))
    files = files_of(tmp_path / "later")
    place = document_folder(document_of())
    later = hub.commit(REPOSITORY, {f"{place}/{name}": files[name] for name in files})
    first = document_of().parameters["rho"]
    for revision, expected, rho in [
        (None, later, 2.5),
        ("v1", commit, first),
        (commit, commit, first),
    ]:
        (record,) = pull(alice, store, REPOSITORY, revision).records
        assert record.commit == expected
        assert store.open(record).document.parameters["rho"] == rho
    assert not hub.requests_to("GET", "/resolve/(main|v1)/")


def test_one_document_of_several(
    hub: HubServer, alice: HubClient, store: PolicyStore, tmp_path: Path, commit: str, folder: str
) -> None:
    other = document_of(revision=OTHER_REVISION)
    publish(hub, tmp_path / "other", other, REPOSITORY)
    (record,) = pull(alice, store, REPOSITORY, folder=document_folder(other)).records
    assert record.revision == OTHER_REVISION
    assert {path.partition("/")[0] for path in downloads(hub)} == {OTHER_REVISION}
    both = pull(alice, store, REPOSITORY).records
    assert [record.revision for record in both] == [REVISION, OTHER_REVISION]
    with pytest.raises(DocumentNotFoundError, match=f"folder='any/x'.*{folder}") as refused:
        pull(alice, store, REPOSITORY, folder="any/x")
    assert refused.value.field == "folder"


def test_what_the_store_has_is_not_fetched_again(
    hub: HubServer, alice: HubClient, store: PolicyStore, commit: str, folder: str
) -> None:
    (first,) = pull(alice, store, REPOSITORY).records
    hub.clear_requests()
    (again,) = pull(alice, store, REPOSITORY).records
    assert again == first
    assert downloads(hub) == [f"{folder}/policy.json"]


@pytest.mark.parametrize("damage", ["blob", "missing", "record"])
def test_what_is_damaged_is_fetched_again(
    alice: HubClient, store: PolicyStore, commit: str, damage: str
) -> None:
    (record,) = pull(alice, store, REPOSITORY).records
    blob = store.folder / "blobs" / record.files[1].sha256
    if damage == "record":
        (store.folder / "locks" / record.file_name).write_text("{}")
        assert store.records() == ()
    else:
        blob.unlink() if damage == "missing" else blob.write_bytes(b"x" * record.files[1].size)
        with pytest.raises(DamagedError):
            store.open(record)
    (again,) = pull(alice, store, REPOSITORY, record.commit, record.folder).records
    assert again.files == record.files
    assert store.problems() == ()
    assert store.verify(again) == ()


def test_progress(alice: HubClient, store: PolicyStore, tmp_path: Path, hub: HubServer) -> None:
    for revision in (REVISION, OTHER_REVISION):
        publish(hub, tmp_path / revision, document_of(revision=revision), REPOSITORY)
    told: list[tuple[int, int]] = []
    records = pull(
        alice, store, REPOSITORY, progress=lambda done, total: told.append((done, total))
    ).records
    total = sum(record.size for record in records)
    done = [each for each, _ in told]
    assert {each for _, each in told} == {total}
    assert done == sorted(done)
    assert done[-1] == total
    assert len(done) == 10  # Five files of each document.


def test_no_repository_and_no_document(
    hub: HubServer, alice: HubClient, store: PolicyStore, commit: str
) -> None:
    with pytest.raises(HubNotFoundError, match="repository='alice/none'"):
        pull(alice, store, "alice/none")
    with pytest.raises(HubNotFoundError, match=f"repository='{REPOSITORY}@v9'"):
        pull(alice, store, REPOSITORY, "v9")
    hub.create_repo("alice/empty")
    with pytest.raises(DocumentNotFoundError, match="no policy document in alice/empty"):
        pull(alice, store, "alice/empty")
    assert store.records() == ()


# What is refused.


def test_large_files_are_refused_before_they_are_fetched(
    hub: HubServer, alice: HubClient, store: PolicyStore, commit: str, folder: str
) -> None:
    hub.commit(REPOSITORY, {f"{folder}/figures/gaps.png": bytes(10 * 2**20 + 1)})
    with pytest.raises(DocumentError, match=r"figures/gaps.png.*above the limit of 10485760"):
        pull(alice, store, REPOSITORY)
    assert downloads(hub) == []
    assert not store.folder.exists()


def test_many_figures_are_refused(
    hub: HubServer, alice: HubClient, store: PolicyStore, commit: str, folder: str
) -> None:
    hub.commit(REPOSITORY, {f"{folder}/figures/{n}.png": b"" for n in range(49)})
    with pytest.raises(DocumentError, match="51 figures"):
        pull(alice, store, REPOSITORY)
    assert downloads(hub) == []


@pytest.mark.parametrize("place", ["revision", "policy", "set-up"])
def test_a_document_where_another_belongs_is_refused(
    hub: HubServer, alice: HubClient, store: PolicyStore, tmp_path: Path, folder: str, place: str
) -> None:
    revision, policy, key = folder.split("/")
    moved = {
        "revision": f"{OTHER_REVISION}/{policy}/{key}",
        "policy": f"{revision}/strata/{key}",
        "set-up": f"{revision}/{policy}/50-steps-01234567",
    }[place]
    write(tmp_path / "document", document_of())
    hub.create_repo(REPOSITORY)
    files = {f"{moved}/{name}": data for name, data in files_of(tmp_path / "document").items()}
    hub.commit(REPOSITORY, files)
    with pytest.raises(DocumentError, match=f"the document that belongs in {folder}"):
        pull(alice, store, REPOSITORY)
    assert downloads(hub) == [f"{moved}/policy.json"]
    listing = read_documents(alice, alice.snapshot(REPOSITORY))
    assert listing.documents == ()
    assert [refusal.source for refusal in listing.refused] == [
        f"hub:{REPOSITORY}@{hub.head(REPOSITORY)}#{moved}"
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("policy.json", b'{"schema": "otcache.policy/v2"}', "unknown schema"),
        ("policy.json", b"\xff", "not UTF-8"),
        ("policy.json", b"{", "not JSON"),
        ("tables.safetensors", b"not this", "has the digest"),
        ("tables.safetensors", None, "missing"),
    ],
)
def test_invalid_documents_are_refused(
    hub: HubServer,
    alice: HubClient,
    store: PolicyStore,
    commit: str,
    folder: str,
    name: str,
    content: bytes | None,
    says: str,
) -> None:
    path = f"{folder}/{name}"
    hub.commit(
        REPOSITORY, {} if content is None else {path: content}, delete=[path] * (content is None)
    )
    with pytest.raises(DocumentError, match=says):
        pull(alice, store, REPOSITORY)
    assert store.records() == ()


@pytest.mark.parametrize("name", ["policy.json", "tables.safetensors"])
def test_a_refused_document_spoils_only_itself(
    hub: HubServer, alice: HubClient, store: PolicyStore, tmp_path: Path, commit: str, name: str
) -> None:
    other = document_of(revision=OTHER_REVISION)
    publish(hub, tmp_path / "other", other, REPOSITORY)
    newer = b'{"schema": "otcache.policy/v9"}'
    hub.commit(REPOSITORY, {f"{document_folder(other)}/{name}": newer})
    pulled = pull(alice, store, REPOSITORY)
    assert [record.revision for record in pulled.records] == [REVISION]
    (refusal,) = pulled.refused
    assert refusal.source.endswith(f"#{document_folder(other)}")
    assert store.records() == pulled.records


# Listing and searching.


def test_listing(hub: HubServer, alice: HubClient, tmp_path: Path, commit: str) -> None:
    any_revision = document_of(revision=None)
    head = publish(hub, tmp_path / "any", any_revision, REPOSITORY)
    listing = read_documents(alice, alice.snapshot(REPOSITORY))
    assert listing.refused == ()
    assert [each.document for each in listing.documents] == [document_of(), any_revision]
    first, second = listing.documents
    assert (first.repository, first.commit, second.commit) == (REPOSITORY, head, head)
    assert first.source == f"hub:{REPOSITORY}@{head}#{document_folder(document_of())}"
    assert first.size == sum(map(len, files_of(tmp_path / "document").values()))
    assert [path.rpartition("/")[2] for path in downloads(hub)] == ["policy.json"] * 2
    assert len(read_documents(alice, alice.snapshot(REPOSITORY, commit)).documents) == 1


def test_search(hub: HubServer, alice: HubClient, tmp_path: Path) -> None:
    publish(hub, tmp_path / "1", document_of(), OFFICIAL)
    publish(hub, tmp_path / "2", document_of(revision=OTHER_REVISION), OFFICIAL)
    publish(hub, tmp_path / "3", document_of("example/other"), "otcache/other")
    publish(hub, tmp_path / "4", document_of(), "bob/mine")
    publish(hub, tmp_path / "5", document_of(), "alice/mine")

    def found(namespace: str, model: str | None = MODEL) -> list[tuple[str, str | None]]:
        documents, refused = searched(alice, namespace, model)
        assert refused == []
        return [(each.repository, each.listed.revision) for each in documents]

    official = [(OFFICIAL, REVISION), (OFFICIAL, OTHER_REVISION)]
    assert found("otcache") == official
    assert found("otcache", None) == [*official, ("otcache/other", REVISION)]
    assert found("bob") == [("bob/mine", REVISION)]
    assert found("nobody") == []
    asked = {request.query["author"][0] for request in hub.requests_to("GET", "/api/models\\?")}
    assert asked == {"otcache", "bob", "nobody"}
    assert len(hub.requests) == 4  # Nothing but the search itself.


def test_search_in_a_repository_of_several_models(
    hub: HubServer, alice: HubClient, tmp_path: Path
) -> None:
    publish(hub, tmp_path / "1", document_of("example/other"), OFFICIAL)
    publish(hub, tmp_path / "2", document_of(revision=OTHER_REVISION), OFFICIAL)
    found, _ = searched(alice, "otcache")
    assert [(each.listed.model, each.listed.revision) for each in found] == [
        (MODEL, OTHER_REVISION)
    ]


def test_search_needs_the_tags_of_the_card(
    hub: HubServer, alice: HubClient, tmp_path: Path
) -> None:
    publish(hub, tmp_path / "1", document_of(), OFFICIAL)
    hub.commit(OFFICIAL, {"README.md": f"---\nbase_model: {MODEL}\n---\n".encode()})
    assert searched(alice, "otcache") == ([], [])


@pytest.mark.parametrize("model", ["embedded", "/home/me/secret-model", "./model", "a b/c"])
def test_other_names_are_not_sent(hub: HubServer, alice: HubClient, model: str) -> None:
    assert searched(alice, "otcache", model) == ([], [])
    assert hub.requests == []


def test_a_card_that_lists_nothing_spoils_only_itself(
    hub: HubServer, alice: HubClient, tmp_path: Path
) -> None:
    tags = f"tags: [otcache-policy]\nbase_model: {MODEL}\n"
    for name, more in {
        "none": "",
        "text": "otcache: all of them\n",
        "wrong": "otcache: [{folder: x}, 7]\n",
    }.items():
        hub.create_repo(f"bob/{name}")
        hub.commit(f"bob/{name}", {"README.md": f"---\n{tags}{more}---\n".encode()})
    publish(hub, tmp_path / "2", document_of(), "bob/sound")
    found, refused = searched(alice, "bob")
    assert [each.repository for each in found] == ["bob/sound"]
    assert [refusal.source for refusal in refused] == [
        "hub:bob/none",
        "hub:bob/text",
        "hub:bob/wrong",
        "hub:bob/wrong",
    ]


def test_a_closed_repository_is_not_pulled(
    hub: HubServer, alice: HubClient, store: PolicyStore, tmp_path: Path
) -> None:
    hub.create_repo("bob/gated", gated=True)
    publish(hub, tmp_path / "1", document_of(), "bob/gated")
    with pytest.raises(GatedError, match="Accept them on its page"):
        pull(alice, store, "bob/gated")
    hub.grant("bob/gated", "alice")
    assert len(pull(alice, store, "bob/gated").records) == 1


def test_fetching_a_listed_document(
    hub: HubServer, alice: HubClient, tmp_path: Path, commit: str
) -> None:
    ((document,), _) = searched(alice, "alice")
    hub.commit(REPOSITORY, {"README.md": b"later"})
    hub.clear_requests()
    published = files_of(tmp_path / "document")
    needed = ("policy.json", "tables.safetensors")
    assert fetch(alice, document) == {name: published[name] for name in needed}
    assert document.commit == commit
    assert len(hub.requests) == 2


@pytest.mark.parametrize("claim", ["revision", "policy", "sampling", "sha256"])
def test_a_card_that_says_something_else(
    hub: HubServer, alice: HubClient, commit: str, claim: str
) -> None:
    """What a document is chosen by has to be what it says itself."""
    ((document,), _) = searched(alice, "alice")
    sampling = document.listed.sampling.model_copy(update={"num_inference_steps": 28})
    claims = {"revision": OTHER_REVISION, "policy": "strata", "sampling": sampling}
    update = {claim: claims.get(claim, "0" * 64)}
    listed = document.listed.model_copy(update=update)
    with pytest.raises((DocumentError, HubContentError)):
        fetch(alice, dataclasses.replace(document, listed=listed))


def test_a_search_that_fails(hub: HubServer, alice: HubClient) -> None:
    hub.faults.add(Fault("GET", "/api/models", "status", None, status=500))
    with pytest.raises(HubError, match="namespace='otcache': the Hub failed"):
        searched(alice, "otcache")
