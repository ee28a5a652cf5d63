"""Test against the lowest versions that pyproject.toml allows, beside the PyTorch that is there.

    python tools/lowest.py                  the tests that are named here
    python tools/lowest.py tests/registry   others, or any arguments of pytest

It makes an environment of its own, `.lowest`, which has exactly those versions and sees everything
else in the one that runs this: PyTorch, which takes several GB, the tests' own tools, and what the
libraries need themselves, as a fresh installation would get it. pip resolves all of it together, so
bounds that contradict each other end here too.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".lowest"
STAMP = ENVIRONMENT / "installed.json"

AS_INSTALLED = ("torch",)
"""Not installed again."""

TESTS = (
    "tests/calibration/test_algorithms.py",
    "tests/cli/test_cli_command.py",
    "tests/cli/test_cli_commands.py",
    "tests/cli/test_cli_compare.py",
    "tests/cli/test_cli_predict.py",
    "tests/evaluation/test_metrics.py",
    "tests/models/test_embedded.py",
    "tests/patch/test_patch.py",
    "tests/registry/documents",
    "tests/registry/hub/test_environment.py",
    "tests/registry/hub/test_hub_client.py",
    "tests/registry/hub/test_publishing.py",
    "tests/registry/store/test_policy_store.py",
)
"""What a version that is too old breaks first, library by library."""

NOT_FOR_OLD = (
    # Wan of older diffusers calls ftfy whether it is there or not.
    "tests/cli/test_cli_calibrate.py::test_the_second_testbed_is_a_model_in_a_folder",
    # Older safetensors cannot write complex numbers for the test, and refuses them itself.
    "tests/registry/documents/test_policy_folder.py"
    "::test_tables_that_are_none_whatever_the_policy[complex]",
)


def requirements() -> list[Requirement]:
    """Return what pyproject.toml requires."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return list(map(Requirement, tomllib.load(file)["project"]["dependencies"]))


def lowest(requirement: Requirement) -> str:
    """Return the version that a requirement begins at.

    Raises:
        ValueError: It does not say where it begins.
    """
    begins = [each.version for each in requirement.specifier if each.operator == ">="]
    if len(begins) != 1:
        raise ValueError(f"{requirement} has not one lower bound: write NAME>=VERSION")
    return begins[0]


def pins() -> list[str]:
    """Return the requirements with exactly their lowest versions."""
    return [
        each.name if each.name in AS_INSTALLED else f"{each.name}=={lowest(each)}"
        for each in requirements()
    ]


def python(*arguments: str) -> list[str]:
    """Return a command of the environment's interpreter."""
    folder = "Scripts" if sys.platform == "win32" else "bin"
    return [str(ENVIRONMENT / folder / "python"), *arguments]


def prepare() -> None:
    """Make the environment, unless it is there as it should be."""
    wanted = {"pins": pins(), "beside": sys.prefix, "tools": _own_digest()}
    if STAMP.is_file() and json.loads(STAMP.read_text()) == wanted:
        return
    print(f"Installing the lowest versions into {ENVIRONMENT.name}", flush=True)
    venv.create(ENVIRONMENT, clear=True, with_pip=False, symlinks=sys.platform != "win32")
    beside = sysconfig.get_path("purelib")
    inside = sysconfig.get_path("purelib", vars={"base": str(ENVIRONMENT)})
    (Path(inside) / "beside.pth").write_text(f"{beside}\n")
    options = ("--quiet", "--no-compile", "--no-build-isolation", "--editable", str(ROOT))
    command = python("-m", "pip", "install", *options, *pins())
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}The lowest versions cannot be installed together.")
    STAMP.write_text(json.dumps(wanted))


def check_versions() -> None:
    """Check that it has exactly the lowest versions, and print them."""
    names = [each.name for each in requirements()]
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    command = python("-c", code, *names)
    asked = subprocess.run(command, capture_output=True, text=True, check=True)
    installed = dict(zip(names, asked.stdout.split(), strict=True))
    for requirement in requirements():
        name, there = requirement.name, installed[requirement.name]
        if name in AS_INSTALLED:
            continue
        if there not in Requirement(f"{name}=={lowest(requirement)}").specifier:
            sys.exit(f"{name} is {there} and not {lowest(requirement)}")
    print(", ".join(f"{name} {there}" for name, there in installed.items()), flush=True)


def run_tests(arguments: Sequence[str]) -> int:
    """Run tests in the environment; old libraries may warn of what is new to them."""
    parallel = ("-p", "xdist.plugin", "-n", "auto", "--dist", "worksteal")
    command = python("-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider", *parallel)
    left_out = [f"--deselect={name}" for name in NOT_FOR_OLD]
    chosen = arguments or ("-m", "not slow", *left_out, *TESTS)
    # Plugins of pytest would be those of the newer versions beside; xdist uses none of these.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run([*command, *chosen], cwd=ROOT, env=environment, check=False)
    return done.returncode


def _own_digest() -> str:
    """Return what changes when another PyTorch or another pip is there."""
    facts = [sys.version, version("torch"), version("pip")]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def main() -> None:
    """Prepare the environment, check its versions, and run tests there."""
    prepare()
    check_versions()
    sys.exit(run_tests(sys.argv[1:]))


if __name__ == "__main__":
    main()
