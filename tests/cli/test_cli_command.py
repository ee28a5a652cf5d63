"""The library names its arguments; a command calls them as its user does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer
from otcache_policies import FieldError
from typer.testing import CliRunner

from otcache_plugin.cli.common.command import Command


@pytest.mark.parametrize(
    ("field", "value", "called"),
    [
        ("seconds", -1.0, "--wait"),
        ("seconds", (1, 2), "--wait"),
        ("batch_size", None, "--batch-size"),
        ("model", "m", "MODEL"),
        ("call.height", 3, "--call.height"),
        # Of the same name, but not what the user gave.
        ("model", "another", "model"),
        ("seconds", 5.0, "seconds"),
        # Nothing of the command's.
        ("edges", 3, "edges"),
        ("anchor.computed_steps", 3, "anchor.computed_steps"),
    ],
)
def test_a_refused_argument_is_called_as_the_user_calls_it(
    field: str, value: object, called: str
) -> None:
    app = typer.Typer()

    @app.command(cls=Command)
    def run(
        model: str,
        seconds: Annotated[float, typer.Option("--wait", "-w")] = -1.0,
        batch_size: int = 1,
        call: str = "{}",
    ) -> None:
        raise FieldError(field, value, "refused", "Use another")

    error = CliRunner().invoke(app, ["m"]).exception
    assert isinstance(error, FieldError)
    assert str(error) == f"{called}={value!r}: refused. Use another."


@pytest.mark.parametrize(
    ("remedy", "said"),
    [
        ("Use steps=2 … 50", "Use --count=2 … 50"),
        ("Use 2 <= batch_size < 9", "Use 2 <= --batch-size < 9"),
        # A line of Python, and words of prose, are left as they are.
        ("Run: enable_cache(pipe, steps=5, batch_size=2)",) * 2,
        ("Use other steps, a batch_size",) * 2,
    ],
)
def test_a_remedy_has_the_words_of_the_command(remedy: str, said: str) -> None:
    app = typer.Typer()

    @app.command(cls=Command)
    def run(steps: Annotated[int, typer.Option("--count")] = 1, batch_size: int = 1) -> None:
        raise FieldError("steps", steps, "refused", remedy)

    error = CliRunner().invoke(app, []).exception
    assert str(error) == f"--count=1: refused. {said}."


@pytest.mark.parametrize("field", ["path", "policy"])
def test_a_document_is_called_as_it_was_given(field: str) -> None:
    app = typer.Typer()

    @app.command(cls=Command)
    def run(name: str, document: Annotated[list[Path], typer.Option("--document", "-d")]) -> None:
        raise FieldError(field, "policy", "refused", "Use another")

    given = CliRunner().invoke(app, ["n", "-d", "other", "-d", "./policy"]).exception
    assert str(given) == "--document='policy': refused. Use another."
    another = CliRunner().invoke(app, ["n", "-d", "other"]).exception
    assert str(another) == f"{field}='policy': refused. Use another."
