"""Caches of diffusers that leave attention out: Pyramid Attention Broadcast and FasterCache.

All else of a step is computed, so neither comes near the budgets: they are compared as their
authors set them. Both keep one state for all calls of a step, which mixes up the two calls of
guidance where there are two.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from diffusers import FasterCacheConfig, PyramidAttentionBroadcastConfig

from otcache_plugin.comparing.contenders.diffusers_caches import hooks_enabled, no_hooks
from otcache_plugin.comparing.contenders.observing import observed_step
from otcache_plugin.comparing.methods import Variant
from otcache_plugin.pipelines.parts import find_denoisers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otcache_plugin.comparing.methods import Bench

__all__ = ["FasterCache", "PyramidAttentionBroadcast"]

EVERY = 2
"""Of so many steps one computes its attention, as both pages of diffusers have it."""

WEIGHT = 0.3
"""Of the last change of an attention's output, which FasterCache adds to it; as on its page."""

ANNOUNCES = logging.getLogger("diffusers.hooks.faster_cache")
"""Warns at every enabling that FasterCache is experimental."""


class PyramidAttentionBroadcast:
    """Pyramid Attention Broadcast (arXiv 2408.12588): attention outputs are used again."""

    name: ClassVar[str] = "pab"
    label: ClassVar[str] = "Pyramid Attention Broadcast"

    def refusal(self, bench: Bench) -> str | None:
        """See `Method`."""
        reason = no_hooks(bench)
        if reason is not None:
            return reason
        pipeline = type(bench.pipe).__name__
        if not hasattr(type(bench.pipe), "current_timestep"):
            return f"{pipeline} has no current_timestep, by which the cache knows when to begin"
        calls = observed_step(bench).calls
        if calls > 1:
            return (
                f"{pipeline} calls its transformer {calls} times a step for its guidance, and "
                "the cache would give one call the attention of the other"
            )
        return self._unfit(bench)

    def _unfit(self, bench: Bench) -> str | None:
        """Return what else stands against it."""
        return None

    def variants(self, bench: Bench) -> list[Variant]:
        """See `Method`."""
        return [Variant(self.name, f"attention every {EVERY} steps", None)]

    @contextmanager
    def enabled(self, bench: Bench, variant: Variant) -> Iterator[Mapping[str, Any]]:
        """See `Method`."""
        with hooks_enabled(bench.pipe, self.config(bench)):
            yield {}

    def calibration_steps(self, bench: Bench, variant: Variant) -> int:
        """See `Method`."""
        return 0

    def config(self, bench: Bench) -> Any:
        """Return what `enable_cache` takes."""
        return PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=EVERY,
            spatial_attention_timestep_skip_range=(100, 800),
            current_timestep_callback=lambda: bench.pipe.current_timestep,
        )


class FasterCache(PyramidAttentionBroadcast):
    """FasterCache (arXiv 2410.19355): attention, and guidance in a doubled batch, are estimated."""

    name: ClassVar[str] = "fastercache"
    label: ClassVar[str] = "FasterCache"

    def _unfit(self, bench: Bench) -> str | None:
        step = observed_step(bench)
        if step.is_doubled and len(step.shape) not in (4, 5):
            return (
                f"{type(bench.pipe).__name__} has its latents in a sequence, and the cache "
                "splits the frequencies of pictures or videos"
            )
        return None

    @contextmanager
    def enabled(self, bench: Bench, variant: Variant) -> Iterator[Mapping[str, Any]]:
        """See `Method`."""
        ANNOUNCES.addFilter(_nothing_but_errors)
        try:
            with hooks_enabled(bench.pipe, self.config(bench)):
                yield {}
        finally:
            ANNOUNCES.removeFilter(_nothing_but_errors)

    def config(self, bench: Bench) -> Any:
        """See `PyramidAttentionBroadcast`: without a doubled batch there is but attention."""
        return FasterCacheConfig(
            spatial_attention_block_skip_range=EVERY,
            spatial_attention_timestep_skip_range=(-1, 681),
            low_frequency_weight_update_timestep_range=(99, 641),
            high_frequency_weight_update_timestep_range=(-1, 301),
            attention_weight_callback=lambda _: WEIGHT,
            tensor_format=self._tensor_format(bench),
            is_guidance_distilled=not observed_step(bench).is_doubled,
            current_timestep_callback=lambda: bench.pipe.current_timestep,
        )

    def _tensor_format(self, bench: Bench) -> str:
        shape = observed_step(bench).shape
        if len(shape) < 5:
            return "BCHW"
        denoiser: Any = find_denoisers(bench.pipe)[0]
        return "BCFHW" if shape[1] == denoiser.config.in_channels else "BFCHW"


def _nothing_but_errors(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
