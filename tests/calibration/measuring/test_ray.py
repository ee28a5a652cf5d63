"""Calibrations on a Ray cluster: the same document, whatever dies there; and what is refused."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from forking import FORKING
from policy_content import content_of
from processes import SETTINGS, Command, at_measurements, count_files, die
from waiting import CEILING, wait_until

pytestmark = pytest.mark.usefixtures("fork_server")

MARK = "OTCACHE_TEST_OF_RAY"
"""In the environment of everything that a test starts."""

TOKEN = "00000000000000000000000000007e57"
"""Of the tests' clusters; anybody's own one in the home folder is left alone."""


def start(folder: Path, *arguments: str, **options: Any) -> Command:
    """A calibration whose document goes to `policy`."""
    output = ("--output", str(folder / "policy"), "--quiet")
    return Command(folder, "calibrate", "exact-flow", *SETTINGS, *output, *arguments, **options)


def units(folder: Path) -> Path:
    return folder / "policy.calibration" / "units"


PATIENCE = {
    "RAY_agent_register_timeout_ms": f"{CEILING * 1000:.0f}",
    "RAY_health_check_timeout_ms": f"{CEILING * 1000:.0f}",
    "RAY_worker_register_timeout_seconds": f"{CEILING:.0f}",
    "RAY_memory_monitor_refresh_ms": "0",
    # Ray's workers give way to everybody, and on a busy machine would hardly get on.
    "RAY_worker_niceness": "0",
}
"""Ray gives up nobody where the machine is busy, and kills nobody where its memory is full."""


def environment(**values: str) -> None:
    """Set variables of the process that it is called in; a cluster asks for a token of its own."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ.update({**PATIENCE, **token, **values})


def marked(mark: str) -> dict[int, str]:
    """Command lines of all processes of a mark, by their number."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().decode()
        except OSError:  # It has ended.
            continue
    return found


def wait_until_gone(mark: str) -> None:
    """Return when a mark's processes have ended.

    Ray's agents, which find out by themselves that their cluster was killed, take their time.
    """
    wait_until(lambda: not [line for line in marked(mark).values() if "Agent" not in line])


def workers_of(mark: str) -> list[int]:
    """Numbers of the workers of a mark."""
    return [pid for pid, line in marked(mark).items() if line.startswith("ray::_RayWorker")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_everything_is_killed_once(uninterrupted: Path, tmp_path: Path) -> None:
    """The command with its cluster, and when it goes on one of its workers."""
    mark = str(tmp_path)
    # An address in the environment is not the cluster that --ray alone is for.
    variables = {"RAY_OVERRIDE_RESOURCES": '{"CPU": 2}', "RAY_ADDRESS": "127.0.0.1:1", MARK: mark}
    marking = partial(environment, **variables)
    killed = start(tmp_path, "--ray", prepare=(marking, at_measurements(20, die)))
    assert killed.wait() == -signal.SIGKILL
    wait_until_gone(mark)
    kept = count_files(units(tmp_path))
    assert kept >= 20
    go_on = FORKING.Event()
    pausing = at_measurements(kept + 1, partial(go_on.wait, CEILING))
    again = start(tmp_path, "--ray", prepare=(marking, pausing))
    again.wait_until(lambda: count_files(units(tmp_path)) > kept and len(workers_of(mark)) == 2)
    os.kill(workers_of(mark)[0], signal.SIGKILL)
    go_on.set()
    assert again.wait() == 0, again.err
    assert again.out == f"wrote {tmp_path / 'policy'}\n"
    # Ray says so, in a line or two; and not on stdout, where it does by itself.
    assert "A worker died or was killed" in again.err
    assert "Traceback" not in again.err
    wait_until_gone(mark)
    assert content_of(tmp_path / "policy") == content_of(uninterrupted)
    whole = count_files(uninterrupted.with_name("policy.calibration") / "units")
    assert count_files(units(tmp_path)) == whole


def hold_cluster(address: Path, done: Any) -> None:
    """A cluster of one processor, until it is not needed any more."""
    environment()
    import ray

    context = ray.init(
        address="local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False
    )
    address.with_suffix(".part").write_text(context.address_info["gcs_address"])
    address.with_suffix(".part").rename(address)
    done.wait(CEILING)
    ray.shutdown()


@pytest.fixture(scope="module")
def cluster(fork_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a cluster."""
    address = tmp_path_factory.mktemp("cluster") / "address"
    done = FORKING.Event()
    process = FORKING.Process(target=hold_cluster, args=(address, done))
    process.start()
    wait_until(address.exists, process.is_alive)
    yield address.read_text()
    done.set()
    process.join(CEILING)


