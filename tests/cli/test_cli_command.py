"""The library names its arguments; a command calls them as its user does."""

from __future__ import annotations

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
