"""How many requests does the registry take, with many repositories and many documents?

    python -m benchmarks.registry_scale --json benchmarks/results/registry-scale.json

Everything is asked of the tests' Hub, which speaks the real one's protocol on this machine: counted
are the requests that arrive there. Seconds are of this machine and of that server, which reads the
card of every repository anew for every page.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from hub_server import HubServer
from otcache_registry import ModelReference, PolicyDocument, read_policy
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from otcache_registry.documents.names import document_folder
from otcache_registry.errors import DocumentNotFoundError
from otcache_registry.finding.resolving import resolve
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.index import IndexedDocument
from otcache_registry.hub.index_card import IndexEntry, render_index
from otcache_registry.hub.searching import search
from otcache_registry.store.store import PolicyStore
from rich.console import Console
from rich.table import Table

MODEL = "example/model"
BASE = BUNDLED_FOLDER / "exact-flow"


@dataclass(frozen=True)
class Row:
    """One thing that a user does.

    Attributes:
        what: It, in words.
        requests: How many requests arrived.
        seconds: How long it took.
    """

    what: str
    requests: int
    seconds: float


def documents(count: int) -> list[PolicyDocument]:
    """Return documents of as many revisions of one model."""
    base = read_policy(BASE).document
    return [
        base.model_copy(update={"model": ModelReference(id=MODEL, revision=f"{number:040x}")})
        for number in range(count)
    ]


def publish(hub: HubServer, repository: str, published: list[PolicyDocument]) -> None:
    """Put documents and the card that lists them into a repository, from the inside."""
    hub.create_repo(repository)
    tables = (BASE / "tables.safetensors").read_bytes()
    files, entries = {}, []
    for document in published:
        place, content = document_folder(document), document.to_json().encode()
        files[f"{place}/policy.json"] = content
        files[f"{place}/tables.safetensors"] = tables
        entries.append(IndexEntry(*IndexedDocument.of_content(content)))
    *others, last = entries
    card = render_index(repository, last, [each.listed for each in others]).encode()
    hub.commit(repository, {"README.md": card, **files})


def counted(hub: HubServer, what: str, work: Callable[[], object]) -> Row:
    """Do something and count the requests that it takes."""
    hub.clear_requests()
    begun = time.perf_counter()
    with suppress(DocumentNotFoundError):
        work()
    return Row(what, len(hub.requests), time.perf_counter() - begun)


def measure(repositories: int, many: int, folder: Path) -> list[Row]:
    """Search many repositories of one model, and enable against many documents of one."""
    store = PolicyStore(folder)
    with HubServer() as hub:
        client = HubClient(hub.endpoint)
        (one,) = documents(1)
        for number in range(repositories):
            publish(hub, f"lab/{number}", [one])
        publish(hub, "otcache/many", documents(many))

        def find(number: int, remember: float = 3600.0) -> None:
            resolve(
                ("otcache",),
                MODEL,
                f"{number:040x}",
                store=store,
                client_factory=lambda: HubClient(hub.endpoint),
                namespaces=("otcache",),
                offline=False,
                remember=remember,
            )

        last = many - 1
        return [
            counted(
                hub,
                f"search {repositories:,} repositories of a model",
                lambda: list(search(client, "lab", MODEL)),
            ),
            counted(
                hub,
                f"list --hub of {repositories:,} repositories",
                lambda: list(search(client, "lab")),
            ),
            counted(hub, f"enable against {many} documents", lambda: find(last, 0.0)),
            counted(hub, "enable again, from the store", lambda: find(last)),
            counted(hub, "enable another revision", lambda: find(last - 1)),
            counted(hub, "enable a third, the answer remembered", lambda: find(last - 2)),
            counted(hub, "enable one that is not there", lambda: find(many)),
        ]


def main() -> None:
    """Print the table, and write it as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repositories", type=int, default=1_000)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments.repositories, arguments.documents, Path(folder))
    table = Table("What", "Requests", "Seconds", box=None)
    for row in rows:
        table.add_row(row.what, str(row.requests), f"{row.seconds:.1f}")
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
