"""`otcache import`: a document of schedules that others published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otcache_plugin.cli.common.output import Json, print_hint, print_json
from otcache_plugin.cli.common.refusals import require_steps


def import_schedules(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="txt, json, yaml or pt: computed steps, cached steps, or masks of 0 and 1.",
        ),
    ],
    model: Annotated[str, typer.Option(help="Id of the model that they are for.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder of the document; by default published-NAME.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Inference steps of the runs, T.")] = 50,
    revision: Annotated[
        str | None, typer.Option(help="Commit of the weights; by default the document is for any.")
    ] = None,
    pipeline: Annotated[str, typer.Option(help="Class name of the pipeline.")] = "unknown",
    authors: Annotated[str, typer.Option(help="Who published them.")] = "unknown",
    source: Annotated[str, typer.Option(help="Where.")] = "unknown",
    setting: Annotated[str, typer.Option(help="What they say that they hold for.")] = "unknown",
    json: Json = False,
) -> None:
    """Make a document of schedules that others published, marked as such."""
    from otcache_registry import render_card, write_policy
    from otcache_registry.documents.tables import NO_TABLES

    from otcache_plugin.parameters.published import (
        Published,
        published_document,
        read_schedules,
    )
    from otcache_plugin.plugins.host import plugin_host

    require_steps(steps)
    schedules = read_schedules(file, steps)
    published = Published(model, revision, authors, source, setting, pipeline)
    document = published_document(schedules, published)
    card = render_card(document, (), plugin_host().describe(document))
    folder = output or Path(f"published-{Path(model).name}")
    write_policy(folder, document, NO_TABLES, card)
    budgets = [schedule.budget for schedule in schedules]
    if json:
        print_json({"policy": str(folder), "model": model, "budgets": budgets})
        return
    typer.echo(folder)
    served = "budget" if len(budgets) == 1 else "budgets"
    print_hint(
        f"Published by others for the {served} {', '.join(map(str, budgets))}; nothing of it was "
        "measured here."
    )
