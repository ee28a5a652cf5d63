"""Publishing to a Hub that fails at any of its requests: all of a document is there, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_fixtures import hub_world
from hub_server import Fault, HubServer
from hub_world import (
    LASTING,
    MISBEHAVIOURS,
    REPOSITORY,
    client_of,
    document_of,
    files_of,
    silence,
    write,
)
from otcache_registry.documents.names import document_folder
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.errors import CommitUnknownError, HubError, HubUnreachableError
from otcache_registry.hub.patience import Patience
from otcache_registry.hub.publishing import Published, TagError, push

REQUESTS = (
    "look",
    "create",
    "look again",
    "validate",
    "preupload",
    "commit",
    "tag",
    "look at the tag",
)
CREATE, COMMIT, TAG = (REQUESTS.index(name) for name in ("create", "commit", "tag"))
CASES = [
    (name, times, number)
    for name, times in [*((name, 1) for name in MISBEHAVIOURS), *((name, None) for name in LASTING)]
    for number in range(len(REQUESTS))
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch, hub_world(patch, folder / "home") as hub:
        yield hub


@pytest.fixture
def hub(server: HubServer) -> Iterator[HubServer]:
    """A Hub without repositories."""
    server.repositories.clear()
    server.clear_requests()
    yield server
    server.faults.clear()
    server.resume()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A document without evidence: its card is made in no time."""
    return write(tmp_path_factory.mktemp("document") / "policy", document_of(evidence=()))


def publish(client: HubClient, folder: Path) -> Published:
    return push(client, folder, REPOSITORY, tag="v1", without_evidence=True)


def is_published(hub: HubServer, folder: Path) -> bool:
    """Check that all of the document is there, once, or nothing; says which."""
    if REPOSITORY not in hub.repositories:
        return False
    assert hub.branches(REPOSITORY).keys() == {"main"}
    assert hub.pull_requests(REPOSITORY) == []
    commits, files = hub.commits(REPOSITORY), hub.files(REPOSITORY)
    del files[".gitattributes"]
    if len(commits) == 1:
        assert (files, hub.tags(REPOSITORY)) == ({}, {})
        return False
    assert len(commits) == 2
    place = document_folder(document_of())
    assert files.pop("README.md").startswith(b"---\nbase_model:\n- example/model\n")
    assert files == {f"{place}/{name}": data for name, data in files_of(folder).items()}
    assert hub.tags(REPOSITORY) in ({}, {"v1": hub.head(REPOSITORY)})
    return True


def test_a_hub_without_faults(hub: HubServer, folder: Path) -> None:
    publish(client_of(hub), folder)
    asked = [f"{request.method} {request.path}" for request in hub.requests]
    assert asked == [
        f"GET /api/models/{REPOSITORY}",
        "POST /api/repos/create",
        f"GET /api/models/{REPOSITORY}",
        "POST /api/validate-yaml",
        f"POST /api/models/{REPOSITORY}/preupload/main",
        f"POST /api/models/{REPOSITORY}/commit/main",
        f"POST /api/models/{REPOSITORY}/tag/{hub.head(REPOSITORY)}",
        f"GET /api/models/{REPOSITORY}/revision/v1",
    ]
    assert is_published(hub, folder)


@pytest.mark.parametrize(("name", "times", "number"), CASES)
def test_a_fault(hub: HubServer, folder: Path, name: str, times: int | None, number: int) -> None:
    misbehaviour = MISBEHAVIOURS[name]
    hub.faults.add(misbehaviour.at(number, times))
    try:
        done = publish(client_of(hub), folder)
    except (HubError, TagError) as error:
        expected = TagError if number >= TAG else (misbehaviour.error, CommitUnknownError)
        problem = None if isinstance(error, expected) else repr(error)
        assert problem is None
        # A commit whose answer is lost stands, and only then is nothing promised.
        unknown = isinstance(error, CommitUnknownError) and name in ("unanswered", "corrupt")
        assert is_published(hub, folder) == (number >= TAG) or unknown
        assert name == "corrupt" or not (misbehaviour.passes and times == 1)
    else:
        assert is_published(hub, folder)
        assert hub.tags(REPOSITORY) == {"v1": done.commit}
        assert done.commit == hub.head(REPOSITORY)
    hub.faults.clear()
    done = publish(client_of(hub), folder)
    assert is_published(hub, folder)
    assert hub.tags(REPOSITORY) == {"v1": done.commit}


