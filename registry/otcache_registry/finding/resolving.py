"""A policy's document for a model revision: from the store, the package or the Hub, in that order.

One for exactly this revision is looked for everywhere before one that others published for any
revision. A document of another revision is never taken silently. Only what is looked for is ever
sent, and a Hub that gives no answer makes no document unusable that is at hand.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, product

from otcache_registry.documents.bundled import bundled_policies
from otcache_registry.documents.folder import StoredPolicy
from otcache_registry.errors import DocumentError, DocumentNotFoundError
from otcache_registry.finding.candidates import Candidate, Resolved, newest_first
from otcache_registry.finding.nearest import RunSetup, distance
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.environment import offline_variable
from otcache_registry.hub.errors import HubError
from otcache_registry.hub.fetching import HubDocument, Listing, fetch, pull, search
from otcache_registry.store.errors import DamagedError, StoreError
from otcache_registry.store.lock_record import LockRecord
from otcache_registry.store.store import PolicyStore

__all__ = ["OtherRevisionWarning", "Resolved", "resolve"]

Accept = Callable[[str | None], bool]
"""Says of a document's revision whether it is looked for."""

Source = Callable[[Accept], list[Candidate]]
"""Returns the documents in one place that are of a policy and a revision that are looked for."""

_NOTHING = Listing((), ())


class OtherRevisionWarning(UserWarning):
    """A policy is used that was calibrated on another revision of the model."""


def resolve(
    policies: Sequence[str],
    model: str,
    revision: str | None,
    *,
    store: PolicyStore,
    client_factory: Callable[[], HubClient],
    namespaces: Sequence[str],
    offline: bool,
    near: RunSetup | None = None,
    allow_other_revision: bool = False,
) -> Resolved:
    """Return the document of a policy for a model revision.

    One of the first policy is looked for everywhere before one of the next, and of each one for the
    same pipeline class before one for another; what is at hand, in the store or the package, before
    what is on the Hub. Of several the one calibrated nearest to the usual run is taken, of equally
    near ones the store's before a bundled one, and in one place the one that was calibrated last.
    What is found on the Hub is kept in the store.

    Args:
        policies: Names of the policy, and of those whose documents it can be made from as well; no
            document of any other policy is looked at.
        model: Id of the model.
        revision: Revision of its weights, None where it is unknown. Then only a bundled document
            for any revision will do, and nothing else is looked at.
        store: The local store.
        client_factory: Makes the client if the Hub has to be asked.
        namespaces: Users and organisations on the Hub whose documents may be used, in this order.
        offline: Leave the Hub alone.
        near: The usual run of the pipeline; without it no pipeline and no set-up is preferred.
        allow_other_revision: Where there is none, take the nearest of another revision, and of
            equally near ones the newest, with an `OtherRevisionWarning`.

    Raises:
        DocumentNotFoundError: There is none, or none is known without the Hub's answer. The error
            lists those of other revisions.
        DocumentError: A bundled document is damaged.
        StoreError: What was found on the Hub cannot be kept.
    """
    places = _Places(tuple(policies), model, store, client_factory, offline, near)
    if revision is None:
        found = places.first([[places.bundled]], (_is_any,))
        if found is None:
            problem = f"it is unknown which one it is, and no policy of {model} for any is bundled"
            remedy = "Say which revision it is, or calibrate a policy and give its folder"
            raise DocumentNotFoundError("revision", None, problem, remedy)
        return found
    groups: list[list[Source]] = [[places.stored, places.bundled]]
    groups += [[partial(places.on_hub, namespace)] for namespace in namespaces]
    found = places.first(groups, (lambda found: found == revision, _is_any))
    if found is not None:
        return found
    known = (revision, None)
    others = [
        each
        for source in chain.from_iterable(groups)
        for each in source(lambda found: found not in known)
    ]
    other = places.preferred(others) if allow_other_revision else None
    if other is None:
        raise places.not_found(revision, others)
    document = other.policy.document
    warnings.warn(
        f"The policy for {model} from {other.policy.source} was calibrated on revision "
        f"{document.model.revision}, not on {revision}: its figures need not hold.",
        OtherRevisionWarning,
        stacklevel=2,
    )
    return other


