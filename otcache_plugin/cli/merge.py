"""`otcache merge`: one document of what several shards measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otcache_plugin.cli.common.calibration_output import print_result, write_result
from otcache_plugin.cli.common.output import Json, Quiet, StageProgress


def merge(
    output: Annotated[Path, typer.Argument(help="The --output that the shards were given.")],
    policy: Annotated[
        str | None, typer.Option(help="Which policy, where the shards have calibrated several.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put the measurements of all shards together, and write the document."""
    from otcache_registry import check_writable

    from otcache_plugin.calibration.shards import merged

    check_writable(output)
    work = f"{output}.*"
    with StageProgress(quiet) as progress:
        result = merged(output, progress, policy)
        write_result(output, result, work, progress)
    print_result(output, result, work, json)
