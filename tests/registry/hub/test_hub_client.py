"""The registry's client of the Hub: what it reads, when it tries again, and how it fails."""

from __future__ import annotations

import hashlib
import logging
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version

import pytest
from hub_server import Fault, HubServer, messages
from hub_server.faults import FaultKind
from hub_world import client_of
from huggingface_hub import constants
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.committing import Changes
from otcache_registry.hub.errors import (
    CommitUnknownError,
    ForbiddenError,
    GatedError,
    HubAccessError,
    HubConflictError,
    HubContentError,
    HubError,
    HubNotFoundError,
    HubOfflineError,
    HubRefusedError,
    HubServerError,
    HubUnreachableError,
    LoginError,
    RateLimitError,
    refused,
    retry_after,
)
from otcache_registry.hub.listed import RemoteFile
from otcache_registry.hub.patience import TRIES
from otcache_registry.hub.transport import Answer

NAME = "alice/x"
SECRET = "hf_" + "Abc123" * 6


@pytest.fixture
def hub(hub: HubServer) -> HubServer:
    """With one repository of alice's that has a small and a large file."""
    hub.upload_mode = "lfs"
    hub.create_repo(NAME)
    hub.commit(NAME, {"a/small.json": b"{}", "large.safetensors": b"large" * 99})
    return hub


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def alice(hub: HubServer, pauses: list[float]) -> HubClient:
    return client_of(hub, "hf_alice", pauses)


def large(alice: HubClient) -> bytes:
    snapshot = alice.snapshot(NAME)
    return alice.content(NAME, snapshot.commit, snapshot.files["large.safetensors"])


READING: dict[str, Callable[[HubClient], object]] = {
    "/api/whoami-v2": lambda client: client.user(),
    "blobs": lambda client: client.snapshot(NAME),
    "/storage/": large,
    "/api/models\\?": lambda client: list(client.search("alice", ("a-tag",))),
    "/refs": lambda client: client.pull_requests(NAME),
    "/api/repos/create": lambda client: client.create_repository("alice/new", False),
    "/tag/": lambda client: client.tag(NAME, client.snapshot(NAME).commit, "v1"),
}
reading = pytest.mark.parametrize("path", READING)

# What is read.


def test_user(alice: HubClient) -> None:
    assert alice.user() == "alice"


def test_snapshot(hub: HubServer, alice: HubClient) -> None:
    snapshot = alice.snapshot(NAME)
    assert (snapshot.repository, snapshot.private) == (NAME, False)
    assert snapshot.commit == hub.head(NAME)
    assert snapshot.files.keys() == {".gitattributes", "a/small.json", "large.safetensors"}
    blob = hashlib.sha1(b"blob 2\0{}").hexdigest()
    assert snapshot.files["a/small.json"] == RemoteFile("a/small.json", 2, blob, None)
    stored = snapshot.files["large.safetensors"]
    assert (stored.size, stored.sha256) == (495, hashlib.sha256(b"large" * 99).hexdigest())


def test_snapshots_of_revisions(hub: HubServer, alice: HubClient) -> None:
    first = hub.head(NAME)
    hub.tag(NAME, "v1")
    second = hub.commit(NAME, {"b": b"b"})
    third = hub.commit(NAME, {"c": b"c"}, revision="side/branch")
    found = {None: second, "main": second, "v1": first, first: first, "side/branch": third}
    for revision, commit in found.items():
        assert alice.snapshot(NAME, revision).commit == commit
    hub.create_repo("alice/hidden", private=True)
    assert alice.snapshot("alice/hidden").private


def test_content(hub: HubServer, alice: HubClient) -> None:
    snapshot = alice.snapshot(NAME)
    hub.commit(NAME, {"a/small.json": b"later"})
    assert alice.content(NAME, snapshot.commit, snapshot.files["a/small.json"]) == b"{}"
    assert large(alice) == b"large" * 99
    # The storage's addresses are signed, and it is not the Hub: it gets no token.
    assert [request.token for request in hub.requests_to("GET", "/storage/")] == [None]
    assert {request.token for request in hub.requests_to("GET", "/resolve/")} == {"hf_alice"}


