"""Results of the matrix on disk, from which a page of the documentation is made."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

from matrix.outcomes import Tried
from matrix.rows import NOT_TRIED

PATH = Path(__file__).parents[2] / "benchmarks" / "results" / "coverage.json"
DISTRIBUTIONS = ("cache-dit", "diffusers", "torch")


def read_results() -> dict[str, Tried]:
    """Return the committed results by row."""
    if not PATH.exists():
        return {}
    rows = json.loads(PATH.read_text(encoding="utf-8"))["rows"]
    return {row["pipeline"]: Tried.from_dict(row) for row in rows}


def write_results(results: dict[str, Tried]) -> None:
    """Write results, with the versions that they are of."""
    content = {
        "versions": {name: version(name) for name in DISTRIBUTIONS},
        "not_tried": NOT_TRIED,
        "rows": [tried.to_dict() for tried in results.values()],
    }
    PATH.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
