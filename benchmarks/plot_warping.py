"""Draws docs/figures/warping_curves.svg: how schedules between two calibrated ones are predicted.

    python -m benchmarks.plot_warping

From the Z-Image schedules that the MeanCache authors published for budgets 13 and 25, the schedules
of budgets 15, 17 and 20 are predicted (rho = 1) and drawn below the ones published for them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from otcache_policies import Schedule, geodesic_weights, lift, predict

from benchmarks.page_style import GREY, save, use_page_style

PUBLISHED = Path(__file__).parents[1] / "tests" / "data" / "meancache-published.json"
MODEL, ANCHOR, REFERENCE, SHOWN = "Tongyi-MAI/Z-Image", 13, 25, 17
ANCHOR_COLOUR, REFERENCE_COLOUR, PREDICTED_COLOUR = "#d2691e", "#3d8fc4", "#2b9348"


def published_schedules() -> dict[int, Schedule]:
    """Return the published schedules by budget."""
    published = json.loads(PUBLISHED.read_text())
    (model,) = (each for each in published["models"] if each["model"] == MODEL)
    steps = published["num_inference_steps"]
    return {
        each["budget"]: Schedule(each["computed_steps"], steps, each["look_backs"])
        for each in model["schedules"]
    }


def draw_curves(axes: Axes, anchor: Schedule, reference: Schedule) -> None:
    """Both calibrated curves, and the geodesic between them at the budget shown."""
    progress = np.linspace(0, 1, 1001)
    weights = geodesic_weights(anchor.budget, reference.budget, SHOWN)
    between = weights[0] * lift(anchor) + weights[1] * lift(reference)
    last = anchor.num_inference_steps - 1
    for schedule, colour, name in (
        (anchor, ANCHOR_COLOUR, f"budget {anchor.budget}, calibrated"),
        (reference, REFERENCE_COLOUR, f"budget {reference.budget}, calibrated"),
    ):
        axes.plot(progress, lift(schedule) * last, color=colour, label=name)
        steps = schedule.computed_steps
        axes.plot(np.linspace(0, 1, len(steps)), steps, "o", color=colour, markersize=3)
    axes.plot(
        progress, between * last, "--", color=PREDICTED_COLOUR, label=f"budget {SHOWN}, predicted"
    )
    axes.set_xlabel("progress u through the schedule")
    axes.set_ylabel("step of the run")
    axes.legend(frameon=False, loc="upper left")


def draw_schedules(axes: Axes, schedules: dict[int, Schedule]) -> None:
    """The computed steps as ticks, each prediction below what was published."""
    anchor, reference = schedules[ANCHOR], schedules[REFERENCE]
    colours = {ANCHOR: ANCHOR_COLOUR, REFERENCE: REFERENCE_COLOUR}
    for row, budget in enumerate(sorted(schedules, reverse=True)):
        published = schedules[budget].computed_steps
        colour = colours.get(budget, GREY)
        axes.vlines(published, row + 0.05, row + 0.4, color=colour, linewidth=1.6)
        if budget not in colours:
            predicted = predict(anchor, reference, budget, rho=1.0)
            axes.vlines(predicted, row - 0.4, row - 0.05, color=PREDICTED_COLOUR, linewidth=1.6)
            away = np.mean(np.abs(np.subtract(predicted, published)))
            print(f"budget {budget}: {away:.2f} steps from the published ones on average")
    axes.set_yticks(range(len(schedules)), [str(each) for each in sorted(schedules, reverse=True)])
    axes.set_ylabel("budget")
    axes.set_xlabel("step of the run")
    axes.set_title("published above, predicted below (green)", fontsize=10)


def main() -> None:
    """Write the figure, the same bytes every time."""
    use_page_style("warping_curves")
    schedules = published_schedules()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    draw_curves(left, schedules[ANCHOR], schedules[REFERENCE])
    draw_schedules(right, schedules)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, "warping_curves")


if __name__ == "__main__":
    main()