def test_search_in_one_namespace_by_all_tags(hub: HubServer, alice: HubClient) -> None:
    def add(name: str, tags: str) -> None:
        hub.create_repo(name)
        hub.commit(name, {"README.md": f"---\ntags: [{tags}]\n---\n".encode()})

    for number in range(5):
        add(f"otcache/{number}", "one, two")
    add("otcache/other", "one")
    add("bob/0", "one, two")
    hub.page_size = 2
    listed = list(alice.search("otcache", ("one", "two")))
    found = [each for page in listed for each in page.found]
    assert sorted(each.repository for each in found) == [f"otcache/{n}" for n in range(5)]
    assert {each.commit for each in found} == {hub.head(each.repository) for each in found}
    assert [page.foreign for page in listed] == [()] * 3
    pages = hub.requests_to("GET", "/api/models\\?")
    assert [request.token for request in pages] == ["hf_alice"] * 3
    (page,) = alice.search("nobody", ("one",))
    assert (page.found, page.foreign) == ((), ())


def test_pull_requests_newest_first(hub: HubServer, alice: HubClient) -> None:
    assert alice.pull_requests(NAME) == ()
    for number in range(11):
        changes = Changes(f"Change {number}", {"b": str(number).encode()})
        client_of(hub, "hf_bob").propose(NAME, changes, hub.head(NAME))
    assert alice.pull_requests(NAME) == tuple(f"refs/pr/{n}" for n in range(11, 0, -1))


def test_the_hub_is_told_who_asks(hub: HubServer, alice: HubClient) -> None:
    large(alice)
    agents = {request.headers["user-agent"] for request in hub.requests}
    assert all(f"otcache/{version('otcache-plugin')};" in agent for agent in agents)


def test_nobody_is_logged_in(hub: HubServer, pauses: list[float]) -> None:
    anonymous = client_of(hub, None, pauses)
    assert anonymous.snapshot(NAME).commit == hub.head(NAME)
    with pytest.raises(LoginError, match=r"nobody is logged in.* hf auth login, or set HF_TOKEN"):
        anonymous.user()
    assert pauses == []


# What is written.


def test_commit(hub: HubServer, alice: HubClient) -> None:
    parent = hub.head(NAME)
    added = {"b/new.json": b"[]", "new.safetensors": b"new"}
    made = alice.commit(NAME, Changes("A title", added, ("a/small.json",)), parent)
    assert (made.oid, made.pull_request) == (hub.head(NAME), None)
    files = hub.files(NAME)
    del files[".gitattributes"]
    assert files == {**added, "large.safetensors": b"large" * 99}
    assert [commit.title for commit in hub.commits(NAME)][:1] == ["A title"]
    assert hub.commits(NAME)[0].parent == parent


def test_commit_after_another_one(hub: HubServer, alice: HubClient) -> None:
    parent = hub.head(NAME)
    theirs = hub.commit(NAME, {"theirs": b"1"})
    with pytest.raises(HubConflictError, match="somebody else changed it meanwhile"):
        alice.commit(NAME, Changes("Mine", {"mine": b"2"}), parent)
    assert hub.head(NAME) == theirs


@pytest.mark.parametrize("kind", ["drop", "lose_answer", "truncate", "status"])
def test_a_commit_is_asked_for_once(
    hub: HubServer, alice: HubClient, pauses: list[float], kind: FaultKind
) -> None:
    hub.faults.add(Fault("POST", "/commit/", kind, times=None))
    with pytest.raises(CommitUnknownError, match="recognised, and not published twice"):
        alice.commit(NAME, Changes("A title", {"b": b"2"}), hub.head(NAME))
    assert len(hub.requests_to("POST", "/commit/")) == 1
    assert pauses == []
    was_made = kind in ("lose_answer", "truncate")
    assert len(hub.commits(NAME)) == (3 if was_made else 2)


