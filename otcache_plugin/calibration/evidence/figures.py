"""The figures of a policy document: its evidence, its schedules and its search, as PNG files.

Each figure is built from the document's own numbers, without the model.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from otcache_policies import Policy
from otcache_registry import StoredPolicy
from scipy import stats

from otcache_plugin.calibration.evidence.figure_style import (
    POLICY_STYLES,
    STYLE,
    WIDTH,
    better_side,
    budget_axis,
    direction,
    known_metric,
    metric_name,
    panels_of,
    policy_style,
)
from otcache_plugin.calibration.evidence.schedule_figures import (
    gaps_figure,
    schedules_figure,
    shown_schedules,
)
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_registry import EvidenceRow, PolicyDetails, PolicyDocument, Tables

DOTS_PER_INCH = 200
"""Twice what a page of 700 pixels needs, for screens that are twice as dense."""

DODGE = 0.015
"""How far the error bars of two policies are set apart, as a share of the budgets' range."""


def draw_figures(document: PolicyDocument, tables: Tables) -> dict[str, bytes]:
    """Draw what a document's numbers allow to.

    Args:
        document: the document.
        tables: its tables.

    Returns:
        PNG files by name, the same bytes every time: "schedules.png" and "gaps.png", but where the
        policy decides at every step; with evidence
        "quality.png", with the policy compared to a peer in it "differences.png"; with a history
        of a search "search.png".

    Raises:
        UnknownNameError: its policy is not installed.
        DocumentError: it is not valid for its policy.
    """
    host = plugin_host()
    policy = host.policy_of(StoredPolicy(document, tables, ""))
    details = host.describe(document)
    figures = {}
    # What a user has set for figures of their own is no part of these.
    with style.context(["default", STYLE]):
        if isinstance(policy, Policy):
            schedules = shown_schedules(document, policy, details)
            figures["schedules.png"] = _png(schedules_figure(schedules))
            figures["gaps.png"] = _png(gaps_figure(schedules))
        if document.evidence:
            figures["quality.png"] = _png(quality_figure(document))
        if comparisons(document):
            figures["differences.png"] = _png(differences_figure(document))
        if document.calibration is not None and details.history:
            figures["search.png"] = _png(search_figure(document, details))
    return figures


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    # Without its name and version: the bytes are part of the document's folder.
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def quality_figure(document: PolicyDocument) -> Figure:
    """Return each metric's held-out mean against the budget, a line per policy."""
    rows = document.evidence
    found = dict.fromkeys(row.policy for row in rows)
    policies = [name for name in POLICY_STYLES if name in found]
    policies += [name for name in found if name not in POLICY_STYLES]
    metrics = list(dict.fromkeys(row.metric for row in rows))
    figure, panels = panels_of(len(metrics))
    figure.suptitle("How close to the full run: held-out means, 95 % intervals")
    for metric, axes in zip(metrics, panels, strict=True):
        of_metric = [row for row in rows if row.metric == metric]
        budgets = budget_axis(axes, of_metric, document.num_inference_steps)
        axes.set_ylabel(f"mean of {_pairs(of_metric)} pairs")
        apart = DODGE * max(budgets[-1] - budgets[0], 1)
        for index, name in enumerate(policies):
            label, colour, marker = policy_style(name, policies)
            own = sorted(
                (row for row in of_metric if row.policy == name), key=lambda row: row.budget
            )
            axes.errorbar(
                [row.budget + apart * (index - (len(policies) - 1) / 2) for row in own],
                [row.mean for row in own],
                [stats.t.ppf(0.975, row.pairs - 1) * row.standard_error for row in own],
                label=label,
                color=colour,
                marker=marker,
                elinewidth=1.2,
            )
        axes.set_title(f"{metric_name(metric)}{direction(metric)}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(policies), 4))
    return figure


def comparisons(document: PolicyDocument) -> list[EvidenceRow]:
    """Return the evidence that compares the document's policy to a peer."""
    name = document.policy.name
    return [row for row in document.evidence if row.policy == name and row.compared_to is not None]


def differences_figure(document: PolicyDocument) -> Figure:
    """Return the policy's paired differences to its peer, with intervals and a line at zero."""
    rows = comparisons(document)
    name, other = document.policy.name, str(rows[0].compared_to)
    label, colour, marker = policy_style(name, [name])
    peer, _, _ = policy_style(other, [other])
    metrics = list(dict.fromkeys(row.metric for row in rows))
    figure, panels = panels_of(len(metrics))
    figure.suptitle(f"{label} − {peer} on the same held-out pairs: means, 95 % intervals")
    for metric, axes in zip(metrics, panels, strict=True):
        own = [row for row in rows if row.metric == metric]
        budget_axis(axes, own, document.num_inference_steps)
        axes.set_ylabel(f"mean difference, {_pairs(own)} pairs")
        axes.axhline(0.0, color="#444444", linewidth=1.0)
        budgets = [row.budget for row in own]
        # A comparison has all three of them, which their types cannot say.
        means, lows, highs = np.array(
            [(row.difference_mean, row.difference_low, row.difference_high) for row in own],
            dtype=float,
        ).T
        axes.vlines(budgets, lows, highs, color=colour, linewidth=1.6)
        axes.plot(budgets, means, marker, color=colour)
        axes.set_title(f"{metric_name(metric)}{better_side(metric, label)}")
    return figure


def search_figure(document: PolicyDocument, details: PolicyDetails) -> Figure:
    """Return the best value so far of a search, from the warm start on."""
    calibration, name = document.calibration, document.policy.name
    assert calibration is not None, "a history is of a calibration"
    metric = known_metric(calibration.metric)
    rising = metric is not None and metric.higher_is_better
    best = -np.array(details.history) if rising else np.array(details.history)
    unit = f" {metric.unit}" if metric is not None and metric.unit else ""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.add_subplot()
    _, colour, _ = policy_style(name, [name])
    _, warm_colour, _ = POLICY_STYLES["meancache"]
    axes.axhline(best[0], color=warm_colour, linestyle="--", linewidth=1.2)
    axes.plot(range(len(best)), best, color=colour, drawstyle="steps-post")
    axes.plot([0], [best[0]], "o", color=warm_colour, clip_on=False, markersize=7)
    axes.annotate(
        f"warm start {best[0]:.4g}",
        (0, best[0]),
        xytext=(10, -5 if rising else 5),
        textcoords="offset points",
        va="top" if rising else "bottom",
        color=warm_colour,
    )
    axes.set(
        title=f"Search of the {details.searched}: from {best[0]:.4g} to {best[-1]:.4g}{unit}",
        xlabel="trial",
        ylabel=f"best {metric_name(calibration.metric)} so far,\n"
        f"{calibration.pairs} calibration pairs",
    )
    axes.margins(x=0.02, y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _pairs(rows: Sequence[EvidenceRow]) -> str:
    counts = sorted({row.pairs for row in rows})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
