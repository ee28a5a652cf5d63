"""Where documents of a model may be: one's own, in the package, the store, and on the Hub.

Of the store's documents those count that come from the default branch of a repository in a chosen
namespace. Whatever else was pulled, because somebody looked at it or named it, is used by its name
only. How new a document is, its author does not say: on the Hub the date of the commit decides, in
the store the order of the pulls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial

from otcache_registry.documents.bundled import bundled_policies
from otcache_registry.documents.files import DOCUMENT_FILE
from otcache_registry.documents.folder import StoredPolicy, parse_policy
from otcache_registry.errors import DocumentError, DocumentNotFoundError
from otcache_registry.finding.candidates import Candidate
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.environment import LOOK_UP_SECONDS, hub_seconds, offline_variable
from otcache_registry.hub.errors import HubError, HubUnavailableError
from otcache_registry.hub.fetching import pull
from otcache_registry.hub.index import IndexedDocument
from otcache_registry.hub.remembered import Remembered
from otcache_registry.hub.searching import HubDocument, Listing, fetch
from otcache_registry.store.errors import DamagedError, RemovedError, StoreError
from otcache_registry.store.lock_record import LockRecord
from otcache_registry.store.one_moment import at_one_moment
from otcache_registry.store.own import OwnDocument, OwnDocuments
from otcache_registry.store.store import PolicyStore

__all__ = ["SHORT_WAIT", "Accept", "Places"]

SHORT_WAIT = 3.0
"""Seconds for which the Hub is waited for where a document that would do is at hand."""

Accept = Callable[[str | None], bool]
"""Says of a document's revision whether it is looked for."""

_NOTHING = Listing((), ())


