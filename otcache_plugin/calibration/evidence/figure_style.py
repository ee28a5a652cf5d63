"""How figures of a document look, and what stands on their axes.

None goes through pyplot, whose state is global: drawing them changes nothing for the caller.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from otcache_plugin.errors import UnknownNameError
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from otcache_registry import EvidenceRow

    from otcache_plugin.evaluation.metrics import Metric

WIDTH = 7.0

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

MOST_TICKS = 8


def panels_of(count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of as many panels, two in a row."""
    columns, rows = min(count, 2), math.ceil(count / 2)
    layout = ConstrainedLayoutEngine(wspace=0.06)
    figure = Figure(figsize=(WIDTH, 0.7 + 2.9 * rows), layout=layout)
    return figure, [figure.add_subplot(rows, columns, index + 1) for index in range(count)]


def budget_axis(axes: Axes, rows: Sequence[EvidenceRow], total: int) -> list[int]:
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


def policy_style(name: str, policies: Sequence[str]) -> tuple[str, str, str]:
    """Return the label, colour and marker of one of some policies."""
    if name in POLICY_STYLES:
        return POLICY_STYLES[name]
    others = [each for each in policies if each not in POLICY_STYLES]
    return shortened(name), *OTHER_STYLES[others.index(name) % len(OTHER_STYLES)]


def known_metric(name: str) -> Metric | None:
    """Return the metric, None for one that no plugin knows: documents come from elsewhere, too."""
    try:
        return plugin_host().metric(name)
    except UnknownNameError:
        return None


def metric_name(name: str) -> str:
    """Return what an axis calls a metric, with its unit."""
    metric = known_metric(name)
    if metric is None:
        return shortened(name)
    return f"{name.upper()} ({metric.unit})" if metric.unit else name.upper()


def direction(name: str) -> str:
    """Return what a title adds on which values of a metric are better."""
    metric = known_metric(name)
    if metric is None:
        return ""
    return ": higher is better" if metric.higher_is_better else ": lower is better"


def better_side(name: str, policy: str) -> str:
    """Return what a title adds on which differences of a metric speak for a policy."""
    metric = known_metric(name)
    if metric is None:
        return ""
    return f": {policy} is better {'above' if metric.higher_is_better else 'below'} 0"


def shortened(name: str) -> str:
    """Return a name as long as there is room for."""
    shown = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    # Matplotlib leaves what begins with an underscore out of legends.
    return f" {shown}" if shown.startswith("_") else shown
