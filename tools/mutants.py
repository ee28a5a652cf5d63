"""Mutation testing of `otcache_policies`: small changes to its code that its tests have to notice.

    .venv/bin/python tools/mutants.py --sample 300 --seed 0

A mutant is one module with one operator, boundary, number, condition, returned value or statement
changed. Each runs in a fork of this process, on a copy of the package, against the tests that run
the function that it changes; it is killed when one of them fails or takes many times its processor
time. Survivors are printed: each is a missing test, or does the same as the original.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.context import ForkContext
from pathlib import Path

import coverage
import pytest
from mutations import Mutant, mutants_of
from scipy.stats import binomtest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "policies" / "otcache_policies"
TESTS = "tests/policies"

# What all tests share loads torch and more, which would take longer than most mutants do.
# Hypothesis's profile for CI has no deadline, and draws the same examples every time.
ARGUMENTS = ["-q", "-p", "no:cacheprovider", "--hypothesis-profile=ci", f"--confcutdir={TESTS}"]

FORKING: ForkContext = multiprocessing.get_context("fork")


class Recorder:
    """A pytest plugin that tells coverage.py which test is running, and takes processor times."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Run a test under its own name."""
        self.measured.switch_context(item.nodeid)
        begun = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - begun
        self.measured.switch_context("")
        return result


@dataclass(frozen=True)
class Chosen:
    """A pytest plugin that keeps some tests only, in their order."""

    tests: list[str]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the chosen ones."""
        place = {test: index for index, test in enumerate(self.tests)}
        items[:] = sorted((i for i in items if i.nodeid in place), key=lambda i: place[i.nodeid])


@dataclass(frozen=True)
class Baseline:
    """What the tests do on the original.

    Attributes:
        ran: By module and line, the tests that run it.
        seconds: Processor time of each test.
    """

    ran: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]

    @classmethod
    def measure(cls) -> Baseline:
        """Run all tests; whatever they import from others stays loaded for the forks."""
        measured = coverage.Coverage(
            data_file=None, config_file=False, branch=False, source=[str(PACKAGE)]
        )
        recorder = Recorder(measured)
        measured.start()
        code = pytest.main([*ARGUMENTS, TESTS], plugins=[recorder])
        measured.stop()
        if code != pytest.ExitCode.OK:
            sys.exit(f"{TESTS} must pass on the original code first")
        data = measured.get_data()
        ran = {Path(name).name: data.contexts_by_lineno(name) for name in data.measured_files()}
        return cls(ran, recorder.seconds)

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Return the tests that run a mutant's function, or its module, the quickest first.

        With them those that run nothing: they look at what the modules hold when they are loaded.
        """
        running = {
            test for lines in self.ran.values() for tests in lines.values() for test in tests
        }
        lines = self.ran.get(mutant.module, {})
        found = {test for line in mutant.scope for test in lines.get(line, ()) if test}
        found |= self.seconds.keys() - running
        return sorted(found, key=lambda test: (self.seconds[test], test))


def forget_own_modules() -> None:
    """Unload what lies in the repository, so that each fork imports it anew."""
    inside = f"{ROOT}{os.sep}"
    environment = f"{ROOT / '.venv'}{os.sep}"
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        own = file.startswith(inside) and not file.startswith(environment)
        if own and name != "__main__" and file != __file__:
            del sys.modules[name]


def run_tests(folder: Path, tests: list[str], cpu_seconds: int) -> None:
    """Run tests on the package in a folder, in this process, and exit as pytest does."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    sys.path.insert(0, str(folder))
    files = sorted({test.partition("::")[0] for test in tests})
    with open(folder / "log", "w") as log, redirect_stdout(log), redirect_stderr(log):
        code = pytest.main([*ARGUMENTS, "-x", *files], plugins=[Chosen(tests)])
    os._exit(code)


def is_killed(mutant: Mutant, baseline: Baseline) -> bool:
    """Return whether a test notices."""
    tests = baseline.tests_of(mutant)
    if not tests:
        return False
    limit = 10 + 5 * int(sum(baseline.seconds[test] for test in tests))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(PACKAGE, folder / PACKAGE.name)
        (folder / PACKAGE.name / mutant.module).write_text(mutant.source)
        process = FORKING.Process(target=run_tests, args=(folder, tests, limit))
        process.start()
        process.join()
    return process.exitcode != pytest.ExitCode.OK


def drawn(sample: int, seed: int, modules: Iterable[Path]) -> list[Mutant]:
    """Return a random sample of all mutants of some modules, all of them when there are fewer."""
    population = [each for module in modules for each in mutants_of(module)]
    print(f"{len(population)} mutants", flush=True)
    return random.Random(seed).sample(population, min(sample, len(population)))


def main() -> None:
    """Draw mutants, run them, and print who survives and the rate of the killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sample", type=int, default=300, help="how many mutants to draw")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("modules", nargs="*", help="file names, all but testing.py by default")
    arguments = parser.parse_args()
    # `testing.py` is made of tests itself.
    names = arguments.modules or [p.name for p in PACKAGE.glob("*.py") if p.name != "testing.py"]
    os.chdir(ROOT)
    mutants = drawn(arguments.sample, arguments.seed, [PACKAGE / name for name in sorted(names)])
    baseline = Baseline.measure()
    forget_own_modules()
    survivors = []
    for number, mutant in enumerate(mutants, start=1):
        killed = is_killed(mutant, baseline)
        print(f"{number}/{len(mutants)} {'killed' if killed else 'SURVIVES'} {mutant}", flush=True)
        if not killed:
            survivors.append(mutant)
    killed_count = len(mutants) - len(survivors)
    interval = binomtest(killed_count, len(mutants)).proportion_ci(method="wilson")
    print("\nSurvivors:", *sorted(map(str, survivors)), sep="\n  ")
    print(
        f"\nKilled {killed_count} of {len(mutants)}: {killed_count / len(mutants):.1%}, "
        f"95 % confidence interval {interval.low:.1%} … {interval.high:.1%}"
    )


if __name__ == "__main__":
    main()
