"""From a folder to the Hub: a document, its card and the repository's card in one commit.

A commit names the one that it must follow, so that nothing is published twice or over somebody
else's work. Wherever it is not known whether a commit was made, the repository is looked at first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path, PurePosixPath
from typing import Literal

from otcache_policies import FieldError
from otcache_registry.documents.card import render_card
from otcache_registry.documents.details import Describe, undescribed
from otcache_registry.documents.document import PolicyDocument
from otcache_registry.documents.files import (
    CARD_FILE,
    DOCUMENT_FILE,
    FIGURES_FOLDER,
    TABLES_FILE,
    check_files,
)
from otcache_registry.documents.folder import read_policy
from otcache_registry.documents.names import default_name, document_folder
from otcache_registry.errors import DocumentError
from otcache_registry.hub.client import Changes, HubClient, RemoteFile, Snapshot
from otcache_registry.hub.errors import (
    CommitUnknownError,
    HubConflictError,
    HubError,
    HubNotFoundError,
    HubUnavailableError,
)
from otcache_registry.hub.fetching import document_files, read_documents
from otcache_registry.hub.index_card import IndexEntry, render_index

__all__ = ["LostRaceError", "Published", "PublishingError", "TagError", "push"]

MAX_PROPOSALS = 20
"""Pull requests that are looked at for one that proposes the same; the newest ones."""


class PublishingError(FieldError):
    """A document that is not published, though the Hub would take it."""


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


@dataclass(frozen=True)
class _Release:
    """A document as it is to be published.

    Attributes:
        document: The document.
        folder: The folder that it belongs into.
        contents: Content of its files by path inside that folder.
        describe: Says in the repository's card what belongs to the documents' policies.
    """

    document: PolicyDocument
    folder: str
    contents: Mapping[str, bytes]
    describe: Describe

    def files_in(self, snapshot: Snapshot) -> Mapping[str, RemoteFile]:
        """Return what a repository has in this document's place."""
        return document_files(snapshot).get(self.folder, {})

    def is_in(self, snapshot: Snapshot) -> bool:
        """Return whether a repository has exactly this document."""
        files = self.files_in(snapshot)
        return files.keys() == self.contents.keys() and all(
            files[name].holds(data) for name, data in self.contents.items()
        )


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
        private: Create the repository for the user only.
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
    if create_pr and tag is not None:
        problem, remedy = "what is only proposed has no tag", "Tag it when it has been merged"
        raise PublishingError("tag", tag, problem, remedy)
    release = _read_release(folder, describe)
    if not release.document.evidence and not without_evidence:
        problem = "the document has no held-out figures, so nobody could tell how good it is"
        remedy = "Calibrate with held-out pairs, or say that it is to go without evidence"
        raise PublishingError("evidence", (), problem, remedy)
    if repository is None:
        repository = f"{client.user()}/{default_name(release.document.model.id)}"
    if create_pr:
        return _propose(client, repository, release, replace)
    published = _publish(client, _opened(client, repository, private), release, replace)
    if tag is not None:
        _tag(client, published, tag)
    return published


def _read_release(folder: str | Path, describe: Describe) -> _Release:
    document = read_policy(folder).document
    path = Path(folder)
    home = path.parent if path.name == DOCUMENT_FILE and path.is_file() else path
    names = [DOCUMENT_FILE, CARD_FILE]
    if document.tables_sha256 is not None:
        names.append(TABLES_FILE)
    figures = sorted(path.name for path in (home / FIGURES_FOLDER).glob("*.png"))
    names += [f"{FIGURES_FOLDER}/{figure}" for figure in figures]
    there = [name for name in names if (home / name).is_file()]
    check_files({name: (home / name).stat().st_size for name in there})
    contents = {name: (home / name).read_bytes() for name in there}
    if CARD_FILE not in contents:
        contents[CARD_FILE] = render_card(document, figures, describe(document)).encode()
    return _Release(document, document_folder(document), contents, describe)


