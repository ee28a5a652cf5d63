"""The model card of a policy document: Markdown that says what it is, how to use it, how good."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from statistics import median

from otcache_registry.documents.document import (
    Calibration,
    EvidenceRow,
    PolicyDocument,
    Publication,
    Sampling,
)
from otcache_registry.documents.drawing import draw_schedule
from otcache_registry.documents.folder import FIGURES_FOLDER
from otcache_registry.documents.names import is_hub_id

__all__ = ["render_card"]

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&])")

_TAG = "otcache-policy"
"""What policies are found by on the Hub."""

_DIGEST_SHOWN = 12
"""Digits of a digest that tell two sets of prompts apart."""

_FIGURES = {
    "schedules.png": (
        "Curves of the anchor, the predicted and the reference schedule",
        "Where the computed steps lie: a curve is flat where they are dense, and the dashed line "
        "is even spacing.",
    ),
    "gaps.png": (
        "Gap of every segment of the anchor, the predicted and the reference schedule",
        "How far apart neighbouring computed steps are, over the course of the run.",
    ),
    "quality.png": (
        "Mean of each metric against the budget, one line per policy, with error bars",
        "Held-out mean of each policy against the budget, with 95 % confidence interval.",
    ),
    "differences.png": (
        "Paired difference of OTCache to MeanCache against the budget, with error bars",
        "OTCache minus MeanCache on the same pairs, with 95 % confidence interval: one that "
        "crosses zero leaves open which of them is better.",
    ),
    "search.png": (
        "Best value so far of the anchor search against the trial",
        "How the anchor search went on the calibration pairs, from its warm start on.",
    ),
}
"""Alternative text and sentence of each figure that is shown."""

_METRICS = {
    "psnr": "PSNR in dB, more is better",
    "ssim": "SSIM, more is better",
    "mse": "Mean squared error, less is better",
    "lpips": "LPIPS (AlexNet), less is better",
    "lpips-vgg": "LPIPS (VGG), less is better",
    "latent-l1": "Mean absolute error of the latents, less is better",
    "latent-mse": "Mean squared error of the latents, less is better",
}

_SEARCHES = {
    "joint": "joint, on all pairs at once",
    "per-pair": "per pair, each on its own",
}


def render_card(document: PolicyDocument, figures: Collection[str] = ()) -> str:
    """Return the card, with the Hub's YAML front matter, ending in a newline.

    Args:
        document: The document.
        figures: Names of the files beside it in `figures/`. Shown are "schedules.png", "gaps.png",
            "quality.png", "differences.png" and "search.png".
    """
    sections = [
        _front_matter(document),
        _introduction(document),
        _use(document),
        _schedules(document),
        *_pictures(figures, "schedules.png", "gaps.png"),
    ]
    if document.published is not None:
        sections += [_publication(document, document.published)]
    if document.calibration is not None:
        sections += [
            _evidence(document),
            *_pictures(figures, "quality.png", "differences.png"),
            _calibration(document, document.calibration),
            *_pictures(figures, "search.png"),
        ]
    return "\n\n".join(sections) + "\n"


def _front_matter(document: PolicyDocument) -> str:
    """Return the metadata block; the Hub's own library writes it, whatever the names contain."""
    from huggingface_hub import EvalResult, ModelCardData

    total, calibration = document.num_inference_steps, document.calibration
    digest = "" if calibration is None else calibration.held_out_digest[:_DIGEST_SHOWN]
    results = [
        EvalResult(
            task_type="other",
            task_name="Diffusion with a cache schedule",
            dataset_type="held-out-prompts",
            dataset_name=f"Held-out prompts, SHA-256 {digest}…",
            metric_type=row.metric,
            metric_name=f"{_METRICS.get(row.metric, row.metric)}, at {row.budget} of {total} steps",
            metric_value=row.mean,
        )
        for row in document.evidence
        if row.policy == document.name
    ]
    metadata = ModelCardData(
        library_name="cache-dit",
        tags=[_TAG],
        base_model=document.model.id if is_hub_id(document.model.id) else None,
        model_name=_title(document) if results else None,
        eval_results=results or None,
    )
    return f"---\n{metadata.to_yaml()}\n---"


def _title(document: PolicyDocument) -> str:
    return f"Cache schedules for {document.model.id}"


def _introduction(document: PolicyDocument) -> str:
    sampling, revision = document.sampling, document.model.revision
    kind, budgets = "A calibrated policy document", f"from {document.anchor.budget} steps on"
    if document.published is not None:
        kind = f"Schedules that {_escape(document.published.authors)} published, as a document"
        budgets = f"from {document.anchor.budget} to {document.reference.budget} steps"
    return f"""# {_escape(_title(document))}

{kind} of otcache: which of the {sampling.num_inference_steps} inference steps run the \
transformer, for any budget {budgets}. It holds no weights and no code.

- Model: {_escape(document.model.id)}, \
{"any revision" if revision is None else f"revision {_escape(revision)}"}
- Sampling: {_sampling(sampling)}
- Default budget: {document.default_budget} of {sampling.num_inference_steps} steps"""


def _sampling(sampling: Sampling) -> str:
    parts = [
        _escape(sampling.pipeline),
        _escape(sampling.scheduler),
        f"{sampling.num_inference_steps} steps",
    ]
    if sampling.sigmas is not None:
        parts.append(f"sigmas {sampling.sigmas[0]:.4g} … {sampling.sigmas[-1]:.4g}")
    if sampling.height is not None and sampling.width is not None:
        parts.append(f"{sampling.width} by {sampling.height} pixels")
    parts += [f"{_escape(name)} = {value:g}" for name, value in sampling.guidance.items()]
    return ", ".join(parts)