@pytest.mark.slow
def test_a_cluster_that_is_there(uninterrupted: Path, cluster: str, tmp_path: Path) -> None:
    command = start(tmp_path, "--ray", cluster, prepare=(environment,))
    assert command.wait() == 0, command.err
    assert command.err == (
        f"{tmp_path / 'policy'}.calibration holds the measurements; delete it when all is well.\n"
        f"To have policy='otcache' find it: otcache store add {tmp_path / 'policy'}\n"
    )
    assert content_of(tmp_path / "policy") == content_of(uninterrupted)


@pytest.mark.slow
def test_a_worker_too_large(cluster: str, tmp_path: Path) -> None:
    refused = start(tmp_path, "--ray", cluster, "--cpus-per-worker", "3", prepare=(environment,))
    assert refused.wait() == 1
    assert refused.err == (
        f"error: the Ray cluster at {cluster} has room for 0 workers of 3 CPUs, not for 1. Use "
        "fewer threads per worker. --ray alone uses this machine, --cpus-per-worker is the threads "
        "of a worker.\n"
    )
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.slow
def test_what_a_worker_refuses_is_said_as_ever(cluster: str, tmp_path: Path) -> None:
    refused = start(tmp_path, "--ray", cluster, "--revision", "r1", prepare=(environment,))
    assert refused.wait() == 2
    assert refused.err.startswith("error: --revision='r1': exact-flow ships with its weights")
    assert len(refused.err.splitlines()) == 1


def load_and_die(address: str, said: Path) -> None:
    environment()
    from otcache_policies import OTCacheError

    from otcache_plugin.calibration.measuring.ray_pool import RayPool
    from otcache_plugin.calibration.settings import MeasuringSettings

    try:
        RayPool(partial(os._exit, 1), MeasuringSettings(), address, workers=1)
    except OTCacheError as error:
        said.write_text(str(error))


@pytest.mark.slow
def test_a_model_that_kills_every_worker(cluster: str, tmp_path: Path) -> None:
    said = tmp_path / "said"
    process = FORKING.Process(target=load_and_die, args=(cluster, said))
    process.start()
    process.join(CEILING)
    assert process.exitcode == 0
    assert said.read_text().startswith("3 workers died while they loaded the model (")
    assert "Look at Ray's logs" in said.read_text()


def test_no_cluster(tmp_path: Path) -> None:
    for address in ("127.0.0.1:1", "127.0.0.1:99999", "ray://127.0.0.1:1"):
        refused = start(tmp_path, "--ray", address, prepare=(environment,))
        assert refused.wait() == 1
        assert refused.err.startswith(f"error: no Ray cluster at {address} (")
        assert "Start one with 'ray start --head', or use the address 'local'" in refused.err
        assert len(refused.err.splitlines()) == 1
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def with_a_late_node() -> None:
    """Ray gives a node 30 seconds to start, and then raises what has no class of its own."""
    import ray

    def init(**options: Any) -> None:
        raise Exception("The current node timed out during startup.")

    ray.init = init


def test_a_node_that_does_not_start_in_time(tmp_path: Path) -> None:
    refused = start(tmp_path, "--ray", prepare=(environment, with_a_late_node))
    assert refused.wait() == 1
    assert refused.err.startswith(
        "error: Ray did not start on this machine (The current node timed out during startup.). "
        "Where the machine is busy, start the same command again; whatever was measured is kept."
    )
    assert len(refused.err.splitlines()) == 1


def without_ray() -> None:
    sys.modules["ray"] = None  # type: ignore[assignment]


def test_ray_is_not_installed(tmp_path: Path) -> None:
    refused = start(tmp_path, "--ray", prepare=(without_ray,))
    assert refused.wait() == 1
    assert refused.err == (
        "error: a cluster needs Ray, which is not installed. Run: "
        "pip install 'otcache-plugin[ray]'\n"
    )
