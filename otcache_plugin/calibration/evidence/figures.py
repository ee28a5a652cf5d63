"""The figures of a policy document: its evidence, its schedules and its search, as PNG files.

Each figure is built from the document's own numbers, without the model. None goes through pyplot,
whose state is global: drawing them changes nothing for the caller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from otcache_policies import OTCacheError, lift
from otcache_registry import StoredPolicy
from scipy import stats

from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from otcache_policies import EdgeTable, Schedule
    from otcache_registry import EvidenceRow, PolicyDocument

    from otcache_plugin.evaluation.metrics import Metric

WIDTH = 7.0
DOTS_PER_INCH = 200
"""Twice what a page of 700 pixels needs, for screens that are twice as dense."""

STYLE = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "figure.titlesize": 11,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "text.parse_math": False,
}

POLICY_STYLES = {
    "fewer-steps": ("fewer steps", "#009e73", "^"),
    "uniform": ("uniform", "#777777", "s"),
    "meancache": ("MeanCache", "#0072b2", "o"),
    "otcache": ("OTCache", "#d55e00", "D"),
}
"""Label, colour and marker of each policy, in the order of the legend."""

OTHER_STYLES = (("#cc79a7", "v"), ("#56b4e9", "P"), ("#e69f00", "X"))
LONGEST_NAME = 28
DODGE = 0.015
"""How far the error bars of two policies are set apart, as a share of the budgets' range."""

MOST_BETWEEN = 5
"""Schedules between anchor and reference that are shown: the waypoints, and of the predicted ones
as many as there is room for, evenly chosen."""

MOST_TICKS = 8
CURVE_RESOLUTION = 201


def draw_figures(document: PolicyDocument, edges: EdgeTable) -> dict[str, bytes]:
    """Draw what a document's numbers allow to.

    Args:
        document: the document.
        edges: its edge table.

    Returns:
        PNG files by name, the same bytes every time: "schedules.png" and "gaps.png"; with evidence
        "quality.png", with OTCache compared to MeanCache in it "differences.png"; with a history
        of the search "search.png".
    """
    schedules = shown_schedules(document, edges)
    figures = {}
    # What a user has set for figures of their own is no part of these.
    with style.context(["default", STYLE]):
        figures["schedules.png"] = _png(schedules_figure(schedules))
        figures["gaps.png"] = _png(gaps_figure(schedules))
        if document.evidence:
            figures["quality.png"] = _png(quality_figure(document))
        if comparisons(document):
            figures["differences.png"] = _png(differences_figure(document))
        if document.calibration.history:
            figures["search.png"] = _png(search_figure(document))
    return figures


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    # Without its name and version: the bytes are part of the document's folder.
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


@dataclass(frozen=True)
class ShownSchedule:
    """A schedule as figures show it.

    Attributes:
        role: "anchor", "waypoint", "predicted" or "reference".
        schedule: the schedule.
        colour: its colour, darker for smaller budgets.
    """

    role: str
    schedule: Schedule
    colour: tuple[float, ...]

    @property
    def label(self) -> str:
        """For legends and titles."""
        return f"{self.role}, {self.schedule.budget} steps"


def shown_schedules(document: PolicyDocument, edges: EdgeTable) -> list[ShownSchedule]:
    """Return the anchor, the waypoints, some of the evidence's predictions between, the reference.

    By budget, the smallest first.
    """
    policy = StoredPolicy(document, edges, "").otcache_policy()
    anchor, reference = policy.anchor.budget, policy.reference.budget
    waypoints = {schedule.budget for schedule in policy.waypoints}
    predicted = sorted(
        {row.budget for row in document.evidence if anchor < row.budget < reference} - waypoints
    )
    room = max(MOST_BETWEEN - len(waypoints), 0)
    if len(predicted) > room:
        chosen = np.linspace(0, len(predicted) - 1, room).round().astype(int)
        predicted = [predicted[index] for index in chosen]
    budgets = sorted({anchor, *waypoints, *predicted, reference})
    # The map's yellow end is too light for lines on white.
    colours = mpl.colormaps["viridis"](np.linspace(0.0, 0.85, len(budgets)))
    roles = {anchor: "anchor", **dict.fromkeys(waypoints, "waypoint"), reference: "reference"}
    return [
        ShownSchedule(roles.get(budget, "predicted"), policy.schedule(budget), tuple(colour))
        for budget, colour in zip(budgets, colours.tolist(), strict=True)
    ]


