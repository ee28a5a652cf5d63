"""Which documents there are, here and on the Hub, and how they are listed: as they are found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.console import Console

from otcache_plugin.cli.common.output import data_console, print_hint, print_json
from otcache_plugin.cli.common.policy_argument import short_revision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otcache_registry.hub.index import IndexedDocument
    from otcache_registry.hub.searching import Listing

Place = Literal["own", "bundled", "store", "hub"]

HUB_FAILED = 1
"""Exit code when the Hub was to be asked and did not answer: there may be more documents."""


@dataclass(frozen=True)
class Entry:
    """A document, and what to pass as POLICY for it.

    Attributes:
        policy: what names it.
        place: where it is.
        document: what is known of it.
        repository: that it comes from, None for one's own and a bundled one.
    """

    policy: str
    place: Place
    document: IndexedDocument
    repository: str | None = None

    @property
    def identity(self) -> tuple[str | None, str, str]:
        """What is equal of one document at two commits of its repository."""
        return self.repository, self.document.folder, self.document.sha256

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON."""
        document = self.document
        served = document.budgets
        return {
            "policy": self.policy,
            "place": self.place,
            "policy_name": document.policy,
            "distribution": document.distribution,
            "model": document.model,
            "revision": document.revision,
            "num_inference_steps": document.num_inference_steps,
            "calibrated_budgets": [] if served is None else list(served.calibrated),
            "default_budget": document.default_budget,
            "published": document.published,
        }


