"""`otcache merge`: one document of what several shards measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otcache_plugin.cli.common.calibration_output import print_result, write_result
from otcache_plugin.cli.common.output import Json, Quiet, StageProgress, import_libraries


def merge(
    output: Annotated[
        Path, typer.Argument(metavar="DIR", help="The --output that the shards were given.")
    ],
    policy: Annotated[
        str | None, typer.Option(help="Which policy, where the shards have calibrated several.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put the measurements of all shards together, and write the document."""
    from otcache_registry import check_writable

    from otcache_plugin.calibration.shard_folders import shards_of

    check_writable(output)
    shards_of(output)  # or says at once that there are none
    work = f"{output}.*"
    with StageProgress(quiet) as progress:
        import_libraries(progress)
        from otcache_plugin.calibration.shards import merged

        result = merged(output, progress, policy)
        write_result(output, result, work, progress)
    print_result(output, result, work, json)
