"""The model card of a policy document: Markdown that says what it is, how to use it, how good."""

from __future__ import annotations

import json
import re

from .document import EvidenceRow, PolicyDocument, ScheduleRecord
from .drawing import draw_schedule

__all__ = ["render_card"]

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~])")


def render_card(document: PolicyDocument) -> str:
    """Return the card, with the Hub's YAML front matter, ending in a newline."""
    sections = (
        _front_matter(document),
        _introduction(document),
        _use(document),
        _schedules(document),
        _evidence(document),
        _calibration(document),
    )
    return "\n\n".join(sections) + "\n"


def _front_matter(document: PolicyDocument) -> str:
    lines = ["---", "library_name: cache-dit", "tags:", "- otcache-policy"]
    if _HUB_ID.fullmatch(document.model.id):
        lines.append(f"base_model: {document.model.id}")
    return "\n".join([*lines, "---"])


def _introduction(document: PolicyDocument) -> str:
    sampling = document.sampling
    size = ""
    if sampling.height is not None and sampling.width is not None:
        size = f", {sampling.width} by {sampling.height} pixels"
    guidance = "".join(
        f", {_escape(name)} = {value:g}" for name, value in sampling.guidance.items()
    )
    return f"""# Cache schedules for {_escape(document.model.id)}

A calibrated policy document of otcache: which of the {sampling.num_inference_steps} inference \
steps run the transformer, for any budget from {document.anchor.budget} steps on. It holds no \
weights and no code.

- Model: {_escape(document.model.id)}, revision {_escape(document.model.revision)}
- Sampling: {_escape(sampling.pipeline)}, {_escape(sampling.scheduler)}, \
{sampling.num_inference_steps} steps, sigmas {sampling.sigmas[0]:.4g} … {sampling.sigmas[-1]:.4g}\
{size}{guidance}
- Default budget: {document.default_budget} of {sampling.num_inference_steps} steps"""


def _use(document: PolicyDocument) -> str:
    arguments = f"policy={json.dumps(document.name)}, budget={document.default_budget}"
    return f"""## Use

```python
import cache_dit
import otcache_plugin
cache_dit.enable_cache(pipe, {arguments})
```"""


def _schedules(document: PolicyDocument) -> str:
    def line(name: str, record: ScheduleRecord) -> str:
        schedule = record.schedule(document.num_inference_steps)
        return f"{name:<9} {schedule.budget:>5}  {draw_schedule(schedule)}"

    return f"""## Schedules

█ is a computed step, · a cached one. Budgets between the two are predicted with \
rho = {document.rho:g}.

```text
{line("anchor", document.anchor)}
{line("reference", document.reference)}
```"""


def _evidence(document: PolicyDocument) -> str:
    if not document.evidence:
        return "## Evidence\n\nNo held-out figures yet."
    rows = "\n".join(_evidence_row(row) for row in document.evidence)
    return f"""## Evidence

Held-out prompt-seed pairs, none of them used in the calibration. Differences are on the same \
pairs, with the 95 % confidence interval of their mean.

| Policy | Budget | Metric | Mean | Standard error | Pairs | Compared to | Difference \
| 95 % interval | Better on |
|---|---|---|---|---|---|---|---|---|---|
{rows}"""


def _evidence_row(row: EvidenceRow) -> str:
    cells = [
        _escape(row.policy),
        str(row.budget),
        _escape(row.metric),
        f"{row.mean:.4g}",
        f"{row.standard_error:.2g}",
        str(row.pairs),
    ]
    if row.compared_to is None:
        cells += [""] * 4
    else:
        cells += [
            _escape(row.compared_to),
            f"{row.difference_mean:+.3g}",
            f"{row.difference_low:+.3g} … {row.difference_high:+.3g}",
            f"{row.win_rate:.0%} of pairs",
        ]
    return f"| {' | '.join(cells)} |"


def _calibration(document: PolicyDocument) -> str:
    calibration = document.calibration
    versions = ", ".join(
        f"{_escape(name)} {_escape(version)}" for name, version in calibration.libraries.items()
    )
    return f"""## Calibration

- Anchor search: {_escape(calibration.metric)} on {calibration.pairs} pairs, seed \
{calibration.seed}, up to {calibration.trials} trials; {calibration.evaluations} schedules run in \
the whole calibration
- Cost: {calibration.transformer_calls} transformer calls, {calibration.seconds:.0f} seconds on \
{_escape(calibration.device)}
- Created: {_escape(calibration.created)}
- Versions: {versions or "not recorded"}
- Prompts: SHA-256 {calibration.prompts_digest}
- Edge table: SHA-256 {document.edges_sha256}"""


def _escape(text: str) -> str:
    """Return text from the document so that Markdown shows it as it is."""
    return _MARKUP.sub(r"\\\1", text)
