"""Figures of schedules: where the computed steps of a document's budgets lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from otcache_policies import lift

from otcache_plugin.calibration.evidence.figure_style import WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_policies import Policy, Schedule
    from otcache_registry import PolicyDetails, PolicyDocument

MOST_SHOWN = 7
"""Schedules up to which predicted ones are shown besides the document's own, evenly chosen."""

MOST_OWN = 9
"""Of the document's own schedules that are shown, evenly chosen where there are more."""

CURVE_RESOLUTION = 201


@dataclass(frozen=True)
class ShownSchedule:
    """A schedule as figures show it.

    Attributes:
        role: what it is to the document, such as "anchor" or "predicted".
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


def shown_schedules(
    document: PolicyDocument, policy: Policy, details: PolicyDetails
) -> list[ShownSchedule]:
    """Return the document's own schedules and some that the policy predicts between them.

    The latter are of the evidence's budgets. By budget, the smallest first.
    """
    roles = {schedule.budget: role for role, schedule in details.schedules}
    within = range(min(roles) + 1, max(roles)) if roles else policy.budgets
    predicted = sorted({row.budget for row in document.evidence if row.budget in within} - {*roles})
    room = max(MOST_SHOWN - max(len(roles), 2), 0) if roles else MOST_SHOWN
    shown = {*_evenly(sorted(roles), MOST_OWN), *_evenly(predicted, room)}
    budgets = sorted(shown) or [document.require_default_budget()]
    # The map's yellow end is too light for lines on white.
    colours = mpl.colormaps["viridis"](np.linspace(0.0, 0.85, len(budgets)))
    return [
        ShownSchedule(
            roles.get(budget, "predicted" if roles else policy.name),
            policy.schedule(budget),
            tuple(colour),
        )
        for budget, colour in zip(budgets, colours.tolist(), strict=True)
    ]


def _evenly(budgets: Sequence[int], most: int) -> list[int]:
    """Return budgets, evenly chosen where there are more than there is room for."""
    if len(budgets) <= most:
        return list(budgets)
    chosen = np.linspace(0, len(budgets) - 1, most).round().astype(int)
    return [budgets[index] for index in chosen]


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
