"""Measuring on a Ray cluster: one worker per GPU, or per so many CPUs.

Which worker measures what does not matter, because a unit's result depends on nothing but the
unit. A worker that dies is replaced and its unit given to another one.
"""

from __future__ import annotations

import os
import re
import socket
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Self

from otcache_policies import OTCacheError

from otcache_plugin.calibration.errors import ClusterError
from otcache_plugin.calibration.measuring.units import Decide, Evaluate
from otcache_plugin.calibration.stages import LOADING, STARTING_RAY, Unwatched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from otcache_plugin.calibration.measuring.facts import ModelFacts
    from otcache_plugin.calibration.measuring.units import Measured, Unit
    from otcache_plugin.calibration.measuring.worker import Worker
    from otcache_plugin.calibration.settings import MeasuringSettings
    from otcache_plugin.calibration.stages import CalibrationProgress
    from otcache_plugin.evaluation.batches import Batch
    from otcache_plugin.models.setups import ModelSetup

LOCAL = "local"
"""Address that starts a cluster on this machine."""

MOST_DEATHS = 3
"""Workers that one unit, or loading the model, may cost before it is not the workers' fault."""

CONNECT_SECONDS = 10.0

LOCAL_ENVIRONMENT = {
    # Whoever calibrates was not asked whether Ray may report it.
    "RAY_USAGE_STATS_ENABLED": "0",
    # What Ray 3 does anyway, and earlier ones warn of on the terminal unless it is said.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class RayPool:
    """Measures on the workers of a Ray cluster.

    Args:
        load: gives the model, on every worker; must be picklable.
        settings: of the calibration; `threads` is the CPUs of a worker.
        address: of the cluster; "local" starts one on this machine.
        workers: how many; None for one per GPU, or per `threads` CPUs where there is no GPU.
        scratch: folder for the trajectories of runs under way; used on this machine only.
        progress: is told what it does before it can measure.

    Raises:
        OTCacheError: Ray is not installed, there is no cluster, it has no room for a worker, or
            its workers cannot load the model.
    """

    def __init__(
        self,
        load: Callable[[], ModelSetup],
        settings: MeasuringSettings,
        address: str,
        workers: int | None = None,
        scratch: Path | None = None,
        progress: CalibrationProgress | None = None,
    ) -> None:
        progress = progress or Unwatched()
        progress.announce(STARTING_RAY)
        self._ray = _import_ray()
        self._arguments = load, settings, scratch if address == LOCAL else None
        self._references: dict[Batch, Any] = {}
        self._idle: list[tuple[Any, Batch | None]] = []
        self._loading: dict[Any, Any] = {}
        self._failed_loads = 0
        self._facts: ModelFacts | None = None
        self._start(address)
        try:
            self._needs = ("GPU", 1) if self._nodes_with("GPU", 1) else ("CPU", settings.threads)
            # What several nodes have left over does not add up: a worker lies on one of them.
            name, amount = self._needs
            room = sum(int(each // amount) for each in self._nodes_with(name, amount))
            count = room if workers is None else workers
            if not 1 <= count <= room:
                each, remedy = f"{amount} CPUs", "fewer threads per worker"
                if name == "GPU":
                    each, remedy = "a GPU", "fewer workers"
                raise ClusterError(
                    f"the Ray cluster at {address} has room for {room} workers of {each}, not for "
                    f"{count or 1}. Use {remedy}."
                )
            progress.announce(f"{LOADING}, {count} times")
            for _ in range(count):
                self._begin_worker()
            while not self._idle:
                self._welcome(self._next_of(self._loading))
        except BaseException:
            self._ray.shutdown()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    @property
    def facts(self) -> ModelFacts:
        """Of the model."""
        assert self._facts is not None, "set when the first worker is there"
        return self._facts

    def _start(self, address: str) -> None:
        options = {"address": address, "log_to_driver": False, "logging_level": "error"}
        if address == LOCAL:
            for name, value in LOCAL_ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            options["include_dashboard"] = False
        try:
            _require_listening(os.environ.get("RAY_ADDRESS", "") if address == "auto" else address)
            self._ray.init(**options)
        except Exception as error:  # Ray has no class for a node that does not start in its 30 s.
            if address == LOCAL:
                raise ClusterError(
                    f"Ray did not start on this machine ({error}). Where the machine is busy, "
                    "start the same command again; whatever was measured is kept."
                ) from error
            raise ClusterError(
                f"no Ray cluster at {address} ({error}). Start one with 'ray start --head', or "
                f"use the address {LOCAL!r} for this machine alone. A cluster that asks for a "
                "token needs RAY_AUTH_MODE=token and RAY_AUTH_TOKEN in the environment."
            ) from error

    def _nodes_with(self, resource: str, amount: int) -> list[float]:
        """Return how much of a resource each node has that has so much."""
        found = [node["Resources"].get(resource, 0) for node in self._ray.nodes() if node["Alive"]]
        return [each for each in found if each >= amount]

    def _begin_worker(self) -> None:
        name, amount = self._needs
        occupied = {"num_gpus": amount} if name == "GPU" else {"num_cpus": amount}
        worker = self._ray.remote(**occupied)(_RayWorker).remote(*self._arguments)
        self._loading[worker.facts.remote()] = worker

    def _welcome(self, loaded: Any) -> None:
        """Take in a worker that has loaded the model, or replace one that failed to."""
        worker = self._loading.pop(loaded)
        try:
            facts = self._result(loaded)
        except self._ray.exceptions.RayError as error:
            self._failed_loads += 1
            if self._failed_loads == MOST_DEATHS:
                raise ClusterError(
                    f"{MOST_DEATHS} workers died while they loaded the model ({error}). Look at "
                    "Ray's logs: are the same packages installed everywhere, is there enough "
                    "memory for so many models? More threads per worker begin fewer. What "
                    "was measured before is kept."
                ) from error
            self._replace(worker)
            return
        self._failed_loads = 0
        if self._facts is None:
            self._facts = facts
        if facts != self._facts:
            raise OTCacheError(
                f"the workers of the Ray cluster differ: one has {facts}, another {self._facts}. "
                "Install the same versions on all machines."
            )
        self._idle.append((worker, None))

    def _replace(self, worker: Any) -> None:
        """Begin another worker for one that was lost, and free what that occupied."""
        self._ray.kill(worker)  # Ray may not have noticed yet.
        self._begin_worker()

    def _next_of(self, running: Mapping[Any, object]) -> Any:
        (done,), _ = self._ray.wait(list(running), num_returns=1)
        return done

    def _result(self, done: Any) -> Any:
        """Return what a worker gave; raise its own error as it is, a RayError for a lost worker."""
        try:
            return self._ray.get(done)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, OTCacheError):
                raise error.cause from None
            raise OTCacheError(f"a worker failed: {error}") from error

    def measure(
        self, units: Sequence[Unit], reference: Callable[[Batch], Mapping[str, NDArray[Any]]]
    ) -> Iterator[tuple[Unit, Measured]]:
        """Measure units, each given to the next free worker, as they come."""
        waiting = deque(units)
        running: dict[Any, tuple[Unit, Any]] = {}
        deaths: Counter[Unit] = Counter()
        while waiting or running:
            while waiting and self._idle:
                worker, batch = self._idle.pop()
                unit = _taken(waiting, batch)
                running[worker.measure.remote(unit, self._put(unit, reference))] = unit, worker
            done = self._next_of({**running, **self._loading})
            if done in self._loading:
                self._welcome(done)
                continue
            unit, worker = running.pop(done)
            try:
                measured = self._result(done)
            except self._ray.exceptions.RayError as error:
                deaths[unit] += 1
                if deaths[unit] == MOST_DEATHS:
                    raise OTCacheError(
                        f"{MOST_DEATHS} workers died while they measured {unit} ({error}). Look at "
                        "Ray's logs (out of memory?), then start the same command again: "
                        "everything measured so far is kept."
                    ) from error
                self._replace(worker)
                waiting.appendleft(unit)
            else:
                self._idle.append((worker, unit.batch))
                yield from measured

    def _put(self, unit: Unit, reference: Callable[[Batch], Mapping[str, NDArray[Any]]]) -> Any:
        """Return what the unit compares with, put into the cluster's object store once a batch."""
        if not isinstance(unit, Evaluate | Decide):
            return {}
        if unit.batch not in self._references:
            self._references[unit.batch] = self._ray.put(dict(reference(unit.batch)))
        return self._references[unit.batch]


class _RayWorker:
    """What lives in an actor; the model is loaded by its first method, whose errors are its own."""

    def __init__(
        self,
        load: Callable[[], ModelSetup],
        settings: MeasuringSettings,
        scratch: Path | None,
    ) -> None:
        self._arguments = load, settings, scratch
        self._worker: Worker | None = None

    def _loaded(self) -> Worker:
        from otcache_plugin.calibration.measuring.worker import Worker

        if self._worker is None:
            load, settings, scratch = self._arguments
            self._worker = Worker(load(), settings, scratch)
        return self._worker

    def facts(self) -> ModelFacts:
        return self._loaded().facts

    def measure(
        self, unit: Unit, reference: Mapping[str, NDArray[Any]]
    ) -> list[tuple[Unit, Measured]]:
        return self._loaded().measure(unit, reference)


def _taken(waiting: deque[Unit], batch: Batch | None) -> Unit:
    """Take the next unit of a batch, whose runs a worker has kept, or else the next of all."""
    unit = next((each for each in waiting if each.batch == batch), waiting[0])
    waiting.remove(unit)
    return unit


def _require_listening(address: str) -> None:
    """Raise OSError unless somebody listens there; Ray would try for a quarter of an hour."""
    match = re.fullmatch(r"(?:ray://)?\[?(.+?)\]?:([0-9]{1,5})", address)
    if match is not None:
        socket.create_connection((match[1], int(match[2])), CONNECT_SECONDS).close()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise OTCacheError(
            "a cluster needs Ray, which is not installed. Run: pip install 'otcache-plugin[ray]'"
        ) from error
    return ray
