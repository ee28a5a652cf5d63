"""Processes that publish and pull at the same time, and processes that are killed at it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from forking import FORKING
from hub_server import Fault, HubServer, environment
from hub_world import (
    REPOSITORY,
    client_of,
    document_of,
    files_of,
    publish,
    write,
)
from otcache_registry.documents.names import document_folder
from otcache_registry.hub import client
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.fetching import pull, read_documents
from otcache_registry.hub.publishing import push
from otcache_registry.store.store import PolicyStore
from waiting import CEILING

KILL_REGISTRY = Path(__file__).parents[3] / "tools" / "kill_registry.py"
PULL = """
import sys
from otcache_registry.hub.fetching import pull
from otcache_registry.hub.client import HubClient
from otcache_registry.store.store import PolicyStore
(record,) = pull(HubClient(), PolicyStore(), *sys.argv[1:]).records
print(record.commit)
"""

pytestmark = pytest.mark.usefixtures("fork_server")


def pushing(endpoint: str, folder: Path) -> str:
    """Push as alice; returns how it went."""
    return push(HubClient(endpoint, "hf_alice"), folder, REPOSITORY).outcome


def pulling(endpoint: str, folder: Path) -> str:
    """Pull into a store; returns the commit."""
    (record,) = pull(HubClient(endpoint, "hf_alice"), PolicyStore(folder), REPOSITORY).records
    return record.commit


def tell(result: Connection, work: Callable[[str, Path], str], *arguments: Any) -> None:
    """Do some work, however long the Hub takes, and tell what it returned or raised."""
    os.environ.pop("OTCACHE_OFFLINE", None)
    client.TIMEOUT = CEILING
    try:
        result.send(work(*arguments))
    except Exception as error:
        result.send(f"{type(error).__name__}: {error}")


def together(hub: HubServer, work: Callable[[str, Path], str], *folders: Path) -> list[str]:
    """Do it in as many processes at once as there are folders; returns what each returned."""
    processes, results = [], []
    for folder in folders:
        result, told = FORKING.Pipe(duplex=False)
        process = FORKING.Process(target=tell, args=(told, work, hub.endpoint, folder))
        process.start()
        told.close()  # So that the end of a process is the end of what it tells.
        processes.append(process)
        results.append(result)
    try:
        return [result.recv() for result in results]
    finally:
        hub.faults.clear()
        for process in processes:
            process.join(CEILING)


def begin_together(hub: HubServer, method: str, path: str) -> None:
    """Let two clients reach a request before either of them is answered."""
    hub.faults.add(Fault(method, path, "meet", times=2))


def test_two_pull_the_same(hub: HubServer, tmp_path: Path) -> None:
    commit = publish(hub, tmp_path / "document", document_of(), REPOSITORY)
    begin_together(hub, "GET", "/resolve/.*policy.json")
    store = PolicyStore(tmp_path / "store")
    assert together(hub, pulling, store.folder, store.folder) == [commit, commit]
    assert len(hub.requests_to("GET", "tables")) == 2
    (record,) = store.records()
    assert store.contents(record) == files_of(tmp_path / "document")
    assert store.prune().files == ()


def test_two_push_different_documents(hub: HubServer, tmp_path: Path) -> None:
    documents = [document_of(), document_of(revision="f" * 40)]
    folders = [write(tmp_path / str(number), each) for number, each in enumerate(documents)]
    begin_together(hub, "POST", "/preupload/")
    assert together(hub, pushing, *folders) == ["published", "published"]
    # One of them came second, and began again upon the other's commit.
    assert [request.status for request in hub.requests_to("POST", "/commit/")] == [200, 412, 200]
    assert len(hub.commits(REPOSITORY)) == 3
    client = client_of(hub)
    listing = read_documents(client, client.snapshot(REPOSITORY))
    assert [each.document for each in listing.documents] == documents
    card = hub.files(REPOSITORY)["README.md"].decode()
    assert all(f"({document_folder(each)}/README.md)" in card for each in documents)


def test_two_push_to_the_same_place(hub: HubServer, tmp_path: Path) -> None:
    folders = [write(tmp_path / str(rho), document_of(rho=rho)) for rho in (1.5, 2.5)]
    begin_together(hub, "POST", "/preupload/")
    told = together(hub, pushing, *folders)
    winner = told.index("published")
    assert told[1 - winner].startswith("LostRaceError: folder=")
    assert f"meanwhile, at commit {hub.head(REPOSITORY)}" in told[1 - winner]
    assert len(hub.commits(REPOSITORY)) == 2
    place = document_folder(document_of())
    files = {path: data for path, data in hub.files(REPOSITORY).items() if path.startswith(place)}
    expected = files_of(folders[winner])
    assert files == {f"{place}/{name}": data for name, data in expected.items()}


def test_two_push_the_same(hub: HubServer, tmp_path: Path) -> None:
    folder = write(tmp_path / "document", document_of())
    begin_together(hub, "POST", "/preupload/")
    assert {*together(hub, pushing, folder, folder)} <= {"published", "unchanged"}
    assert len(hub.commits(REPOSITORY)) == 2


def test_a_process_that_knows_the_hub_by_its_environment(hub: HubServer, tmp_path: Path) -> None:
    commit = publish(hub, tmp_path / "document", document_of(), REPOSITORY)
    home = environment(hub, tmp_path / "home", "hf_alice")
    done = subprocess.run(
        [sys.executable, "-c", PULL, REPOSITORY],
        env={**home, "OTCACHE_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (f"{commit}\n", "")
    assert {request.token for request in hub.requests} == {"hf_alice"}
    assert len(PolicyStore(tmp_path / "cache" / "policies").records()) == 1


@pytest.mark.slow
def test_killed_processes(hub: HubServer) -> None:
    done = subprocess.run(
        [sys.executable, str(KILL_REGISTRY), "--kills", "5", "--seed", "7"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    kills = [int(number) for number in re.findall(r"^ *([0-9]+) kills: ", done.stdout, re.M)]
    assert sum(kills) in (5, 6)  # They come in pairs.
