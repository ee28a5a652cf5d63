"""Caches of diffusers that leave blocks out: `pipe.transformer.enable_cache(config)`.

First Block Cache and SeaCache decide by a threshold, TaylorSeer computes every so many steps. Each
is compared as its authors set it, and as it comes nearest to every budget.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import diffusers
import torch

from otcache_plugin.comparing.contenders.observing import observed_step
from otcache_plugin.comparing.contenders.tuning import (
    TunedMethod,
    at_budgets,
    best_at_budgets,
)
from otcache_plugin.errors import PipelineError
from otcache_plugin.pipelines.parts import find_denoisers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diffusers import DiffusionPipeline

    from otcache_plugin.comparing.contenders.tuning import Settings, Trial, Trials
    from otcache_plugin.comparing.methods import Bench

__all__ = ["DiffusersCache", "FirstBlockCache", "SeaCache", "TaylorSeerCache", "hooks_enabled"]


@contextmanager
def hooks_enabled(pipe: DiffusionPipeline, config: Any) -> Iterator[None]:
    """Enable a cache of diffusers on the transformers of a pipeline inside the block."""
    with ExitStack() as stack:
        denoiser: Any
        for denoiser in find_denoisers(pipe):
            denoiser.enable_cache(config)
            stack.callback(denoiser.disable_cache)
        yield


def unknown_config(name: str) -> str | None:
    """Return why there is no such configuration of a cache, None where there is."""
    if hasattr(diffusers, name):
        return None
    return f"diffusers {diffusers.__version__} has no {name}: a newer one does"


def no_hooks(bench: Bench) -> str | None:
    """Return why diffusers' caches cannot be enabled on a pipeline, None where they can."""
    try:
        denoisers = find_denoisers(bench.pipe)
    except PipelineError as error:
        return f"{error.problem}. {error.remedy}"
    for denoiser in denoisers:
        if not hasattr(denoiser, "enable_cache"):
            return f"{type(denoiser).__name__} has no enable_cache: it is none of diffusers' models"
        if not isinstance(denoiser, torch.nn.Module) or not _stacks(denoiser):
            return f"{type(denoiser).__name__} has no list of blocks to leave out"
    return None


def unknown_blocks(bench: Bench) -> str | None:
    """Return which class of blocks diffusers cannot leave out, as it does not know its outputs."""
    from diffusers.hooks._helpers import TransformerBlockRegistry

    for denoiser in find_denoisers(bench.pipe):
        for block in {type(block) for stack in _stacks(denoiser) for block in stack}:
            try:
                TransformerBlockRegistry.get(block)
            except ValueError as error:
                return f"diffusers does not know what {block.__name__} returns: {error}"
    return None


def _stacks(denoiser: torch.nn.Module) -> list[torch.nn.ModuleList]:
    """Return the lists of blocks that diffusers' caches look for."""
    from diffusers.hooks._common import _ALL_TRANSFORMER_BLOCK_IDENTIFIERS

    return [
        child
        for name, child in denoiser.named_children()
        if name in _ALL_TRANSFORMER_BLOCK_IDENTIFIERS and isinstance(child, torch.nn.ModuleList)
    ]


class DiffusersCache(TunedMethod):
    """What the caches have in common; each says what its settings are.

    Attributes:
        config_name: of the class in diffusers, which older versions may lack.
    """

    config_name: ClassVar[str]

    def refusal(self, bench: Bench) -> str | None:
        """See `Method`."""
        reason = unknown_config(self.config_name) or no_hooks(bench) or unknown_blocks(bench)
        if reason is None and not observed_step(bench).contexts:
            return (
                f"{type(bench.pipe).__name__} does not tell its transformer which of its calls "
                "one is (cache_context), by which the cache keeps guidance apart"
            )
        return reason

    @contextmanager
    def switched_on(self, bench: Bench, settings: Settings) -> Iterator[None]:
        """See `TunedMethod`."""
        with hooks_enabled(bench.pipe, self.config(bench, settings)):
            yield

    def best(self, trials: Trials) -> list[Trial]:
        """See `TunedMethod`: of thresholds, unless said otherwise."""
        return best_at_budgets(trials, [{}])

    @abstractmethod
    def config(self, bench: Bench, settings: Settings) -> Any:
        """Return what `enable_cache` takes for some settings."""

    def words(self, settings: Settings) -> str:
        """See `TunedMethod`: a threshold, unless said otherwise."""
        return f"threshold {settings['threshold']:g}"


