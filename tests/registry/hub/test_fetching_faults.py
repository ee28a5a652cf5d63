"""Pulling from a Hub that fails at any of its requests: the document is there, or nothing is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hub_fixtures import hub_world
from hub_server import HubServer
from hub_world import (
    LASTING,
    MISBEHAVIOURS,
    MODEL,
    OFFICIAL,
    REVISION,
    client_of,
    document_of,
    files_of,
    publish,
    silence,
)
from otcache_policies import FieldError
from otcache_registry import DocumentNotFoundError
from otcache_registry.finding.resolving import Resolved, resolve
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.errors import HubError, HubUnreachableError
from otcache_registry.hub.fetching import pull
from otcache_registry.hub.patience import TRIES, Patience
from otcache_registry.store.store import PolicyStore

REQUESTS = 4
"""Of a pull: what there is, the document, its card, its table."""
RESOLVING = 3
"""Of finding one by name: the search, the document, its table."""
CASES = [
    (name, times, request_number)
    for name, times in [*((name, 1) for name in MISBEHAVIOURS), *((name, None) for name in LASTING)]
    for request_number in range(REQUESTS)
    if (name, request_number) != ("corrupt", 0)  # That is a test of its own.
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubServer, Path]]:
    """A Hub with a document of three files, and its folder."""
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch, hub_world(patch, folder / "home") as hub:
        publish(hub, folder / "document", document_of(), OFFICIAL)
        files = [path for path in hub.files(OFFICIAL) if "figures/" in path]
        hub.commit(OFFICIAL, {}, delete=files)
        for path in (folder / "document" / "figures").iterdir():
            path.unlink()
        yield hub, folder / "document"


@pytest.fixture
def hub(world: tuple[HubServer, Path]) -> Iterator[HubServer]:
    hub, _ = world
    hub.clear_requests()
    yield hub
    hub.faults.clear()
    hub.resume()


@pytest.fixture
def files(world: tuple[HubServer, Path]) -> dict[str, bytes]:
    return files_of(world[1])


@pytest.fixture
def store(tmp_path: Path) -> PolicyStore:
    return PolicyStore(tmp_path)


def check(store: PolicyStore, files: dict[str, bytes]) -> bool:
    """Check that the store has the whole document or nothing; says which."""
    assert store.problems() == ()
    records = store.records()
    for record in records:
        assert store.contents(record) == files
        assert store.open(record).document == document_of()
    return len(records) == 1


def test_a_hub_without_faults(hub: HubServer, store: PolicyStore, files: dict[str, bytes]) -> None:
    pull(client_of(hub), store, OFFICIAL)
    assert len(hub.requests) == REQUESTS
    assert check(store, files)


@pytest.mark.parametrize(("name", "times", "request_number"), CASES)
def test_a_fault(
    hub: HubServer,
    store: PolicyStore,
    files: dict[str, bytes],
    name: str,
    times: int | None,
    request_number: int,
) -> None:
    misbehaviour = MISBEHAVIOURS[name]
    hub.faults.add(misbehaviour.at(request_number, times))
    if misbehaviour.passes and times == 1:
        pull(client_of(hub), store, OFFICIAL)
        assert check(store, files)
    else:
        with pytest.raises(misbehaviour.error):
            pull(client_of(hub), store, OFFICIAL)
        assert len(hub.requests) == request_number + (TRIES if misbehaviour.passes else 1)
        assert not check(store, files)
    hub.faults.clear()
    pull(client_of(hub), store, OFFICIAL)
    assert check(store, files)


def test_a_corrupt_list_of_files(
    hub: HubServer, store: PolicyStore, files: dict[str, bytes]
) -> None:
    """Nothing tells that it is, but whatever is kept is sound, and completed by the next pull."""
    hub.faults.add(MISBEHAVIOURS["corrupt"].at(0, times=1))
    with suppress(FieldError):
        pull(client_of(hub), store, OFFICIAL)
    for record in store.records():
        assert store.open(record).document == document_of()
        assert store.contents(record).items() <= files.items()
    pull(client_of(hub), store, OFFICIAL)
    assert check(store, files)


@pytest.mark.parametrize("request_number", range(REQUESTS))
def test_a_hub_that_stops_listening(
    hub: HubServer, store: PolicyStore, files: dict[str, bytes], request_number: int
) -> None:
    hub.faults.add(MISBEHAVIOURS["dropped"].at(request_number, times=1))
    client = HubClient(
        hub.endpoint, "hf_alice", Patience(sleep=lambda _: hub.stop_listening(), say=silence)
    )
    with pytest.raises(HubUnreachableError, match="Connect"):
        pull(client, store, OFFICIAL)
    assert not check(store, files)
    hub.resume()
    pull(client_of(hub), store, OFFICIAL)
    assert check(store, files)


@pytest.mark.parametrize("name", ["unavailable", "dropped", "truncated", "corrupt"])
def test_a_damaged_store_and_a_failing_hub(
    hub: HubServer, store: PolicyStore, files: dict[str, bytes], name: str
) -> None:
    """Repairing fails at each request in turn, and nothing gets any worse."""
    (record,) = pull(client_of(hub), store, OFFICIAL).records
    blob = store.folder / "blobs" / record.files[1].sha256
    for request_number in range(REQUESTS):
        blob.write_bytes(b"damaged")
        damaged = store.verify(record)
        hub.faults.clear()
        hub.faults.add(MISBEHAVIOURS[name].at(request_number, times=None))
        if (name, request_number) != ("corrupt", 0):
            with pytest.raises(HubError):
                pull(client_of(hub), store, OFFICIAL, record.commit, record.folder)
            assert store.verify(record) == damaged
    hub.faults.clear()
    pull(client_of(hub), store, OFFICIAL, record.commit, record.folder)
    assert check(store, files)


def test_resolving_fails_clearly_at_each_request(hub: HubServer, tmp_path: Path) -> None:
    """Wherever it fails, the error says that it did, and not that there is no policy."""

    def found_in(folder: Path) -> Resolved:
        return resolve(
            ("otcache",),
            MODEL,
            REVISION,
            store=PolicyStore(folder),
            client_factory=lambda: client_of(hub),
            namespaces=("otcache",),
            offline=False,
        )

    for request_number in range(RESOLVING):
        hub.faults.clear()
        hub.faults.add(MISBEHAVIOURS["unavailable"].at(request_number, times=None))
        with pytest.raises(DocumentNotFoundError, match="the Hub failed"):
            found_in(tmp_path / str(request_number))
        assert not PolicyStore(tmp_path / str(request_number)).records()
    hub.clear_requests()
    hub.faults.clear()
    assert found_in(tmp_path / "store").policy.document == document_of()
    assert len(hub.requests) == RESOLVING
