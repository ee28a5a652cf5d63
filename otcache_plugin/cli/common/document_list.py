"""Which documents there are, here and on the Hub, and how they are listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from otcache_plugin.cli.common.output import print_hint, print_json
from otcache_plugin.cli.common.policy_argument import short_revision, summary_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otcache_registry import PolicyDocument
    from otcache_registry.hub.client import HubClient
    from otcache_registry.hub.fetching import Listing

Place = Literal["bundled", "store", "hub"]

HUB_FAILED = 1
"""Exit code when the Hub was to be asked and did not answer: there may be more documents."""


@dataclass(frozen=True)
class Entry:
    """A document, and what to pass as POLICY for it."""

    policy: str
    place: Place
    document: PolicyDocument

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON."""
        return {"policy": self.policy, "place": self.place, **summary_of(self.document)}


@dataclass(frozen=True)
class HubAnswer:
    """What the Hub said.

    Attributes:
        namespaces: the users and organisations whose repositories were looked through.
        entries: the documents found there.
        not_asked: why it was not asked, None when it was.
        failed: why it gave no answer, None when it did.
        refused: documents there that cannot be used, and why.
    """

    namespaces: tuple[str, ...]
    entries: tuple[Entry, ...] = ()
    not_asked: str | None = None
    failed: str | None = None
    refused: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON, without the documents."""
        return {
            "namespaces": list(self.namespaces),
            "not_asked": self.not_asked,
            "failed": self.failed,
            "refused": list(self.refused),
        }


def local_entries() -> tuple[list[Entry], list[str]]:
    """Return every bundled and pulled document, and what is wrong with the unreadable ones."""
    from otcache_registry import bundled_policies
    from otcache_registry.documents.references import BundledReference
    from otcache_registry.store.store import PolicyStore

    entries = [
        Entry(str(BundledReference(each.name)), "bundled", each.document)
        for each in bundled_policies()
    ]
    store = PolicyStore()
    problems = [str(problem) for problem in store.problems()]
    for record in store.records():
        try:
            document = store.open(record).document
        except ValueError as error:
            problems.append(str(error))
        else:
            entries.append(Entry(record.source, "store", document))
    return entries, problems


def ask_hub(model: str | None) -> HubAnswer:
    """Look through the configured namespaces, for one model or for all."""
    from otcache_registry.documents.names import is_hub_id
    from otcache_registry.hub.client import HubClient
    from otcache_registry.hub.environment import namespaces, offline_variable
    from otcache_registry.hub.errors import HubError

    names, variable = namespaces(), offline_variable()
    if variable is not None:
        return HubAnswer(names, not_asked=f"{variable} is set")
    if model is not None and not is_hub_id(model):
        return HubAnswer(names, not_asked=f"{model!r} is no id of a model there")
    try:
        listings = list(_listings(HubClient(), model, names))
    except HubError as error:
        return HubAnswer(names, failed=str(error))
    entries = tuple(
        Entry(each.source, "hub", each.document)
        for listing in listings
        for each in listing.documents
    )
    refused = (f"{each.source}: {each.error}" for listing in listings for each in listing.refused)
    return HubAnswer(names, entries, refused=tuple(refused))


def _listings(client: HubClient, model: str | None, names: Iterable[str]) -> Iterator[Listing]:
    from otcache_registry.documents.names import POLICY_TAG
    from otcache_registry.hub import fetching

    if model is not None:
        yield fetching.search(client, model, names)
        return
    for name in names:
        for repository in client.search(name, (POLICY_TAG,)):
            yield fetching.list_documents(client, repository)


def print_documents(
    entries: list[Entry], problems: list[str], answer: HubAnswer | None, json: bool
) -> None:
    """Print documents, and what else there is to say of them: what is damaged, what the Hub said.

    Raises:
        typer.Exit: the Hub was asked and gave no answer.
    """
    known = {entry.policy for entry in entries}
    found = [] if answer is None else [each for each in answer.entries if each.policy not in known]
    if json:
        print_json(
            {
                "documents": [entry.to_dict() for entry in [*entries, *found]],
                "problems": problems,
                "hub": None if answer is None else answer.to_dict(),
            }
        )
    else:
        _print_entries([*entries, *found])
    for problem in problems:
        print_hint(f"not usable: {problem}")
    if answer is not None:
        _hint_at_hub(answer)
        if answer.failed is not None:
            raise typer.Exit(HUB_FAILED)


def _print_entries(entries: list[Entry]) -> None:
    """What to pass as POLICY, on a line of its own and never broken; under it the facts."""
    console = Console(highlight=False)
    for entry in entries:
        console.print(entry.policy, style="bold", markup=False, soft_wrap=True)
        console.print(Padding(escape(_facts(entry.document)), (0, 0, 0, 2), expand=False))


def _facts(document: PolicyDocument) -> str:
    published = "" if document.published is None else ", published by others"
    return (
        f"{document.policy.name} for {document.model.id} "
        f"({short_revision(document.model.revision)}), {document.num_inference_steps} steps, "
        f"{_budgets(document)}{published}{_to_install(document)}"
    )


def _budgets(document: PolicyDocument) -> str:
    served = document.budgets
    if served is None:
        return "decides during the run"
    return f"budgets {served.smallest} … {served.largest}, default {document.default_budget}"


def _to_install(document: PolicyDocument) -> str:
    """Return what to install first, where the document's policy is not installed."""
    from otcache_plugin.plugins.host import plugin_host

    if document.policy.name in plugin_host().policies:
        return ""
    return f"; not installed: {document.policy.distribution or 'its distribution is unknown'}"


def _hint_at_hub(answer: HubAnswer) -> None:
    names = ", ".join(answer.namespaces)
    if answer.not_asked is not None:
        print_hint(f"The Hub was not asked: {answer.not_asked}.")
    elif answer.failed is not None:
        print_hint(f"The Hub gave no answer, so there may be more: {answer.failed}")
    else:
        print_hint(f"Looked through on the Hub: {names} (OTCACHE_NAMESPACES adds others).")
    for refusal in answer.refused:
        print_hint(f"not usable: {refusal}")