@dataclass
class HubSearch:
    """Looking through namespaces on the Hub, and what was noticed on the way.

    Attributes:
        model: whose documents are looked for, None for all.
        namespaces: the users and organisations whose repositories are looked through.
        not_asked: why it is not asked, None when it is.
        failed: why it gave no answer, by namespace.
        refused: documents and repositories there that cannot be used, and why.
    """

    model: str | None
    namespaces: tuple[str, ...]
    not_asked: str | None = None
    failed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def pages(self) -> Iterator[list[Entry]]:
        """Yield the documents as they are found."""
        from otcache_registry.hub.client import HubClient
        from otcache_registry.hub.errors import HubError, HubUnavailableError
        from otcache_registry.hub.searching import search

        if self.not_asked is not None:
            return
        client = HubClient()
        for namespace in self.namespaces:
            try:
                for listing in search(client, namespace, self.model):
                    yield self._entries(listing)
            except HubError as error:
                self.failed.append(str(error))
                if isinstance(error, HubUnavailableError):
                    return

    def _entries(self, listing: Listing) -> list[Entry]:
        self.refused += [f"{each.source}: {each.error}" for each in listing.refused]
        return [
            Entry(each.source, "hub", each.listed, each.repository) for each in listing.documents
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return what was noticed as JSON, without the documents."""
        return {
            "namespaces": list(self.namespaces),
            "not_asked": self.not_asked,
            "failed": " ".join(self.failed) or None,
            "refused": self.refused,
        }


def hub_search(model: str | None) -> HubSearch:
    """Return the search of the configured namespaces, for one model or for all."""
    from otcache_registry.documents.names import is_hub_id
    from otcache_registry.hub.environment import namespaces, offline_variable

    names, variable = namespaces(), offline_variable()
    if variable is not None:
        return HubSearch(model, names, not_asked=f"{variable} is set")
    if model is not None and not is_hub_id(model):
        return HubSearch(model, names, not_asked=f"{model!r} is no id of a model there")
    return HubSearch(model, names)


def local_entries() -> tuple[list[Entry], list[str]]:
    """Return all documents that are here, and what is wrong with those that are left out."""
    from otcache_registry import bundled_policies
    from otcache_registry.documents.files import DOCUMENT_FILE
    from otcache_registry.documents.references import BundledReference
    from otcache_registry.hub.index import IndexedDocument
    from otcache_registry.store.own import OwnDocuments
    from otcache_registry.store.store import PolicyStore

    store = PolicyStore()
    own = OwnDocuments(store.folder).all()
    entries = [
        Entry(str(each.path), "own", IndexedDocument.of(each.policy.document))
        for each in own.documents
    ]
    entries += [
        Entry(
            str(BundledReference(each.name)),
            "bundled",
            IndexedDocument.of(each.document),
        )
        for each in bundled_policies()
    ]
    problems = [str(problem) for problem in (*own.refused.values(), *store.problems())]
    for record in store.records():
        try:
            document = store.open(record).document
        except ValueError as error:
            problems.append(str(error))
        else:
            digests = {file.path: file.sha256 for file in record.files}
            listed = IndexedDocument.of(document, digests[DOCUMENT_FILE])
            entries.append(Entry(record.source, "store", listed, record.repository))
    return entries, problems


def print_documents(
    entries: list[Entry], problems: list[str], search: HubSearch | None, json: bool
) -> int:
    """Print documents, and what else there is to say of them: what is damaged, what the Hub said.

    Returns:
        How many there are.

    Raises:
        typer.Exit: the Hub was asked and gave no answer.
    """
    known, shown = {entry.identity for entry in entries}, list(entries)
    if not json:
        _print_entries(entries)
    for page in _watched(search):
        found = [each for each in page if each.identity not in known]
        shown += found
        if not json:
            _print_entries(found)
    if json:
        print_json(
            {
                "documents": [entry.to_dict() for entry in shown],
                "problems": problems,
                "hub": None if search is None else search.to_dict(),
            }
        )
    for problem in problems:
        print_hint(f"not usable: {problem}")
    if problems:
        print_hint("otcache store remove is rid of what nobody can repair.")
    if search is not None:
        _hint_at_hub(search)
        if search.failed:
            raise typer.Exit(HUB_FAILED)
    return len(shown)


def _watched(search: HubSearch | None) -> Iterator[list[Entry]]:
    """Yield what is found, with a line on a terminal that says how far it is."""
    if search is None:
        return
    console, count = Console(stderr=True), 0
    with console.status("Asking the Hub") as status:
        for page in search.pages():
            count += len(page)
            yield page
            status.update(f"Asking the Hub: {count} documents so far")


def _print_entries(entries: list[Entry]) -> None:
    """What to pass as POLICY, on a line of its own and never broken; under it the facts."""
    console = data_console()
    for entry in entries:
        console.print(entry.policy, style="bold", markup=False, soft_wrap=True)
        console.print_indented(_facts(entry))


def _facts(entry: Entry) -> str:
    document = entry.document
    own = ", your own" if entry.place == "own" else ""
    published = ", published by others" if document.published else ""
    return (
        f"{document.policy} for {document.model} "
        f"({short_revision(document.revision)}), {document.num_inference_steps} steps, "
        f"{_budgets(document)}{published}{own}{_to_install(document)}"
    )


def _budgets(document: IndexedDocument) -> str:
    served = document.budgets
    if served is None:
        return "decides during the run"
    if served.smallest == served.largest:
        return f"budget {served.smallest}"
    return f"budgets {served.smallest} … {served.largest}, default {document.default_budget}"


def _to_install(document: IndexedDocument) -> str:
    """Return what to install first, where the document's policy is not installed."""
    from otcache_plugin.plugins.host import plugin_host

    if document.policy in plugin_host().policies:
        return ""
    return f"; not installed: {document.distribution or 'its distribution is unknown'}"


def _hint_at_hub(search: HubSearch) -> None:
    names = ", ".join(search.namespaces)
    if search.not_asked is not None:
        print_hint(f"The Hub was not asked: {search.not_asked}.")
    elif search.failed:
        for failure in search.failed:
            print_hint(f"The Hub gave no answer, so there may be more: {failure}")
    else:
        print_hint(f"Looked through on the Hub: {names} (OTCACHE_NAMESPACES adds others).")
    for refusal in search.refused:
        print_hint(f"not usable: {refusal}")
