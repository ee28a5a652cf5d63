"""How long does the command line take to answer? Wall-clock and CPU time, and ratios.

    python -m benchmarks.startup --output benchmarks/results/startup.json

Runs each command several times in turn and prints the medians. The wall-clock time depends on what
else the machine does, so beside it stand the CPU time, and the ratio to a Python that imports
numpy and does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

OTCACHE = str(Path(sys.executable).with_name("otcache"))
BASELINE = "python, numpy"
COMMANDS = {
    BASELINE: [sys.executable, "-c", "import numpy"],
    "otcache --help": [OTCACHE, "--help"],
    "otcache list": [OTCACHE, "list"],
    "otcache predict": [OTCACHE, "predict", "bundled:exact-flow", "--budget", "10"],
    "otcache show": [OTCACHE, "show", "bundled:exact-flow"],
}


def run(command: list[str]) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a command."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu


def measure(repeats: int) -> dict[str, Any]:
    for command in COMMANDS.values():
        run(command)  # warm-up: byte code, file cache
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, command in COMMANDS.items():
            times[name].append(run(command))
    return {
        "repeats": repeats,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "commands": {
            name: {
                "seconds": statistics.median(seconds for seconds, _ in values),
                "fastest": min(seconds for seconds, _ in values),
                "cpu": statistics.median(cpu for _, cpu in values),
                "ratio": statistics.median(
                    cpu / base for (_, cpu), (_, base) in zip(values, times[BASELINE], strict=True)
                ),
            }
            for name, values in times.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.repeats)
    table = Table("command", box=None, pad_edge=False)
    for column in ("seconds", "fastest", "CPU seconds", "CPU ratio"):
        table.add_column(column, justify="right")
    for name, values in found["commands"].items():
        table.add_row(name, *(f"{value:.2f}" for value in values.values()))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"medians of {found['repeats']} runs on {found['cores']} cores with a load of "
        f"{found['load']:.1f}; the ratio is to {BASELINE}"
    )
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