def test_a_refused_card(hub: HubServer, alice: HubClient) -> None:
    bad = Changes("A title", {"README.md": b"---\nbase_model: not/a/model\n---\n"})
    with pytest.raises(HubRefusedError, match='"base_model" with value "not/a/model"'):
        alice.commit(NAME, bad, hub.head(NAME))
    assert len(hub.commits(NAME)) == 2


def test_propose(hub: HubServer, alice: HubClient) -> None:
    head = hub.head(NAME)
    made = client_of(hub, "hf_bob").propose(NAME, Changes("Mine", {"b": b"2"}), head)
    assert made.pull_request == f"{hub.endpoint}/{NAME}/discussions/1"
    assert (made.oid, hub.head(NAME)) == (hub.head(NAME, "refs/pr/1"), head)
    assert alice.snapshot(NAME, "refs/pr/1").files.keys() - alice.snapshot(NAME).files == {"b"}


def test_tag(hub: HubServer, alice: HubClient) -> None:
    first = hub.head(NAME)
    alice.tag(NAME, first, "v1")
    alice.tag(NAME, first, "v1")
    assert hub.tags(NAME) == {"v1": first}
    second = hub.commit(NAME, {"b": b"2"})
    with pytest.raises(HubConflictError, match="exists already"):
        alice.tag(NAME, second, "v1")
    assert hub.tags(NAME) == {"v1": first}


def test_create_repository(hub: HubServer, alice: HubClient) -> None:
    alice.create_repository("otcache/new", private=True)
    assert hub.repositories["otcache/new"].private
    alice.create_repository("otcache/new", private=True)


# Failures that may pass.


@reading
@pytest.mark.parametrize("kind", ["status", "drop", "truncate", "drop_body", "lose_answer"])
def test_reading_is_tried_again(
    hub: HubServer, alice: HubClient, pauses: list[float], path: str, kind: FaultKind
) -> None:
    hub.faults.add(Fault(".*", path, kind))
    READING[path](alice)
    assert len(pauses) <= 1
    assert len(hub.requests_to(".*", path)) >= 2 or kind == "truncate"
    assert hub.tags(NAME) == ({"v1": hub.head(NAME)} if path == "/tag/" else {})


@reading
@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("status", 500, HubServerError),
        ("status", 503, HubServerError),
        ("status", 429, RateLimitError),
        ("drop", 0, HubUnreachableError),
    ],
)
def test_it_is_tried_a_few_times_with_growing_pauses(
    hub: HubServer,
    alice: HubClient,
    pauses: list[float],
    path: str,
    kind: FaultKind,
    status: int,
    error: type[HubError],
) -> None:
    hub.faults.add(Fault(".*", path, kind, None, status=status))
    with pytest.raises(error, match=r"(?i)try again") as failed:
        READING[path](alice)
    assert type(failed.value) is error
    assert len(hub.requests_to(".*", path)) == TRIES == len(pauses) + 1
    for pause, least in zip(pauses, [0.5, 1.0, 2.0], strict=True):
        assert least <= pause <= least + 0.5


def test_nobody_listens(hub: HubServer, alice: HubClient, pauses: list[float]) -> None:
    hub.stop_listening()
    with pytest.raises(HubUnreachableError, match=r"Connect.*Check the connection"):
        alice.snapshot(NAME)
    assert len(pauses) == TRIES - 1
    hub.resume()
    assert alice.snapshot(NAME).commit == hub.head(NAME)


def test_slow_answers_are_waited_for(hub: HubServer, alice: HubClient, pauses: list[float]) -> None:
    hub.faults.add(Fault("GET", "", "slow", seconds=0.05))
    hub.faults.add(Fault("GET", "/storage/", "drip", seconds=0.01))
    assert large(alice) == b"large" * 99
    assert pauses == []


@pytest.mark.parametrize("status", [429, 503])
def test_the_hub_says_how_long_to_wait(
    hub: HubServer, alice: HubClient, pauses: list[float], status: int
) -> None:
    hub.faults.add(Fault("GET", "blobs", "status", 2, status=status, retry_after=7))
    assert alice.snapshot(NAME).commit == hub.head(NAME)
    assert pauses == [7.0, 7.0]


