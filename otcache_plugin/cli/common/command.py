"""What every command makes of the library's errors: it has words of its own for what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from otcache_policies import FieldError
from typer.core import TyperArgument, TyperCommand

from otcache_plugin.calibration.errors import ClusterError, NoShardsError, UnfinishedError
from otcache_plugin.cli.common.examples import EXAMPLES
from otcache_plugin.cli.common.refusals import refused_value

if TYPE_CHECKING:
    from collections.abc import Mapping

HINTS = {
    UnfinishedError: "--wait SECONDS waits for shards that run now.",
    NoShardsError: "Run otcache calibrate with --shard first, and pass merge the same --output.",
    ClusterError: "--ray alone uses this machine, --cpus-per-worker is the threads of a worker.",
}
"""Which options help, by the error."""

NAMES_OF_DOCUMENTS = "folder", "path", "policy"
"""What the library calls a document that it reads or writes; commands take them by many words."""

METAVARS = {
    "--authors": "TEXT",
    "--baseline": "METHOD",
    "--batch-size": "N",
    "--budget": "B",
    "--budget-anchor": "B",
    "--budget-reference": "B",
    "--budgets": "B,…",
    "--call": "JSON",
    "--cpus-per-worker": "N",
    "--effort": "EFFORT",
    "--evaluation-prompts": "FILE",
    "--executor": "EXECUTOR",
    "--held-out-pairs": "N",
    "--methods": "METHOD,…",
    "--metric": "METRIC",
    "--model": "MODEL",
    "--output": "DIR",
    "--pairs": "N",
    "--patience": "N",
    "--pipeline": "CLASS",
    "--policy": "POLICY",
    "--prompt": "TEXT",
    "--prompts": "FILE",
    "--revision": "COMMIT",
    "--rounds": "N",
    "--search": "per-pair|joint",
    "--seed": "N",
    "--setting": "TEXT",
    "--source": "URL",
    "--steps": "T",
    "--tag": "TAG",
    "--threads": "N",
    "--trials": "N",
    "--wait": "SECONDS",
    "--waypoints": "B,…",
    "--work": "DIR",
}
"""What stands for a value in the help, by option, where the option itself does not say."""


class Command(TyperCommand):
    """Speaks as a user of the command does: `wait` is `--wait`, and help ends with examples."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for parameter in self.params:
            word = _word(parameter)
            if parameter.metavar is None:
                parameter.metavar = METAVARS.get(word)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words behind the command.

        Raises:
            ArgumentError: a value is of the wrong kind.
        """
        words = [*args]  # Reading them takes them away.
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            refused = refused_value(error, self, ctx, words)
            if refused is None:
                raise
            parameters = {each.name: each for each in self.get_params(ctx)}
            refused.field = _word(parameters[refused.field])
            raise refused from None

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, each on a line of its own, however narrow the terminal is."""
        words = ctx.command_path.removeprefix(ctx.find_root().command_path).strip()
        with formatter.section("Examples"):
            for line in EXAMPLES[words]:
                formatter.write(f"  {line}\n")

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            FieldError: as the library raised it, with the command's word for its field.
            OTCacheError: likewise, with the options that help.
        """
        try:
            return super().invoke(ctx)
        except FieldError as error:
            words = {str(each.name): _word(each) for each in self.get_params(ctx)}
            error.field = _called(error, words, ctx.params)
            error.remedy = _in_words(error.remedy, words)
            raise
        except tuple(HINTS) as error:
            raise type(error)(f"{error} {HINTS[type(error)]}") from error


def _word(parameter: Any) -> str:
    """Return what a user writes: an option's long form, an argument's name in capitals."""
    if isinstance(parameter, TyperArgument):
        return str(parameter.metavar or parameter.name).upper().rstrip("…")
    return str(next(each for each in parameter.opts if each.startswith("--")))


def _called(error: FieldError, words: Mapping[str, str], given: Mapping[str, Any]) -> str:
    """Return the command's word for what was refused; the library's where it is none of these."""
    name, dot, key = error.field.partition(".")
    if name in words and (dot or _is_meant(given.get(name), error.value)):
        return f"{words[name]}{dot}{key}"
    if error.field in NAMES_OF_DOCUMENTS:
        for name, value in given.items():
            if name in words and _is_one_of(value, error.value):
                return words[name]
    return error.field


def _is_one_of(given: object, refused: object) -> bool:
    """Return whether what a user gave, or one of several such, is the path that was refused."""
    names = given if isinstance(given, (list, tuple)) else (given,)
    paths = [Path(each) for each in names if isinstance(each, (str, Path))]
    # What is written is refused by its whole path.
    return any(Path(str(refused)) in (each, each.resolve()) for each in paths)


def _in_words(remedy: str, words: Mapping[str, str]) -> str:
    """Return a remedy with the command's words for the library's arguments.

    `Use budget=8` and `2 <= budget < 9` are meant; prose and lines of Python are left as they are.
    """
    for name, word in words.items():
        remedy = re.sub(rf"\bUse {name}=", f"Use {word}=", remedy)
        remedy = re.sub(rf"(?<=[<=] ){name}\b|\b{name}(?= <=?)", word, remedy)
    return remedy


def _is_meant(given: object, refused: object) -> bool:
    """Return whether it may be what the user gave, rather than another thing of the same name.

    A document's own policy, for one, is not the POLICY that says where the document is.
    """
    # NaN is what the user gave, too, and equals nothing.
    if isinstance(given, str) and isinstance(refused, str):
        return Path(given) == Path(refused)  # ./policy is policy, as a path
    return type(given) is not type(refused) or given is refused or given == refused
