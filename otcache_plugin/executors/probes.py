"""What a policy can observe of a transformer's blocks, and how it is got."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otcache_policies.deciding import MODULATED_INPUT, after_blocks
from otcache_policies.dicache import DEEPEST

from otcache_plugin.errors import ArgumentError, PipelineError
from otcache_plugin.executors.block_lists import REMEDY
from otcache_plugin.executors.modulated_input import ModulatedInput
from otcache_plugin.executors.twins import uncompiled
from otcache_plugin.runs.mechanism import PROBE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from diffusers import DiffusionPipeline
    from otcache_policies import DecidingPolicy

    from otcache_plugin.executors.block_lists import BlockList

DEPTHS = {MODULATED_INPUT: 0, **{after_blocks(depth): depth for depth in range(1, DEEPEST + 1)}}
"""How many blocks run at every step, by what is observed."""


@dataclass(frozen=True)
class Probe:
    """How a policy's observation is got.

    Attributes:
        depth: blocks that run at every step.
        look_back: computed steps that the residual of a cached one is estimated from.
        modulated_input: what is observed where no block runs.
    """

    depth: int
    look_back: int
    modulated_input: ModulatedInput | None


def require_probe(policy: DecidingPolicy[Any]) -> int:
    """Return the blocks that run at every step for a policy.

    Raises:
        ArgumentError: it observes something else, or looks back further than residuals are kept.
    """
    if policy.observes not in DEPTHS:
        raise ArgumentError(
            "executor",
            PROBE,
            f"policy {policy.name!r} observes {policy.observes!r} to decide, and this executor "
            f"shows {', '.join(map(repr, DEPTHS))}",
            "Leave executor out, or pass one that shows it",
        )
    depth = DEPTHS[policy.observes]
    if not 1 <= policy.look_back <= (2 if depth else 1):
        problem = f"policy {policy.name!r} has a look-back of {policy.look_back}"
        remedy = "Give it look_back 1, or 2 to extrapolate by what the first blocks give"
        raise ArgumentError("executor", PROBE, problem, remedy)
    return depth


def probe_of(
    pipe: DiffusionPipeline, policy: DecidingPolicy[Any], lists: Sequence[BlockList]
) -> Probe:
    """Return how a policy observes a pipeline's transformer.

    Raises:
        ArgumentError: what it observes is none of its blocks' features.
        PipelineError: they cannot be got of this transformer, or nothing of it is left to cache.
    """
    depth, first = require_probe(policy), lists[0]
    transformer, blocks = uncompiled(pipe.transformer), sum(each.length for each in lists)
    if depth > first.length or depth >= blocks:
        problem = (
            f"its first {depth} blocks would run at every step for policy {policy.name!r}, and it "
            f"has {blocks}, {first.length} of them in {first.name}"
        )
        raise PipelineError("transformer", type(transformer).__name__, problem, REMEDY)
    first_block = getattr(transformer, first.name)[0]
    return Probe(depth, policy.look_back, None if depth else ModulatedInput(first_block))
