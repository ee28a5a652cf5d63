"""Kills a calibration at random moments and starts it again, and compares the documents.

    python tools/kill_calibration.py --kills 20
    python tools/kill_calibration.py --kills 20 --ray

The command is killed with SIGKILL when its working folder holds so many measurements, a random
number, and some random milliseconds have passed. The last kills come later, by the time that an
uninterrupted run took for what it does once everything is measured: so some of them come while the
document is written. With --ray a worker is killed every second time instead, which the command
has to survive. Exit code 1 when the document is not the one of an uninterrupted run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SETTINGS = (
    *("--steps", "12", "--budget-reference", "7", "--budget-anchor", "4"),
    *("--pairs", "4", "--held-out-pairs", "3", "--batch-size", "2", "--trials", "20"),
)
LONGEST_DELAY = 0.05
"""Seconds between the wanted number of measurements and the kill."""
WRITING_SHARE = 0.2
"""Of the kills, for the time after the last measurement."""


def begin(model: str, policy: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    """A calibration in a session of its own."""
    command = Path(sys.executable).with_name("otcache")
    return subprocess.Popen(
        [command, "calibrate", model, *SETTINGS, "--output", policy, "--quiet", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    """Waits for a calibration that nobody kills."""
    _, said = process.communicate()
    if process.returncode:
        sys.exit(f"a calibration failed with {process.returncode}: {said.decode()}")


def measurements(policy: Path) -> int:
    """How many the working folder holds."""
    folder = policy.with_name(f"{policy.name}.calibration") / "units"
    return len(list(folder.glob("*.safetensors")))


def wait_for(process: subprocess.Popen[bytes], policy: Path, count: int) -> None:
    """Returns when there are so many measurements, or the process has ended."""
    while process.poll() is None and measurements(policy) < count:
        time.sleep(0.002)


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


def content_of(policy: Path) -> dict[str, Any]:
    """All of a document's folder that does not depend on when and how it was measured."""
    content: dict[str, Any] = {
        str(path.relative_to(policy)): path.read_bytes()
        for path in sorted(policy.rglob("*"))
        if path.is_file()
    }
    document = json.loads(content["policy.json"])
    for name in ("created", "seconds"):
        del document["calibration"][name]
    content["policy.json"] = document
    card = content["README.md"].decode()
    content["README.md"] = re.sub(r"- Created: .*|\d+ seconds on", "", card)
    return content


def main() -> None:
    """Kills, compares, and says so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="exact-flow")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ray", action="store_true", help="measure on a Ray cluster")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    options = ["--ray"] if arguments.ray else []
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="otcache-kills-") as folder:
        whole, killed = Path(folder) / "uninterrupted", Path(folder) / "killed"
        process = begin(arguments.model, whole, [])
        while process.poll() is None and not whole.exists():
            newest = measurements(whole)
            if newest != measurements(whole):
                continue
            time.sleep(0.002)
        finish(process)
        total = measurements(whole)
        units = whole.with_name("uninterrupted.calibration") / "units"
        last = max(path.stat().st_mtime for path in units.iterdir())
        writing = (whole / "policy.json").stat().st_mtime - last
        print(
            f"uninterrupted, in one process: {total} measurements, then {writing:.1f} s until the "
            f"document was there"
        )
        late = round(arguments.kills * WRITING_SHARE)
        counts = sorted(rng.randrange(total) for _ in range(arguments.kills - late))
        moments = [(count, rng.random() * LONGEST_DELAY) for count in counts]
        moments += [(total, rng.random() * 1.2 * writing) for _ in range(late)]
        for number, (count, delay) in enumerate(moments, start=1):
            kill_once(arguments, options, killed, number, count, delay)
        finish(begin(arguments.model, killed, options))
        same = content_of(whole) == content_of(killed)
        print(f"after {arguments.kills} kills: documents {'identical' if same else 'DIFFERENT'}")
    sys.exit(0 if same else 1)
