"""Kills a calibration at random moments, starts it again, and compares the documents.

    python tools/kill_calibration.py --kills 20
    python tools/kill_calibration.py --kills 20 --ray --effort paper

What is killed, with SIGKILL, is the command, and with --ray in every second place one of its
workers, which it has to survive. It is killed when its working folder holds so many measurements,
a random number, and some random milliseconds have passed; a fifth of the kills come while the
document is written, file by file as if on a slow disk. Prints every kill, and whether the document
is the same as an uninterrupted run's in one process. Exit code 1 when it is not.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from policy_content import content_of

COMMON = ("--steps", "12", "--budget-reference", "7", "--budget-anchor", "4")
SETTINGS = {
    "standard": (*COMMON, "--pairs", "16", "--held-out-pairs", "3", "--batch-size", "4"),
    "paper": (
        *(*COMMON, "--waypoints", "5", "--search", "joint", "--trials", "20"),
        *("--pairs", "4", "--held-out-pairs", "3", "--batch-size", "2"),
    ),
}
"""By effort."""
LONGEST_DELAY = 0.05
"""Seconds between the wanted number of measurements and the kill."""
WHILE_WRITING = 0.2
"""Of the kills, while the document is written."""
LONGEST_WRITING = 0.3
"""Seconds that it takes about, of a document with figures, when each file takes that of SLOWLY."""
POLL_SECONDS = 0.001
SLOWLY = """
import sys, time
from pathlib import Path

def slowly(method):
    def after_a_while(*arguments):
        time.sleep(0.03)
        return method(*arguments)
    return after_a_while

Path.write_bytes, Path.rename = slowly(Path.write_bytes), slowly(Path.rename)
from otcache_plugin.cli.main import main
main()
"""
"""The command, whose writing of the document can be interrupted at every file."""


def begin(
    model: str, policy: Path, arguments: list[str], slowly: bool = False
) -> subprocess.Popen[bytes]:
    """Return a calibration in a session of its own."""
    command = [str(Path(sys.executable).with_name("otcache"))]
    if slowly:
        command = [sys.executable, "-c", SLOWLY]
    return subprocess.Popen(
        [*command, "calibrate", model, "--output", policy, "--quiet", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a calibration that nobody kills."""
    _, said = process.communicate()
    if process.returncode:
        sys.exit(f"a calibration failed with {process.returncode}: {said.decode()}")


def measurements(policy: Path) -> int:
    """Return how many the working folder holds."""
    folder = policy.with_name(f"{policy.name}.calibration") / "units"
    return len(list(folder.glob("*.safetensors")))


def is_written(policy: Path) -> bool:
    """Return whether its document is under way: it is written beside its place."""
    hidden = [name for name in os.listdir(policy.parent) if name.startswith(f".{policy.name}.")]
    return any((policy.parent / name / "new").exists() for name in hidden)


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Processes of Ray's actors below a process."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            names[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")
            stat = (folder / "stat").read_text()
        except OSError:
            continue
        parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])

    def is_below(pid: int) -> bool:
        while pid in parents and pid != process.pid:
            pid = parents[pid]
        return pid == process.pid

    return [pid for pid in sorted(names) if "ray::_RayWorker" in names[pid] and is_below(pid)]


@dataclass(frozen=True)
class Moment:
    """When to kill: at so many measurements, or while the document is written; and what."""

    count: int | None
    delay: float
    worker: bool


def moments_of(kills: int, total: int, ray: bool, seed: int) -> list[Moment]:
    """Random moments, in the order in which a calibration comes to them."""
    rng = random.Random(seed)
    late = round(kills * WHILE_WRITING)
    counts = sorted(rng.randrange(total) for _ in range(kills - late))
    early = [
        Moment(count, rng.uniform(0, LONGEST_DELAY), ray and number % 2 == 1)
        for number, count in enumerate(counts)
    ]
    return early + [Moment(None, rng.uniform(0, LONGEST_WRITING), False) for _ in range(late)]


def kill(process: subprocess.Popen[bytes], policy: Path, moment: Moment) -> str:
    """Kill at the moment, and say what and when in words."""
    # What an earlier kill has left there is not being written now.
    for left in policy.parent.glob(f".{policy.name}.*"):
        shutil.rmtree(left)
    while process.poll() is None and not (
        is_written(policy) if moment.count is None else measurements(policy) >= moment.count
    ):
        time.sleep(POLL_SECONDS)
    # A calibration that goes on has so many measurements before it has a worker.
    while moment.worker and process.poll() is None and not workers_of(process):
        time.sleep(POLL_SECONDS)
    time.sleep(moment.delay)
    place = (
        "while the document was written"
        if moment.count is None
        else f"at {measurements(policy)} measurements ({moment.count} wanted)"
    )
    place += f", {moment.delay * 1000:.1f} ms later"
    if process.poll() is not None:
        return f"came too late: wanted {place}; the calibration had ended"
    if moment.worker:
        workers = workers_of(process)
        os.kill(workers[0], signal.SIGKILL)
        return f"a worker of {len(workers)}, {place}"
    process.kill()
    process.communicate()
    return f"the command, {place}"


def main() -> None:
    """Kills, compares, and says so."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="exact-flow", help="exact-flow or embedded")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--effort", choices=list(SETTINGS), default="standard")
    parser.add_argument("--ray", action="store_true", help="measure on a Ray cluster")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    settings = ["--effort", arguments.effort, *SETTINGS[arguments.effort]]
    options = [*settings, "--ray"] if arguments.ray else settings
    with tempfile.TemporaryDirectory(prefix="otcache-kills-") as folder:
        whole, killed = Path(folder) / "uninterrupted", Path(folder) / "killed"
        finish(begin(arguments.model, whole, settings))
        total = measurements(whole)
        print(f"uninterrupted, in one process: {total} measurements", flush=True)
        moments = moments_of(arguments.kills, total, arguments.ray, arguments.seed)
        process = None
        for number, moment in enumerate(moments, start=1):
            late = moment.count is None
            if late and process is not None and process.poll() is None:
                finish(process)
            if process is None or process.poll() is not None:
                process = begin(arguments.model, killed, options, slowly=late)
            print(f"kill {number}: {kill(process, killed, moment)}", flush=True)
        if process is None or process.poll() is not None:
            process = begin(arguments.model, killed, options)
        finish(process)
        found, expected = content_of(killed), content_of(whole)
        different = sorted(
            name for name in {*found, *expected} if found.get(name) != expected.get(name)
        )
        same_work = measurements(killed) == total
    if different or not same_work:
        print(f"DIFFERENT: {', '.join(different) or 'the number of measurements'}")
        sys.exit(1)
    print(f"identical: {', '.join(sorted(expected))} ({total} measurements)")


if __name__ == "__main__":
    main()
