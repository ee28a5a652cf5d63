"""All methods by name, in the order in which they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_plugin.comparing.contenders.attention_caches import (
    FasterCache,
    PyramidAttentionBroadcast,
)
from otcache_plugin.comparing.contenders.dbcache import DBCache, StepsMask
from otcache_plugin.comparing.contenders.diffusers_caches import (
    FirstBlockCache,
    SeaCache,
    TaylorSeerCache,
)
from otcache_plugin.comparing.contenders.full import FULL, FullRun
from otcache_plugin.comparing.contenders.magcache import MagCache
from otcache_plugin.comparing.contenders.policies import policy_methods
from otcache_plugin.comparing.contenders.samplers import DPMSolver, FewerSteps, UniPC
from otcache_plugin.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otcache_plugin.comparing.methods import Method

__all__ = ["chosen_methods", "known_methods"]

OTHERS: tuple[Method, ...] = (
    FewerSteps(),
    UniPC(),
    DPMSolver(),
    DBCache("dbcache", "DBCache", (None,)),
    DBCache("dbcache-taylorseer", "DBCache, TaylorSeer", (1, 2)),
    StepsMask("steps-mask", "step masks", None),
    StepsMask("steps-mask-taylorseer", "step masks, TaylorSeer", 1),
    FirstBlockCache(),
    TaylorSeerCache(),
    MagCache(),
    SeaCache(),
    PyramidAttentionBroadcast(),
    FasterCache(),
)
"""What others have made: samplers, then caches of cache-dit and of diffusers."""


def known_methods() -> Mapping[str, Method]:
    """Return every method by its name: the full run, policies, then the methods of others."""
    methods: list[Method] = [FullRun(), *policy_methods(), *OTHERS]
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