def _opened(client: HubClient, repository: str, private: bool) -> Snapshot:
    """Return the repository as it is, created where there was none."""
    try:
        snapshot = client.snapshot(repository)
    except HubNotFoundError:
        client.create_repository(repository, private)
        snapshot = client.snapshot(repository)
    if private and not snapshot.private:
        problem = f"{repository} exists and is public"
        remedy = "Name another repository, or publish it for all to see"
        raise PublishingError("private", private, problem, remedy)
    return snapshot


def _publish(client: HubClient, start: Snapshot, release: _Release, replace: bool) -> Published:
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
        changes = _changes(client, snapshot, release)
        try:
            commit = client.commit(snapshot.repository, changes, snapshot.commit)
        except CommitUnknownError as unknown:
            return _standing(client, "published", _looked(client, release, unknown), release)
        url = client.page(start.repository, "tree", commit.oid, release.folder)
        return Published("published", start.repository, commit.oid, release.folder, url)

    return client.retrying(HubConflictError, _NotThereError)(attempt)


def _looked(client: HubClient, release: _Release, unknown: CommitUnknownError) -> Snapshot:
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


def _propose(client: HubClient, repository: str, release: _Release, replace: bool) -> Published:
    snapshot = client.snapshot(repository)
    if release.is_in(snapshot):
        return _standing(client, "unchanged", snapshot, release)
    _check_place(snapshot, release, replace)
    proposed = _proposed(client, "unchanged", repository, release)
    if proposed is not None:
        return proposed
    changes = _changes(client, snapshot, release)
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
    release: _Release,
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
    release: _Release,
    pull_request: str | None = None,
) -> Published:
    """Return where a document stands that a repository has."""
    repository, commit, folder = snapshot.repository, snapshot.commit, release.folder
    url = client.page(repository, "tree", commit, folder)
    return Published(outcome, repository, commit, folder, url, pull_request)


def _check_place(snapshot: Snapshot, release: _Release, replace: bool) -> None:
    if release.files_in(snapshot) and not replace:
        problem = f"{snapshot.repository} has another document for this policy, revision and set-up"
        remedy = "Look at it first. To publish yours instead, say that it is to be replaced"
        raise PublishingError("folder", release.folder, problem, remedy)


def _changes(client: HubClient, snapshot: Snapshot, release: _Release) -> Changes:
    """Return what a commit is to do on top of a snapshot."""
    own = f"{release.folder}/"
    others = {path: file for path, file in snapshot.files.items() if not path.startswith(own)}
    listing = read_documents(client, dataclasses.replace(snapshot, files=others))
    for refusal in listing.refused:
        raise _unlisted(refusal.source, refusal.error)
    entries = [
        IndexEntry(each.folder, each.document, _figures(each.files)) for each in listing.documents
    ]
    entries.append(IndexEntry(release.folder, release.document, _figures(release.contents)))
    added = {f"{own}{name}": data for name, data in release.contents.items()}
    try:
        card = render_index(snapshot.repository, entries, release.describe)
    except DocumentError as error:
        raise _unlisted(snapshot.repository, error) from None
    gone = release.files_in(snapshot).keys() - release.contents.keys()
    return Changes(
        title=f"Policy for {release.document.model.id[:100]} in {release.folder}",
        added={**added, CARD_FILE: card.encode()},
        removed=tuple(f"{own}{name}" for name in sorted(gone)),
    )


def _unlisted(source: str, error: Exception) -> PublishingError:
    problem = f"it has a document that this version cannot list in its card ({error})"
    remedy = "Update otcache, or remove that document"
    return PublishingError("repository", source, problem, remedy)


def _figures(names: Iterable[str]) -> list[str]:
    paths = map(PurePosixPath, names)
    return sorted(path.name for path in paths if path.parent.name == FIGURES_FOLDER)


def _tag(client: HubClient, published: Published, tag: str) -> None:
    try:
        client.tag(published.repository, published.commit, tag)
    except HubError as error:
        problem = f"{published.url} stands, but without this tag: {error.problem}"
        remedy = "Push the same again with a tag: that sets only the tag"
        raise TagError("tag", tag, problem, remedy) from None
