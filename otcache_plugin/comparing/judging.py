"""The metrics that a comparison judges by: those that are asked for, or whatever is at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_plugin.evaluation.metrics import Preparing, is_at_hand
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_plugin.evaluation.metrics import Metric

USUAL = ("psnr", "ssim", "lpips", "clip-score", "image-reward")
"""Those that a comparison shows where they are at hand: packages and weights are there."""


def usual_metrics() -> tuple[str, ...]:
    """Return the names of the usual metrics that need no download here."""
    host = plugin_host()
    return tuple(name for name in USUAL if name in host.metrics and is_at_hand(host.metric(name)))


def prepared_metrics(names: Sequence[str]) -> list[Metric]:
    """Return metrics that can judge at once.

    Raises:
        UnknownNameError: there is no metric of a name.
        OTCacheError: what one needs is neither there nor to be had.
    """
    metrics = [plugin_host().metric(name) for name in names]
    for metric in metrics:
        if isinstance(metric, Preparing):
            metric.prepare()
    return metrics
