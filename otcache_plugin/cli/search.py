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
        print_hint(f"No document for {model}. Make one: otcache calibrate {model} --output FOLDER")