class FirstBlockCache(DiffusersCache):
    """First Block Cache: the others are left out while the first one's residual hardly changes."""

    name = "first-block-cache"
    label = "First Block Cache"
    config_name = "FirstBlockCacheConfig"
    defaults: ClassVar = {"threshold": 0.05}

    def config(self, bench: Bench, settings: Settings) -> Any:
        """See `DiffusersCache`."""
        return diffusers.FirstBlockCacheConfig(threshold=settings["threshold"])


class SeaCache(DiffusersCache):
    """SeaCache (arXiv 2602.18993): decides by the latents, filtered by what is signal in them."""

    name = "seacache"
    label = "SeaCache"
    config_name = "SeaCacheConfig"
    defaults: ClassVar = {"order": 1, "in_a_row": 2, "threshold": 0.25}

    def refusal(self, bench: Bench) -> str | None:
        """See `Method`: it needs video latents, and to know the step, or would compute all."""
        reason = super().refusal(bench)
        if reason is not None:
            return reason
        name = type(bench.pipe).__name__
        if not observed_step(bench).says_where:
            return f"{name} does not tell its caches which step it takes (cache_context)"
        denoiser: Any
        for denoiser in find_denoisers(bench.pipe):
            config = denoiser.config
            if type(denoiser).__name__ != "WanTransformer3DModel":
                return f"diffusers' SeaCache knows where the latents are in Wan, not in {name}"
            if config.in_channels != config.out_channels:
                return "diffusers' SeaCache knows Wan from text to video alone"
        return None

    def best(self, trials: Trials) -> list[Trial]:
        """See `TunedMethod`: with longer rows, without which no budget is reached."""
        return best_at_budgets(
            trials, [{"order": order, "in_a_row": row} for order in (0, 1) for row in (3, 6, 12)]
        )

    def config(self, bench: Bench, settings: Settings) -> Any:
        """See `DiffusersCache`."""
        return diffusers.SeaCacheConfig(
            threshold=settings["threshold"],
            residual_order=settings["order"],
            max_consecutive_cached=settings["in_a_row"],
        )

    def words(self, settings: Settings) -> str:
        """See `TunedMethod`."""
        return (
            f"threshold {settings['threshold']:g}, order {settings['order']}, at most "
            f"{settings['in_a_row']} in a row"
        )


class TaylorSeerCache(DiffusersCache):
    """TaylorSeer (arXiv 2503.06923): between computed steps, outputs are extrapolated.

    By default those of the attention layers are, which leaves most of a step to compute. Its lite
    mode extrapolates the output of the whole model, and that comes to the budgets.
    """

    name = "taylorseer"
    label = "TaylorSeer"
    config_name = "TaylorSeerCacheConfig"
    defaults: ClassVar = {"lite": False, "first": 3, "interval": 5, "order": 1}

    FIRST_STEPS = (1, 3)
    """That are computed before the intervals begin: diffusers' default is 3."""
    ORDERS = (1, 2)

    def best(self, trials: Trials) -> list[Trial]:
        """See `TunedMethod`: intervals that come to the budgets, what else can be set by trials."""
        budgets = trials.bench.budgets
        tried = []
        for first in self.FIRST_STEPS:
            ends = {self._interval(trials.bench, budget, first) for budget in budgets}
            tried += [
                trials.run({"lite": True, "first": first, "interval": interval, "order": order})
                for interval in range(min(ends), max(ends) + 1)
                for order in self.ORDERS
            ]
        return at_budgets(tried, budgets)

    def _interval(self, bench: Bench, budget: int, first: int) -> int:
        steps = bench.num_inference_steps

        def away(interval: int) -> int:
            later = len(range(first + 1, steps, interval))
            return abs(min(first, steps) + later - budget)

        return min(range(1, steps + 1), key=away)

    def config(self, bench: Bench, settings: Settings) -> Any:
        """See `DiffusersCache`."""
        return diffusers.TaylorSeerCacheConfig(
            cache_interval=settings["interval"],
            disable_cache_before_step=settings["first"],
            max_order=settings["order"],
            taylor_factors_dtype=find_denoisers(bench.pipe)[0].dtype,
            use_lite_mode=settings["lite"],
        )

    def words(self, settings: Settings) -> str:
        """See `TunedMethod`."""
        what = "whole model" if settings["lite"] else "attention"
        return (
            f"{what} every {settings['interval']} steps, first {settings['first']}, "
            f"order {settings['order']}"
        )
