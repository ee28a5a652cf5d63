"""Every method on one model, side by side: what the page "Compared" of the documentation shows.

    nice python -m benchmarks.compared embedded exact-flow testbed --work DIR

Policies without a bundled document are calibrated first, by their own defaults but for what
`SETTINGS` says, all in one folder of measurements. Then `otcache compare` runs everything at every
budget from 8 to 15 on the same held-out pairs and holds it against OTCache. Each is a command that
a user could give, is printed before it runs, and goes on where it was interrupted.

Quality is the same on a busy machine, and seconds are not. So everything may first run beside other
work, timed in one round, and only the seconds be taken again where it is quiet:

    nice python -m benchmarks.compared embedded exact-flow testbed --work DIR --rounds 1
    python -m benchmarks.compared embedded exact-flow testbed --work DIR --time-again

BudCache and the direct search search one budget at a time, here 8, 10, 12 and 15. What they do
between is predicted from both neighbours and says so.

BudCache takes as long as everything else together, and no part of it is slow that need not be: for
each of its four budgets 201 schedules, and then six for each inner step in every round of its
descent, all of them on all pairs. At 8 of 50 steps, on 8 pairs of the embedded model, that are 255
runs and 11,232 denoising steps, replayed ones taken off, nine tenths of their time in the
transformer: a minute and a half of one core. All four budgets take some seven times as much.
`--without budcache` leaves it out.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.testbed import CALL, FOLDER, NAME

RESULTS = Path(__file__).parent / "results"
BUDGETS = "8,9,10,11,12,13,14,15"
PAIRS = 32
ROUNDS = 3

SCHEDULES = ("gram", "lemica", "recache", "direct", "budcache")
DECIDING = ("teacache", "dicache")
"""Policies that are calibrated here; those that decide at run time observe a transformer's blocks,
which the exact flow does not have."""

SETTINGS = {"lemica": ("max_skip=12",), "direct": ("trials=60", "patience=30")}
"""What is set other than by default: 12 of 50 is as far as a segment ever went, and a search takes
as many trials as there was time for."""

CALIBRATION_PAIRS = {"direct": 16, "budcache": 8}
"""Fewer than by default, for the searches that run every candidate on all of them."""


@dataclass(frozen=True)
class Model:
    """How a model is named on the command line.

    Attributes:
        words: of both commands.
        calibrating: further words of `otcache calibrate`.
        comparing: further words of `otcache compare`.
        policies: that are calibrated here, because no document of theirs ships.
    """

    words: tuple[str, ...]
    policies: tuple[str, ...]
    calibrating: tuple[str, ...] = ()
    comparing: tuple[str, ...] = ()


OF_TESTBED = (str(FOLDER), "--revision", NAME, "--call", json.dumps(CALL))
HELD_OUT = str(FOLDER / "evaluation.jsonl")

MODELS = {
    "embedded": Model(("embedded",), (*SCHEDULES, *DECIDING)),
    "exact-flow": Model(("exact-flow",), SCHEDULES),
    NAME: Model(
        OF_TESTBED,
        ("otcache", *SCHEDULES, *DECIDING),
        (
            *("--prompts", str(FOLDER / "calibration.txt"), "--evaluation-prompts", HELD_OUT),
            *("--metric", "psnr", "--batch-size", "16"),
        ),
        ("--prompts", HELD_OUT),
    ),
}
"""The test-bed is a folder like that of any user's model, and is judged one picture at a time."""


def otcache(*words: str) -> None:
    """Run a command of the package as a user would."""
    print(shlex.join(["otcache", *words]), flush=True)
    program = "from otcache_plugin.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", program, *words], check=True)


def calibrated(model: Model, policies: Sequence[str], work: Path) -> list[str]:
    """Calibrate policies on a model, and return the folders of their documents."""
    folders = []
    for name in policies:
        folder = work / "policies" / name
        words = ["calibrate", *model.words, *model.calibrating, "--policy", name]
        words += ["--output", str(folder), "--work", str(work / "measurements")]
        if name in CALIBRATION_PAIRS:
            words += ["--pairs", str(CALIBRATION_PAIRS[name])]
        for setting in SETTINGS.get(name, ()):
            words += ["--set", setting]
        if not (folder / "policy.json").exists():
            otcache(*words, "--quiet")
        folders.append(str(folder))
    return folders


def compared(
    model: Model, documents: Sequence[str], options: Sequence[str], work: Path
) -> dict[str, Any]:
    """Compare everything on a model, and return the figures, those of single pairs left out."""
    words = ["compare", *model.words, *model.comparing, *options]
    words += ["--baseline", "otcache", "--output", str(work / "compared"), "--quiet"]
    for document in documents:
        words += ["--document", document]
    otcache(*words)
    text = (work / "compared" / "results.json").read_text(encoding="utf-8")
    # Where this folder and this repository lie is nobody's business.
    for place in (work, FOLDER.parents[1]):
        text = text.replace(f"{place}/", "")
    results: dict[str, Any] = json.loads(text)
    for row in (results["full"], *results["rows"]):
        del row["values"]
    results["pairs"] = len(results["pairs"])
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", choices=list(MODELS))
    parser.add_argument("--without", default="", help="policies that are not calibrated for it")
    parser.add_argument("--budgets", default=BUDGETS)
    parser.add_argument("--pairs", default=PAIRS, help="held out; fewer to try it")
    parser.add_argument("--rounds", default=ROUNDS, help="how often everything is timed")
    parser.add_argument("--time-again", action="store_true", help="take the seconds anew")
    parser.add_argument("--work", type=Path, required=True, help="folder of all measurements")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the figures")
    arguments = parser.parse_args()
    options = ["--budgets", arguments.budgets, "--pairs", str(arguments.pairs)]
    options += ["--rounds", str(arguments.rounds)]
    if arguments.time_again:
        options.append("--time-again")
    for name in arguments.models:
        model, work = MODELS[name], arguments.work / name
        left_out = arguments.without.split(",")
        policies = [policy for policy in model.policies if policy not in left_out]
        documents = calibrated(model, policies, work)
        results = compared(model, documents, options, work)
        path = arguments.results / f"compared-{name}.json"
        path.write_text(json.dumps({**results, "model": name}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
