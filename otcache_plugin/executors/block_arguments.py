"""Arguments of `cache_dit.enable_cache`: those of its block cache, and those beside any cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otcache_plugin import cache_dit_originals
from otcache_plugin.runs.mechanism import BLOCKS, CacheDitCalibrator, Mechanism, calibrator_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diffusers import DiffusionPipeline

CACHE_CONFIG, CALIBRATOR_CONFIG = "cache_config", "calibrator_config"

BLOCK_CACHE_ARGUMENTS = (CACHE_CONFIG, CALIBRATOR_CONFIG, "params_modifiers")
"""What sets up cache-dit's block cache; all others are taken beside it, or without it."""


def block_arguments(mechanism: Mechanism, calls_per_step: int | None = None) -> dict[str, Any]:
    """Return arguments of `cache_dit.enable_cache` that make runs on the executor blocks.

    Args:
        mechanism: what runs are made on; another executor takes none of them.
        calls_per_step: of the transformer, 2 where guidance is a second call; None leaves it to
            what cache-dit knows of the pipeline.

    Raises:
        ArgumentError: there is no such calibrator.
    """
    if mechanism.executor != BLOCKS:
        return {}
    import cache_dit

    configs = {
        CacheDitCalibrator.TAYLORSEER: cache_dit.TaylorSeerCalibratorConfig,
        CacheDitCalibrator.FOCA: cache_dit.FoCaCalibratorConfig,
        CacheDitCalibrator.DMD: cache_dit.DMDCalibratorConfig,
    }
    arguments: dict[str, Any] = {}
    if calls_per_step is not None:
        separate = calls_per_step == 2
        config = cache_dit.DBCacheConfig(Fn_compute_blocks=1, enable_separate_cfg=separate)
        arguments[CACHE_CONFIG] = config
    if mechanism.calibrator is not None:
        arguments[CALIBRATOR_CONFIG] = configs[calibrator_named(mechanism.calibrator)]()
    return arguments


def set_up_beside(pipe: DiffusionPipeline, arguments: Mapping[str, Any]) -> None:
    """Have cache-dit set up what is no part of its cache: attention, parallelism, quantisation.

    Args:
        pipe: the pipeline.
        arguments: none of the block cache's; those that are None stand for what is usual.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    if given:
        # Without a cache_config it leaves its own cache off.
        cache_dit_originals.original("enable_cache")(pipe, **given)


def calibrator_in(arguments: Mapping[str, Any]) -> str | None:
    """Return the name of the calibrator that arguments of cache-dit set up, None where none is."""
    config = arguments.get(CALIBRATOR_CONFIG)
    if config is None or not config.enable_calibrator:
        return None
    name: str = config.calibrator_type
    return name
