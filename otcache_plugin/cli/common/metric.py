"""A metric is made ready before what it will judge is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otcache_plugin.cli.common.output import StageProgress


def prepare_metric(name: str, progress: StageProgress) -> None:
    """Have its weights before hours of runs that it would fail after."""
    from otcache_plugin.evaluation.metrics import Preparing
    from otcache_plugin.plugins.host import plugin_host

    metric = plugin_host().metric(name)
    if isinstance(metric, Preparing):
        progress.announce(f"preparing the metric {name}")
        metric.prepare()
