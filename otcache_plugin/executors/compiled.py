"""Whether `torch.compile` makes one graph of a module, which may break nowhere."""

from __future__ import annotations

from inspect import getclosurevars, isfunction
from typing import Any


def is_one_graph(module: Any) -> bool:
    """Return whether a module is compiled with `fullgraph=True`, as far as torch tells.

    Args:
        module: compiled in place, or what `torch.compile` gave for one, or not compiled at all.
    """
    return bool(getattr(_compiler(module), "fullgraph", False))


def _compiler(module: Any) -> Any:
    """Return what holds the options of `torch.compile`, None where there is nothing.

    torch has no public way to it: it is an attribute of what was given for a module, and the `self`
    that the function which a module is compiled to has closed over.
    """
    compiled = getattr(module, "_compiled_call_impl", None)
    if isfunction(compiled):
        return getclosurevars(compiled).nonlocals.get("self")
    return getattr(module, "dynamo_ctx", None)
