"""An activation whose pipeline has to keep the weights that its document was chosen for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otcache_plugin.origins.watching import WeightsWatch

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from otcache_registry.finding.nearest import RunSetup

    from otcache_plugin.pipelines.calls import Call
    from otcache_plugin.plugins.registries import Activation
    from otcache_plugin.runs.report import RunReport

__all__ = ["Watched"]


class Watched:
    """Begins calls as another activation does, as long as the pipeline has the same weights.

    Args:
        activation: what begins them.
        pipe: the pipeline.
    """

    def __init__(self, activation: Activation, pipe: DiffusionPipeline) -> None:
        self.activation = activation
        self._weights = WeightsWatch(pipe)

    def begin(self, pipe: Any, setup: RunSetup) -> Call:
        """Return the call that begins.

        Raises:
            PipelineError: the weights have changed.
        """
        self._weights.require_unchanged(pipe)
        return self.activation.begin(pipe, setup)

    def report(self) -> RunReport:
        """Return the current or last run."""
        return self.activation.report()
