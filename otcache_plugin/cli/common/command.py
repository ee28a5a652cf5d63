"""What every command makes of the library's errors: it has words of its own for what to do."""

from __future__ import annotations

from typing import Any

from otcache_policies import FieldError
from typer.core import TyperArgument, TyperCommand

from otcache_plugin.calibration.errors import ClusterError, NoShardsError, UnfinishedError
from otcache_plugin.cli.common.examples import EXAMPLES

HINTS = {
    UnfinishedError: "--wait SECONDS waits for shards that run now.",
    NoShardsError: "Run otcache calibrate with --shard first, and pass merge the same --output.",
    ClusterError: "--ray alone uses this machine, --cpus-per-worker is the threads of a worker.",
}
"""Which options help, by the error."""


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
            name, dot, key = error.field.partition(".")
            words = {each.name: _word(each) for each in self.get_params(ctx)}
            if name in words and (dot or _is_meant(ctx.params.get(name), error.value)):
                error.field = f"{words[name]}{dot}{key}"
            raise
        except tuple(HINTS) as error:
            raise type(error)(f"{error} {HINTS[type(error)]}") from error


def _word(parameter: Any) -> str:
    """Return what a user writes: an option's long form, an argument's name in capitals."""
    if isinstance(parameter, TyperArgument):
        return str(parameter.name).upper()
    return str(next(each for each in parameter.opts if each.startswith("--")))


def _is_meant(given: object, refused: object) -> bool:
    """Return whether it may be what the user gave, rather than another thing of the same name.

    A document's own policy, for one, is not the POLICY that says where the document is.
    """
    # NaN is what the user gave, too, and equals nothing.
    return type(given) is not type(refused) or given is refused or given == refused
