"""What the pages of single models say exists for them: from documents, coverage and GPU results.

mkdocs calls `on_page_markdown` for every page, because mkdocs.yml lists this file among its hooks.
A page says which model it is about in a comment, `<!-- model: ORG/NAME, pipelines: A, B -->`, in
whose place this is written.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from otcache_registry import PolicyDocument, bundled_policies

COVERAGE = Path(__file__).parents[1] / "benchmarks" / "results" / "coverage.json"
COMMENT = re.compile(r"^<!-- model: (\S+), pipelines: (.+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put what exists into the place of the comment, if there is one."""
    return COMMENT.sub(lambda found: what_exists(found[1], found[2].split(", ")), markdown)


def what_exists(model: str, pipelines: list[str]) -> str:
    """Return what is bundled for a model, and what its pipelines were tried with."""
    return "\n\n".join([documents(model), support(pipelines)])


def documents(model: str) -> str:
    """Return the bundled documents of a model in words."""
    found = [each for each in bundled_policies() if each.document.model.id == model]
    if not found:
        return (
            f'No document for `{model}` ships with the package, so `policy="otcache"` asks the '
            "Hub for one of your revision. Where there is none the error says so, with the command "
            "that makes one."
        )
    return "\n\n".join(published(each.document) for each in found)


def published(document: PolicyDocument) -> str:
    """Return what a document of others' schedules gives, in words."""
    by = document.published
    assert by is not None, "those that were calibrated are of the embedded models"
    budgets = ", ".join(map(str, document.calibrated_budgets))
    return (
        f'`policy="otcache"` works without a calibration: schedules that {by.authors} published '
        f"({by.paper}, {by.setting}) at {budgets} of {document.num_inference_steps} steps are "
        "[in the package](../gallery.md), and those of budgets between are predicted. **We have "
        "not run them on this model.**"
    )


def support(pipelines: list[str]) -> str:
    """Return a table of what serves the pipelines."""
    rows = json.loads(COVERAGE.read_text(encoding="utf-8"))["rows"]
    lines = ["| pipeline | scheduler | executor velocity | executor blocks |", "|---|---|---|---|"]
    for name in pipelines:
        own = [row for row in rows if row["pipeline"] == name]
        if not own:
            raise ValueError(f"{name} has no row in {COVERAGE.name}: make coverage tries it")
        lines += [
            f"| `{name}` | {row['scheduler']} | {answer(row['velocity'])} | "
            f"{answer(row['blocks'])} |"
            for row in own
        ]
    return "\n".join(lines)


def answer(found: dict[str, Any]) -> str:
    """Return how an executor serves a pipeline, in words."""
    return f"[{found['support']}](../coverage.md)"
