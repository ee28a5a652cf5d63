"""Install a wheel into an empty environment, and use it there from an empty folder.

    python tools/installed_wheel.py dist/NAME.whl             with the newest versions
    python tools/installed_wheel.py dist/NAME.whl --lowest    with the lowest that are allowed

PyTorch, which takes several GB, and what it needs are linked from the environment that runs this.
pip installs everything else, so a requirement or a file that the wheel lacks ends here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from lowest import AS_INSTALLED, pins, requirements
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LINKED = (*AS_INSTALLED, "torchvision")

PIPELINE = """
import cache_dit, otcache_plugin
pipe = otcache_plugin.load_embedded_pipeline()
cache_dit.enable_cache(pipe, policy="otcache", budget=10)
pipe("red circle left on black")
report = otcache_plugin.summary(pipe)
print(report)
assert report.as_planned
"""


def needed(names: Sequence[str], left_out: frozenset[str]) -> dict[str, Distribution]:
    """Return the distributions of these names and all that they need, by name.

    Args:
        names: What is asked for; what is not installed, as for another platform, has no entry.
        left_out: Names that have none either, nor what only they need.
    """
    found: dict[str, Distribution] = {}
    seen, waiting = set(), [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        name, extras = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if name in left_out or (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        others = map(Requirement, found[name].requires or ())
        waiting += [each for each in others if _applies(each, extras)]
    return found


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": each}) for each in ("", *extras))


def make_environment(folder: Path) -> Path:
    """Make an environment that has nothing but PyTorch, and return its interpreter.

    The links lie outside of it, so that pip takes none of them for its own to remove.
    """
    environment, links = folder / "environment", folder / "links"
    venv.create(environment, with_pip=False, symlinks=sys.platform != "win32")
    links.mkdir()
    ours = {canonicalize_name(each.name) for each in requirements()} - {*AS_INSTALLED}
    for each in needed(LINKED, frozenset(ours)).values():
        tops = {file.parts[0] for file in each.files or ()} - {"..", "__pycache__"}
        for top in tops:
            if not (links / top).exists():
                (links / top).symlink_to(str(each.locate_file(top)))
    inside = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    (inside / "links.pth").write_text(f"{links}\n")
    scripts = sysconfig.get_path("scripts", vars={"base": str(environment)})
    return Path(scripts) / Path(sys.executable).name


def use(python: Path, folder: Path) -> None:
    """Use what is installed as its users do, in a folder.

    Raises:
        CalledProcessError: Something of it fails.
    """
    command = str(python.with_name("otcache"))
    environment = {name: each for name, each in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OTCACHE_OFFLINE": "1", "OTCACHE_CACHE": str(folder / "cache")}
    for arguments in (
        [command, "--help"],
        [command, "doctor"],
        [command, "demo", "--pairs", "2", "--quiet"],
        [str(python), "-c", PIPELINE],
    ):
        print("$", *arguments[:4], flush=True)
        subprocess.run(arguments, cwd=folder, env=environment, check=True)


def main() -> None:
    """Install, and use what was installed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--lowest", action="store_true", help="the lowest versions allowed")
    arguments = parser.parse_args()
    exactly = [pin for pin in pins() if pin not in AS_INSTALLED] if arguments.lowest else []
    with tempfile.TemporaryDirectory() as name:
        python = make_environment(Path(name))
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        subprocess.run([*pip, "--no-compile", str(arguments.wheel), *exactly], check=True)
        empty = Path(name) / "empty"
        empty.mkdir()
        use(python, empty)


if __name__ == "__main__":
    main()
