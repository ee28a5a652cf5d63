"""The ways in which a pipeline may be served: how each is enabled, and what has to hold of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from unittest import mock

import torch
from cache_dit import DBCacheConfig
from forced_decisions import Forced, host_with
from otcache_policies import Schedule

import otcache_plugin
from matrix.block_reference import BlockList, ProbedLists, ReusedLists, rested_lists
from matrix.reference import reference_run
from matrix.watching import Watched
from otcache_plugin.enabling import enable as enabling

STEPS = 7
"""What a call asks for."""

BUDGET = 3
"""Of the runs of other steps."""


@dataclass(frozen=True)
class Planned:
    """A run that is planned.

    Attributes:
        steps: how many it has.
        computed: those to compute.
    """

    steps: int
    computed: tuple[int, ...]


@dataclass(frozen=True)
class Way:
    """A way of being served.

    Attributes:
        support: what it is called.
    """

    support: str

    executor: ClassVar[str]

    def enable(self, pipe: Any, planned: Planned) -> None:
        """Have these steps computed."""
        raise NotImplementedError

    def enable_budget(self, pipe: Any) -> None:
        """Have as many steps computed as the budget says, whatever the run's."""
        raise NotImplementedError

    def rested(self, pipe: Any, full: Watched, seen: Watched, planned: Planned) -> list[BlockList]:
        """The lists whose blocks rested; AssertionError where the forwards aren't as planned.

        Args:
            pipe: the pipeline, enabled.
            full: its full run.
            seen: the planned one.
            planned: what it was to be.
        """
        assert seen.total() == full.total(), f"{dict(seen.total())}"
        lists = rested_lists(pipe, full, seen, len(planned.computed) / planned.steps)
        assert lists, "no block ran at the computed steps alone"
        return lists

    def expected(
        self, pipe: Any, arguments: dict[str, Any], planned: Planned, lists: list[BlockList]
    ) -> torch.Tensor:
        """Work the outputs out on a pipeline without a policy.

        Args:
            pipe: the pipeline.
            arguments: of its call.
            planned: the run.
            lists: whose blocks rested.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Scheduled(Way):
    """By a schedule.

    Attributes:
        options: of enabling.
    """

    options: Mapping[str, Any] = field(default_factory=dict)

    def look_backs(self, computed: tuple[int, ...]) -> list[int]:
        """Of the segments between computed steps."""
        return [1 for _ in computed[:-1]]

    def enable(self, pipe: Any, planned: Planned) -> None:
        look_backs = self.look_backs(planned.computed)
        schedule = Schedule(list(planned.computed), planned.steps, look_backs)
        self._enable(pipe, policy=schedule)

    def enable_budget(self, pipe: Any) -> None:
        self._enable(pipe, policy="uniform", budget=BUDGET)

    def _enable(self, pipe: Any, **policy: Any) -> None:
        otcache_plugin.enable_cache(pipe, executor=self.executor, **policy, **self.options)


@dataclass(frozen=True)
class PlainReuse(Scheduled):
    """Without the transformer, the last velocity again."""

    executor: ClassVar[str] = "velocity"

    def rested(self, pipe: Any, full: Watched, seen: Watched, planned: Planned) -> list[BlockList]:
        expected = full.at(planned.computed)
        assert seen.total() == expected, f"{dict(seen.total())} instead of {dict(expected)}"
        return []

    def expected(
        self, pipe: Any, arguments: dict[str, Any], planned: Planned, lists: list[BlockList]
    ) -> torch.Tensor:
        return reference_run(pipe, arguments, STEPS, planned.computed, None)


@dataclass(frozen=True)
class AverageVelocity(PlainReuse):
    """Without the transformer, by the average velocity of up to two steps."""

    def look_backs(self, computed: tuple[int, ...]) -> list[int]:
        return [min(2, start + 1) for start in computed[:-1]]

    def expected(
        self, pipe: Any, arguments: dict[str, Any], planned: Planned, lists: list[BlockList]
    ) -> torch.Tensor:
        look_backs = tuple(self.look_backs(planned.computed))
        return reference_run(pipe, arguments, STEPS, planned.computed, look_backs)


@dataclass(frozen=True)
class Blocks(Scheduled):
    """Inside cache-dit's block cache."""

    executor: ClassVar[str] = "blocks"

    def expected(
        self, pipe: Any, arguments: dict[str, Any], planned: Planned, lists: list[BlockList]
    ) -> torch.Tensor:
        return ReusedLists(lists, planned.computed).run(pipe, arguments, STEPS)


@dataclass(frozen=True)
class Probed(Way):
    """By a policy that decides at every step, by what it observes of the first block.

    Attributes:
        observes: what it is shown.
        depth: blocks that run at every step for it.
        look_back: computed steps that a cached one is estimated from.
    """

    observes: str
    depth: int
    look_back: int

    executor: ClassVar[str] = "probe"

    def enable(self, pipe: Any, planned: Planned) -> None:
        self._enable(pipe, planned.computed)

    def enable_budget(self, pipe: Any) -> None:
        self._enable(pipe, (2,))  # the first and the last are computed anyway

    def _enable(self, pipe: Any, computed: tuple[int, ...]) -> None:
        host = host_with(Forced(computed, self.observes, self.look_back))
        with mock.patch.object(enabling, "plugin_host", return_value=host):
            otcache_plugin.enable_cache(pipe, policy="forced")

    def rested(self, pipe: Any, full: Watched, seen: Watched, planned: Planned) -> list[BlockList]:
        lists = super().rested(pipe, full, seen, planned)
        cost = otcache_plugin.summary(pipe).block_evaluations
        assert cost is not None
        rested = sum(each.rested for each in lists)
        assert cost.of_full_run - cost.run == rested, f"the report says {cost}, {rested} rested"
        return lists

    def expected(
        self, pipe: Any, arguments: dict[str, Any], planned: Planned, lists: list[BlockList]
    ) -> torch.Tensor:
        probed = ProbedLists(lists, planned.computed, self.depth, self.look_back)
        return probed.run(pipe, arguments, STEPS)


def _separate(separate: bool) -> Blocks:
    config = DBCacheConfig(Fn_compute_blocks=1, enable_separate_cfg=separate)
    return Blocks(f"blocks, enable_separate_cfg={separate}", {"cache_config": config})


WAYS: dict[str, tuple[Way, ...]] = {
    "velocity": (AverageVelocity("average velocity"), PlainReuse("plain reuse")),
    "blocks": (Blocks("blocks"), _separate(True), _separate(False)),
    "teacache": (Probed("served", "modulated-input", 0, 1),),
    "dicache": (Probed("served", "after-1-block", 1, 2),),
}
"""By column: the first that is not refused is tried, and what an error advises is among them."""
