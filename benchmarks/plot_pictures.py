"""Draws docs/figures/pictures.png: the same prompts in full and with 10 of 50 steps, with seconds.

    python -m benchmarks.plot_pictures

The embedded model, prompts that no calibration has seen. Seconds are those of a whole call of all
the pictures over their number, the median of rounds in which the methods take turns, on one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray

import otcache_plugin
from benchmarks.page_style import FIGURES, use_page_style
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.models.setups import load_setup

PICTURES, ROUNDS, BUDGET = 3, 5, 10
METHODS = {
    "all 50 steps": None,
    "OTCache, 10 steps": "otcache",
    "MeanCache, 10 steps": "meancache",
    "uniform, 10 steps": "uniform",
}


def run(
    pipe: Any, pairs: Sequence[Pair], policy: str | None
) -> tuple[list[NDArray[np.float32]], float]:
    """Return a method's pictures, and the seconds of one."""
    if policy is not None:
        otcache_plugin.enable_cache(pipe, policy=policy, budget=BUDGET)
    prompts = [pair.prompt for pair in pairs]
    generators = [torch.Generator().manual_seed(pair.seed) for pair in pairs]
    started = perf_counter()
    pictures = pipe(prompts, generator=generators, output_type="np").images
    seconds = (perf_counter() - started) / len(pairs)
    if policy is not None:
        otcache_plugin.disable_cache(pipe)
    return list(pictures), seconds


def draw(pictures: dict[str, list[NDArray[np.float32]]], seconds: dict[str, float]) -> Figure:
    """Return a row of pictures for each prompt, a column for each method."""
    size = (1.75 * len(METHODS), 1.5 * PICTURES + 0.5)
    figure, axes = plt.subplots(PICTURES, len(METHODS), figsize=size, layout="constrained")
    for column, (name, own) in enumerate(pictures.items()):
        for row, picture in enumerate(own):
            axes[row, column].imshow(picture, interpolation="nearest")
            axes[row, column].set_axis_off()
        axes[-1, column].set_title(f"{name}\n{seconds[name]:.2f} s", y=-0.42, fontsize=10)
    return figure


def main() -> None:
    torch.set_num_threads(1)
    setup = load_setup("embedded")
    pipe, pairs = setup.pipe, setup.held_out_pairs(PICTURES)
    pipe.set_progress_bar_config(disable=True)
    run(pipe, pairs, None)  # the first call of all takes longer
    turns = [
        {name: run(pipe, pairs, policy) for name, policy in METHODS.items()} for _ in range(ROUNDS)
    ]
    pictures = {name: found for name, (found, _) in turns[0].items()}
    seconds = {name: median(turn[name][1] for turn in turns) for name in METHODS}
    for name, each in seconds.items():
        print(f"{name}: {each:.3f} s, {seconds['all 50 steps'] / each:.2f}x")
    use_page_style("pictures")
    draw(pictures, seconds).savefig(FIGURES / "pictures.png", dpi=110)


if __name__ == "__main__":
    main()
