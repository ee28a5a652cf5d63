"""cache-dit's own caches: DBCache by a threshold, with and without TaylorSeer, and its step masks.

They are switched on by `cache_dit.enable_cache` without a policy. A step that is cached still
computes the first blocks, `Fn_compute_blocks`, so a model of few blocks gains less than one of many
would. On cache-dit's benchmarks F8B0 is the precise setting and F1B0 the quick one; the quick one
alone comes to the budgets that are compared at, whatever the number of blocks.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cache_dit
from cache_dit import DBCacheConfig, TaylorSeerCalibratorConfig

from otcache_plugin.comparing.contenders.observing import observed_step
from otcache_plugin.comparing.contenders.tuning import (
    Configured,
    TunedMethod,
    at_budgets,
    best_at_budgets,
)
from otcache_plugin.errors import PipelineError
from otcache_plugin.executors.cache_dit_blocks import is_known, misfit
from otcache_plugin.executors.cached_twin import unannounced
from otcache_plugin.pipelines.parts import find_denoisers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from diffusers import DiffusionPipeline

    from otcache_plugin.comparing.contenders.tuning import Settings, Trial, Trials
    from otcache_plugin.comparing.methods import Bench, Variant

__all__ = ["DBCache", "StepsMask"]

UNLIMITED = -1

WARM_UPS = (1, 4)
"""First steps that are always computed: cache-dit's default, 8, and its examples' 4 are what small
budgets are spent on."""

EVENLY = (2, 3, 4, 6, 7, 8, 9, 10, 13)
"""Steps that are computed at the highest threshold, where the limit of cached steps one after the
other alone decides; with lower ones more are. cache-dit's default is no limit, its examples have 2
or 3."""

DEFAULTS = {"warm_up": 8, "in_a_row": UNLIMITED, "apart": True, "threshold": 0.08}
"""cache-dit's own settings, but for the first blocks."""

LEFT_BEHIND = ("forward", "_is_patched")
"""What `disable_cache` leaves on a transformer whose forward cache-dit has replaced, as Flux's."""

MASKS = ("slow", "medium", "fast", "ultra")


@dataclass(frozen=True)
class DBCache(TunedMethod):
    """DBCache, which decides by how much the first block's residual has changed.

    Attributes:
        name: its word in `--methods`.
        label: what people call it.
        orders: of TaylorSeer, by which a cached residual is extrapolated; None for reuse. The
            thresholds are searched for with the first.
    """

    name: str
    label: str
    orders: tuple[int | None, ...]

    def refusal(self, bench: Bench) -> str | None:
        """See `Method`."""
        return refusal(bench)

    @property
    def defaults(self) -> Settings:
        """See `TunedMethod`."""
        return {"order": self.orders[0], **DEFAULTS}

    @contextmanager
    def switched_on(self, bench: Bench, settings: Settings) -> Iterator[None]:
        """See `TunedMethod`."""
        config = DBCacheConfig(
            Fn_compute_blocks=1,
            Bn_compute_blocks=0,
            max_warmup_steps=settings["warm_up"],
            max_continuous_cached_steps=settings["in_a_row"],
            residual_diff_threshold=settings["threshold"],
            enable_separate_cfg=observed_step(bench).calls == 2,
            cfg_diff_compute_separate=settings["apart"],
        )
        with cached(bench, config, settings["order"]):
            yield

    def best(self, trials: Trials) -> list[Trial]:
        """See `TunedMethod`.

        Guidance's two calls are made to decide alike (`cfg_diff_compute_separate=False`): the
        difference between a new and an old output, times the guidance scale, is what loses most.
        """
        first, *others = self.orders
        rows = limits(trials.bench.num_inference_steps)
        candidates = [*((warm_up, UNLIMITED) for warm_up in WARM_UPS), *((1, row) for row in rows)]
        best = best_at_budgets(
            trials,
            [
                {"order": first, "warm_up": warm_up, "in_a_row": in_a_row, "apart": False}
                for warm_up, in_a_row in candidates
            ],
        )
        of_other_orders = [
            trials.run({**trial.settings, "order": order}) for trial in best for order in others
        ]
        return at_budgets([*best, *of_other_orders], trials.bench.budgets)

    def words(self, settings: Settings) -> str:
        """See `TunedMethod`."""
        words = [f"threshold {settings['threshold']:g}", f"warm-up {settings['warm_up']}"]
        if settings["in_a_row"] != UNLIMITED:
            words.append(f"at most {settings['in_a_row']} in a row")
        if settings["order"] is not None:
            words.append(f"order {settings['order']}")
        return ", ".join(words)