@pytest.mark.parametrize(
    ("name", "number", "error"),
    [
        ("unauthorised", CREATE, HubError),
        ("forbidden", CREATE, HubError),
        ("unauthorised", COMMIT, HubError),
        ("forbidden", COMMIT, HubError),
        ("missing", COMMIT, HubError),
        ("unavailable", COMMIT, CommitUnknownError),
    ],
)
def test_refusals_are_errors(
    hub: HubServer, folder: Path, name: str, number: int, error: type[HubError]
) -> None:
    misbehaviour = MISBEHAVIOURS[name]
    times = None if misbehaviour.passes else 1
    hub.faults.add(misbehaviour.at(number, times))
    with pytest.raises(misbehaviour.error if error is HubError else error):
        publish(client_of(hub), folder)
    assert not is_published(hub, folder)


@pytest.mark.parametrize("name", ["busy", "failing", "unavailable", "dropped", "unanswered"])
def test_a_commit_that_fails_once_is_made_once(hub: HubServer, folder: Path, name: str) -> None:
    hub.faults.add(MISBEHAVIOURS[name].at(COMMIT, times=1))
    assert publish(client_of(hub), folder).outcome == "published"
    assert is_published(hub, folder)
    posted = hub.requests_to("POST", "/commit/")
    assert len(posted) == (1 if name == "unanswered" else 2)


@pytest.mark.parametrize("number", [number for number in range(len(REQUESTS)) if number != 4])
def test_a_hub_that_stops_listening(hub: HubServer, folder: Path, number: int) -> None:
    """At every request but one that huggingface_hub tries again itself, without a pause here."""
    hub.faults.add(MISBEHAVIOURS["dropped"].at(number, times=1))
    client = HubClient(
        hub.endpoint, "hf_alice", Patience(sleep=lambda _: hub.stop_listening(), say=silence)
    )
    with pytest.raises(TagError if number >= TAG else HubUnreachableError, match="Connect"):
        publish(client, folder)
    assert is_published(hub, folder) == (number >= TAG)
    hub.resume()
    publish(client_of(hub), folder)
    assert is_published(hub, folder)


by_lfs = pytest.mark.filterwarnings(
    # huggingface_hub 2.4 hands files to its HTTP library as data=, which that deprecates.
    "ignore:Use 'content=<...>' to upload raw bytes/text content:DeprecationWarning"
)


@by_lfs
@pytest.mark.parametrize("path", ["/info/lfs/objects/batch", "/storage/", "/objects/verify"])
@pytest.mark.parametrize("name", ["unavailable", "dropped", "unanswered", "forbidden"])
@pytest.mark.parametrize("times", [1, None])
def test_a_fault_while_large_files_are_uploaded(
    monkeypatch: pytest.MonkeyPatch,
    hub: HubServer,
    folder: Path,
    path: str,
    name: str,
    times: int | None,
) -> None:
    monkeypatch.setattr(hub, "upload_mode", "lfs")
    hub.objects.clear()
    misbehaviour = MISBEHAVIOURS[name]
    fault = misbehaviour.at(0, times)
    hub.faults.add(Fault("POST|PUT", path, fault.kind, times, status=fault.status))
    try:
        publish(client_of(hub), folder)
    except HubError as error:
        problem = None if isinstance(error, (misbehaviour.error, CommitUnknownError)) else error
        assert problem is None
        assert not (misbehaviour.passes and times == 1)
        assert not is_published(hub, folder)
    else:
        # What was uploaded, though nobody confirmed it, is there at the next try.
        assert misbehaviour.passes
        assert times == 1 or path != "/info/lfs/objects/batch"
        assert is_published(hub, folder)
    hub.faults.clear()
    publish(client_of(hub), folder)
    assert is_published(hub, folder)
