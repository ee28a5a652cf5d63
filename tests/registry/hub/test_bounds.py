"""Nothing that a server sends takes more memory, or lasts longer, than an honest answer may."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hub_server import Fault, HubServer, messages
from hub_server.faults import FaultKind
from hub_world import (
    MODEL,
    OFFICIAL,
    REVISION,
    client_of,
    document_of,
    publish,
    silence,
    write,
)
from otcache_registry import DocumentNotFoundError
from otcache_registry.documents import bundled
from otcache_registry.finding.resolving import resolve
from otcache_registry.hub import client as client_module
from otcache_registry.hub import environment, transport
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.committing import Changes
from otcache_registry.hub.environment import SettingError, endpoint_of, hub_seconds
from otcache_registry.hub.errors import (
    HubContentError,
    HubError,
    HubOversizeError,
    HubServerError,
    HubUnreachableError,
    RateLimitError,
)
from otcache_registry.hub.fetching import pull
from otcache_registry.hub.patience import LONGEST_WAIT, TRIES, Patience
from otcache_registry.hub.publishing import push
from otcache_registry.hub.remembered import forget_answers
from otcache_registry.store.store import PolicyStore

NAME = "alice/x"
LARGEST_PEAK = 200 * 2**20
BOMB = 300 * 2**20
"""Bytes that it blows up to."""
B_SHA256 = hashlib.sha256(b"b").hexdigest()


@pytest.fixture
def hub(hub: HubServer) -> HubServer:
    """With one repository of alice's that has a small and a large file."""
    hub.upload_mode = "lfs"
    hub.create_repo(NAME)
    hub.commit(NAME, {"a/small.json": b"{}", "large.safetensors": b"large" * 99})
    return hub


def content(path: str) -> Callable[[HubClient], object]:
    def ask(client: HubClient) -> object:
        snapshot = client.snapshot(NAME)
        return client.content(NAME, snapshot.commit, snapshot.files[path])

    return ask


def upload(client: HubClient) -> object:
    changes = Changes("Mine", {"README.md": b"---\nlicense: mit\n---\n", "b.safetensors": b"b"})
    return client.commit(NAME, changes, client.snapshot(NAME).commit)


ASKING: dict[str, Callable[[HubClient], object]] = {
    "/api/whoami-v2": lambda client: client.user(),
    "blobs=true": lambda client: client.snapshot(NAME),
    "/a/small.json": content("a/small.json"),
    "/storage/": content("large.safetensors"),
    "/api/models\\?": lambda client: list(client.search("alice", ("a-tag",))),
    "/refs": lambda client: client.pull_requests(NAME),
    "/api/repos/create": lambda client: client.create_repository("alice/new", False),
    "/api/validate-yaml": upload,
    "/preupload/": upload,
    "/objects/batch": upload,
    "/objects/verify": upload,
    "/commit/": upload,
}
"""What asks each endpoint, by what its address has."""
asking = pytest.mark.parametrize("path", ASKING)


