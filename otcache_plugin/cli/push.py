"""`otcache push`: a document to the Hub."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from otcache_plugin.cli.common.output import Json, print_hint, print_json
from otcache_plugin.cli.common.policy_argument import require_valid
from otcache_plugin.errors import ArgumentError

OPTIONS = {"evidence": "--without-evidence", "folder": "--replace"}
"""Which option overrules a refusal to publish, by the field that it is about."""


def push(
    document: Annotated[Path, typer.Argument(metavar="DOCUMENT", help="The document's folder.")],
    repo: Annotated[
        str | None,
        typer.Option(metavar="USER/NAME", help="Where to; by default your own otcache-MODEL."),
    ] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request instead of publishing.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private where it is new.")
    ] = False,
    tag: Annotated[str | None, typer.Option(help="Name for the commit, such as v1.")] = None,
    without_evidence: Annotated[
        bool, typer.Option("--without-evidence", help="Publish without held-out figures.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the document in the same place.")
    ] = False,
    json: Json = False,
) -> None:
    """Publish a calibrated document on the Hub, with its card and figures."""
    from otcache_registry.documents.references import HubReference
    from otcache_registry.hub import publishing
    from otcache_registry.hub.client import HubClient
    from otcache_registry.hub.remembered import forget_answers
    from otcache_registry.store.store import PolicyStore

    from otcache_plugin.plugins.host import plugin_host

    require_valid(document)
    try:
        published = publishing.push(
            HubClient(),
            document,
            repo,
            create_pr=create_pr,
            private=private,
            tag=tag,
            without_evidence=without_evidence,
            replace=replace,
            describe=plugin_host().describe,
        )
    except publishing.PublishingError as error:
        option = OPTIONS.get(error.field)
        # A lost race, for one, is more than a refusal, and no option overrules it.
        if option is None or type(error) is not publishing.PublishingError:
            raise
        remedy = f"{error.remedy.rstrip('.')}: {option}"
        refusal = publishing.PublishingError(error.field, error.value, error.problem, remedy)
        raise refusal from None
    except OSError as error:
        problem = f"a file of it cannot be read ({error.strerror})"
        raise ArgumentError("document", str(document), problem, "Check its permissions") from error
    forget_answers(PolicyStore().folder)
    policy = str(HubReference(published.repository, published.commit, published.folder))
    if json:
        print_json({"policy": policy, **asdict(published)})
        return
    typer.echo(published.pull_request or published.url)
    said = {"published": "Published", "proposed": "Proposed", "unchanged": "There already"}
    print_hint(f"{said[published.outcome]}: {policy}")
