"""`otcache search`: the documents that there are for a model."""

from __future__ import annotations

from typing import Annotated

import typer

from otcache_plugin.cli.common.document_list import hub_search, local_entries, print_documents
from otcache_plugin.cli.common.output import Json, print_hint


def search(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Its id, such as org/name.")],
    json: Json = False,
) -> None:
    """Find policy documents for a model: bundled, pulled, and on the Hub."""
    entries, problems = local_entries()
    of_model = [entry for entry in entries if entry.document.model == model]
    if not print_documents(of_model, problems, hub_search(model), json):
        print_hint(_none_for(model, sorted({entry.document.model for entry in entries})))


def _none_for(model: str, others: list[str]) -> str:
    """Return what to do next: there may be one for a model whose name is alike."""
    alike = [other for other in others if model.lower() in other.lower()]
    if alike:
        return f"No document for {model}. There are some for {', '.join(alike)}."
    if "/" not in model:
        return f"No document for {model}. Models are searched by their whole id, such as org/name."
    return f"No document for {model}. Make one: otcache calibrate {model} --output FOLDER"
