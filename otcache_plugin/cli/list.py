"""`otcache list`: the documents that are here."""

from __future__ import annotations

from typing import Annotated

import typer

from otcache_plugin.cli.common.document_list import hub_search, local_entries, print_documents
from otcache_plugin.cli.common.output import Json


def list_documents(
    hub: Annotated[
        bool, typer.Option("--hub", help="Also those in the namespaces searched on the Hub.")
    ] = False,
    json: Json = False,
) -> None:
    """List your own, bundled and pulled policy documents."""
    entries, problems = local_entries()
    print_documents(entries, problems, hub_search(None) if hub else None, json)