@dataclass
class Places:
    """Where documents of a model may be, and what was noticed while looking there.

    Attributes:
        policies: Names of the policies whose documents are looked for.
        model: Id of the model.
        store: The local store.
        client_factory: Makes the client if the Hub has to be asked.
        namespaces: Users and organisations whose documents may be used, in this order.
        offline: Leave the Hub alone.
        remember: Seconds for which the Hub's answers are kept, 0 for not at all.
        notes: For users, a sentence each.
        trouble: Why not all of the Hub was searched; None as long as it was.
        in_haste: Whether the Hub is waited for only shortly.
    """

    policies: tuple[str, ...]
    model: str
    store: PolicyStore
    client_factory: Callable[[], HubClient]
    namespaces: tuple[str, ...]
    offline: bool
    remember: float
    notes: list[str] = field(default_factory=list)
    trouble: str | None = None
    in_haste: bool = False
    _silent: bool = False
    _policies: dict[str, StoredPolicy | None] = field(default_factory=dict)
    _listings: dict[str, Listing] = field(default_factory=dict)

    def own(self, accept: Accept) -> list[Candidate]:
        """Return the documents that the user has saved, the one saved last first."""
        return [
            _at_hand(each.policy)
            for each in self._own
            if each.policy.document.policy.name in self.policies
            and accept(each.policy.document.model.revision)
        ]

    def bundled(self, accept: Accept) -> list[Candidate]:
        """Return the documents that ship with the package."""
        return [
            Candidate(IndexedDocument.of(entry.document), f"bundled:{entry.name}", entry.load)
            for entry in bundled_policies()
            if entry.document.policy.name in self.policies
            and entry.document.model.id == self.model
            and accept(entry.document.model.revision)
        ]

    def stored(self, accept: Accept) -> list[Candidate]:
        """Return the store's documents, by namespace, the one pulled last first.

        Damaged ones are repaired.
        """
        try:
            policies = self._opened_at_once(accept)
        except StoreError as error:
            self.note(f"The local store was left out: {error}")
            return []
        return list(map(_at_hand, policies))

    def on_hub(self, namespace: str, accept: Accept) -> list[Candidate]:
        """Return the documents of a user or an organisation, those committed last first."""
        documents = sorted(
            self._listing(namespace).documents, key=lambda each: each.changed, reverse=True
        )
        return [
            Candidate(each.listed, each.source, partial(self._fetched, each))
            for each in documents
            if each.listed.policy in self.policies and accept(each.listed.revision)
        ]

    def note(self, sentence: str) -> None:
        """Note something that users should know."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    # The store.

    @cached_property
    def _own(self) -> tuple[OwnDocument, ...]:
        try:
            own = OwnDocuments(self.store.folder).of(self.model)
        except StoreError as error:
            self.note(f"Your own documents were left out: {error}")
            return ()
        for path, refusal in own.refused.items():
            self.note(f"{path} was left out: {refusal}")
        return own.documents

    def _opened_at_once(self, accept: Accept) -> list[StoredPolicy]:
        """Return documents that were all in the store at one moment, and can be used."""

        def read() -> list[StoredPolicy]:
            opened = (self._opened(record) for record in self._eligible(accept))
            return [policy for policy in opened if policy is not None]

        return at_one_moment(read, self.store.folder)

    def _eligible(self, accept: Accept) -> list[LockRecord]:
        """Return the records that a name may find, of each place the last."""
        order = {name.casefold(): index for index, name in enumerate(self.namespaces)}
        latest: dict[tuple[str, str], LockRecord] = {}
        for record in self.store.find(self.model):
            if record.asked is None and record.namespace.casefold() in order:
                latest.setdefault((record.repository, record.folder), record)
        fitting = [
            each
            for each in latest.values()
            if each.policy in self.policies and accept(each.revision)
        ]
        return sorted(fitting, key=lambda each: order[each.namespace.casefold()])

    def _opened(self, record: LockRecord) -> StoredPolicy | None:
        """Return a document of the store, None where it cannot be used; looked at only once."""
        if record.file_name not in self._policies:
            self._policies[record.file_name] = self._checked(record)
        return self._policies[record.file_name]

    def _checked(self, record: LockRecord) -> StoredPolicy | None:
        try:
            return self.store.open(record)
        except RemovedError:
            raise
        except DamagedError as error:
            return self._repaired(record, error)
        except DocumentError as error:
            self.note(f"{record.source} was left out: {error}")
            return None

    def _repaired(self, record: LockRecord, damage: DamagedError) -> StoredPolicy | None:
        """Fetch a damaged document again, at the same commit."""
        if self.offline:
            self.note(f"{record.source} was left out: {damage} {_offline_reason()}.")
            return None
        try:
            pulled = pull(self._client, self.store, record.repository, record.commit, record.folder)
            policy = self.store.open(pulled.records[0])
        except (HubError, DocumentError, DocumentNotFoundError) as error:
            self.note(
                f"{record.source} is damaged and cannot be fetched again: {error} "
                f"To be rid of it: otcache store remove '{record.source}'"
            )
            return None
        self.note(f"{record.source} was damaged in the store, and has been fetched again.")
        return policy

    # The Hub.

    @cached_property
    def _client(self) -> HubClient:
        return self.client_factory().within(hub_seconds(LOOK_UP_SECONDS))

    @cached_property
    def _hasty(self) -> HubClient:
        return self._client.within(SHORT_WAIT)

    def _asked(self) -> HubClient:
        return self._hasty if self.in_haste else self._client

    def _listing(self, namespace: str) -> Listing:
        if namespace not in self._listings:
            self._listings[namespace] = self._searched(namespace)
        return self._listings[namespace]

    def _searched(self, namespace: str) -> Listing:
        if self.offline:
            self._give_up(_offline_reason())
            return _NOTHING
        if self._silent:
            return _NOTHING
        remembered = Remembered(self.store.folder, self.remember)
        try:
            listing = remembered.search(self._asked(), namespace, self.model)
        except HubError as error:
            # One that gives no answer gives none to the next question either.
            self._silent = isinstance(error, HubUnavailableError)
            self._give_up(f"The Hub could not be searched: {error}".rstrip("."))
            return _NOTHING
        for refusal in listing.refused:
            self.note(f"{refusal.source} was left out: {refusal.error}")
        return listing

    def _fetched(self, document: HubDocument) -> StoredPolicy:
        """Return a document of the Hub, from the store where that has the same."""
        try:
            known = self._kept(document)
        except StoreError as error:
            self.note(f"The local store was left out: {error}")
            known = None
        if known is not None:
            return known
        contents = fetch(self._asked(), document)
        repository, commit, folder = document.repository, document.commit, document.folder
        try:
            record = self.store.add(repository, commit, folder, contents, datetime.now(UTC))
            return self.store.open(record)
        except StoreError as error:
            self.note(f"{document.source} is used, and could not be kept: {error}")
            return parse_policy(contents, document.source)

    def _kept(self, document: HubDocument) -> StoredPolicy | None:
        for record in self.store.find(document.listed.model, document.listed.revision):
            if (record.repository, record.folder) != (document.repository, document.folder):
                continue
            digests: Mapping[str, str] = {file.path: file.sha256 for file in record.files}
            if digests.get(DOCUMENT_FILE) == document.listed.sha256:
                try:
                    return self.store.open(record)
                except DamagedError:
                    continue
        return None

    def _give_up(self, trouble: str) -> None:
        self.trouble = trouble
        self.note(f"{trouble}. It may have a policy that fits better.")


def _at_hand(policy: StoredPolicy) -> Candidate:
    listed = IndexedDocument.of(policy.document)
    return Candidate(listed, policy.source, partial(_same, policy))


def _same(policy: StoredPolicy) -> StoredPolicy:
    return policy


def _offline_reason() -> str:
    variable = offline_variable()
    return "The Hub was not asked" + (f" ({variable} is set)" if variable else ", as requested")
