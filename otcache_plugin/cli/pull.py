"""`otcache pull`: documents from the Hub."""

from __future__ import annotations

from typing import Annotated

import typer

from otcache_plugin.cli.common.lock_records import record_data
from otcache_plugin.cli.common.output import (
    Json,
    Quiet,
    print_hint,
    print_json,
    transfer_progress,
)


def pull(
    repository: Annotated[
        str,
        typer.Argument(
            metavar="REPOSITORY", help="user/name[@revision][#folder], with or without hub: before."
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Fetch again what is in the store already.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch the documents of a repository from the Hub, to be used offline."""
    from otcache_registry.documents.references import parse_hub_reference
    from otcache_registry.hub import fetching
    from otcache_registry.hub.client import HubClient
    from otcache_registry.hub.remembered import forget_answers
    from otcache_registry.store.store import PolicyStore

    wanted = parse_hub_reference(repository)
    with transfer_progress("pulling", quiet) as progress:
        pulled = fetching.pull(
            HubClient(),
            PolicyStore(),
            wanted.repository,
            wanted.revision,
            wanted.folder,
            progress,
            force,
        )
    forget_answers(PolicyStore().folder)
    for refusal in pulled.refused:
        print_hint(f"not usable: {refusal.source}: {refusal.error}")
    records = pulled.records
    if json:
        print_json([record_data(record) for record in records])
        return
    for record in records:
        typer.echo(record.source)
    if not quiet:
        example = f"enable_cache(pipe, policy='{records[0].source}')"
        print_hint(f"Pulled, and from now on usable offline: {example}")
