"""What a name finds is for its user alone to choose: strangers and authors cannot steer it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hub_server import Fault, HubServer, messages
from hub_world import (
    MODEL,
    OFFICIAL,
    REVISION,
    client_of,
    created,
    document_of,
    publish,
    searched,
    write,
)
from otcache_registry import DocumentNotFoundError, PolicyDocument
from otcache_registry.documents import bundled
from otcache_registry.documents.names import document_folder
from otcache_registry.documents.references import parse_reference
from otcache_registry.finding.loading import load_reference
from otcache_registry.finding.resolving import Resolved, resolve
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.errors import HubError, HubRefusedError
from otcache_registry.hub.fetching import pull
from otcache_registry.store.store import PolicyStore

NAMESPACES = ("otcache", "bob")
STRANGERS = ("mallory/policies", "trudy/policies")


class World:
    """A Hub on which anybody publishes, and one user's store."""

    def __init__(self, hub: HubServer, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.store = PolicyStore(folder / "store")
        self.made = 0

    def publish(self, document: PolicyDocument, repository: str) -> str:
        self.made += 1
        return publish(self.hub, self.folder / str(self.made), document, repository)

    def propose(self, document: PolicyDocument, repository: str) -> str:
        """Open a pull request with a document; returns its commit."""
        self.made += 1
        folder = write(self.folder / str(self.made), document)
        place = document_folder(document)
        head = self.hub.head(repository)
        files = {
            f"{place}/{path.relative_to(folder).as_posix()}": path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        self.hub.commit(repository, files)
        proposed = self.hub.head(repository)
        state = self.hub.repositories[repository]
        state.refs["refs/pr/1"], state.refs["refs/heads/main"] = proposed, head
        return proposed

    def look(self, text: str) -> None:
        """Read a document by its name, as `otcache show` does."""
        load_reference(parse_reference(text), self.store, self.client())

    def found(self, **changes: Any) -> Resolved:
        arguments: dict[str, Any] = {
            "store": self.store,
            "client_factory": self.client,
            "namespaces": NAMESPACES,
            "offline": False,
            "remember": 0,
            **changes,
        }
        return resolve(("otcache",), MODEL, REVISION, **arguments)

    def source(self, **changes: Any) -> str:
        return self.found(**changes).policy.source

    def client(self) -> HubClient:
        return client_of(self.hub, None)


@pytest.fixture
def world(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    monkeypatch.setattr(bundled, "BUNDLED_FOLDER", tmp_path / "bundled")
    return World(hub, tmp_path)


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("place", ["bundled", "official"])
def test_looking_at_a_strangers_document_changes_nothing(
    world: World, place: str, offline: bool
) -> None:
    if place == "bundled":
        write(world.folder / "bundled" / "one", document_of())
    else:
        world.publish(document_of(), OFFICIAL)
        world.found()
    before = world.source(offline=offline)
    for stranger in STRANGERS:
        # From the end of time, as its author says.
        world.publish(created(document_of(rho=2.5), 31), stranger)
        world.look(f"hub:{stranger}")
        pull(world.client(), world.store, stranger)
    assert world.source(offline=offline) == before
    named = load_reference(parse_reference(f"hub:{STRANGERS[0]}"), world.store, world.client())
    assert named.document.parameters["rho"] == 2.5


def test_a_strangers_document_is_found_by_nobody_who_did_not_choose_him(world: World) -> None:
    for stranger in STRANGERS:
        world.publish(document_of(), stranger)
        pull(world.client(), world.store, stranger)
    with pytest.raises(DocumentNotFoundError):
        world.found()
    chosen = world.source(namespaces=(*NAMESPACES, "mallory"))
    assert chosen.startswith("hub:mallory/policies@")


def test_the_date_that_an_author_writes_decides_nothing(world: World) -> None:
    calibration = document_of().calibration
    assert calibration is not None
    update = {"created": "9999-12-31T00:00:00+00:00"}
    forever = document_of(calibration=calibration.model_copy(update=update), rho=2.5)
    world.publish(forever, "otcache/older")
    world.publish(document_of(), "otcache/newer")
    assert world.source().startswith("hub:otcache/newer@")


@pytest.mark.parametrize("by", ["revision", "commit"])
@pytest.mark.parametrize("offline", [False, True])
def test_a_pull_request_is_found_only_by_its_name(world: World, by: str, offline: bool) -> None:
    official = world.publish(document_of(), OFFICIAL)
    world.found()
    proposed = world.propose(document_of(rho=2.5), OFFICIAL)
    assert proposed != official == world.hub.head(OFFICIAL)
    name = f"hub:{OFFICIAL}@{'refs/pr/1' if by == 'revision' else proposed}"
    world.look(name)
    assert f"@{official}#" in world.source(offline=offline)
    named = load_reference(parse_reference(name), world.store, world.client())
    assert named.document.parameters["rho"] == 2.5
    assert {record.asked for record in world.store.records()} == {None, name.partition("@")[2]}


def test_a_pull_request_alone_finds_nothing(world: World) -> None:
    world.hub.create_repo(OFFICIAL)
    world.propose(document_of(), OFFICIAL)
    world.look(f"hub:{OFFICIAL}@refs/pr/1")
    with pytest.raises(DocumentNotFoundError):
        world.found()


def test_a_document_of_another_model_beside_the_one_that_was_meant(world: World) -> None:
    """A repository tagged for one model, with a document for another one in it."""
    world.publish(document_of("example/other", "1" * 40), STRANGERS[0])
    world.publish(document_of(), STRANGERS[0])
    pulled = pull(world.client(), world.store, STRANGERS[0])
    assert sorted(record.model for record in pulled.records) == [MODEL, "example/other"]
    with pytest.raises(DocumentNotFoundError):
        world.found()


@pytest.mark.parametrize("status", [400, 409, 451, 500])
def test_one_bad_repository_spoils_only_itself(world: World, status: int) -> None:
    world.publish(document_of(), "bob/sound")
    world.publish(document_of(), OFFICIAL)
    world.hub.faults.add(Fault("GET", f"{OFFICIAL}/resolve", "status", None, status=status))
    found = world.found()
    assert found.policy.source.startswith("hub:bob/sound@")
    assert [note.startswith(f"hub:{OFFICIAL}@") for note in found.notes] == [True]


@pytest.mark.parametrize("status", [400, 409, 451])
def test_one_bad_namespace_spoils_only_itself(world: World, status: int) -> None:
    world.publish(document_of(), "bob/sound")
    world.hub.faults.add(Fault("GET", "author=otcache", "status", None, status=status))
    found = world.found()
    assert found.policy.source.startswith("hub:bob/sound@")
    assert "namespace='otcache'" in found.notes[0]


def test_a_gated_repository_and_one_of_wrong_bytes(world: World) -> None:
    world.hub.create_repo("otcache/gated", gated=True)
    world.publish(document_of(), "otcache/gated")
    world.publish(document_of(), "otcache/wrong")
    world.publish(document_of(), "bob/sound")
    world.hub.faults.add(Fault("GET", "otcache/wrong/resolve", "corrupt", None))
    found = world.found()
    assert found.policy.source.startswith("hub:bob/sound@")
    assert sorted(note.partition("@")[0] for note in found.notes) == [
        "hub:otcache/gated",
        "hub:otcache/wrong",
    ]


# What came is what was asked for.


def answering(world: World, change: Any, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the Hub change what it answers to requests whose path ends like this."""
    answered = world.hub.answered

    def other(request: messages.Request) -> messages.Response:
        response = answered(request)
        if not request.path.endswith(path):
            return response
        return messages.Response.of_json(change(json.loads(response.body)))

    monkeypatch.setattr(world.hub, "answered", other)


def test_a_pinned_commit_that_is_answered_with_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = world.publish(document_of(), OFFICIAL)
    other = world.publish(document_of(rho=2.5), OFFICIAL)
    answering(world, lambda info: {**info, "sha": other}, f"revision/{pinned}", monkeypatch)
    with pytest.raises(HubRefusedError, match=f"answers with another one, '{other}'"):
        world.look(f"hub:{OFFICIAL}@{pinned}")
    assert world.store.records() == ()


def test_a_repository_that_is_answered_with_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish(document_of(), OFFICIAL)
    answering(world, lambda info: {**info, "id": STRANGERS[0]}, OFFICIAL, monkeypatch)
    with pytest.raises(HubRefusedError, match="answers with another one, 'mallory/policies'"):
        world.look(f"hub:{OFFICIAL}")


def test_a_file_of_another_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish(document_of(), OFFICIAL)
    answered = world.hub.answered

    def other(request: messages.Request) -> messages.Response:
        response = answered(request)
        if "/resolve/" not in request.path:
            return response
        headers = {**response.headers, "X-Repo-Commit": "f" * 40}
        return messages.Response(response.status, headers, response.body)

    monkeypatch.setattr(world.hub, "answered", other)
    with pytest.raises(HubError, match="answers with another one"):
        world.look(f"hub:{OFFICIAL}")


def test_a_search_answered_with_somebody_elses_repository(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish(document_of(), OFFICIAL)

    def foreign(models: Any) -> Any:
        return [{**model, "id": STRANGERS[0]} for model in models] + models

    answering(world, foreign, "/api/models", monkeypatch)
    documents, refused = searched(world.client(), "otcache")
    assert [each.repository for each in documents] == [OFFICIAL]
    assert [each.source for each in refused] == [f"hub:{STRANGERS[0]}"]
    found = world.found(namespaces=("otcache",))
    assert found.policy.source.startswith(f"hub:{OFFICIAL}@")
    assert found.notes[0].startswith(f"hub:{STRANGERS[0]} was left out")


# Going back.


@pytest.mark.parametrize("offline", [False, True])
def test_an_author_who_goes_back_to_an_earlier_commit(world: World, offline: bool) -> None:
    earlier = world.publish(document_of(), OFFICIAL)
    pull(world.client(), world.store, OFFICIAL)
    world.publish(document_of(rho=2.5), OFFICIAL)
    pull(world.client(), world.store, OFFICIAL)
    world.hub.repositories[OFFICIAL].refs["refs/heads/main"] = earlier
    pull(world.client(), world.store, OFFICIAL)
    assert f"@{earlier}#" in world.source(offline=offline)
    world.store.prune()
    assert [record.commit for record in world.store.records()] == [earlier]