def _use(document: PolicyDocument) -> str:
    arguments = f"policy={json.dumps(document.name)}, budget={document.default_budget}"
    return f"""## Use

```python
import cache_dit
import otcache_plugin
cache_dit.enable_cache(pipe, {arguments})
```"""


def _schedules(document: PolicyDocument) -> str:
    names = ["anchor", *["waypoint"] * len(document.waypoints), "reference"]
    lines = "\n".join(
        f"{name:<9} {schedule.budget:>5}  {draw_schedule(schedule)}"
        for name, schedule in zip(names, document.schedules, strict=True)
    )
    return f"""## Schedules

█ is a computed step, · a cached one. Budgets between two neighbours are predicted with \
rho = {document.rho:g}.

```text
{lines}
```"""


def _publication(document: PolicyDocument, published: Publication) -> str:
    budgets = ", ".join(map(str, document.calibrated_budgets))
    revision = "any, since they name no commit of the weights"
    if document.model.revision is not None:
        revision = _escape(document.model.revision)
    return f"""## Origin

Published by {_escape(published.authors)}, not calibrated here. The schedules of the budgets \
{budgets} are theirs, step by step and look-back by look-back.

- Source: {_escape(published.source)}
- Method: {_escape(published.paper)}
- Their setting: {_escape(published.setting)}
- Revision: {revision}
- Evidence: none. Held-out figures come from a calibration, and these schedules were not run here \
with the model. The budgets predicted between them nobody has measured."""


def _pictures(figures: Collection[str], *names: str) -> list[str]:
    paragraphs = []
    for name in names:
        if name in figures:
            alternative, sentence = _FIGURES[name]
            paragraphs += [sentence, f"![{alternative}]({FIGURES_FOLDER}/{name})"]
    return paragraphs


def _evidence(document: PolicyDocument) -> str:
    if not document.evidence:
        return "## Evidence\n\nNo held-out figures yet."
    metrics = dict.fromkeys(row.metric for row in document.evidence)
    tables = (
        _evidence_table(metric, [row for row in document.evidence if row.metric == metric])
        for metric in metrics
    )
    introduction = """## Evidence

Measured on held-out prompt-seed pairs, none of them used in the calibration: each mean with its \
standard error. Differences are on the same pairs, with the 95 % confidence interval of their mean \
and the share of pairs on which the policy is the better one. Where `fewer-steps` is listed, it is \
a run of only as many steps, all computed."""
    return "\n\n".join([introduction, *tables])


def _evidence_table(metric: str, rows: list[EvidenceRow]) -> str:
    decimals = _decimals(median(row.standard_error for row in rows))
    # By budget, and within one in the order of the document.
    by_budget = sorted(rows, key=lambda row: row.budget)
    lines = "\n".join(_evidence_row(row, decimals) for row in by_budget)
    return f"""### {_METRICS.get(metric, _escape(metric))}

| Budget | Policy | Mean | Pairs | Compared to | Difference | Better on |
|---:|---|---:|---:|---|---:|---:|
{lines}"""


def _evidence_row(row: EvidenceRow, decimals: int) -> str:
    cells = [
        str(row.budget),
        _escape(row.policy),
        f"{row.mean:.{decimals}f} ± {row.standard_error:.{decimals}f}",
        str(row.pairs),
    ]
    if row.compared_to is None:
        cells += [""] * 3
    elif row.difference_low == row.difference_high == 0:
        cells += [_escape(row.compared_to), "none", ""]
    else:
        interval = f"[{row.difference_low:+.{decimals}f}, {row.difference_high:+.{decimals}f}]"
        cells += [
            _escape(row.compared_to),
            f"{row.difference_mean:+.{decimals}f} {interval}",
            f"{row.win_rate:.0%} of pairs",
        ]
    return f"| {' | '.join(cells)} |"


def _decimals(error: float) -> int:
    """Return the decimal places that show two significant digits of an error, 2 to 12."""
    return min(max(1 - math.floor(math.log10(error)), 2), 12) if error > 0 else 2


def _calibration(document: PolicyDocument, calibration: Calibration) -> str:
    versions = ", ".join(
        f"{_escape(name)} {_escape(version)}" for name, version in calibration.libraries.items()
    )
    return f"""## Calibration

- Pairs: {calibration.pairs}, seed {calibration.seed}, in batches of {calibration.batch_size}
- Search: {_SEARCHES[calibration.search]}, by {_escape(calibration.metric)}, up to \
{calibration.trials} trials for each schedule
- Cost: {calibration.evaluations} schedules run, {calibration.transformer_calls} transformer \
calls, {calibration.seconds:.0f} seconds on {_escape(calibration.device)}
- Created: {_escape(calibration.created)}
- Versions: {versions or "not recorded"}
- Calibration prompts: SHA-256 {calibration.prompts_digest}
- Held-out prompts: SHA-256 {calibration.held_out_digest}
- Edge table: SHA-256 {document.edges_sha256}"""


def _escape(text: str) -> str:
    """Return text from the document so that Markdown shows it as it is."""
    return _MARKUP.sub(r"\\\1", text)
