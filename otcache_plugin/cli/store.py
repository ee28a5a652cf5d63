"""`otcache store`: what was pulled, where it lies, and removing what is not needed any more."""

from __future__ import annotations

from typing import Any

import typer
from rich.filesize import decimal

from otcache_plugin.cli.common.lock_records import print_record, record_data
from otcache_plugin.cli.common.output import Json, print_hint, print_json

store = typer.Typer(help="List, locate or tidy up the pulled documents.", no_args_is_help=True)


@store.command("list")
def list_store(json: Json = False) -> None:
    """List the pulled documents."""
    from otcache_registry.store.store import PolicyStore

    kept = PolicyStore()
    records, problems = kept.records(), [str(problem) for problem in kept.problems()]
    if json:
        documents = [record_data(record) for record in records]
        print_json({"folder": str(kept.folder), "documents": documents, "problems": problems})
    else:
        for record in records:
            print_record(record)
        if not records:
            print_hint(f"Nothing was pulled to {kept.folder} yet.")
    for problem in problems:
        print_hint(f"not usable: {problem}")


@store.command("prune")
def prune(json: Json = False) -> None:
    """Remove documents that a later commit replaced, damaged records and leftovers."""
    from otcache_registry.store.store import PolicyStore

    pruned = PolicyStore().prune()
    if json:
        data: dict[str, Any] = {
            "documents": [record_data(record) for record in pruned.records],
            "files": list(pruned.files),
            "bytes": pruned.size,
        }
        print_json(data)
        return
    for record in pruned.records:
        print_record(record)
    documents = _count(len(pruned.records), "document")
    files = _count(len(pruned.files), "file")
    print_hint(f"Removed {documents}, {files}, {decimal(pruned.size)}.")


@store.command("path")
def path() -> None:
    """Print the folder that pulled documents are kept in."""
    from otcache_registry.store.folder import default_store_folder

    typer.echo(default_store_folder())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
