"""`otcache compare`: one model, any methods, one set of held-out prompts, one run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otcache_plugin.cli.common.again import command_of
from otcache_plugin.cli.common.calibration_output import (
    data_alone_on_stdout,
    noting_what_is_kept,
)
from otcache_plugin.cli.common.comparing import compared, print_comparison, steps_of
from otcache_plugin.cli.common.output import (
    Json,
    Quiet,
    StageProgress,
    data_console,
    import_libraries,
    print_json,
)
from otcache_plugin.errors import ArgumentError, UnknownNameError

if TYPE_CHECKING:
    from otcache_plugin.comparing.settings import ComparisonSettings
    from otcache_plugin.models.source import ModelSource

DEFAULT_OUTPUT = Path("otcache-compare")
BUDGETS = "8,10,15"


def compare(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="embedded, exact-flow, a Hub id or a folder.")
    ],
    methods: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", help="Beside the full run; all that there are."),
    ] = None,
    budgets: Annotated[
        str, typer.Option(metavar="B,…", help="Steps to compute, each compared.")
    ] = BUDGETS,
    num_inference_steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="T", help="Inference steps; the document's, or else 50."),
    ] = None,
    document: Annotated[
        list[str] | None,
        typer.Option(metavar="DOCUMENT", help="A policy document of yours; more than once too."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What others are held against; meancache, else uniform."),
    ] = None,
    pairs: Annotated[int, typer.Option(metavar="N", help="Held-out prompt-seed pairs.")] = 32,
    rounds: Annotated[int, typer.Option(metavar="N", help="How often all are timed.")] = 3,
    time_again: Annotated[
        bool,
        typer.Option("--time-again", help="Take the times anew, and keep all else."),
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Which held-out pairs.")] = 0,
    evaluation_prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="Held-out prompts of your own."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="COMMIT", help="Of the weights; what to call a folder's.")
    ] = None,
    call: Annotated[
        str, typer.Option(metavar="JSON", help="Further pipeline call arguments.")
    ] = "{}",
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the page and of all figures.")
    ] = DEFAULT_OUTPUT,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare cache methods on a model: seconds, operations, quality, pictures.

    The same command goes on where it was interrupted.
    """
    from otcache_plugin.comparing.settings import ComparisonSettings
    from otcache_plugin.models.source import ModelSource

    source = ModelSource(model, revision, call=call, evaluation_prompts=evaluation_prompts)
    source.check()
    documents = tuple(document or ())
    settings = ComparisonSettings(
        methods=None if methods is None else tuple(_words(methods)),
        budgets=_numbers(budgets),
        num_inference_steps=num_inference_steps or steps_of(documents),
        pairs=pairs,
        seed=seed,
        timed_pairs=min(source.defaults.batch_size, ComparisonSettings.timed_pairs),
        rounds=rounds,
        baseline=baseline,
        documents=documents,
        time_again=time_again,
    )
    with data_alone_on_stdout(), noting_what_is_kept(), StageProgress(quiet) as progress:
        import_libraries(progress)
        _require_compared(settings)
        from otcache_plugin.comparing.judging import usual_metrics
        from otcache_plugin.comparing.outputs import PAGE, WORK, figures_dict, write_outputs

        settings = replace(settings, metrics=usual_metrics())
        result = compared(source, settings, output / WORK, progress)
        progress.announce("writing the page")
        write_outputs(output, result, command_again(source, settings, output))
    page = output / PAGE
    if json:
        print_json({**figures_dict(result), "page": str(page)})
        return
    print_comparison(result)
    data_console().print(f"page: {page}", soft_wrap=True)


def _require_compared(settings: ComparisonSettings) -> None:
    """Refuse methods that there are none of, and a baseline that is not among them, at once."""
    from otcache_plugin.comparing.contenders.known import chosen_methods

    names = [method.name for method in chosen_methods(settings.methods)]
    if settings.baseline not in (None, *names):
        problem, remedy = "not compared", f"Use one of these: {', '.join(names)}"
        raise UnknownNameError("baseline", settings.baseline, problem, remedy)


def _words(text: str) -> list[str]:
    return [word for each in text.split(",") if (word := each.strip())]


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        remedy = "Use such as 8,10,15"
        raise ArgumentError("budgets", text, "not whole numbers with commas", remedy) from None


def command_again(source: ModelSource, settings: ComparisonSettings, output: Path) -> str:
    """Return the command that makes a comparison again, or goes on with it."""
    from otcache_plugin.comparing.settings import ComparisonSettings

    usual = ComparisonSettings()
    options = {
        "--methods": (",".join(settings.methods or ()), ""),
        "--budgets": (",".join(map(str, settings.budgets)), BUDGETS),
        "--steps": (settings.num_inference_steps, steps_of(settings.documents)),
        "--baseline": (settings.baseline, None),
        "--pairs": (settings.pairs, usual.pairs),
        "--rounds": (settings.rounds, usual.rounds),
        "--seed": (settings.seed, usual.seed),
        "--prompts": (source.evaluation_prompts, None),
        "--revision": (source.revision, None),
        "--call": (source.call, "{}"),
        "--output": (output, DEFAULT_OUTPUT),
    }
    documents = (word for named in settings.documents for word in ("--document", named))
    return command_of(["compare", source.model, *documents], options)
