"""Draws docs/figures/calibration_curve.svg: quality against denoising steps of a calibration.

    python -m benchmarks.plot_efforts

From benchmarks/results/efforts.json: for every model and procedure the mean gain over the graph
policy's best schedules, against the steps that the calibration took.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

from matplotlib import pyplot as plt

from benchmarks.page_style import GREY, save, use_page_style

RESULTS = Path(__file__).parent / "results" / "efforts.json"

COLOURS = {
    "quick": "#2b9348",
    "standard": "#3d8fc4",
    "thorough": "#8a7df0",
    "paper": "#d2691e",
    "joint searches": "#a58274",
    "budcache": GREY,
}


def main() -> None:
    models = json.loads(RESULTS.read_text())
    use_page_style("calibration_curve")
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for name, colour in COLOURS.items():
        found = [each["procedures"][name] for each in models.values() if name in each["procedures"]]
        if not found:
            continue
        steps = [each["steps"] for each in found]
        gains = [mean(row["difference"] for row in each["to_graph"]["psnr"]) for each in found]
        axes.scatter(steps, gains, color=colour, alpha=0.45, s=26, linewidths=0)
        axes.scatter(
            [mean(steps)],
            [mean(gains)],
            color=colour,
            s=90,
            label=f"{name}, {len(found)}",
            zorder=3,
        )
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("denoising steps of the calibration, each pair's own")
    axes.set_ylabel("gain over the best MeanCache\nschedule of each budget, dB")
    axes.grid(visible=True, which="major", alpha=0.3)
    title = "large: mean over\nso many models"
    figure.legend(frameon=False, title=title, loc="outside right upper")
    save(figure, "calibration_curve")


if __name__ == "__main__":
    main()
