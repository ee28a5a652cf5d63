"""Each fault makes the real client do what it does when the real Hub fails that way."""

from __future__ import annotations

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RevisionResolutionError,
)
from waiting import CEILING, wait_until

from hub_server import Fault, HubServer, environment

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client meant to wait before it tried again; it does not."""
    asked: list[float] = []
    monkeypatch.setattr("time.sleep", asked.append)
    return asked


@pytest.fixture
def sha(hub: HubServer) -> str:
    """The last commit of otcache/x, which has a file of a megabyte."""
    hub.create_repo("otcache/x")
    return hub.commit("otcache/x", {"a": CONTENT})


def download(client: HfApi, **options: object) -> bytes:
    return Path(client.hf_hub_download("otcache/x", "a", **options)).read_bytes()  # type: ignore[call-overload]


def commit(client: HfApi) -> str:
    operations = [CommitOperationAdd("b", b"1")]
    return client.create_commit("otcache/x", operations, commit_message="b").oid


def test_a_fault_befalls_the_requests_it_names(hub: HubServer, sha: str) -> None:
    hub.faults.add(Fault("GET", r"/api/models/", "status", times=2, after=1, status=418))
    hub.faults.add(Fault("GET", r"\?x=1$", "status", times=None, status=410))

    def status(method: str, target: str) -> int:
        return httpx2.request(method, hub.endpoint + target).status_code

    info = "/api/models/otcache/x"
    assert [status("GET", info) for _ in range(5)] == [200, 418, 418, 200, 200]
    assert [status("GET", f"{info}?x={x}") for x in (1, 2, 1)] == [410, 200, 410]
    assert status("HEAD", f"{info}?x=1") == 200
    assert [request.fault for request in hub.requests] == [
        None,
        *["status"] * 2,
        *[None] * 2,
        "status",
        None,
        "status",
        None,
    ]
    hub.faults.clear()
    assert status("GET", f"{info}?x=1") == 200


def test_a_fault_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="'explode'"):
        Fault("GET", "/", "explode")  # type: ignore[arg-type]


def test_status_of_a_commit(hub: HubServer, sha: str, alice: HfApi) -> None:
    hub.faults.add(Fault("POST", "/commit/", "status", message="Under maintenance"))
    with pytest.raises(HfHubHTTPError, match="Under maintenance") as refused:
        commit(alice)
    assert refused.value.response.status_code == 503
    assert hub.head("otcache/x") == sha
    assert commit(alice) == hub.head("otcache/x")


def test_status_with_a_code(hub: HubServer, sha: str, alice: HfApi) -> None:
    hub.faults.add(Fault("GET", "/api/models/", "status", status=403, error_code="GatedRepo"))
    with pytest.raises(GatedRepoError):
        alice.model_info("otcache/x")


def test_status_of_a_download(hub: HubServer, sha: str, alice: HfApi, waits: list[float]) -> None:
    hub.faults.add(Fault("GET", "/resolve/", "status"))
    with pytest.raises(HfHubHTTPError) as refused:
        download(alice)
    assert (refused.value.response.status_code, waits) == (503, [])
    hub.faults.add(Fault("HEAD", "/resolve/", "status", times=None))
    with pytest.raises(LocalEntryNotFoundError):
        download(alice)
    # Nothing is cached, so the client asks again before it gives up.
    assert waits == [1, 2, 4, 8, 8]
    hub.faults.clear()
    assert download(alice) == CONTENT
    hub.faults.add(Fault("HEAD", "/resolve/", "status"))
    assert download(alice) == CONTENT


def test_too_many_requests(hub: HubServer, sha: str, alice: HfApi, waits: list[float]) -> None:
    hub.faults.add(Fault("GET", "/resolve/", "status", times=2, status=429, retry_after=17))
    assert download(alice) == CONTENT
    assert waits == [18.0, 18.0]
    assert [request.status for request in hub.requests_to("GET", "/resolve/")] == [429, 429, 200]


def test_drop(hub: HubServer, sha: str, alice: HfApi) -> None:
    hub.faults.add(Fault("POST", "/commit/", "drop"))
    with pytest.raises(httpx2.RemoteProtocolError, match="disconnected"):
        commit(alice)
    assert hub.head("otcache/x") == sha
    hub.faults.add(Fault("HEAD", "/resolve/", "drop"))
    with pytest.raises(httpx2.RemoteProtocolError, match="disconnected"):
        download(alice)
    assert [request.status for request in hub.requests if request.fault == "drop"] == [None, None]


def test_lose_answer(hub: HubServer, sha: str, alice: HfApi) -> None:
    hub.faults.add(Fault("POST", "/commit/", "lose_answer"))
    with pytest.raises(httpx2.RemoteProtocolError, match="disconnected"):
        commit(alice)
    assert hub.commits("otcache/x")[0].parent == sha
    assert hub.files("otcache/x")["b"] == b"1"
    assert hub.requests_to("POST", "/commit/")[0].status is None


def test_truncate(
    hub: HubServer,
    sha: str,
    alice: HfApi,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def ranges() -> list[str | None]:
        return [request.headers.get("range") for request in hub.requests_to("GET", "/resolve/")]

    hub.faults.add(Fault("GET", "/resolve/", "truncate"))
    assert download(alice) == CONTENT
    assert (ranges(), waits) == ([None, None], [1])
    # The client keeps whole chunks of what arrived.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.clear_requests()
    hub.faults.add(Fault("GET", "/resolve/", "truncate"))
    assert download(alice, cache_dir=tmp_path) == CONTENT
    assert ranges() == [None, "bytes=524000-"]
    hub.faults.add(Fault("GET", "/api/models/", "truncate"))
    with pytest.raises(httpx2.RemoteProtocolError, match="complete message body"):
        alice.model_info("otcache/x")


def test_drop_body(hub: HubServer, sha: str, alice: HfApi) -> None:
    hub.faults.add(Fault("GET", "/resolve/", "drop_body"))
    with pytest.raises(httpx2.ReadError):
        download(alice)
    assert download(alice) == CONTENT
    hub.faults.add(Fault("GET", "/api/models/", "drop_body", times=20))
    for _ in range(20):
        with pytest.raises(httpx2.ReadError):
            alice.model_info("otcache/x")


def test_corrupt_goes_unnoticed(hub: HubServer, sha: str, alice: HfApi) -> None:
    hub.faults.add(Fault("GET", "/resolve/", "corrupt"))
    wrong = download(alice)
    assert [
        (place, was ^ became)
        for place, (was, became) in enumerate(zip(CONTENT, wrong, strict=True))
        if was != became
    ] == [(len(CONTENT) // 2, 1)]
    assert download(alice) == wrong


def test_slow(hub: HubServer, sha: str, alice: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.faults.add(Fault("GET", "/api/models/", "slow", seconds=CEILING))
    with pytest.raises(httpx2.ReadTimeout):
        alice.model_info("otcache/x", timeout=0.05)
    hub.faults.add(Fault("HEAD", "/resolve/", "slow", seconds=0.01))
    assert download(alice) == CONTENT
    hub.faults.add(Fault("HEAD", "/resolve/", "slow", seconds=CEILING))
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.05)
    assert download(alice) == CONTENT
    assert [request.status for request in hub.requests if request.fault == "slow"] == [
        None,
        200,
        None,
    ]


def test_requests_meet(hub: HubServer, sha: str) -> None:
    hub.faults.add(Fault("GET", "/api/models/", "meet", times=2))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(httpx2.get, f"{hub.endpoint}/api/models/otcache/x", timeout=CEILING)
        wait_until(lambda: hub.requests)
        assert not first.done()
        second = httpx2.get(f"{hub.endpoint}/api/models/otcache/x", timeout=CEILING)
        assert [second.status_code, first.result().status_code] == [200, 200]
    assert [request.fault for request in hub.requests] == ["meet", "meet"]
    with pytest.raises(ValueError, match="times=None"):
        Fault("GET", "/", "meet", times=None)


def test_drip(
    hub: HubServer, sha: str, alice: HfApi, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    def now_patient(seconds: float) -> None:
        waits.append(seconds)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", CEILING)

    hub.faults.add(Fault("GET", "/resolve/", "drip", seconds=0.01))
    assert download(alice) == CONTENT
    hub.commit("otcache/x", {"a": CONTENT[::-1]})
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    monkeypatch.setattr("time.sleep", now_patient)
    hub.faults.add(Fault("GET", "/resolve/", "drip", seconds=CEILING))
    assert download(alice) == CONTENT[::-1]
    assert waits == [1]


def test_nothing_listens(hub: HubServer, sha: str, alice: HfApi, waits: list[float]) -> None:
    download(alice)
    hub.commit("otcache/x", {"later": b""})
    hub.stop_listening()
    with pytest.raises(httpx2.ConnectError):
        alice.model_info("otcache/x")
    assert download(alice) == CONTENT
    with pytest.raises(LocalEntryNotFoundError):
        alice.hf_hub_download("otcache/x", "later")
    with pytest.raises(RevisionResolutionError):
        alice.resolve_revision("otcache/x", revision="v1")
    hub.resume()
    assert alice.model_info("otcache/x").sha == hub.head("otcache/x") != sha


def test_a_client_that_is_killed(
    hub: HubServer, sha: str, alice: HfApi, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.faults.add(Fault("POST", "/commit/", "slow", seconds=CEILING))
    program = (
        "from huggingface_hub import HfApi, CommitOperationAdd\n"
        "HfApi().create_commit(\n"
        "    'otcache/x', [CommitOperationAdd('b', bytes(10**6))], commit_message='b')"
    )
    env = environment(hub, tmp_path / "other-home", token="hf_alice")
    with subprocess.Popen([sys.executable, "-c", program], env=env) as client:
        wait_until(lambda: hub.requests_to("POST", "/commit/"), lambda: client.poll() is None)
        client.kill()
    (sent,) = hub.requests_to("POST", "/commit/")
    assert sent.token == "hf_alice"
    assert alice.model_info("otcache/x").sha == sha
    with httpx2.stream("GET", f"{hub.endpoint}/otcache/x/resolve/main/a"):
        pass
    hub.clear_requests()
    port = int(hub.endpoint.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /api/repos/create HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")
    assert alice.model_info("otcache/x").id == "otcache/x"
    assert [request.method for request in hub.requests] == ["GET"]
    hub.stop_listening()
    assert capfd.readouterr() == ("", "")


def test_the_environment_of_another_process(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_machine")
    monkeypatch.setenv("HF_HUB_CACHE", "/of/the/machine")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    env = environment(hub, tmp_path)
    assert {name: value for name, value in env.items() if name.startswith("HF_")} == {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1800",
        "HF_HUB_ETAG_TIMEOUT": "1800",
    }
    assert environment(hub, tmp_path, token="hf_alice")["HF_TOKEN"] == "hf_alice"
