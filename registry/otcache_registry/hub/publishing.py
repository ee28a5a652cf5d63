"""From a folder to the Hub: a document, its card and the repository's card in one commit.

A commit names the one that it must follow, so that nothing is published twice or over somebody
else's work. Wherever it is not known whether a commit was made, the repository is looked at first.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path, PurePosixPath
from typing import Literal

from otcache_policies import FieldError
from otcache_registry.documents.details import Describe, undescribed
from otcache_registry.documents.names import default_name, is_hub_id
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.errors import (
    CommitUnknownError,
    HubConflictError,
    HubError,
    HubNotFoundError,
    HubUnavailableError,
)
from otcache_registry.hub.listed import Snapshot
from otcache_registry.hub.release import PublishingError, Release, changes_of, read_release

__all__ = ["LostRaceError", "Published", "PublishingError", "TagError", "push"]

_TAG = re.compile(r"(?!.*\.\.)(?!.*\.lock$)[A-Za-z0-9_]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")

MAX_PROPOSALS = 20
"""Pull requests that are looked at for one that proposes the same; the newest ones."""


class LostRaceError(PublishingError):
    """Somebody else published another document in the same place meanwhile."""


class TagError(PublishingError):
    """The document was published, but its commit did not get the tag."""


class _NotThereError(CommitUnknownError):
    """No answer came, and what was to be published was not there when it was looked for."""


@dataclass(frozen=True)
class Published:
    """Where a document stands on the Hub.

    Attributes:
        outcome: Published by this call, proposed by it, or as it was there already.
        repository: Name of the repository.
        commit: Commit that has the document.
        folder: The document's folder there.
        url: Page of that folder.
        pull_request: Page of the pull request that proposes it, None where it is published.
    """

    outcome: Literal["published", "proposed", "unchanged"]
    repository: str
    commit: str
    folder: str
    url: str
    pull_request: str | None = None


def push(
    client: HubClient,
    folder: str | Path,
    repository: str | None = None,
    *,
    create_pr: bool = False,
    private: bool = False,
    tag: str | None = None,
    without_evidence: bool = False,
    replace: bool = False,
    describe: Describe = undescribed,
) -> Published:
    """Publish a document, all of it in one commit or nothing.

    Args:
        client: The Hub.
        folder: The document's folder, or the policy.json in it.
        repository: Where to, "user/name"; the user's own "otcache-" and the model's name when left
            out. It is created if it does not exist.
        create_pr: Propose it by a pull request, to a repository that exists.
        private: Create the repository for the user only; not together with `create_pr`.
        tag: Name for the commit.
        without_evidence: Publish a document without held-out figures, too.
        replace: Replace another document of the same policy, revision and sampling set-up.
        describe: Says in cards what belongs to the documents' policies.

    Raises:
        DocumentNotFoundError: There is no document in that folder.
        DocumentError: The document or one of its files is refused.
        LostRaceError: Somebody else published in the same place meanwhile.
        TagError: The document was published, but not tagged.
        PublishingError: It has no evidence, there is another document in its place, or it would
            become public.
        CommitUnknownError: No answer came, so that it is not known whether it was published.
        HubError: The Hub refused it or could not be asked. Nothing was published.
        OSError: A figure or the card cannot be read.
    """
    _check_request(repository, create_pr, private, tag)
    release = read_release(folder, describe)
    if not release.document.evidence and not without_evidence:
        problem = "the document has no held-out figures, so nobody could tell how good it is"
        remedy = "Calibrate with held-out pairs, or say that it is to go without evidence"
        raise PublishingError("evidence", (), problem, remedy)
    if repository is None:
        repository = f"{client.user()}/{default_name(release.document.model.id)}"
    if create_pr:
        return _propose(client, repository, release, replace)
    start, created = _opened(client, repository, private)
    if tag is not None and not created:
        _check_tag(client, repository, release, tag)
    try:
        published = _publish(client, start, release, replace)
    except (HubError, PublishingError) as error:
        if created and not isinstance(error, CommitUnknownError):
            raise _without(client, start, error) from None
        raise
    if tag is not None:
        _tag(client, published, release, tag)
    return published


def _check_request(repository: str | None, create_pr: bool, private: bool, tag: str | None) -> None:
    """Check what can be checked before anything is asked."""
    if repository is not None and not is_hub_id(repository):
        remedy = "Use user/name: letters, digits, '.', '_' and '-', up to 96 of them"
        raise PublishingError("repository", repository, "not the name of a repository", remedy)
    if tag is not None and not _TAG.fullmatch(tag):
        remedy = "Use letters, digits, '.', '_' and '-', with a letter or digit at both ends"
        raise PublishingError("tag", tag, "not a name for a tag", remedy)
    if create_pr and tag is not None:
        problem, remedy = "what is only proposed has no tag", "Tag it when it has been merged"
        raise PublishingError("tag", tag, problem, remedy)
    if create_pr and private:
        problem = "a pull request is as public as the repository that it is opened in"
        remedy = "Push to a private repository of your own, or propose it for all to see"
        raise PublishingError("private", private, problem, remedy)


def _without(client: HubClient, start: Snapshot, error: FieldError) -> FieldError:
    """Remove the empty repository that was made for what then failed; return the error."""
    left = f"{start.repository}, which was made for this, is left behind"
    try:
        if client.snapshot(start.repository).commit == start.commit:
            client.delete_repository(start.repository)
            left = f"{start.repository}, which was made for this, was removed again"
    except HubError as trouble:
        left = f"{left}: {trouble.problem}"
    remedy = f"{error.remedy.rstrip('.')}. {left}"
    return type(error)(error.field, error.value, error.problem, remedy)


def _opened(client: HubClient, repository: str, private: bool) -> tuple[Snapshot, bool]:
    """Return the repository as it is, and whether it was created, there being none."""
    created = False
    try:
        snapshot = client.snapshot(repository)
    except HubNotFoundError:
        created = client.create_repository(repository, private)
        snapshot = client.snapshot(repository)
    if private and not snapshot.private:
        problem = f"{repository} exists and is public"
        remedy = "Name another repository, or publish it for all to see"
        raise PublishingError("private", private, problem, remedy)
    return snapshot, created


def _publish(client: HubClient, start: Snapshot, release: Release, replace: bool) -> Published:
    if release.is_in(start):
        return _standing(client, "unchanged", start, release)
    _check_place(start, release, replace)
    # The first attempt builds upon what was just read, every other one reads it again.
    snapshots = chain([start], map(client.snapshot, repeat(start.repository)))

    def attempt() -> Published:
        snapshot = next(snapshots)
        if release.is_in(snapshot):
            return _standing(client, "unchanged", snapshot, release)
        if release.files_in(snapshot) != release.files_in(start):
            problem = f"somebody else published there meanwhile, at commit {snapshot.commit}"
            remedy = "Nothing of yours was published: look at theirs, then push again"
            raise LostRaceError("folder", release.folder, problem, remedy)
        changes = changes_of(client, snapshot, release)
        try:
            commit = client.commit(snapshot.repository, changes, snapshot.commit)
        except CommitUnknownError as unknown:
            return _standing(client, "published", _looked(client, release, unknown), release)
        url = client.page(start.repository, "tree", commit.oid, release.folder)
        return Published("published", start.repository, commit.oid, release.folder, url)

    return client.patience.retrying(HubConflictError, _NotThereError)(attempt)


def _looked(client: HubClient, release: Release, unknown: CommitUnknownError) -> Snapshot:
    """Return the repository after a commit of which nobody knows whether it was made, if it was."""
    try:
        snapshot = client.snapshot(str(unknown.value))
    except HubUnavailableError:
        raise unknown from None
    if release.is_in(snapshot):
        return snapshot
    missing = _NotThereError(*unknown.args)
    missing.retry_after = unknown.retry_after
    raise missing from None


def _propose(client: HubClient, repository: str, release: Release, replace: bool) -> Published:
    snapshot = client.snapshot(repository)
    if release.is_in(snapshot):
        return _standing(client, "unchanged", snapshot, release)
    _check_place(snapshot, release, replace)
    proposed = _proposed(client, "unchanged", repository, release)
    if proposed is not None:
        return proposed
    changes = changes_of(client, snapshot, release)
    try:
        commit = client.propose(repository, changes, snapshot.commit)
    except CommitUnknownError:
        # No parent keeps a second pull request from being opened, so there is no other try.
        with suppress(HubUnavailableError):
            proposed = _proposed(client, "proposed", repository, release)
            if proposed is not None:
                return proposed
        raise
    url = client.page(repository, "tree", commit.oid, release.folder)
    return Published("proposed", repository, commit.oid, release.folder, url, commit.pull_request)


def _proposed(
    client: HubClient,
    outcome: Literal["proposed", "unchanged"],
    repository: str,
    release: Release,
) -> Published | None:
    """Return the newest pull request that has exactly this document, None where there is none."""
    for revision in client.pull_requests(repository)[:MAX_PROPOSALS]:
        snapshot = client.snapshot(repository, revision)
        if release.is_in(snapshot):
            number = PurePosixPath(revision).name
            page = client.page(repository, "discussions", number)
            return _standing(client, outcome, snapshot, release, page)
    return None


def _standing(
    client: HubClient,
    outcome: Literal["published", "proposed", "unchanged"],
    snapshot: Snapshot,
    release: Release,
    pull_request: str | None = None,
) -> Published:
    """Return where a document stands that a repository has."""
    repository, commit, folder = snapshot.repository, snapshot.commit, release.folder
    url = client.page(repository, "tree", commit, folder)
    return Published(outcome, repository, commit, folder, url, pull_request)


def _check_place(snapshot: Snapshot, release: Release, replace: bool) -> None:
    if release.files_in(snapshot) and not replace:
        problem = f"{snapshot.repository} has another document for this policy, revision and set-up"
        remedy = "Look at it first. To publish yours instead, say that it is to be replaced"
        raise PublishingError("folder", release.folder, problem, remedy)


def _check_tag(client: HubClient, repository: str, release: Release, tag: str) -> None:
    """Check that a tag is free, or stands for this very document."""
    try:
        snapshot = client.snapshot(repository, tag)
    except HubNotFoundError:
        return
    if not release.is_in(snapshot):
        problem = f"it stands for commit {snapshot.commit}, which does not have this document"
        raise PublishingError("tag", tag, problem, "Use another name for the tag")


def _tag(client: HubClient, published: Published, release: Release, tag: str) -> None:
    try:
        client.tag(published.repository, published.commit, tag)
    except HubError as error:
        remedy = "Push the same again with a tag: that sets only the tag"
        if isinstance(error, HubConflictError):
            with suppress(HubError):
                if release.is_in(client.snapshot(published.repository, tag)):
                    return  # Set before somebody else published something besides.
            remedy = "Push the same again with another name for the tag: that sets only the tag"
        problem = f"{published.url} stands, but without this tag: {error.problem}"
        raise TagError("tag", tag, problem, remedy) from None
