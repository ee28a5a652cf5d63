"""An activation whose pipeline has to keep the weights that its document was chosen for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otcache_plugin.origins.watching import WeightsWatch
from otcache_plugin.pipelines.calls import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import DiffusionPipeline
    from otcache_registry.finding.nearest import RunSetup

    from otcache_plugin.origins.watching import Look
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
        look = self._weights.look(pipe)
        return _WatchedCall(self.activation.begin(pipe, setup), look)

    def report(self) -> RunReport:
        """Return the current or last run."""
        return self.activation.report()


class _WatchedCall(Call):
    """Another call, with a look at the weights that is over when the call is."""

    def __init__(self, call: Call, look: Look) -> None:
        self._call = call
        self._look = look

    def run(self, pipeline_call: Callable[[], Any]) -> Any:
        """Make the pipeline's call; raise PipelineError when other weights were used."""
        result = self._call.run(pipeline_call)
        self._look.require_unchanged()
        return result

    def set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._call.set_timesteps(original, *args, **kwargs)

    def denoise(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        return self._call.denoise(module, *args, **kwargs)

    def feed(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        return self._call.feed(module, *args, **kwargs)

    def step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._call.step(original, *args, **kwargs)

    def step_beside(
        self, scheduler: Any, original: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        return self._call.step_beside(scheduler, original, *args, **kwargs)

    def end(self) -> None:
        self._call.end()