def test_the_hub_wants_to_be_left_alone(
    hub: HubServer, alice: HubClient, pauses: list[float]
) -> None:
    hub.faults.add(Fault("GET", "blobs", "status", None, status=429, retry_after=3600))
    with pytest.raises(RateLimitError, match="Try again in 3600 seconds") as limited:
        alice.snapshot(NAME)
    assert limited.value.retry_after == 3600
    assert len(hub.requests) == 1
    assert pauses == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:40 GMT"}, 40.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1" + "0" * 22}, 1e9),
        ({"ratelimit": '"api";r=0;t=55'}, 55.0),
        ({"ratelimit": '"api";r=10;t=55'}, None),
        ({"retry-after": "12", "ratelimit": '"api";r=0;t=55'}, 12.0),
    ],
)
def test_headers_of_a_busy_hub(headers: dict[str, str], seconds: float | None) -> None:
    now = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)
    assert retry_after(headers, now) == seconds


@pytest.mark.parametrize(
    ("seconds", "says"),
    [("0", "again now"), ("7", "again in 7 seconds"), ("1" + "0" * 22, "again another day")],
)
def test_when_to_try_again(seconds: str, says: str) -> None:
    error = refused(Answer(429, {"retry-after": seconds}, b""), "model", "x")
    assert isinstance(error, RateLimitError)
    assert says in str(error)


def test_damaged_content_is_fetched_again(
    hub: HubServer, alice: HubClient, pauses: list[float]
) -> None:
    hub.faults.add(Fault("GET", "/storage/", "corrupt", 1))
    assert large(alice) == b"large" * 99
    assert len(pauses) == 1
    hub.faults.add(Fault("GET", "/storage/", "corrupt", None))
    with pytest.raises(HubContentError, match="what arrived is not what the Hub lists"):
        large(alice)
    assert len(hub.requests_to("GET", "/storage/")) == 2 + TRIES


def test_damaged_content_of_a_small_file(hub: HubServer, alice: HubClient) -> None:
    hub.faults.add(Fault("GET", "/resolve/", "corrupt", None))
    snapshot = alice.snapshot(NAME)
    with pytest.raises(HubContentError, match=f"file='{NAME}/a/small.json@{snapshot.commit}'"):
        alice.content(NAME, snapshot.commit, snapshot.files["a/small.json"])


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"id": "alice/x"}', b'"\xff"'])
def test_answers_that_nobody_can_read(
    monkeypatch: pytest.MonkeyPatch, hub: HubServer, alice: HubClient, body: bytes
) -> None:
    answer = messages.Response(200, {"Content-Type": "application/json"}, body)
    monkeypatch.setattr(hub, "answered", lambda request: answer)
    with pytest.raises(HubServerError, match="the Hub's answer cannot be read"):
        alice.snapshot(NAME)
    assert len(hub.requests) == TRIES


# Failures that stay.


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda c: c.snapshot("alice/none"), HubNotFoundError, "repository='alice/none': no such"),
        (lambda c: c.snapshot(NAME, "v9"), HubNotFoundError, "@v9': no such branch, tag or commit"),
        (lambda c: c.snapshot("bad name"), HubRefusedError, "Use one such as user/name"),
        (lambda c: c.snapshot("a/b/c"), HubRefusedError, "Use one such as user/name"),
        (lambda c: c.create_repository("bob/x", False), ForbiddenError, "may, or propose"),
        (
            lambda c: c.commit("bob/open", Changes("Mine", {"a": b"1"}), "0" * 40),
            ForbiddenError,
            "may, or propose",
        ),
        (
            lambda c: c.content("bob/gated", "main", RemoteFile("a", 1, "", None)),
            GatedError,
            "Accept them on its page.*hf auth login",
        ),
        (
            lambda c: c.content(NAME, "main", RemoteFile("none", 1, "", None)),
            HubNotFoundError,
            "Look at what the repository has",
        ),
    ],
)
def test_refusals(
    hub: HubServer,
    alice: HubClient,
    pauses: list[float],
    ask: Callable[[HubClient], object],
    error: type[HubError],
    says: str,
) -> None:
    hub.create_repo("bob/open")
    hub.create_repo("bob/gated", gated=True)
    hub.commit("bob/gated", {"a": b"1"})
    with pytest.raises(error, match=says) as refused:
        ask(alice)
    assert type(refused.value) is error
    assert pauses == []


