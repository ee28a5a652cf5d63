"""Kills pushes and pulls at random moments, and looks at what is left.

    python tools/kill_registry.py --kills 50

Each time a new document is pushed to a Hub in this process, and pulled from there into a store, by
processes that are killed with SIGKILL: when the Hub has got a random number of the requests that it
takes undisturbed, and some random milliseconds have passed. After each kill the repository has all
of the document or nothing of it, in one commit, and every document that the store lists can be
used. The killed push or pull is then run again, to the end. Prints how often what was done when the
kill came, and exits with 1 when anything else was found.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hub_server import HubServer, environment
from otcache_registry import ModelReference, read_policy, render_card, write_policy
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from otcache_registry.documents.names import document_folder
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.fetching import pull
from otcache_registry.hub.publishing import push
from otcache_registry.store.store import PolicyStore
from rich.console import Console
from rich.progress import Progress

TOKEN = "hf_alice"
SHARED = 5
"""Documents in each repository."""
LONGEST_DELAY = 0.15
"""Seconds between the wanted request and the kill; keeping a document takes about as long."""
POLL_SECONDS = 0.001
FIGURES = {f"{number}.png": bytes([number]) * 50_000 for number in range(3)}

# Its processes have imported everything, so that they are killed at work.
FORKING: Any = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(
    [
        "__main__",
        "huggingface_hub.hf_api",
        "huggingface_hub.repocard",
        "otcache_registry.store.store",
    ]
)


@dataclass(frozen=True)
class Moment:
    """When to kill: so many seconds after so many requests."""

    requests: int
    delay: float


@dataclass(frozen=True)
class Round:
    """A document to push and pull, of a model revision of its own.

    Attributes:
        number: Which one.
        folder: Where it lies; its name is the tag to give it.
    """

    number: int
    folder: Path

    @property
    def repository(self) -> str:
        """Where it is pushed to: a new repository, or one that has a few others."""
        return f"alice/otcache-{self.number // SHARED}"

    @property
    def place(self) -> str:
        """Its folder there."""
        return document_folder(read_policy(self.folder).document)


def push_document(endpoint: str, each: Round, store: Path) -> None:
    """Push a document."""
    push(HubClient(endpoint, TOKEN), each.folder, each.repository, tag=each.folder.name)


def pull_document(endpoint: str, each: Round, store: Path) -> None:
    """Pull it."""
    client = HubClient(endpoint)
    pull(client, PolicyStore(store), each.repository, each.folder.name, folder=each.place)


Work = Callable[[str, Round, Path], None]
IsDone = Callable[[], bool]


class World:
    """A Hub, a store, and documents for as many revisions of a model as there are rounds."""

    def __init__(self, hub: HubServer, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.store = PolicyStore(folder / "store")
        self.base = read_policy(BUNDLED_FOLDER / "exact-flow")

    def begin(self, number: int) -> Round:
        """Write the document of a round."""
        reference = ModelReference(id="example/model", revision=f"{number:040x}")
        document = self.base.document.model_copy(update={"model": reference})
        folder = self.folder / f"v{number}"
        write_policy(folder, document, self.base.tables, render_card(document, FIGURES), FIGURES)
        return Round(number, folder)

    def run(self, work: Work, each: Round, moment: Moment | None = None) -> bool:
        """Do the work in a process, perhaps killed at a moment; say whether it was killed."""
        self.hub.clear_requests()
        process = FORKING.Process(target=work, args=(self.hub.endpoint, each, self.store.folder))
        process.start()
        if moment is not None:
            while process.exitcode is None and len(self.hub.requests) < moment.requests:
                time.sleep(POLL_SECONDS)
            time.sleep(moment.delay)
            process.kill()
        process.join()
        if process.exitcode > 0:
            sys.exit(f"{work.__name__} failed with {process.exitcode}")
        return bool(process.exitcode < 0)

    def requests(self, work: Work, each: Round) -> int:
        """Return how many requests the work takes when nobody interrupts it."""
        self.run(work, each)
        return len(self.hub.requests)

    def commits(self, each: Round) -> int:
        """Return how many the repository of a round has."""
        there = each.repository in self.hub.repositories
        return len(self.hub.commits(each.repository)) if there else 1

    def is_published(self, each: Round, commits: int) -> bool:
        """Return whether a document is on the Hub, by one commit more; exit when half of it is."""
        there = each.repository in self.hub.repositories
        files = self.hub.files(each.repository) if there else {}
        inside = {path: data for path, data in files.items() if path.startswith(f"{each.place}/")}
        found = (
            inside,
            f"({each.place}/README.md)" in files.get("README.md", b"").decode(),
            self.commits(each) - commits,
        )
        if found == ({}, False, 0):
            return False
        expected = {f"{each.place}/{name}": data for name, data in files_of(each.folder).items()}
        if found == (expected, True, 1):
            return True
        sys.exit(f"half of it is published: {sorted(inside)}, listed and commits: {found[1:]}")

    def is_stored(self, each: Round) -> bool:
        """Return whether a document is in the store; exit when anything there is not sound."""
        if problems := self.store.problems():
            sys.exit(f"the store is damaged: {problems}")
        for record in self.store.records():
            self.store.open(record)
        mine = [record for record in self.store.records() if record.folder == each.place]
        if mine and self.store.contents(mine[0]) != files_of(each.folder):
            sys.exit(f"the store's {mine[0].source} is not what was published")
        return len(mine) == 1


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def kill_many(world: World, kills: int, seed: int, progress: Progress) -> Counter[str]:
    """Kill pushes and pull in turn; count what was done by then. Coming too late is no kill."""
    rng = random.Random(seed)
    first = world.begin(0)
    pushing = world.requests(push_document, first)
    pulling = world.requests(pull_document, first)
    counts: Counter[str] = Counter()
    bar = progress.add_task("Kills", total=kills)

    def kill(name: str, work: Work, each: Round, requests: int, is_done: IsDone) -> None:
        moment = Moment(rng.randint(1, requests), rng.uniform(0, LONGEST_DELAY))
        killed = world.run(work, each, moment)
        done = is_done()
        if killed:
            counts[f"{name}, {'when' if done else 'before'} it was done"] += 1
            progress.advance(bar)
            world.run(work, each)
        if not is_done():
            sys.exit(f"{name} says that it has finished, and has not")

    for number in count(1):
        each = world.begin(number)
        is_published = partial(world.is_published, each, world.commits(each))
        kill("push", push_document, each, pushing, is_published)
        kill("pull", pull_document, each, pulling, partial(world.is_stored, each))
        if each.folder.name not in world.hub.tags(each.repository):
            sys.exit("push says that it has finished, and there is no tag")
        if counts.total() >= kills:
            break
    return counts


def main() -> None:
    """Kills, looks, and says so."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50, help="of pushes and of pulls")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="otcache-kills-") as folder, HubServer() as hub:
        hub.add_user("alice", token=TOKEN)
        os.environ.update(environment(hub, Path(folder) / "home"))
        world = World(hub, Path(folder))
        with Progress(console=Console(stderr=True)) as progress:
            counts = kill_many(world, arguments.kills, arguments.seed, progress)
        commits = sum(len(hub.commits(name)) - 1 for name in hub.repositories)
        records = len(world.store.records())
        documents = len(list(Path(folder).glob("v*")))
    for what, number in sorted(counts.items()):
        print(f"{number:4} kills: {what}")
    print(f"{commits} commits and {records} pulled documents, one of each for every document")
    if not commits == records == documents:
        sys.exit(f"but there were {documents} documents")


if __name__ == "__main__":
    main()
