"""The page of the documentation that says which pipelines are served: from the matrix's results.

mkdocs calls `on_files` when it builds, because mkdocs.yml lists this file among its hooks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "coverage.json"
PAGE = "coverage.md"
COLUMNS = ("velocity", "blocks", "teacache", "dicache")

INTRODUCTION = """# Pipelines

Every row is a diffusers pipeline that was built tiny, from configurations, with random weights and
the scheduler it usually comes with, and run with every executor. This page is written from the
results of those runs, with {versions}.

| `executor="velocity"` | |
| --- | --- |
| average velocity | served, with any look-back |
| plain reuse | served by schedules of look-back 1: the scheduler takes no Euler steps |
| refused | an error says why, below |

| `executor="blocks"` | |
| --- | --- |
| blocks | served inside cache-dit's block cache |
| …, enable_separate_cfg=True | served with that option in a `cache_config=DBCacheConfig(…)` |
| refused | an error says why, below |

| `executor="probe"` | |
| --- | --- |
| `teacache` | what TeaCache observes: the first block's modulated input |
| `dicache` | what DiCache observes: what the first block gives |
| served | a policy that decides by it is shown it, and the blocks rest where it says so |
| refused | an error says why, below |

For every row that is served these were checked, and hold unless a note says otherwise: the planned
steps are computed and no others, by counting forwards; runs of other step counts; outputs equal
bit for bit to those without a policy when all steps are computed, after disabling, and of another
pipeline of the same parts while this one is enabled; outputs equal to themselves after a run that
an exception ended, and equal bit for bit to what is worked out from the formulas without the
executor: for `velocity` with what the scheduler is given put in by hand, for the others with what
the last block gives. A row that is refused is left as it was.

`make coverage` tries all rows again. Tiny models say what works, and nothing about quality or
speed: that is [what was measured](measured.md).
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page to those in the folder."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    files.append(File.generated(config, PAGE, content=page(results)))
    return files


def page(results: dict[str, Any]) -> str:
    """Return the page, in Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    notes = Notes()
    lines = [
        "| Pipeline | Scheduler | `velocity` | `blocks` | `teacache` | `dicache` |",
        "| --- | --- | --- | --- | --- | --- |",
        *(row(tried, notes) for tried in results["rows"]),
    ]
    parts = [
        INTRODUCTION.format(versions=versions).strip(),
        "## Rows",
        "\n".join(lines),
        "## Notes",
        "\n".join(notes.lines()),
        "## Not tried",
        "Flow-matching pipelines of diffusers, and families that cache-dit knows, without a row:",
        "\n".join(f"- `{name}`: {reason}" for name, reason in results["not_tried"].items()),
    ]
    return "\n\n".join(parts) + "\n"


class Notes:
    """Numbered texts, each once."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def number(self, text: str) -> int:
        """Return the number of a text, counted from 1."""
        if text not in self._texts:
            self._texts.append(text)
        return self._texts.index(text) + 1

    def lines(self) -> list[str]:
        """Return the texts as a list in Markdown."""
        return [f"{number}. {text}" for number, text in enumerate(self._texts, 1)] or ["None."]


def row(tried: dict[str, Any], notes: Notes) -> str:
    """Return a line of the table."""
    cells = (cell(tried[column], notes) for column in COLUMNS)
    return f"| {tried['pipeline']} | {tried['scheduler']} | {' | '.join(cells)} |"


def cell(outcome: dict[str, Any], notes: Notes) -> str:
    """Return what came of a row in one column, with the numbers of its notes."""
    said = outcome["support"] or "fails"
    texts = [outcome["reason"]] if outcome["support"] == "refused" else []
    texts += [f"Does not hold: {failure}" for failure in outcome["failures"]]
    numbers = ", ".join(str(notes.number(f"`{text.replace('`', '')}`")) for text in texts)
    return f"{said} ({numbers})" if numbers else str(said)
