"""The schedules of an OTCache document as curves, from progress to position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from otcache_policies import lift

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_policies import OTCachePolicy, Schedule
    from otcache_registry import PolicyDetails

PLOT_WIDTH, PLOT_HEIGHT = 400, 300
CURVE_RESOLUTION = 101

BETWEEN = 2
"""Curves between anchor and reference, as many as can be told apart."""


@dataclass(frozen=True)
class Curve:
    """A schedule as a curve from progress to position, in the plot's coordinates.

    Attributes:
        kind: "anchor", "between" or "reference", and a number for more than one: its style.
        label: for the legend.
        points: of its line, as SVG writes them.
        dots: x and y of its computed steps.
    """

    kind: str
    label: str
    points: str
    dots: tuple[tuple[float, float], ...]


def curves(policy: OTCachePolicy, details: PolicyDetails, budgets: Sequence[int]) -> list[Curve]:
    """Return those of anchor and reference, and of the first and the last budget between them."""
    names = {schedule: name for name, schedule in details.schedules}
    # Of a document that says no family the reference is the graph policy's.
    whose = {} if details.heading else {"reference": " (MeanCache)"}
    anchor, reference = policy.anchor, policy.reference
    within = [each for each in sorted(budgets) if anchor.budget < each < reference.budget]
    shown = within if len(within) <= BETWEEN else [within[0], within[-1]]
    between = [policy.schedule(budget) for budget in shown]
    kinds = {
        anchor: "anchor",
        **{schedule: f"between-{number}" for number, schedule in enumerate(between, start=1)},
        reference: "reference",
    }
    return [
        _curve(
            kind,
            f"{names.get(schedule, 'predicted')}, {schedule.budget} steps{whose.get(kind, '')}",
            schedule,
        )
        for schedule, kind in kinds.items()
    ]


def _curve(kind: str, label: str, schedule: Schedule) -> Curve:
    line = _in_plot(np.linspace(0.0, 1.0, CURVE_RESOLUTION), lift(schedule, CURVE_RESOLUTION))
    dots = _in_plot(
        np.linspace(0.0, 1.0, schedule.budget),
        np.array(schedule.computed_steps) / (schedule.num_inference_steps - 1),
    )
    return Curve(kind, label, " ".join(f"{x:.1f},{y:.1f}" for x, y in line), dots)


def _in_plot(progress: np.ndarray, position: np.ndarray) -> tuple[tuple[float, float], ...]:
    """SVG's y grows downwards."""
    x, y = progress * PLOT_WIDTH, (1 - position) * PLOT_HEIGHT
    return tuple(zip(x.round(1).tolist(), y.round(1).tolist(), strict=True))
