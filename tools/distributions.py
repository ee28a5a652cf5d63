"""Build the wheel and the source distribution of what is committed, as they go to PyPI.

    python tools/distributions.py --address https://HOST/OWNER/otcache-plugin

The repository's own files link to each other by relative paths and do not say where the repository
is. On PyPI such links lead nowhere: in what is built they lead to the files of this version at that
address, which the metadata names as well.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]

_RELATIVE_LINK = re.compile(r"\]\((?!https?://|#)([^)]+)\)")
_ADDRESS = re.compile(r"https://[^\s/]+(/[^\s/]+)+")


def absolute_links(text: str, files: str) -> str:
    """Return Markdown whose relative links lead to files below an address."""
    return _RELATIVE_LINK.sub(rf"]({files}/\1)", text)


def with_addresses(pyproject: str, address: str, files: str) -> str:
    """Return pyproject.toml with the project's addresses put first among its links."""
    head = "[project.urls]\n"
    if pyproject.count(head) != 1:
        raise ValueError(f"pyproject.toml has not one table {head.strip()}")
    links = {
        "Repository": address,
        "Documentation": f"{files}/docs/index.md",
        "Changelog": f"{files}/CHANGELOG.md",
        "Issues": f"{address}/issues",
        "Security": f"{files}/SECURITY.md",
    }
    lines = "".join(f'{name} = "{link}"\n' for name, link in links.items())
    return pyproject.replace(head, head + lines)


def prepared(folder: Path, address: str) -> None:
    """Put what is committed into a folder, with links that hold elsewhere."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    project = folder / "pyproject.toml"
    content = project.read_text(encoding="utf-8")
    version = tomllib.loads(content)["project"]["version"]
    files = f"{address}/blob/v{version}"
    project.write_text(with_addresses(content, address, files), encoding="utf-8")
    readme = folder / "README.md"
    readme.write_text(absolute_links(readme.read_text(encoding="utf-8"), files), encoding="utf-8")


def main() -> None:
    """Build both distributions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", required=True, help="of the repository, https://…")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    arguments = parser.parse_args()
    address = arguments.address.rstrip("/")
    if not _ADDRESS.fullmatch(address):
        parser.error(
            f"--address={address!r}: no address of a repository; use https://HOST/OWNER/NAME"
        )
    with tempfile.TemporaryDirectory() as folder:
        prepared(Path(folder), address)
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", arguments.output]
        sys.exit(subprocess.run([*command, folder], check=False).returncode)


if __name__ == "__main__":
    main()