def test_private_and_missing_are_the_same_to_strangers(hub: HubServer) -> None:
    hub.create_repo("alice/hidden", private=True)
    for token in ("hf_bob", None):
        with pytest.raises(HubNotFoundError, match="If it is private: Log in with: hf auth login"):
            client_of(hub, token).snapshot("alice/hidden")


def test_a_token_that_is_nobodys(hub: HubServer) -> None:
    stranger = client_of(hub, "hf_stranger")
    for path, ask in READING.items():
        with pytest.raises(LoginError, match="Log in with: hf auth login, or set HF_TOKEN"):
            ask(stranger)
        assert len(hub.requests_to(".*", path)) <= 2
    with pytest.raises(LoginError):
        stranger.commit(NAME, Changes("Mine", {"a": b"1"}), hub.head(NAME))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 429, 500, 503])
def test_no_token_is_ever_told(
    hub: HubServer, alice: HubClient, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    # Below that, the HTTP library traces every byte of an answer.
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "huggingface_hub")
    message = f"Bearer hf_alice or {SECRET} will not do"
    hub.faults.add(Fault(".*", "", "status", None, status=status, message=message))
    changes = Changes("Mine", {"README.md": b"---\nlicense: mit\n---\n"})
    asks = [*READING.values(), lambda client: client.commit(NAME, changes, "0" * 40)]
    if status == 409:
        asks.remove(READING["/api/repos/create"])  # That says that there is one, which is fine.
    for ask in asks:
        with pytest.raises(HubError) as failed:
            ask(alice)
        told = "".join(traceback.format_exception(failed.value)) + repr(failed.value)
        assert "hf_alice" not in told
        assert SECRET not in told
        again = pickle.loads(pickle.dumps(failed.value))
        assert (type(again), str(again)) == (type(failed.value), str(failed.value))
    assert "hf_alice" not in repr(alice)
    assert "hf_alice" not in caplog.text
    assert SECRET not in caplog.text


def test_what_the_hub_says_is_one_short_line(hub: HubServer, alice: HubClient) -> None:
    message = "\x1b[31mred\x1b[0m \x07" + "long " * 999
    hub.faults.add(Fault("GET", "whoami", "status", status=403, message=message))
    with pytest.raises(HubAccessError) as refused:
        alice.user()
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


# Offline.


@pytest.mark.parametrize("variable", ["OTCACHE_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_by_environment(
    monkeypatch: pytest.MonkeyPatch, hub: HubServer, alice: HubClient, variable: str
) -> None:
    monkeypatch.setenv(variable, "on")
    for ask in READING.values():
        with pytest.raises(HubOfflineError, match=f"Unset {variable}"):
            ask(alice)
    with pytest.raises(HubOfflineError):
        alice.commit(NAME, Changes("Mine", {"a": b"1"}), "0" * 40)
    assert hub.requests == []


def test_offline_by_huggingface_hub(
    monkeypatch: pytest.MonkeyPatch, hub: HubServer, alice: HubClient, pauses: list[float]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for ask in READING.values():
        with pytest.raises(HubOfflineError, match="while huggingface_hub is offline"):
            ask(alice)
    with pytest.raises(HubOfflineError):
        alice.commit(NAME, Changes("Mine", {"README.md": b"---\nlicense: mit\n---\n"}), "0" * 40)
    assert (hub.requests, pauses) == ([], [])


def test_importing_loads_no_client() -> None:
    names = [
        "documents.names",
        *(f"hub.{name}" for name in ("environment", "errors", "client", "fetching", "publishing")),
        "finding.resolving",
    ]
    code = "".join(f"import otcache_registry.{name}\n" for name in names)
    code += "import sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"huggingface_hub", "httpx2", "requests", "torch", "yaml"}
    assert heavy.isdisjoint(done.stdout.split())