@dataclass(frozen=True)
class StepsMask:
    """cache-dit's predefined masks of computed steps, which it calls `steps_mask`.

    Attributes:
        name: its word in `--methods`.
        label: what people call it.
        order: of TaylorSeer; None for reuse.
    """

    name: str
    label: str
    order: int | None

    def refusal(self, bench: Bench) -> str | None:
        """See `Method`."""
        return refusal(bench)

    def variants(self, bench: Bench) -> list[Variant]:
        """See `Method`: its masks are for whatever number of steps they are for."""
        steps = bench.num_inference_steps
        return [
            Configured(self.name, policy, sum(_mask(policy, steps)), settings=(("policy", policy),))
            for policy in MASKS
        ]

    @contextmanager
    def enabled(self, bench: Bench, variant: Variant) -> Iterator[Mapping[str, Any]]:
        """See `Method`."""
        assert isinstance(variant, Configured), "it is one of this method"
        mask = _mask(dict(variant.settings)["policy"], bench.num_inference_steps)
        config = DBCacheConfig(
            Fn_compute_blocks=1,
            Bn_compute_blocks=0,
            steps_computation_mask=mask,
            steps_computation_policy="static",
            enable_separate_cfg=observed_step(bench).calls == 2,
        )
        with cached(bench, config, self.order):
            yield {}

    def calibration_steps(self, bench: Bench, variant: Variant) -> int:
        """See `Method`."""
        return 0


def limits(num_inference_steps: int) -> list[int]:
    """Return how many steps may be cached one after the other for each of `EVENLY`, each once."""
    rows = (-(-num_inference_steps // computed) - 1 for computed in EVENLY)
    return list(dict.fromkeys(row for row in rows if row > 0))


def refusal(bench: Bench) -> str | None:
    """Return why cache-dit's cache cannot be put on a pipeline."""
    name = type(bench.pipe).__name__
    try:
        find_denoisers(bench.pipe)
        step = observed_step(bench)
    except PipelineError as error:
        return f"{error.problem}. {error.remedy}"
    if not is_known(bench.pipe):
        return f"cache-dit has no adapter for {name}: `cache_dit.supported_pipelines()` lists those"
    if step.calls > 2:
        return f"{name} calls its transformer {step.calls} times a step; cache-dit counts 1 or 2"
    return misfit(bench.pipe)


@contextmanager
def cached(bench: Bench, config: DBCacheConfig, order: int | None) -> Iterator[None]:
    """Put cache-dit's cache on the pipeline inside the block, and take all of it off again.

    Args:
        bench: of the pipeline.
        config: of the cache.
        order: of TaylorSeer; None for reuse.
    """
    calibrator = None if order is None else TaylorSeerCalibratorConfig(taylorseer_order=order)
    pipe = bench.pipe
    with unannounced(logging.WARNING), _left_as_it_was(pipe):
        cache_dit.enable_cache(pipe, cache_config=config, calibrator_config=calibrator)
        try:
            yield
        finally:
            cache_dit.disable_cache(pipe)


@contextmanager
def _left_as_it_was(pipe: DiffusionPipeline) -> Iterator[None]:
    """Take off the transformers what cache-dit leaves on them, and put their parts in order.

    A run under its cache moves lists of blocks behind each other, and diffusers' caches take the
    first block of the first list for the first that runs.
    """
    before = [
        (denoiser, dict(vars(denoiser)), list(denoiser._modules))
        for denoiser in find_denoisers(pipe)
    ]
    try:
        yield
    finally:
        for denoiser, own, parts in before:
            for name in LEFT_BEHIND:
                vars(denoiser).pop(name, None)
                if name in own:
                    vars(denoiser)[name] = own[name]
            for name in parts:
                denoiser._modules[name] = denoiser._modules.pop(name)


def _mask(policy: str, steps: int) -> list[int]:
    mask: list[int] = cache_dit.steps_mask(total_steps=steps, mask_policy=policy)
    return mask
