"""The model card of a policy document: Markdown that says what it is, how to use it, how good."""

from __future__ import annotations

import json
from collections.abc import Collection

from otcache_registry.documents.details import NO_DETAILS, PolicyDetails
from otcache_registry.documents.document import (
    Calibration,
    EvidenceRow,
    PolicyDocument,
    Publication,
    Sampling,
)
from otcache_registry.documents.drawing import draw_schedule
from otcache_registry.documents.evidence import decimals, own_rows
from otcache_registry.documents.files import FIGURES_FOLDER
from otcache_registry.documents.markdown import escaped
from otcache_registry.documents.names import POLICY_TAG, is_hub_id

__all__ = ["render_card"]

_LABEL = 9
"""Width of what a schedule is called."""

_DIGEST_SHOWN = 12
"""Digits of a digest that tell two sets of prompts apart."""

_FIGURES = {
    "schedules.png": (
        "Curves of the schedules",
        "Where the computed steps lie: a curve is flat where they are dense, and the dashed line "
        "is even spacing.",
    ),
    "gaps.png": (
        "Gap of every segment of the schedules",
        "How far apart neighbouring computed steps are, over the course of the run.",
    ),
    "quality.png": (
        "Mean of each metric against the budget, one line per policy, with error bars",
        "Held-out mean of each policy against the budget, with 95 % confidence interval.",
    ),
    "differences.png": (
        "Paired difference of two policies against the budget, with error bars",
        "Difference of {difference} on the same pairs, with 95 % confidence interval: one that "
        "crosses zero leaves open which of them is better.",
    ),
    "search.png": (
        "Best value so far of the search against the trial",
        "How the search went on the calibration pairs, from its warm start on.",
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


def render_card(
    document: PolicyDocument,
    figures: Collection[str] = (),
    details: PolicyDetails = NO_DETAILS,
) -> str:
    """Return the card, with the Hub's YAML front matter, ending in a newline.

    Args:
        document: The document.
        figures: Names of the files beside it in `figures/`. Shown are "schedules.png", "gaps.png",
            "quality.png", "differences.png" and "search.png".
        details: What the policy says of its parameters and its calibration.
    """
    sections = [
        _front_matter(document),
        _introduction(document),
        _use(document),
        *_schedules(details, figures),
    ]
    if document.published is not None:
        sections += [_publication(document, document.published)]
    if document.calibration is not None:
        sections += [
            _evidence(document),
            *_pictures(figures, "quality.png", "differences.png", difference=_difference(document)),
            _calibration(document, document.calibration, details),
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
        for row in own_rows(document)
    ]
    metadata = ModelCardData(
        library_name="cache-dit",
        tags=[POLICY_TAG],
        base_model=document.model.id if is_hub_id(document.model.id) else None,
        model_name=_title(document) if results else None,
        eval_results=results or None,
    )
    return f"---\n{metadata.to_yaml()}\n---"


def _title(document: PolicyDocument) -> str:
    return f"Cache schedules for {document.model.id}"


def _introduction(document: PolicyDocument) -> str:
    sampling, revision = document.sampling, document.model.revision
    policy, distribution = document.policy.name, document.policy.distribution
    kind = "A calibrated policy document"
    if document.published is not None:
        kind = f"Schedules that {escaped(document.published.authors)} published, as a document"
    default = "Default: decided during the run"
    if document.default_budget is not None:
        default = (
            f"Default budget: {document.default_budget} of {sampling.num_inference_steps} steps"
        )
    return f"""# {escaped(_title(document))}

{kind} of otcache: which of the {sampling.num_inference_steps} inference steps run the \
transformer, {_budgets(document)}. It holds no weights and no code.

- Policy: {escaped(policy)}{"" if distribution is None else f", of {escaped(distribution)}"}
- Model: {escaped(document.model.id)}, \
{"any revision" if revision is None else f"revision {escaped(revision)}"}
- Sampling: {_sampling(sampling)}{_executor(sampling)}
- {default}"""


def _budgets(document: PolicyDocument) -> str:
    served = document.budgets
    if served is None:
        return "as each run needs"
    if served.largest == served.smallest:
        return f"for a budget of {served.smallest} steps"
    if served.largest == document.num_inference_steps:
        return f"for any budget from {served.smallest} steps on"
    return f"for any budget from {served.smallest} to {served.largest} steps"


def _sampling(sampling: Sampling) -> str:
    parts = [
        escaped(sampling.pipeline),
        escaped(sampling.scheduler),
        f"{sampling.num_inference_steps} steps",
    ]
    if sampling.sigmas is not None:
        parts.append(f"sigmas {sampling.sigmas[0]:.4g} … {sampling.sigmas[-1]:.4g}")
    if sampling.height is not None and sampling.width is not None:
        parts.append(f"{sampling.width} by {sampling.height} pixels")
    parts += [f"{escaped(name)} = {value:g}" for name, value in sampling.guidance.items()]
    return ", ".join(parts)


def _executor(sampling: Sampling) -> str:
    if sampling.executor is None:
        return ""
    by = "" if sampling.calibrator is None else f", with the calibrator {sampling.calibrator}"
    return f"\n- Executor: {sampling.executor}{by}"


def _use(document: PolicyDocument) -> str:
    budget = document.default_budget
    arguments = f"policy={json.dumps(document.policy.name)}"
    arguments += "" if budget is None else f", budget={budget}"
    return f"""## Use

```python
import cache_dit
import otcache_plugin
cache_dit.enable_cache(pipe, {arguments})
```"""


def _schedules(details: PolicyDetails, figures: Collection[str]) -> list[str]:
    """Return what the policy says of its parameters; nothing where nobody knows the policy."""
    notes = " ".join(map(escaped, details.notes))
    parts = [notes] if notes else []
    if details.schedules:
        legend = "█ is a computed step, · a cached one."
        drawn = _table(details) if details.columns else _drawings(details)
        parts = [f"{legend} {notes}".rstrip(), drawn]
    parts += _pictures(figures, "schedules.png", "gaps.png")
    return ["## Schedules", *parts] if parts else []


def _drawings(details: PolicyDetails) -> str:
    widest = max(_LABEL, *(len(label) for label, _ in details.schedules))
    lines = "\n".join(
        f"{label:<{widest}} {schedule.budget:>5}  {draw_schedule(schedule)}"
        for label, schedule in details.schedules
    )
    return f"```text\n{lines}\n```"


def _table(details: PolicyDetails) -> str:
    headings = [details.heading, *(column.heading for column in details.columns)]
    lines = [
        f"| Budget | {' | '.join(escaped(each.capitalize()) for each in headings)} | Schedule |",
        f"|---:|---|{'---:|' * len(details.columns)}---|",
    ]
    for index, (label, schedule) in enumerate(details.schedules):
        said = [label, *(column.cells[index] for column in details.columns)]
        cells = [str(schedule.budget), *map(escaped, said), f"`{draw_schedule(schedule)}`"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _publication(document: PolicyDocument, published: Publication) -> str:
    budgets = ", ".join(map(str, document.calibrated_budgets))
    theirs, run, predicted = f"The schedule of the budget {budgets} is theirs", "it was", ""
    if len(document.calibrated_budgets) > 1:
        theirs, run = f"The schedules of the budgets {budgets} are theirs", "these schedules were"
        predicted = " Nobody has measured the budgets predicted between them."
    revision = "any, since they name no commit of the weights"
    if document.model.revision is not None:
        revision = escaped(document.model.revision)
    return f"""## Origin

Published by {escaped(published.authors)}, not calibrated here. {theirs}, \
step by step and look-back by look-back.

- Source: {escaped(published.source)}
- Method: {escaped(published.paper)}
- Their setting: {escaped(published.setting)}
- Revision: {revision}
- Evidence: none. Held-out figures come from a calibration, and {run} not run here \
with the model.{predicted}"""


def _difference(document: PolicyDocument) -> str:
    """Return which paired difference the evidence has, in words."""
    compared = {row.policy: row.compared_to for row in document.evidence if row.compared_to}
    own = document.policy.name
    return f"{escaped(own)} to {escaped(compared.get(own, 'another policy'))}"


def _pictures(figures: Collection[str], *names: str, difference: str = "") -> list[str]:
    paragraphs = []
    for name in names:
        if name in figures:
            alternative, sentence = _FIGURES[name]
            paragraphs += [
                sentence.format(difference=difference),
                f"![{alternative}]({FIGURES_FOLDER}/{name})",
            ]
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
    places = decimals(rows)
    # By budget, and within one in the order of the document.
    by_budget = sorted(rows, key=lambda row: row.budget)
    lines = "\n".join(_evidence_row(row, places) for row in by_budget)
    return f"""### {_METRICS.get(metric, escaped(metric))}

| Budget | Policy | Mean | Pairs | Compared to | Difference | Better on |
|---:|---|---:|---:|---|---:|---:|
{lines}"""


def _evidence_row(row: EvidenceRow, places: int) -> str:
    decided = "" if row.computed_steps is None else f", {row.computed_steps:.1f} computed"
    cells = [
        f"{row.budget}{decided}",
        escaped(row.policy),
        f"{row.mean:.{places}f} ± {row.standard_error:.{places}f}",
        str(row.pairs),
    ]
    if row.compared_to is None:
        cells += [""] * 3
    elif row.difference_low == row.difference_high == 0:
        cells += [escaped(row.compared_to), "none", ""]
    else:
        interval = f"[{row.difference_low:+.{places}f}, {row.difference_high:+.{places}f}]"
        cells += [
            escaped(row.compared_to),
            f"{row.difference_mean:+.{places}f} {interval}",
            f"{row.win_rate:.0%} of pairs",
        ]
    return f"| {' | '.join(cells)} |"


def _calibration(document: PolicyDocument, calibration: Calibration, details: PolicyDetails) -> str:
    versions = ", ".join(
        f"{escaped(name)} {escaped(version)}" for name, version in calibration.libraries.items()
    )
    facts = [
        f"Pairs: {calibration.pairs}, seed {calibration.seed}, "
        f"in batches of {calibration.batch_size}",
        f"Metric: {escaped(calibration.metric)}",
        *(f"{escaped(name.capitalize())}: {escaped(text)}" for name, text in details.calibration),
        f"Cost: calibrated in {calibration.denoising_steps:,} denoising steps, "
        f"and {calibration.evidence_steps:,} for the evidence; "
        f"{calibration.evaluations:,} schedules run, {calibration.transformer_calls:,} "
        f"transformer calls, {calibration.seconds:,.0f} seconds on {escaped(calibration.device)}",
        f"Created: {escaped(calibration.created)}",
        f"Versions: {versions or 'not recorded'}",
        f"Calibration prompts: SHA-256 {calibration.prompts_digest}",
        f"Held-out prompts: SHA-256 {calibration.held_out_digest}",
    ]
    if document.tables_sha256 is not None:
        facts.append(f"Tables: SHA-256 {document.tables_sha256}")
    return "\n".join(["## Calibration", "", *(f"- {fact}" for fact in facts)])
