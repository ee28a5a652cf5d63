"""Measuring on a Ray cluster: one worker per GPU, or per so many CPUs.

Which worker measures what does not matter, because a unit's result depends on nothing but the
unit. A worker that dies is replaced and its unit given to another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from otcache_policies import OTCacheError

from otcache_plugin.calibration.units import Evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from otcache_plugin.calibration.settings import CalibrationSettings
    from otcache_plugin.calibration.units import Batch, Measured, Unit
    from otcache_plugin.calibration.worker import ModelFacts
    from otcache_plugin.models.setups import ModelSetup

LOCAL = "local"
"""Address that starts a cluster on this machine."""

MOST_DEATHS = 3
"""Workers that one unit may cost before it is the unit's fault."""


class RayPool:
    """Measures on the workers of a Ray cluster.

    Args:
        load: gives the model, on every worker; must be picklable.
        settings: of the calibration; ``threads`` is the CPUs of a worker.
        address: of the cluster; "local" starts one on this machine.
        workers: how many; None for one per GPU, or per ``threads`` CPUs where there is no GPU.

    Raises:
        OTCacheError: Ray is not installed, there is no cluster, or it has no room for a worker.
    """

    def __init__(
        self,
        load: Callable[[], ModelSetup],
        settings: CalibrationSettings,
        address: str,
        workers: int | None = None,
    ) -> None:
        self._ray = _import_ray()
        self._load, self._settings = load, settings
        self._start(address)
        try:
            resources = self._ray.cluster_resources()
            self._gpus = int(resources.get("GPU", 0))
            room = self._gpus or int(resources.get("CPU", 0)) // settings.threads
            count = room if workers is None else workers
            if not 1 <= count <= room:
                raise OTCacheError(
                    f"the Ray cluster at {address} has room for {room} workers of "
                    f"{settings.threads} CPUs, not {count}. Lower --cpus-per-worker."
                )
            self._actors = [self._new_actor() for _ in range(count)]
            self.facts: ModelFacts = self._ray.get(self._actors[0].facts.remote())
        except BaseException:
            self._ray.shutdown()
            raise
        self._references: dict[Batch, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def _start(self, address: str) -> None:
        quiet = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
        if address != LOCAL:
            quiet = {"address": address, **quiet}
            del quiet["include_dashboard"]
        try:
            self._ray.init(**quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise OTCacheError(
                f"no Ray cluster at {address} ({error}). Start one with 'ray start --head', or "
                "pass --ray without an address to use this machine alone."
            ) from error

    def _new_actor(self) -> Any:
        resources = {"num_gpus": 1} if self._gpus else {"num_cpus": self._settings.threads}
        remote = self._ray.remote(**resources)(_RayWorker)
        return remote.remote(self._load, self._settings)

    def measure(
        self, units: Sequence[Unit], reference: Callable[[Batch], Mapping[str, NDArray[Any]]]
    ) -> Iterator[tuple[Unit, Measured]]:
        """Measures units, each given to the next free worker, as they come."""
        waiting = list(reversed(units))
        free = list(self._actors)
        running: dict[Any, tuple[Unit, Any]] = {}
        deaths: dict[Unit, int] = {}
        while waiting or running:
            while waiting and free:
                unit, actor = waiting.pop(), free.pop()
                compared_with = (
                    self._put(unit.batch, reference) if isinstance(unit, Evaluate) else {}
                )
                running[actor.measure.remote(unit, compared_with)] = unit, actor
            (done,), _ = self._ray.wait(list(running), num_returns=1)
            unit, actor = running.pop(done)
            try:
                measured = self._ray.get(done)
            except self._ray.exceptions.RayActorError as error:
                deaths[unit] = deaths.get(unit, 0) + 1
                if deaths[unit] == MOST_DEATHS:
                    raise OTCacheError(
                        f"{MOST_DEATHS} workers died while they measured {unit} ({error}). Look at "
                        "Ray's logs (out of memory?), then start the same command again: "
                        "everything measured so far is kept."
                    ) from error
                self._actors[self._actors.index(actor)] = actor = self._new_actor()
                waiting.append(unit)
                measured = []
            free.append(actor)
            yield from measured

    def _put(self, unit: Unit, reference: Callable[[Batch], Mapping[str, NDArray[Any]]]) -> Any:
        """What the unit compares with, in the cluster's object store, put there once a batch."""
        if not isinstance(unit, Evaluate):
            return {}
        if unit.batch not in self._references:
            self._references[unit.batch] = self._ray.put(dict(reference(unit.batch)))
        return self._references[unit.batch]


class _RayWorker:
    """What lives in an actor."""

    def __init__(self, load: Callable[[], ModelSetup], settings: CalibrationSettings) -> None:
        from otcache_plugin.calibration.worker import Worker

        self._worker = Worker(load(), settings)

    def facts(self) -> ModelFacts:
        return self._worker.facts

    def measure(
        self, unit: Unit, reference: Mapping[str, NDArray[Any]]
    ) -> list[tuple[Unit, Measured]]:
        return self._worker.measure(unit, reference)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise OTCacheError(
            "--ray needs Ray, which is not installed. Run: pip install 'otcache-plugin[ray]'"
        ) from error
    return ray
