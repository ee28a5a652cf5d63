"""`otcache demo`: what the policy does for a model that ships with the package, with pictures.

It is a comparison of three methods, whose page alone is kept.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from otcache_plugin.cli.common.again import command_of
from otcache_plugin.cli.common.comparing import compared, print_comparison, steps_of
from otcache_plugin.cli.common.output import (
    Json,
    Quiet,
    StageProgress,
    data_console,
    import_libraries,
    print_json,
)
from otcache_plugin.errors import UnknownNameError

if TYPE_CHECKING:
    from otcache_plugin.comparing.settings import ComparisonSettings

DEFAULT_OUTPUT = Path("otcache-demo/report.html")
BUNDLED = "otcache"
"""The policy that ships with the package; any other one is a document's folder."""

METHODS = (BUNDLED, "meancache", "uniform")

DEFAULT_MODEL, DEFAULT_PAIRS = "embedded", 32


def demo(
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="The report, an HTML file.")
    ] = DEFAULT_OUTPUT,
    model: Annotated[str, typer.Option(help="embedded or exact-flow.")] = DEFAULT_MODEL,
    policy: Annotated[
        str, typer.Option(help="otcache for the bundled document, or a document's folder.")
    ] = BUNDLED,
    pairs: Annotated[int, typer.Option(help="Held-out prompt-seed pairs.")] = DEFAULT_PAIRS,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Accelerate the embedded model and write a report."""
    from otcache_plugin.comparing.pages import require_writable, write_page
    from otcache_plugin.models.setups import SETUPS
    from otcache_plugin.models.source import ModelSource

    if model not in SETUPS:
        problem, remedy = "no such model ships with the package", f"Use {' or '.join(SETUPS)}"
        raise UnknownNameError("model", model, problem, remedy)
    settings = _settings(policy, pairs)
    require_writable(output)
    with StageProgress(quiet) as progress:
        import_libraries(progress)
        from otcache_plugin.comparing.report import render_report

        with TemporaryDirectory() as work:
            result = compared(ModelSource(model), settings, Path(work), progress)
            write_page(output, render_report(result, command_again(model, policy, pairs)))
    if json:
        from otcache_plugin.comparing.outputs import figures_dict

        print_json({**figures_dict(result), "report": str(output)})
        return
    print_comparison(result)
    data_console().print(f"report: {output}", soft_wrap=True)


def _settings(policy: str, pairs: int) -> ComparisonSettings:
    from otcache_plugin.comparing.settings import ComparisonSettings

    documents = () if policy == BUNDLED else (policy,)
    return ComparisonSettings(
        methods=METHODS, num_inference_steps=steps_of(documents), pairs=pairs, documents=documents
    )


def command_again(model: str, policy: str, pairs: int) -> str:
    """Return the command that makes a demo's report again."""
    options = {
        "--model": (model, DEFAULT_MODEL),
        "--policy": (policy, BUNDLED),
        "--pairs": (pairs, DEFAULT_PAIRS),
    }
    return command_of(["demo"], options)
