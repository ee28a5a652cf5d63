"""Refusals of values on a command line that say the option, the value and what is allowed."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from otcache_plugin.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST_STEPS = 10_000
"""Of a run; a document takes no more."""


def require_steps(total: int) -> None:
    """Check the `--steps` of a run that is not made here.

    Raises:
        ArgumentError: no run has so few or so many.
    """
    if not 2 <= total <= MOST_STEPS:
        raise ArgumentError("steps", total, "not the steps of a run", f"Use 2 … {MOST_STEPS}")


def refused_value(
    error: Any, command: Any, context: Any, arguments: Sequence[str]
) -> ArgumentError | None:
    """Return what typer refused, in the words of all other errors.

    Args:
        error: Typer's `BadParameter`.
        command: Whose value it is.
        context: Of the command.
        arguments: The words behind the command.

    Returns:
        None where no value was refused: one is missing, say.
    """
    parameter = error.param
    if parameter is None:
        return None
    given, *_ = command.make_parser(context).parse_args(args=[*arguments])
    value = given.get(parameter.name)
    if not isinstance(value, str):
        return None
    problem, remedy = _problem(command.callback, parameter.name, error.message)
    return ArgumentError(parameter.name, value, problem, remedy)


def _problem(callback: Callable[..., object], name: str, said: str) -> tuple[str, str]:
    """Return what is wrong with a value, by its type, and what to do; else what typer said."""
    hint = get_type_hints(callback)[name]
    for kind in get_args(hint) or (hint,):
        if issubclass(kind, Enum):
            return "no such choice", f"Use {', '.join(str(each.value) for each in kind)}"
        if kind is int:
            return "not a whole number", "Use digits alone, such as 10"
        if kind is float:
            return "not a number", "Use such as 600 or 0.5"
    return said.rstrip("."), "--help says what it takes"
