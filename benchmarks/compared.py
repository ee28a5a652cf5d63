"""Every method on one model, side by side: what the page "Compared" of the documentation shows.

    nice python -m benchmarks.compared embedded exact-flow --work DIR

Policies without a bundled document are calibrated first, by their own defaults but for what
`SETTINGS` says, all in one folder of measurements. Then `otcache compare` runs everything at every
budget from 8 to 15 on the same held-out pairs and holds it against OTCache. Each is a command that
a user could give, is printed before it runs, and goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
BUDGETS = "8,9,10,11,12,13,14,15"
PAIRS = 32

SETTINGS: dict[str, tuple[str, ...]] = {
    "gram": (),
    "lemica": ("max_skip=12",),
    "recache": (),
    "teacache": (),
    "dicache": (),
    "direct": ("trials=60", "patience=30"),
    "budcache": (),
}
"""Policies that are calibrated here, with what is set other than by default; 12 of 50 is as far as
a segment ever went, and a search takes as many trials as there was time for."""

CALIBRATION_PAIRS = {"direct": 16, "budcache": 8}
"""Fewer than by default, for the searches that run every candidate on all of them."""


def otcache(*words: str) -> None:
    """Run a command of the package as a user would."""
    print(shlex.join(["otcache", *words]), flush=True)
    program = "from otcache_plugin.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", program, *words], check=True)


def calibrated(model: str, policies: Sequence[str], work: Path) -> list[str]:
    """Calibrate policies on a model, and return the folders of their documents."""
    folders = []
    for name in policies:
        folder = work / "policies" / name
        words = ["calibrate", model, "--policy", name, "--output", str(folder)]
        words += ["--work", str(work / "measurements")]
        if name in CALIBRATION_PAIRS:
            words += ["--pairs", str(CALIBRATION_PAIRS[name])]
        for setting in SETTINGS[name]:
            words += ["--set", setting]
        if not (folder / "policy.json").exists():
            otcache(*words, "--quiet")
        folders.append(str(folder))
    return folders


def compared(model: str, documents: Sequence[str], budgets: str, work: Path) -> dict[str, Any]:
    """Compare everything on a model, and return the figures, those of single pairs left out."""
    words = ["compare", model, "--budgets", budgets, "--pairs", str(PAIRS)]
    words += ["--baseline", "otcache", "--output", str(work / "compared"), "--quiet"]
    for document in documents:
        words += ["--document", document]
    otcache(*words)
    results: dict[str, Any] = json.loads((work / "compared" / "results.json").read_text())
    for row in (results["full"], *results["rows"]):
        del row["values"]
    results["pairs"] = len(results["pairs"])
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", choices=["embedded", "exact-flow"])
    parser.add_argument("--policies", default=",".join(SETTINGS), help="calibrated for it")
    parser.add_argument("--budgets", default=BUDGETS)
    parser.add_argument("--work", type=Path, required=True, help="folder of all measurements")
    arguments = parser.parse_args()
    for model in arguments.models:
        work = arguments.work / model
        policies = [name for name in arguments.policies.split(",") if name]
        documents = calibrated(model, policies, work)
        results = compared(model, documents, arguments.budgets, work)
        path = RESULTS / f"compared-{model}.json"
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
