"""The models that claims about calibration are made on, by name, in two registries.

`DEVELOPMENT` is what ideas are tried on and settings are chosen by: as often as anybody likes.

`FINAL` is looked at only at the end. Nothing is measured on it while anything can still be chosen:
once everything is decided, one run on it is what gets reported, whichever way it comes out.
Loading its models, to see that they load, is fine.

The exact flows in both were drawn once, by a seed that is fixed. Neither the seed nor the ranges
may change: who draws again until the result is pleasing has looked.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.testbed import load_testbed
from otcache_plugin.models.exact_flow import ExactFlowSettings, load_exact_flow_pipeline
from otcache_plugin.models.setups import ModelSetup, load_setup
from otcache_plugin.origins.finding import find_origin

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 2026_11_26
"""Of the draw of flows: the day it was made on."""

SCENES = (2000, 6000)
KERNEL_WIDTHS = (0.15, 0.5)
SHIFTS = (1.2, 4.0)


def flow_setup(name: str, settings: ExactFlowSettings) -> ModelSetup:
    """Return an exact flow of these settings, with the prompts of the one that ships."""
    pipe = load_exact_flow_pipeline(settings)
    return replace(load_setup("exact-flow"), name=name, pipe=pipe, origin=find_origin(pipe))


def draw_flows(count: int, seed: int) -> list[ExactFlowSettings]:
    """Draw settings within the ranges, each log-uniformly, and a seed of the scenes of each.

    Two thousand scenes are at least two for each of the 960 captions, so no prompt leaves the
    sampler without a decision.
    """
    rng = np.random.default_rng(seed)

    def between(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    return [
        ExactFlowSettings(
            scenes=round(between(*SCENES)),
            kernel_width=round(between(*KERNEL_WIDTHS), 3),
            shift=round(between(*SHIFTS), 2),
            seed=int(rng.integers(1, 10**6)),
        )
        for _ in range(count)
    ]


FLOWS = {f"flow-{number}": flow for number, flow in enumerate(draw_flows(8, SEED), start=1)}
"""All eight by name: the first four are for development."""

_LOADERS = {name: partial(flow_setup, name, flow) for name, flow in FLOWS.items()}

DEVELOPMENT: dict[str, Callable[[], ModelSetup]] = {
    "embedded": partial(load_setup, "embedded"),
    "testbed": load_testbed,
    **{name: _LOADERS[name] for name in list(FLOWS)[:4]},
}
"""Name → loader of the models to develop on."""

FINAL: dict[str, Callable[[], ModelSetup]] = {name: _LOADERS[name] for name in list(FLOWS)[4:]}
"""Name → loader of the models that are looked at only at the end."""
