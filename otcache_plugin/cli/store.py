"""`otcache store`: what was pulled, where it lies, and removing what is not needed any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal

from otcache_plugin.cli.common.lock_records import print_record, record_data
from otcache_plugin.cli.common.output import Json, print_hint, print_json
from otcache_plugin.errors import ArgumentError

if TYPE_CHECKING:
    from otcache_registry.store.store import PolicyStore, Pruned

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
    from otcache_registry.hub.remembered import forget_answers
    from otcache_registry.store.store import PolicyStore

    kept = PolicyStore()
    forget_answers(kept.folder)
    _print_removed(kept.prune(), json)


@store.command("remove")
def remove(
    which: Annotated[
        list[str],
        typer.Argument(
            metavar="DOCUMENT…",
            help="hub:user/name[@revision][#folder], or the file name of a damaged record.",
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Remove all of several that a name stands for.")
    ] = False,
    json: Json = False,
) -> None:
    """Remove pulled documents, damaged ones too."""
    from otcache_registry.store.store import PolicyStore

    kept = PolicyStore()
    names = [name for each in which for name in _named(kept, each, force)]
    _print_removed(kept.remove(*names), json)


def _named(kept: PolicyStore, which: str, force: bool) -> list[str]:
    """Return the file names of the records that a text stands for."""
    from otcache_registry.documents.references import parse_hub_reference

    if which in kept.damaged():
        return [which]
    wanted = parse_hub_reference(which)
    found = [
        record
        for record in kept.records()
        if record.repository == wanted.repository
        and wanted.revision in (None, record.commit, record.asked)
        and wanted.folder in (None, record.folder)
    ]
    if not found:
        remedy = "otcache store list says what is there"
        raise ArgumentError("which", which, "not in the store", remedy)
    if len(found) > 1 and not force:
        listed = ", ".join(record.source for record in found)
        problem = f"stands for {len(found)} documents: {listed}"
        raise ArgumentError("which", which, problem, "Name one of them, or all with --force")
    return [record.file_name for record in found]


def _print_removed(pruned: Pruned, json: bool) -> None:
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
