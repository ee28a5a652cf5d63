"""A warning points to the line of whoever called, through the packages that say nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from otcache_policies.warning import warn_caller


def calling(inner: Callable[[], None], module: str, line: int) -> Callable[[], None]:
    """Return a function of a module that calls another on some line of a file of its own."""
    names: dict[str, Any] = {"__name__": module, "inner": inner}
    exec(compile("\n" * (line - 1) + "def call(): inner()", f"{module}.py", "exec"), names)
    found: Callable[[], None] = names["call"]
    return found


@pytest.mark.parametrize(
    ("modules", "place"),
    [
        (["mine"], ("mine.py", 1)),
        (["otcache_plugin.runs", "mine"], ("mine.py", 2)),
        (["otcache_plugin.runs", "diffusers", "torch.nn.modules", "mine", "other"], ("mine.py", 4)),
        # Whoever is called by a library is the innermost who can do something about it.
        (["otcache_registry", "mine", "diffusers.loaders", "other"], ("mine.py", 2)),
        # A name that only begins like a package's is another one.
        (["otcache_plugin", "torchvision.models", "other"], ("torchvision.models.py", 2)),
    ],
)
def test_the_place_is_the_innermost_line_of_somebody_else(
    modules: list[str], place: tuple[str, int]
) -> None:
    # A partial function has no frame of its own.
    call = calling(partial(warn_caller, "slow", DeprecationWarning), "otcache_policies.some", 9)
    for line, module in enumerate(modules, start=1):
        call = calling(call, module, line)
    with pytest.warns(DeprecationWarning, match="slow") as caught:
        call()
    assert [(each.filename, each.lineno) for each in caught] == [place]
