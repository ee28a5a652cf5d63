"""All methods by name, in the order in which they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_plugin.comparing.contenders.full import FULL, FullRun
from otcache_plugin.comparing.contenders.policies import policy_methods
from otcache_plugin.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otcache_plugin.comparing.methods import Method

__all__ = ["chosen_methods", "known_methods"]


def known_methods() -> Mapping[str, Method]:
    """Return every method by its name: the full run, policies, then the methods of others."""
    methods: list[Method] = [FullRun(), *policy_methods()]
    return {method.name: method for method in methods}


def chosen_methods(names: Sequence[str] | None) -> list[Method]:
    """Return the methods of these names, the full run first; all for None.

    Raises:
        UnknownNameError: there is no method of that name; the message lists those there are.
    """
    known = known_methods()
    for name in names or ():
        if name not in known:
            remedy = f"Use {', '.join(known)}"
            raise UnknownNameError("methods", name, "no such method", remedy)
    return [method for name, method in known.items() if names is None or name in (FULL, *names)]
