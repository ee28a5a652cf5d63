"""Pages of the documentation that are made from code: the gallery and the JSON Schema.

mkdocs calls `on_files` when it builds, because mkdocs.yml lists this file among its hooks. So what
the pages show is what the package holds at that moment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from otcache_policies import Policy, Schedule
from otcache_registry import (
    BundledPolicy,
    EvidenceRow,
    PolicyDocument,
    bundled_policies,
    draw_schedule,
    json_schema,
)
from otcache_registry.documents.evidence import headline

from otcache_plugin.plugins.host import load_plugins
from otcache_plugin.plugins.registries import CalibratedPolicy

HOST = load_plugins((), None)
"""The built-in policies alone, whatever else is installed where the pages are made."""

GALLERY = "gallery.md"
SCHEMA = "policy-v1.schema.json"
PARAMETERS_SCHEMA = "{}-parameters-v1.schema.json"

CELL, ROW = 12, 15
LEFT, TOP = 40, 22
"""Pixels of a step, of a budget, of the margins with the budgets and the steps."""
TICKS = 10

HELD = "var(--md-primary-fg-color, #00897b)"
"""Colour of what a document holds, in both palettes; the rest is drawn in the text's colour."""

INTRODUCTION = """# Gallery

The policy documents that ship with the package, and the schedules that they give from the anchor's
budget to the reference's. A row is a budget, a column a step of the run, and a filled cell a
computed step. Rows in colour are schedules that the document holds. Grey ones are
[predicted](how-it-works.md#every-budget-between) from the two next to them.

What a document is, and what "calibrated" and "published" mean, is on the page about
[policy documents](policy-documents.md).
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Say at the foot of every page which version it is about; edit where there is a repository."""
    if config.repo_url is None:
        config.edit_uri = None
    config.copyright = f"otcache-plugin {version('otcache-plugin')}"
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those in the folder."""
    files.append(File.generated(config, GALLERY, content=gallery()))
    for name, schema in schemas().items():
        text = json.dumps(schema, indent=2, ensure_ascii=False)
        files.append(File.generated(config, name, content=text + "\n"))
    return files


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schemas by page: of the common part, and of each policy's parameters."""
    policies = {name: HOST.policy(name) for name in HOST.policies}
    return {
        SCHEMA: json_schema(),
        **{
            PARAMETERS_SCHEMA.format(name): json_schema(policy.parameters_class())
            for name, policy in policies.items()
            if isinstance(policy, CalibratedPolicy)
        },
    }


def gallery() -> str:
    """Return the page, in Markdown."""
    return "\n\n".join([INTRODUCTION.strip(), *map(section, bundled_policies())]) + "\n"


def section(entry: BundledPolicy) -> str:
    """Return what the page says of one document."""
    document, policy = entry.document, HOST.policy_of(entry.load())
    details = HOST.describe(document)
    assert isinstance(policy, Policy)
    sampling = document.sampling
    size = "" if sampling.width is None else f", {sampling.width} × {sampling.height}"
    text = "\n".join(
        f"{schedule.budget:>3}  {draw_schedule(schedule)}" for _, schedule in details.schedules
    )
    return f"""## {document.model.id}

- {origin(document)}
- `{sampling.pipeline}`, {sampling.num_inference_steps} steps{size}
- Budgets {policy.budgets}, default {document.default_budget}. {" ".join(details.notes)}
- {evidence(document)}

{figure(policy, document)}

```text
{text}
```"""


def origin(document: PolicyDocument) -> str:
    """Return where a document's schedules come from."""
    if document.published is not None:
        published = document.published
        return (
            f"**Published** by [{published.authors}]({published.source}), {published.paper}: "
            f"{published.setting}. Any revision"
        )
    return f"**Calibrated** for revision `{document.model.revision}`"


def evidence(document: PolicyDocument) -> str:
    """Return the held-out figures that are nearest to what a run gets that asks for no budget."""
    rows = headline(document)
    if not rows:
        return "No evidence: these schedules have not been run here with the model"
    return "; ".join(map(measured, rows))


def measured(row: EvidenceRow) -> str:
    """Return one held-out figure in words."""
    figures = f"{row.metric} {row.mean:.4g} ± {row.standard_error:.2g} at {row.budget} steps"
    if row.compared_to is None:
        return f"{figures}, {row.pairs} pairs"
    return (
        f"{figures}, {row.difference_mean:+.2g} to {row.compared_to} "
        f"[{row.difference_low:+.2g}, {row.difference_high:+.2g}], {row.pairs} pairs"
    )


def figure(policy: Policy, document: PolicyDocument) -> str:
    """Return the schedules as a drawing within the page, in the colours of its palette."""
    held, name = document.calibrated_budgets, document.model.id
    budgets = range(held[0], held[-1] + 1)
    total = policy.num_inference_steps
    width, height = LEFT + CELL * total + 2, TOP + ROW * len(budgets)
    rows = "\n".join(
        row(policy.schedule(budget), TOP + ROW * place, budget in held)
        for place, budget in enumerate(budgets)
    )
    return f"""<div style="overflow-x: auto">
<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" \
aria-label="Computed steps of {name} by budget" fill="currentColor" font-size="11">
{"".join(ticks(total))}
{rows}
</svg>
</div>"""


def ticks(total: int) -> Iterator[str]:
    """The numbers above the columns."""
    for step in range(0, total, TICKS):
        centre = LEFT + CELL * step + CELL / 2
        yield f'<text x="{centre:g}" y="{TOP - 8}" text-anchor="middle">{step}</text>'


def row(schedule: Schedule, top: int, held: bool) -> str:
    """Return one budget: its number, all its steps faintly, and the computed ones over them."""
    style = f'style="fill: {HELD}"' if held else 'fill-opacity="0.45"'
    weight = "bold" if held else "normal"
    return (
        f'<text x="{LEFT - 8}" y="{top + 10}" text-anchor="end" font-weight="{weight}">'
        f"{schedule.budget}</text>"
        f'<path fill-opacity="0.08" d="{cells(range(schedule.num_inference_steps), top)}"/>'
        f'<path {style} d="{cells(schedule.computed_steps, top)}"/>'
    )


def cells(steps: range | tuple[int, ...], top: int) -> str:
    """Return the path of one square per step."""
    side = f"h{CELL - 1}v{ROW - 3}h-{CELL - 1}z"
    return "".join(f"M{LEFT + CELL * step} {top}{side}" for step in steps)
