"""A policy's document for a model revision: one's own, from the package, the store or the Hub.

One for exactly this revision is looked for everywhere before one that others published for any
revision. A document of another revision is never taken silently. Only what is looked for is ever
sent, and a Hub that gives no answer makes no document unusable that is at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, product

from otcache_policies.warning import warn_caller
from otcache_registry.documents.folder import StoredPolicy
from otcache_registry.errors import DocumentError, DocumentNotFoundError
from otcache_registry.finding.candidates import Candidate, Resolved
from otcache_registry.finding.nearest import RunSetup, distance, is_of_another_kind
from otcache_registry.finding.places import Accept, Places
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.environment import answers_seconds
from otcache_registry.hub.errors import HubError
from otcache_registry.store.store import PolicyStore

__all__ = ["OtherRevisionWarning", "Resolved", "resolve"]

Source = Callable[[Accept], list[Candidate]]
"""Returns the documents in one place that are of a wanted policy and an accepted revision."""


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
    remember: float | None = None,
) -> Resolved:
    """Return the document of a policy for a model revision.

    One of the first policy is looked for everywhere before one of the next. Of each policy, one for
    the same scheduler and pipeline class comes before one for the same scheduler alone, and that
    before one for the same class alone; what is at hand, in the package or the store, comes before
    what is on the Hub. Of several the one calibrated nearest to the usual run is taken; of equally
    near ones the user's own comes before a bundled one, that before what was pulled, which goes by
    namespace, and in one place whatever was saved, pulled, or on the Hub committed, last. What is
    found on the Hub is kept in the store.

    Args:
        policies: Names of the policy, and of those whose documents it can be made from as well; no
            document of any other policy is looked at.
        model: Id of the model.
        revision: Revision of its weights, None where it is unknown. Then only a document for any
            revision will do, the user's own or a bundled one, and nothing else is looked at.
        store: The local store.
        client_factory: Makes the client if the Hub has to be asked.
        namespaces: Users and organisations on the Hub whose documents may be used, in this order.
        offline: Leave the Hub alone.
        near: The usual run of the pipeline; without it no pipeline and no set-up is preferred.
        allow_other_revision: Where there is none, take the nearest of another revision, and of
            equally near ones the newest, with an `OtherRevisionWarning`.
        remember: Seconds for which the Hub's answers are kept, 0 for not at all;
            OTCACHE_HUB_ANSWERS, or an hour, when left out.

    Raises:
        DocumentNotFoundError: There is none, or none is known without the Hub's answer. The error
            lists those of other revisions.
        DocumentError: A bundled document is damaged.
    """
    kept = answers_seconds() if remember is None else remember
    places = Places(tuple(policies), model, store, client_factory, tuple(namespaces), offline, kept)
    search = _Search(places, near)
    if revision is None:
        return search.for_any_revision()
    known = (revision, None)
    at_hand: list[Source] = [places.own, places.bundled, places.stored]
    places.in_haste = any(source(lambda found: found in known) for source in at_hand)
    groups: list[list[Source]] = [at_hand]
    groups += [[partial(places.on_hub, namespace)] for namespace in namespaces]
    found = search.first(groups, (lambda found: found == revision, _is_any))
    if found is not None:
        return found
    others = [
        each
        for source in chain.from_iterable(groups)
        for each in source(lambda found: found not in known)
    ]
    other = search.preferred(others) if allow_other_revision else None
    if other is None:
        raise search.not_found(revision, others)
    _warn_of_another_revision(other.policy, revision)
    return other


class _Search:
    """Choosing among what is in the places.

    Args:
        places: Where to look.
        near: The usual run.
    """

    def __init__(self, places: Places, near: RunSetup | None) -> None:
        self._places = places
        self._near = near
        self._left_out: set[str] = set()

    def for_any_revision(self) -> Resolved:
        """Return the document to use where the model's revision is unknown.

        Raises:
            DocumentNotFoundError: None is for any revision.
        """
        places = self._places
        found = self.first([[places.own, places.bundled]], (_is_any,))
        if found is None:
            problem = f"it is unknown, and no policy of {places.model} for any revision is at hand"
            remedy = "Say which revision it is, or calibrate a policy and give its folder"
            raise DocumentNotFoundError("revision", None, problem, remedy)
        return found

    def first(
        self, groups: Sequence[Sequence[Source]], accepts: Iterable[Accept]
    ) -> Resolved | None:
        """Return the document to use, of the first group of places that has one.

        Revisions count most, then the policy, the scheduler, the pipeline, and the group.
        """
        kinds = product((False, True), repeat=2)
        for accept, policy, kind in product(accepts, self._places.policies, kinds):
            for sources in groups:
                candidates = [
                    each for source in sources for each in source(accept) if each.policy == policy
                ]
                found = self.nearest(candidates, kind)
                if found is not None:
                    return found
        return None

    def preferred(self, candidates: Sequence[Candidate]) -> Resolved | None:
        """Return the nearest of the first policy that has one, wherever it is."""
        for policy in self._places.policies:
            found = self.nearest([each for each in candidates if each.policy == policy])
            if found is not None:
                return found
        return None

    def nearest(
        self, candidates: Sequence[Candidate], kind: tuple[bool, ...] | None = None
    ) -> Resolved | None:
        """Return the document calibrated nearest to the usual run, of those that can be had.

        Of equally near ones it is the first, and all are where the usual run is unknown.

        Args:
            candidates: To choose among, the one to prefer first.
            kind: What the chosen one is to be, by `is_of_another_kind`; None for any.
        """
        order = list(candidates)
        if self._near is not None:
            near = self._near
            order.sort(key=lambda each: distance(each.document.sampling, near))
        for candidate in order:
            if candidate.source in self._left_out or kind not in (None, self._kind(candidate)):
                continue
            try:
                policy = candidate.load()
            except (DocumentError, HubError) as error:
                self._left_out.add(candidate.source)
                self._places.note(f"{candidate} was left out: {error}")
                continue
            others = (
                each
                for each in order
                if each.revision == candidate.revision
                and each.source not in {candidate.source, *self._left_out}
            )
            return Resolved(policy, tuple(self._places.notes), tuple(others))
        return None

    def _kind(self, candidate: Candidate) -> tuple[bool, bool]:
        """Return whether it is of another kind; nothing is where the usual run is unknown."""
        if self._near is None:
            return False, False
        return is_of_another_kind(candidate.document.sampling, self._near)

    def not_found(self, revision: str, others: Sequence[Candidate]) -> DocumentNotFoundError:
        """Return the error that says where one was looked for, and what other revisions have."""
        places = self._places
        problem = f"no {places.policies[0]} policy for revision {revision} in the store"
        problem += ", the package or on the Hub" if places.trouble is None else " or the package"
        problem = ". ".join([problem, *places.notes]).rstrip(".")
        remedy = "Use a policy that needs no document, or calibrate one"
        if others:
            listed = "; ".join(map(str, others))
            remedy = (
                f"For other revisions there are: {listed}. Pass allow_other_revision=True to use "
                f"the nearest of them. {remedy}"
            )
        return DocumentNotFoundError("model", places.model, problem, remedy)


def _warn_of_another_revision(policy: StoredPolicy, revision: str) -> None:
    model = policy.document.model
    warn_caller(
        f"The policy for {model.id} from {policy.source} was calibrated on revision "
        f"{model.revision}, not on {revision}: its figures need not hold.",
        OtherRevisionWarning,
    )


def _is_any(revision: str | None) -> bool:
    return revision is None
