"""Feeds damaged policy documents to the reader, which has to take or to refuse each of them.

    .venv/bin/python tools/fuzz_documents.py --count 20000
    .venv/bin/python tools/fuzz_documents.py --first 1234 --count 1     one of them again

Every document is a bundled one with a few seeded mutations: of its values and structure, of its
text and bytes, of its tables' header and data. A document is valid, and can then be used, or
it is refused with a `DocumentError`. Anything else is a failure: another exception, more than 2 s
of CPU time, or more than 256 MB of memory. Prints every failure with its number and seed, then the
counts. Exit code 1 when there was a failure.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from document_mutations import (
    HUGE,
    MOST_TEXT,
    dumped,
    mutate_content,
    mutate_tables,
    mutate_text,
    places,
)
from otcache_policies import Policy
from otcache_registry import DocumentError, PolicyDocument, read_policy, render_card
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from otcache_registry.documents.files import DOCUMENT_FILE, TABLES_FILE
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from otcache_plugin.errors import UnknownNameError
from otcache_plugin.plugins.host import load_plugins

HOST = load_plugins((), None)
"""The built-in policies alone."""

MOST_SECONDS = 2.0
MOST_BYTES = 256 * 2**20
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Case:
    """The files of one document."""

    document: bytes
    tables: bytes | None


# Cases.


def origins() -> list[Case]:
    """Return the bundled documents, by name."""
    folders = sorted(path.parent for path in BUNDLED_FOLDER.glob(f"*/{DOCUMENT_FILE}"))
    tables = [folder / TABLES_FILE for folder in folders]
    return [
        Case((folder / DOCUMENT_FILE).read_bytes(), table.read_bytes() if table.exists() else None)
        for folder, table in zip(folders, tables, strict=True)
    ]


def make_case(rng: random.Random, origin: Case) -> Case:
    """Return a damaged copy of a document."""
    content, tables = json.loads(origin.document), origin.tables
    if rng.random() < 0.02:
        return Case(dumped(rng, huge_content(rng, content)), tables)
    kind = rng.choice(("structure", "structure", "text", "both", "table"))
    if kind == "table" and tables is not None:
        tables = mutate_tables(rng, tables)
        if rng.random() < 0.9:  # Else the digest tells, whatever is wrong with the table.
            content["tables_sha256"] = hashlib.sha256(tables).hexdigest()
        return Case(json.dumps(content).encode(), tables)
    text = origin.document
    if kind != "text":
        for _ in range(rng.choice((1, 1, 2, 4))):
            if content and len(json.dumps(content)) < MOST_TEXT:
                mutate_content(rng, content)
        text = dumped(rng, content)
    if kind != "structure":
        for _ in range(rng.choice((1, 1, 3))):
            text = mutate_text(rng, text)
    return Case(text, tables)


def huge_content(rng: random.Random, content: dict[str, Any]) -> dict[str, Any]:
    """Little but one huge value, somewhere in it."""
    path = rng.choice([each for each in places(content) if len(each) < 3])
    value: Any = HUGE
    for part in reversed(path):
        value = {part: value} if isinstance(part, str) else [value]
    return {"schema": content["schema"], **value}


def read(case: Case, folder: Path) -> bool:
    """Read a document, and use it where it is valid; returns whether it is."""
    (folder / DOCUMENT_FILE).write_bytes(case.document)
    (folder / TABLES_FILE).unlink(missing_ok=True)
    if case.tables is not None:
        (folder / TABLES_FILE).write_bytes(case.tables)
    try:
        stored = read_policy(folder)
    except DocumentError as error:
        str(error)
        return False
    document = stored.document
    assert PolicyDocument.from_json(document.to_json()) == document
    assert render_card(document)
    try:
        policy, details = HOST.policy_of(stored), HOST.describe(document)
    except (DocumentError, UnknownNameError) as error:
        str(error)
        return False
    assert isinstance(policy, Policy)
    assert policy.schedule(document.require_default_budget()).budget > 1
    assert render_card(document, details=details)
    return True


@dataclass(frozen=True)
class Outcome:
    """What became of a case: "valid", "refused", or what went wrong, and the CPU time it took."""

    verdict: str
    seconds: float


def examine(reader: Callable[[], bool], start: int) -> Outcome:
    """Run a reader, and measure it against the memory that was taken at the start."""
    before, started = peak(), time.process_time()
    try:
        verdict = "valid" if reader() else "refused"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # A panic of a parser in Rust is no Exception.
        verdict = f"{type(error).__name__}: {str(error)[:300]}"
    seconds, after = time.process_time() - started, peak()
    if verdict in ("valid", "refused") and seconds > MOST_SECONDS:
        verdict = f"{verdict} after {seconds:.1f} s"
    # Only who raises the peak has taken that much.
    if verdict in ("valid", "refused") and after > max(before, start + MOST_BYTES):
        verdict = f"{verdict} with {(after - start) / 2**20:.0f} MB more"
    return Outcome(verdict, seconds)


def peak() -> int:
    """Most memory that this process has taken so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT


def main() -> None:
    """Examine the documents."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    known, counts, failures, slowest = origins(), Counter[str](), 0, 0.0
    start = peak()
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        numbers = range(arguments.first, arguments.first + arguments.count)
        for number in progress.track(numbers, description="documents"):
            rng = random.Random(f"{arguments.seed}/{number}")
            case = make_case(rng, rng.choice(known))
            outcome = examine(partial(read, case, Path(folder)), start)
            slowest = max(slowest, outcome.seconds)
            if outcome.verdict in ("valid", "refused"):
                counts[outcome.verdict] += 1
            else:
                failures += 1
                print(f"seed {arguments.seed}, number {number}: {outcome.verdict}", flush=True)
    print(
        f"{arguments.count} documents: {counts['valid']} valid, {counts['refused']} refused, "
        f"{failures} failures. Slowest {slowest:.2f} s, "
        f"memory {(peak() - start) / 2**20:.0f} MB above the start."
    )
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