@dataclass
class _Places:
    """Where documents of a model may be, and what was noticed while looking there.

    Attributes:
        notes: For users, a sentence each.
        trouble: Why the Hub is not asked, or not any more; None as long as it answers.
    """

    policies: tuple[str, ...]
    model: str
    store: PolicyStore
    client_factory: Callable[[], HubClient]
    offline: bool
    near: RunSetup | None
    notes: list[str] = field(default_factory=list)
    trouble: str | None = None
    _policies: dict[str, StoredPolicy | None] = field(default_factory=dict)
    _listings: dict[str, Listing] = field(default_factory=dict)

    def stored(self, accept: Accept) -> list[Candidate]:
        """Return the store's documents, the one pulled last first; damaged ones are repaired."""
        try:
            records = [
                each
                for each in self.store.find(self.model)
                if each.policy in self.policies and accept(each.revision)
            ]
            policies = [self._opened(record) for record in records]
        except StoreError as error:
            self._note(f"The local store was left out: {error}")
            return []
        return [
            Candidate(policy.document, policy.source, partial(_same, policy))
            for policy in policies
            if policy is not None
        ]

    def bundled(self, accept: Accept) -> list[Candidate]:
        """Return the documents that ship with the package."""
        return [
            Candidate(entry.document, f"bundled:{entry.name}", entry.load)
            for entry in bundled_policies()
            if entry.document.policy.name in self.policies
            and entry.document.model.id == self.model
            and accept(entry.document.model.revision)
        ]

    def on_hub(self, namespace: str, accept: Accept) -> list[Candidate]:
        """Return the documents of a user or an organisation, none while the Hub does not answer."""
        return [
            Candidate(each.document, each.source, partial(self._fetched, each))
            for each in self._listing(namespace).documents
            if each.policy in self.policies and accept(each.revision)
        ]

    def first(
        self, groups: Sequence[Sequence[Source]], accepts: Iterable[Accept]
    ) -> Resolved | None:
        """Return the document to use, of the first group of places that has one.

        Revisions count most, then the policy, then the pipeline, then the group.
        """
        # Without a pipeline's name, none is preferred.
        pipelines = dict.fromkeys((None if self.near is None else self.near.pipeline, None))
        for accept, policy, wanted in product(accepts, self.policies, pipelines):
            for sources in groups:
                found = self.nearest(
                    each
                    for source in sources
                    for each in newest_first(source(accept))
                    if each.policy == policy and wanted in (None, each.pipeline)
                )
                if found is not None:
                    return found
        return None

    def preferred(self, candidates: Sequence[Candidate]) -> Resolved | None:
        """Return the nearest of the first policy that has one, wherever it is."""
        for policy in self.policies:
            of_policy = [each for each in candidates if each.policy == policy]
            found = self.nearest(newest_first(of_policy))
            if found is not None:
                return found
        return None

    def nearest(self, candidates: Iterable[Candidate]) -> Resolved | None:
        """Return the document calibrated nearest to the usual run, of those that can be had.

        Of equally near ones it is the first, and all are where the usual run is unknown.
        """
        order = list(candidates)
        if self.near is not None:
            near = self.near
            order.sort(key=lambda each: distance(each.document.sampling, near))
        for index, candidate in enumerate(order):
            try:
                policy = candidate.load()
            except (DocumentError, HubError) as error:
                self._note(f"{candidate} was left out: {error}")
                continue
            others = (each for each in order[index + 1 :] if each.revision == candidate.revision)
            return Resolved(policy, tuple(self.notes), tuple(others))
        return None

    def not_found(self, revision: str, others: Sequence[Candidate]) -> DocumentNotFoundError:
        """Return the error that says where was looked, and what there is for other revisions."""
        problem = f"no {self.policies[0]} policy for revision {revision} in the store"
        problem += ", the package or on the Hub" if self.trouble is None else " or the package"
        problem = ". ".join([problem, *self.notes]).rstrip(".")
        remedy = "Use a policy that needs none, or calibrate one"
        if others:
            listed = "; ".join(map(str, others))
            remedy = (
                f"For other revisions there are: {listed}. Pass allow_other_revision=True to use "
                f"the nearest of them. {remedy}"
            )
        return DocumentNotFoundError("model", self.model, problem, remedy)

    def _opened(self, record: LockRecord) -> StoredPolicy | None:
        """Return a document of the store, None where it cannot be used; looked at only once."""
        if record.file_name not in self._policies:
            self._policies[record.file_name] = self._checked(record)
        return self._policies[record.file_name]

    def _checked(self, record: LockRecord) -> StoredPolicy | None:
        try:
            return self.store.open(record)
        except DamagedError as error:
            return self._repaired(record, error)
        except DocumentError as error:
            self._note(f"{record.source} was left out: {error}")
            return None

    def _repaired(self, record: LockRecord, damage: DamagedError) -> StoredPolicy | None:
        """Fetch a damaged document again, at the same commit."""
        if self.offline:
            self._note(f"{record.source} was left out: {damage} {_offline_reason()}.")
            return None
        try:
            client = self.client_factory()
            (again,) = pull(client, self.store, record.repository, record.commit, record.folder)
            policy = self.store.open(again)
        except (HubError, DocumentError, DocumentNotFoundError) as error:
            self._note(f"{record.source} is damaged and cannot be fetched again: {error}")
            return None
        self._note(f"{record.source} was damaged in the store, and has been fetched again.")
        return policy

    def _listing(self, namespace: str) -> Listing:
        if namespace not in self._listings:
            self._listings[namespace] = self._searched(namespace)
        return self._listings[namespace]

    def _searched(self, namespace: str) -> Listing:
        if self.offline:
            self._give_up(_offline_reason())
        if self.trouble is not None:
            return _NOTHING
        try:
            listing = search(self.client_factory(), self.model, (namespace,))
        except HubError as error:
            self._give_up(f"The Hub could not be searched: {error}".rstrip("."))
            return _NOTHING
        for refusal in listing.refused:
            self._note(f"{refusal.source} was left out: {refusal.error}")
        return listing

    def _fetched(self, document: HubDocument) -> StoredPolicy:
        return self.store.open(fetch(self.client_factory(), self.store, document))

    def _give_up(self, trouble: str) -> None:
        self.trouble = trouble
        self._note(f"{trouble}. It may have a policy that fits better.")

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


def _same(policy: StoredPolicy) -> StoredPolicy:
    return policy


def _is_any(revision: str | None) -> bool:
    return revision is None


def _offline_reason() -> str:
    variable = offline_variable()
    return "The Hub was not asked, being offline" + (f" ({variable} is set)" if variable else "")
