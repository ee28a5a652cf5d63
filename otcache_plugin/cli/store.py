"""`otcache store`: saving documents of one's own, what was pulled, and removing either."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal

from otcache_plugin.cli.common.command import Command
from otcache_plugin.cli.common.lock_records import print_record, record_data
from otcache_plugin.cli.common.output import Json, print_hint, print_json
from otcache_plugin.cli.common.own_documents import own_data, print_own
from otcache_plugin.cli.common.policy_argument import require_valid, short_revision
from otcache_plugin.errors import ArgumentError

if TYPE_CHECKING:
    from otcache_registry.store.pruned import Pruned
    from otcache_registry.store.store import PolicyStore

store = typer.Typer(
    help="Save documents of your own; list or tidy up what was pulled.", no_args_is_help=True
)


@store.command("list", cls=Command, short_help="List your own and the pulled documents.")
def list_store(json: Json = False) -> None:
    """List your own documents and the pulled ones."""
    from otcache_registry.store.own import OwnDocuments
    from otcache_registry.store.store import PolicyStore

    kept = PolicyStore()
    own, records = OwnDocuments(kept.folder).all(), kept.records()
    problems = [str(problem) for problem in (*own.refused.values(), *kept.problems())]
    if json:
        print_json(
            {
                "folder": str(kept.folder),
                "own": [own_data(each) for each in own.documents],
                "documents": [record_data(record) for record in records],
                "problems": problems,
            }
        )
    else:
        for each in own.documents:
            print_own(each)
        for record in records:
            print_record(record)
        if not records and not own.documents:
            print_hint(f"Nothing was pulled to {kept.folder} yet.")
    for problem in problems:
        print_hint(f"not usable: {problem}")


@store.command("add", cls=Command, short_help="Save a document of your own.")
def add(
    document: Annotated[Path, typer.Argument(metavar="DOCUMENT", help="The document's folder.")],
    json: Json = False,
) -> None:
    """Save a document of your own, which its policy's name then finds before all others."""
    from otcache_registry.documents.folder import folder_contents
    from otcache_registry.store.own import OwnDocuments
    from otcache_registry.store.store import PolicyStore

    require_valid(document)
    try:
        contents = folder_contents(document)
    except OSError as error:
        problem = f"a file of it cannot be read ({error.strerror})"
        raise ArgumentError("document", str(document), problem, "Check its permissions") from error
    added = OwnDocuments(PolicyStore().folder).add(contents)
    if json:
        replaced = [str(path) for path in added.replaced]
        print_json({**own_data(added.document), "new": added.new, "replaced": replaced})
        return
    typer.echo(added.document.path)
    stored = added.document.policy.document
    said = "Saved" if added.new else "There already"
    if added.replaced:
        said = "Saved, in the place of the one of the same set-up"
    print_hint(
        f"{said}: policy={stored.policy.name!r} finds it before all others for {stored.model.id} "
        f"({short_revision(stored.model.revision)})."
    )


@store.command("prune", cls=Command, short_help="Remove what newer ones replaced.")
def prune(json: Json = False) -> None:
    """Remove documents that a later commit replaced, damaged records and leftovers."""
    from otcache_registry.hub.remembered import forget_answers
    from otcache_registry.store.store import PolicyStore

    kept = PolicyStore()
    forget_answers(kept.folder)
    _print_removed(kept.prune(), json)


@store.command("remove", cls=Command, short_help="Remove documents.")
def remove(
    which: Annotated[
        list[str],
        typer.Argument(
            metavar="DOCUMENT",
            help="hub:user/name[@revision][#folder], the folder of one of your own, or the file "
            "name of a damaged record.",
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Remove all of several that a name stands for.")
    ] = False,
    json: Json = False,
) -> None:
    """Remove documents of your own and pulled ones, damaged ones too."""
    from otcache_registry.store.own import OwnDocuments
    from otcache_registry.store.store import PolicyStore

    kept = PolicyStore()
    own = OwnDocuments(kept.folder)
    folders = {each: path for each in which if (path := own.named(each)) is not None}
    pulled = [each for each in which if each not in folders]
    names = [name for each in pulled for name in _named(kept, each, force)]
    _print_removed(own.remove(tuple(folders.values())) + kept.remove(*names), json)


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
            "own": list(pruned.own),
            "documents": [record_data(record) for record in pruned.records],
            "files": list(pruned.files),
            "bytes": pruned.size,
        }
        print_json(data)
        return
    for folder in pruned.own:
        typer.echo(folder)
    for record in pruned.records:
        print_record(record)
    documents = _count(len(pruned.own) + len(pruned.records), "document")
    files = _count(len(pruned.files), "file")
    print_hint(f"Removed {documents}, {files}, {decimal(pruned.size)}.")


@store.command("path", cls=Command, short_help="Print the store's folder.")
def path(json: Json = False) -> None:
    """Print the folder that your own documents and pulled ones are kept in."""
    from otcache_registry.store.folder import default_store_folder

    folder = default_store_folder()
    if json:
        print_json({"folder": str(folder)})
        return
    typer.echo(folder)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