@contextmanager
def bounded() -> Iterator[None]:
    """Check the memory that is taken inside."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < LARGEST_PEAK


def answer(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, path: str, response: messages.Response
) -> None:
    """Let the Hub answer always the same to requests whose address has this."""
    answered = hub.answered
    monkeypatch.setattr(
        hub,
        "answered",
        lambda request: response if request.matches(".*", path) else answered(request),
    )


@pytest.fixture(scope="module")
def bomb() -> bytes:
    packer = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16)
    pieces = [packer.compress(bytes(2**20)) for _ in range(BOMB // 2**20)]
    return b"".join([*pieces, packer.flush()])


# Size.


@asking
@pytest.mark.parametrize("kind", ["bomb", "large"])
def test_sizes(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, bomb: bytes, path: str, kind: str
) -> None:
    compressed = kind == "bomb"
    body = bomb if compressed else bytes(20 * 2**20)
    headers = {"Content-Encoding": "gzip"} if compressed else {}
    answer(hub, monkeypatch, path, messages.Response(200, headers, body))
    with bounded(), pytest.raises(HubOversizeError, match="the Hub sends more than"):
        ASKING[path](client_of(hub))
    assert len(hub.requests_to(".*", path)) == 1


def test_what_is_compressed_and_small_is_read(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for encoding, bits in (("gzip", 16), ("deflate", 0)):
        packer = zlib.compressobj(wbits=zlib.MAX_WBITS | bits)
        body = packer.compress(b'{"name": "alice"}') + packer.flush()
        response = messages.Response(200, {"Content-Encoding": encoding}, body)
        with monkeypatch.context() as patch:
            answer(hub, patch, "whoami", response)
            assert client_of(hub).user() == "alice"


@pytest.mark.parametrize("headers", [{"Content-Encoding": "br"}, {"Content-Encoding": "gzip"}])
def test_what_cannot_be_decompressed(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    answer(hub, monkeypatch, "whoami", messages.Response(200, headers, b"not this"))
    with pytest.raises(HubUnreachableError):
        client_of(hub).user()


def test_a_refusal_that_says_very_much(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"error": "' + b"no " * 10**7 + b'"}'
    answer(hub, monkeypatch, "whoami", messages.Response(403, {}, body))
    with bounded(), pytest.raises(HubError) as refused:
        client_of(hub).user()
    assert len(str(refused.value)) < 600


def test_a_file_is_no_larger_than_it_is_listed(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(hub, monkeypatch, "/a/small.json", messages.Response(200, {}, b"{} "))
    with pytest.raises(HubOversizeError, match="more than 2 bytes"):
        ASKING["/a/small.json"](client_of(hub))


# JSON.


@asking
@pytest.mark.parametrize("shape", ["deep", "many"])
def test_json(hub: HubServer, monkeypatch: pytest.MonkeyPatch, path: str, shape: str) -> None:
    body = b"[" * 10**6 if shape == "deep" else b"[" + b"[]," * 10**6 + b"[]]"
    if "small.json" in path or path == "/storage/":
        pytest.skip("A file is compared with its digest before it is read")
    answer(hub, monkeypatch, path, messages.Response(200, {}, body))
    with bounded(), pytest.raises(HubError, match=r"nested too deep|more than 500000 values"):
        ASKING[path](client_of(hub))


def test_a_deep_refusal(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(hub, monkeypatch, "whoami", messages.Response(403, {}, b"[" * 60_000))
    with pytest.raises(HubError, match="HTTP status 403"):
        client_of(hub).user()


# Time.


@asking
@pytest.mark.parametrize("kind", ["endless", "endless_headers"])
def test_a_byte_now_and_then(hub: HubServer, path: str, kind: FaultKind) -> None:
    """It ends at the deadline, whenever that is; before it, it may even be too large."""
    hub.faults.add(Fault(".*", path, kind, None, seconds=0.05))
    client = HubClient(hub.endpoint, "hf_alice", Patience(seconds=1.0, say=silence))
    with pytest.raises((HubUnreachableError, HubOversizeError, HubError)):
        ASKING[path](client)
    assert client.patience.left <= 0 or kind == "endless"
    with pytest.raises(HubUnreachableError, match="took too long"):
        client.within(0.0).user()


class Clock:
    """Goes on by what is slept, and by a tenth of a second for every look."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        self.seconds += 0.1
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


def test_one_deadline_for_all_that_is_asked(hub: HubServer) -> None:
    clock = Clock()
    patience = Patience(seconds=6.0, sleep=clock.sleep, clock=clock, say=silence)
    client = HubClient(hub.endpoint, "hf_alice", patience)
    with pytest.raises(HubUnreachableError, match=r"took too long.*OTCACHE_HUB_SECONDS"):
        all(client.user() for _ in range(100))
    assert 0 < len(hub.requests) < 100


def test_no_answer_before_the_deadline_is_one_that_took_too_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        for milliseconds in range(20):
            with pytest.raises(transport.LateError):
                transport.send(transport.Request("GET", url), milliseconds / 1000, lambda: None)
        with pytest.raises(transport.LateError):
            transport._answered(transport.Request("GET", url), 0.05, threading.Event())


