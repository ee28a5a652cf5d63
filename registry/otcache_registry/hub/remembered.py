"""Answers of the Hub that are kept for a while, also those that say that there is nothing.

So looking for a document that is not there costs its requests only once, and a Hub that is down its
waiting. They are kept in files of the store's folder. Where they cannot be written or read, the Hub
is asked again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otcache_registry.documents.values import Part, Text
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.errors import HubUnavailableError
from otcache_registry.hub.index import IndexedDocument
from otcache_registry.hub.searching import HubDocument, Listing, search
from otcache_registry.store.folder import make_folder
from pydantic import AwareDatetime, ValidationError

__all__ = ["Remembered", "forget_answers"]

LONGEST_SILENCE: Final = 300.0
"""Most seconds for which it is remembered that the Hub gave no answer."""

ANSWERS_FOLDER: Final = "answers"
"""Name of the folder in the store that answers are kept in."""

LARGEST: Final = 16 * 2**20
"""Bytes of the largest file that is read."""


class _Document(Part):
    repository: Text
    commit: Text
    changed: AwareDatetime
    listed: IndexedDocument


class _Answer(Part):
    at: float
    documents: tuple[_Document, ...] = ()
    silent: str | None = None


@dataclass(frozen=True)
class Remembered:
    """Searches of which the answers are kept.

    Args:
        store: Folder of the store that they are kept in.
        seconds: For how long, 0 for not at all.
        now: Tells the time, in seconds since 1970.
    """

    store: Path
    seconds: float
    now: Callable[[], float] = time.time

    def search(self, client: HubClient, namespace: str, model: str) -> Listing:
        """Return a model's documents in a namespace, as last told or as the Hub tells now.

        Raises:
            HubError: The Hub cannot be searched, or could not be shortly before.
        """
        path = self.store / ANSWERS_FOLDER / f"{_key(client.identity, namespace, model)}.json"
        known = self._read(path)
        if known is not None:
            return _listing(known, namespace, self.now())
        try:
            listings = list(search(client, namespace, model))
        except HubUnavailableError as error:
            self._write(path, _Answer(at=self.now(), silent=error.problem))
            raise
        documents = tuple(each for listing in listings for each in listing.documents)
        refused = tuple(each for listing in listings for each in listing.refused)
        if not refused:
            kept = tuple(
                _Document(
                    repository=each.repository,
                    commit=each.commit,
                    changed=each.changed,
                    listed=each.listed,
                )
                for each in documents
            )
            self._write(path, _Answer(at=self.now(), documents=kept))
        return Listing(documents, refused)

    def _read(self, path: Path) -> _Answer | None:
        if not self.seconds:
            return None
        try:
            if path.stat().st_size > LARGEST:
                return None
            answer = _Answer.model_validate_json(path.read_bytes())
        except (OSError, ValidationError, RecursionError):
            return None
        lasting = self.seconds if answer.silent is None else min(self.seconds, LONGEST_SILENCE)
        return answer if 0 <= self.now() - answer.at < lasting else None

    def _write(self, path: Path, answer: _Answer) -> None:
        if not self.seconds:
            return
        with suppress(OSError):
            make_folder(path.parent)
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.unlink(missing_ok=True)
            with temporary.open("xb") as file:  # Never through a link that lies there.
                file.write(answer.model_dump_json().encode())
            temporary.replace(path)


def forget_answers(store: Path) -> None:
    """Forget all answers that are kept in a store, because something is known to be new."""
    with suppress(OSError):
        for path in (store / ANSWERS_FOLDER).glob("*"):  # Leftovers of killed processes, too.
            path.unlink(missing_ok=True)


def _listing(answer: _Answer, namespace: str, now: float) -> Listing:
    if answer.silent is not None:
        ago = f"{now - answer.at:.0f} seconds ago"
        problem = f"it was asked {ago}, in vain: {answer.silent}"
        remedy = "It is asked again after some minutes; OTCACHE_HUB_ANSWERS=0 asks it every time"
        raise HubUnavailableError("namespace", namespace, problem, remedy)
    documents = (
        HubDocument(each.repository, each.commit, each.changed, each.listed)
        for each in answer.documents
    )
    return Listing(tuple(documents), ())


def _key(*facts: str) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