def schedules_figure(schedules: Sequence[ShownSchedule]) -> Figure:
    """Return the warping curves: where in the run each share of the computed steps is used up."""
    total = schedules[0].schedule.num_inference_steps
    figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], "--", color="#777777", linewidth=1.2, label="uniform")
    progress = np.linspace(0.0, 1.0, CURVE_RESOLUTION)
    for shown in schedules:
        colour, steps = shown.colour, np.array(shown.schedule.computed_steps)
        axes.plot(progress, lift(shown.schedule, CURVE_RESOLUTION), color=colour)
        dots = np.linspace(0.0, 1.0, len(steps)), steps / (total - 1)
        axes.plot(*dots, "o", color=colour, markersize=4, label=shown.label)
    axes.set(
        title=f"Where the computed steps of {total} lie: flat is dense",
        xlabel="progress i / (B - 1) through the B computed steps",
        ylabel=f"computed step / {total - 1}",
    )
    axes.margins(0.02)
    figure.legend(loc="outside right upper")
    return figure


def gaps_figure(schedules: Sequence[ShownSchedule]) -> Figure:
    """Return every segment as a bar: as wide as it is in the run, as high as its gap."""
    figure = Figure(figsize=(WIDTH, 1.0 + 1.0 * len(schedules)), layout="constrained")
    panels = figure.subplots(len(schedules), sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, shown in zip(panels, schedules, strict=True):
        starts, gaps = shown.schedule.computed_steps[:-1], shown.schedule.gaps
        axes.bar(
            starts,
            gaps,
            width=gaps,
            align="edge",
            color=shown.colour,
            edgecolor="white",
            linewidth=1.0,
        )
        axes.set_title(shown.label)
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.margins(x=0.01)
    panels[-1].set_xlabel("inference step")
    figure.supylabel("gap (steps)", fontsize="medium")
    figure.suptitle("Gaps between computed steps over the run")
    return figure


def quality_figure(document: PolicyDocument) -> Figure:
    """Return each metric's held-out mean against the budget, a line per policy."""
    rows = document.evidence
    found = dict.fromkeys(row.policy for row in rows)
    policies = [name for name in POLICY_STYLES if name in found]
    policies += [name for name in found if name not in POLICY_STYLES]
    metrics = list(dict.fromkeys(row.metric for row in rows))
    figure, panels = _panels(len(metrics))
    figure.suptitle("How close to the full run: held-out means, 95 % intervals")
    for metric, axes in zip(metrics, panels, strict=True):
        of_metric = [row for row in rows if row.metric == metric]
        budgets = _budget_axis(axes, of_metric, document.num_inference_steps)
        axes.set_ylabel(f"mean of {_pairs(of_metric)} pairs")
        apart = DODGE * max(budgets[-1] - budgets[0], 1)
        for index, name in enumerate(policies):
            label, colour, marker = _policy_style(name, policies)
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
        axes.set_title(f"{_metric_name(metric)}{_direction(metric)}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(policies), 4))
    return figure


def comparisons(document: PolicyDocument) -> list[EvidenceRow]:
    """Return the evidence that compares OTCache to MeanCache."""
    return [
        row
        for row in document.evidence
        if (row.policy, row.compared_to) == ("otcache", "meancache")
    ]


def differences_figure(document: PolicyDocument) -> Figure:
    """Return OTCache's paired differences to MeanCache, with their intervals and a line at zero."""
    rows = comparisons(document)
    metrics = list(dict.fromkeys(row.metric for row in rows))
    figure, panels = _panels(len(metrics))
    figure.suptitle("OTCache − MeanCache on the same held-out pairs: means, 95 % intervals")
    _, colour, marker = POLICY_STYLES["otcache"]
    for metric, axes in zip(metrics, panels, strict=True):
        own = [row for row in rows if row.metric == metric]
        _budget_axis(axes, own, document.num_inference_steps)
        axes.set_ylabel(f"mean difference, {_pairs(own)} pairs")
        axes.axhline(0.0, color="#444444", linewidth=1.0)
        budgets = [row.budget for row in own]
        axes.vlines(
            budgets,
            [row.difference_low for row in own],
            [row.difference_high for row in own],
            color=colour,
            linewidth=1.6,
        )
        axes.plot(budgets, [row.difference_mean for row in own], marker, color=colour)
        axes.set_title(f"{_metric_name(metric)}{_better_side(metric)}")
    return figure


def search_figure(document: PolicyDocument) -> Figure:
    """Return the best value so far of the anchor search, from the warm start on."""
    calibration = document.calibration
    metric = _metric(calibration.metric)
    rising = metric is not None and metric.higher_is_better
    best = -np.array(calibration.history) if rising else np.array(calibration.history)
    unit = f" {metric.unit}" if metric is not None and metric.unit else ""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.add_subplot()
    colour = POLICY_STYLES["otcache"][1]
    warm_colour = POLICY_STYLES["meancache"][1]
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
        title=f"Search of the {calibration.anchor_budget}-step anchor: "
        f"from {best[0]:.4g} to {best[-1]:.4g}{unit}",
        xlabel="trial",
        ylabel=f"best {_metric_name(calibration.metric)} so far,\n"
        f"{calibration.pairs} calibration pairs",
    )
    axes.margins(x=0.02, y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of as many panels, two in a row."""
    columns, rows = min(count, 2), math.ceil(count / 2)
    layout = ConstrainedLayoutEngine(wspace=0.06)
    figure = Figure(figsize=(WIDTH, 0.7 + 2.9 * rows), layout=layout)
    return figure, [figure.add_subplot(rows, columns, index + 1) for index in range(count)]


def _budget_axis(axes: Axes, rows: Sequence[EvidenceRow], total: int) -> list[int]:
    """Set up the axis of the budgets, and give them, sorted."""
    budgets = sorted({row.budget for row in rows})
    beside = max(0.06 * (budgets[-1] - budgets[0]), 0.5)
    axes.set_xlim(budgets[0] - beside, budgets[-1] + beside)
    axes.set_xlabel(f"budget (computed steps of {total})")
    if len(budgets) <= MOST_TICKS:
        axes.set_xticks(budgets)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return budgets


def _pairs(rows: Sequence[EvidenceRow]) -> str:
    counts = sorted({row.pairs for row in rows})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _policy_style(name: str, policies: Sequence[str]) -> tuple[str, str, str]:
    if name in POLICY_STYLES:
        return POLICY_STYLES[name]
    others = [each for each in policies if each not in POLICY_STYLES]
    return _shortened(name), *OTHER_STYLES[others.index(name) % len(OTHER_STYLES)]


def _metric(name: str) -> Metric | None:
    """Return the metric, None for one that no plugin knows: documents come from elsewhere, too."""
    try:
        return plugin_host().metric(name)
    except OTCacheError:
        return None


def _metric_name(name: str) -> str:
    metric = _metric(name)
    if metric is None:
        return _shortened(name)
    return f"{name.upper()} ({metric.unit})" if metric.unit else name.upper()


def _direction(name: str) -> str:
    metric = _metric(name)
    if metric is None:
        return ""
    return ": higher is better" if metric.higher_is_better else ": lower is better"


def _better_side(name: str) -> str:
    metric = _metric(name)
    if metric is None:
        return ""
    return f": OTCache is better {'above' if metric.higher_is_better else 'below'} 0"


def _shortened(name: str) -> str:
    shown = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    # Matplotlib leaves what begins with an underscore out of legends.
    return f" {shown}" if shown.startswith("_") else shown