def test_no_pause_beyond_the_deadline(hub: HubServer) -> None:
    clock = Clock()
    hub.faults.add(Fault("GET", "whoami", "status", None, status=429, retry_after=29))
    patience = Patience(seconds=40.0, sleep=clock.sleep, clock=clock, say=silence)
    with pytest.raises(RateLimitError):
        HubClient(hub.endpoint, "hf_alice", patience).user()
    assert clock.slept == [29.0]
    assert len(hub.requests) == 2


def test_pages_end(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    link = f'<{hub.endpoint}/api/models?cursor=1>; rel="next"'
    answer(hub, monkeypatch, "/api/models", messages.Response(200, {"Link": link}, b"[]"))
    monkeypatch.setattr(client_module, "MOST_PAGES", 7)
    with pytest.raises(HubOversizeError, match="more than 7 pages"):
        list(client_of(hub).search("alice", ("a-tag",)))
    assert len(hub.requests) == 7


def test_redirects_end(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"Location": f"{hub.endpoint}/api/whoami-v2"}
    answer(hub, monkeypatch, "whoami", messages.Response(302, headers))
    with pytest.raises(HubError):
        client_of(hub).user()
    assert len(hub.requests) <= 6


# Pushing goes by the same rules.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "policy", document_of(evidence=()))


@pytest.mark.parametrize("path", ["/objects/batch", "/storage/", "/objects/verify", "preupload"])
def test_a_push_is_not_kept_waiting(hub: HubServer, folder: Path, path: str) -> None:
    pauses: list[float] = []
    hub.faults.add(Fault(".*", path, "status", None, status=429, retry_after=3600))
    with pytest.raises(RateLimitError, match="3600 seconds"):
        push(client_of(hub, "hf_alice", pauses), folder, NAME, without_evidence=True)
    assert pauses == []
    assert len(hub.requests_to(".*", path)) == 1


@pytest.mark.parametrize("path", ["/objects/batch", "/storage/", "/objects/verify", "preupload"])
def test_a_push_is_tried_a_few_times(hub: HubServer, folder: Path, path: str) -> None:
    pauses: list[float] = []
    hub.faults.add(Fault(".*", path, "status", None, status=500))
    with pytest.raises(HubServerError):
        push(client_of(hub, "hf_alice", pauses), folder, NAME, without_evidence=True)
    assert len(hub.requests_to(".*", path)) == TRIES == len(pauses) + 1
    assert max(pauses) <= LONGEST_WAIT
    assert not hub.requests_to("POST", "/commit/")


@pytest.mark.parametrize(
    ("path", "told", "words"),
    [
        (
            "/preupload/",
            {"files": [{"path": "b.safetensors", "uploadMode": "lfs", "shouldIgnore": True}]},
            r"its \.gitignore keeps b\.safetensors out\. Change its \.gitignore",
        ),
        (
            "/objects/batch",
            {"objects": [{"oid": "0", "error": {"code": 422, "message": "too many"}}]},
            "it does not take 0: .*too many",
        ),
        (
            "/objects/batch",
            {"objects": [{"oid": B_SHA256, "actions": {"upload": {"header": {"chunk_size": 5}}}}]},
            "it wants a file in parts, which were not offered",
        ),
    ],
)
def test_what_the_hub_does_not_take_is_not_committed(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, path: str, told: dict[str, Any], words: str
) -> None:
    answer(hub, monkeypatch, path, messages.Response.of_json(told))
    changes = Changes("Mine", {"b.safetensors": b"b"})
    client = client_of(hub)
    with pytest.raises(HubError, match=words):
        client.commit(NAME, changes, client.snapshot(NAME).commit)
    assert not hub.requests_to("POST", "/commit/")


# What is being waited for is said, and a document at hand is used.


def test_a_pause_is_said(hub: HubServer) -> None:
    said: list[str] = []
    hub.faults.add(Fault("GET", "whoami", "status", 1, status=429, retry_after=29))
    patience = Patience(sleep=lambda _: None, say=said.append)
    assert HubClient(hub.endpoint, "hf_alice", patience).user() == "alice"
    (sentence,) = said
    assert "again in 29 seconds, for the second of 4 times" in sentence
    assert "the Hub was asked too often" in sentence


def test_a_slow_answer_is_said(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(transport, "NOTICE_SECONDS", 0.0)
    hub.faults.add(Fault("GET", "whoami", "slow", seconds=0.2))
    patience = Patience(say=said.append)
    assert HubClient(hub.endpoint, "hf_alice", patience).user() == "alice"
    assert said == [f"Waiting for {hub.endpoint}: user None"]


class Finding:
    """Looking for a document by name, with a clock that goes on by what is slept."""

    def __init__(self, hub: HubServer, store: PolicyStore) -> None:
        self.hub = hub
        self.store = store
        self.clock = Clock()

    def client(self) -> HubClient:
        sleep = self.clock.sleep
        patience = Patience(seconds=600.0, sleep=sleep, clock=self.clock, say=silence)
        return HubClient(self.hub.endpoint, None, patience)

    def __call__(self, **changes: Any) -> tuple[str, tuple[str, ...]]:
        arguments: dict[str, Any] = {
            "store": self.store,
            "client_factory": self.client,
            "namespaces": ("otcache",),
            "offline": False,
            **changes,
        }
        found = resolve(("otcache",), MODEL, REVISION, **arguments)
        return found.policy.source.partition("@")[0], found.notes


@pytest.fixture
def finding(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Finding:
    monkeypatch.setattr(bundled, "BUNDLED_FOLDER", tmp_path / "bundled")
    return Finding(hub, PolicyStore(tmp_path / "store"))


@pytest.mark.parametrize("seconds", [29, 3])
def test_a_document_at_hand_is_used_after_a_short_wait(
    hub: HubServer, finding: Finding, tmp_path: Path, seconds: int
) -> None:
    write(tmp_path / "bundled" / "one", document_of(revision=None))
    publish(hub, tmp_path / "published", document_of(), OFFICIAL)
    hub.faults.add(Fault("GET", "/api/models", "status", None, status=429, retry_after=seconds))
    source, (note,) = finding()
    assert source == "bundled:one"
    assert "could not be searched" in note
    assert finding.clock.slept == []


def test_answers_are_remembered(hub: HubServer, finding: Finding, tmp_path: Path) -> None:
    """Those too that say that there is nothing."""
    for _ in range(3):
        with pytest.raises(DocumentNotFoundError):
            finding()
    assert len(hub.requests) == 1
    publish(hub, tmp_path / "published", document_of(), OFFICIAL)
    assert finding(remember=0)[0] == f"hub:{OFFICIAL}"


def test_that_there_is_no_answer_is_remembered(
    hub: HubServer, finding: Finding, tmp_path: Path
) -> None:
    write(tmp_path / "bundled" / "one", document_of(revision=None))
    hub.faults.add(Fault("GET", "/api/models", "status", None, status=500))
    assert finding()[0] == "bundled:one"
    asked, slept = len(hub.requests), list(finding.clock.slept)
    source, (note,) = finding()
    assert source == "bundled:one"
    assert "seconds ago, in vain" in note
    assert (len(hub.requests), finding.clock.slept) == (asked, slept)
    hub.faults.clear()
    publish(hub, tmp_path / "published", document_of(), OFFICIAL)
    assert finding(remember=0)[0] == f"hub:{OFFICIAL}"


def test_documents_for_any_revision_are_asked_for_once(
    hub: HubServer, finding: Finding, tmp_path: Path
) -> None:
    publish(hub, tmp_path / "published", document_of(revision=None), OFFICIAL)
    assert finding()[0] == f"hub:{OFFICIAL}"
    hub.clear_requests()
    assert finding() == (f"hub:{OFFICIAL}", ())
    assert hub.requests == []


def test_a_link_among_the_answers_is_not_followed(finding: Finding, tmp_path: Path) -> None:
    """Whoever shares a store may put it there, and let it lead to what is not shared."""
    with pytest.raises(DocumentNotFoundError):
        finding()
    folder, private = finding.store.folder / "answers", tmp_path / "private"
    (answer,) = folder.iterdir()
    answer.unlink()
    private.write_text("mine")
    answer.with_suffix(f".{os.getpid()}").symlink_to(private)
    with pytest.raises(DocumentNotFoundError):
        finding()
    assert private.read_text() == "mine"
    assert list(folder.iterdir()) == [answer]
    assert not answer.is_symlink()


def test_what_is_forgotten_leaves_nothing(finding: Finding) -> None:
    with pytest.raises(DocumentNotFoundError):
        finding()
    folder = finding.store.folder / "answers"
    (folder / "0123.456").write_text("left by a process that was killed")
    forget_answers(finding.store.folder)
    assert list(folder.iterdir()) == []


def test_what_is_remembered_does_not_matter_when_it_is_damaged(
    hub: HubServer, finding: Finding, tmp_path: Path
) -> None:
    publish(hub, tmp_path / "published", document_of(revision=None), OFFICIAL)
    finding()
    for path in (finding.store.folder / "answers").iterdir():
        path.write_text("[" * 100_000)
    assert finding()[0] == f"hub:{OFFICIAL}"


# What the environment says.


@pytest.mark.parametrize(
    "address", ["http://[::1", "huggingface.co", "ftp://x", "https://", "http://x:port", ""]
)
def test_an_endpoint_that_is_none(address: str) -> None:
    with pytest.raises(SettingError, match="not the address of a Hub"):
        endpoint_of(address)


def test_an_endpoints_password_is_not_told(hub: HubServer) -> None:
    address = hub.endpoint.replace("://", "://alice:secret-word@")
    client = HubClient(address, None, Patience(sleep=lambda _: None, say=silence))
    message = "no entry for alice:secret-word"
    hub.faults.add(Fault(".*", "", "status", None, status=500, message=message))
    with pytest.raises(HubServerError) as failed:
        client.snapshot(NAME)
    assert "secret-word" not in str(failed.value) + repr(client._connection)
    assert "secret-word" not in client.page(NAME)
    assert {request.headers["authorization"] for request in hub.requests} == {
        "Basic YWxpY2U6c2VjcmV0LXdvcmQ="
    }
    for wrong in ("ftp://a:secret-word@x", "http://a:secret-word@[::1"):
        with pytest.raises(SettingError) as refused:
            endpoint_of(wrong)
        assert "secret-word" not in str(refused.value)


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", "0"])
def test_seconds_that_are_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("OTCACHE_HUB_SECONDS", text)
    with pytest.raises(SettingError, match="not a number of seconds"):
        hub_seconds(30.0)


def test_seconds_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub_seconds(30.0) == 30.0
    monkeypatch.setenv("OTCACHE_HUB_SECONDS", "7.5")
    assert hub_seconds(30.0) == 7.5
    monkeypatch.setenv("OTCACHE_HUB_ANSWERS", "0")
    assert environment.answers_seconds() == 0.0


# A whole document.


def test_a_folder_of_many_large_figures(hub: HubServer, tmp_path: Path) -> None:
    """Each is allowed, and all together are not: they are in memory before any is kept."""
    publish(hub, tmp_path / "published", document_of(), OFFICIAL)
    place = next(path for path in hub.files(OFFICIAL) if path.endswith("policy.json"))
    large = bytes(10 * 2**20)
    figures = {
        f"{place.removesuffix('policy.json')}figures/{number}.png": large for number in range(9)
    }
    hub.commit(OFFICIAL, figures)
    hub.clear_requests()
    with pytest.raises(ValueError, match="bytes altogether, above the limit"):
        pull(client_of(hub), PolicyStore(tmp_path / "store"), OFFICIAL)
    assert not hub.requests_to("GET", "/resolve/")


def test_wrong_bytes_of_the_right_size(hub: HubServer) -> None:
    hub.faults.add(Fault("GET", "/a/small.json", "corrupt", None))
    with pytest.raises(HubContentError):
        ASKING["/a/small.json"](client_of(hub))
