"""MagCache (arXiv 2506.09045), diffusers' `MagCacheConfig`, with ratios calibrated on the model."""

from __future__ import annotations

import ast
import io
import re
from contextlib import redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import diffusers
import numpy as np

from otcache_plugin.comparing.contenders.diffusers_caches import (
    DiffusersCache,
    hooks_enabled,
    no_hooks,
    unknown_blocks,
    unknown_config,
)
from otcache_plugin.comparing.contenders.tuning import best_at_budgets
from otcache_plugin.errors import ExecutionError
from otcache_plugin.evaluation.outputs import generate_outputs
from otcache_plugin.pipelines.parts import find_denoisers

if TYPE_CHECKING:
    from otcache_plugin.comparing.contenders.tuning import Settings, Trial, Trials
    from otcache_plugin.comparing.methods import Bench, Variant

__all__ = ["MagCache"]

PAIRS = 4
"""Calibration pairs whose ratios are averaged; its authors take one."""

PRINTED = re.compile(r"^\[[-0-9., e+]+\]$", re.MULTILINE)
"""How diffusers prints a list of ratios at the end of a run with `calibrate=True`."""

IN_A_ROW_AND_RETENTION = ((3, 0.2), (5, 0.1), (8, 0.04), (12, 0.04))
"""Most steps left out in a row with the share of first steps that are not: diffusers' default, what
its authors take for FLUX, and two that reach small budgets."""


class MagCache(DiffusersCache):
    """MagCache: all blocks are left out while calibrated ratios of residuals allow it."""

    name = "magcache"
    label = "MagCache"
    config_name = "MagCacheConfig"
    defaults: ClassVar = {"in_a_row": 3, "retention": 0.2, "threshold": 0.06}

    def refusal(self, bench: Bench) -> str | None:
        """See `Method`: it counts the steps of a run itself, for one transformer."""
        reason = unknown_config(self.config_name) or no_hooks(bench) or unknown_blocks(bench)
        if reason is None and len(find_denoisers(bench.pipe)) > 1:
            return (
                f"{type(bench.pipe).__name__} has two transformers, each for some of the steps, "
                "and MagCache's ratios are of all steps of one"
            )
        return reason

    def calibration_steps(self, bench: Bench, variant: Variant) -> int:
        """See `Method`: also as its authors set it, it needs the ratios."""
        return bench.num_inference_steps * PAIRS + super().calibration_steps(bench, variant)

    def best(self, trials: Trials) -> list[Trial]:
        """See `TunedMethod`."""
        return best_at_budgets(
            trials,
            [
                {"in_a_row": in_a_row, "retention": retention}
                for in_a_row, retention in IN_A_ROW_AND_RETENTION
            ],
        )

    def config(self, bench: Bench, settings: Settings) -> Any:
        """See `DiffusersCache`."""
        return diffusers.MagCacheConfig(
            threshold=settings["threshold"],
            max_skip_steps=settings["in_a_row"],
            retention_ratio=settings["retention"],
            num_inference_steps=bench.num_inference_steps,
            mag_ratios=self.ratios(bench),
        )

    def ratios(self, bench: Bench) -> list[float]:
        """Return the ratios of every step's residual to the last one's, measured on this model."""
        ratios: list[float] = bench.kept(f"{self.name}-ratios", partial(_measured_ratios, bench))
        return ratios

    def words(self, settings: Settings) -> str:
        """See `TunedMethod`."""
        return (
            f"threshold {settings['threshold']:g}, at most {settings['in_a_row']} in a row, "
            f"retention {settings['retention']:g}"
        )


def _measured_ratios(bench: Bench) -> list[float]:
    """Run the pairs once as diffusers says, and average what it prints of the guidance's calls."""
    config = diffusers.MagCacheConfig(calibrate=True, num_inference_steps=bench.num_inference_steps)
    printed = io.StringIO()
    with hooks_enabled(bench.pipe, config), redirect_stdout(printed):
        generate_outputs(
            bench.pipe,
            bench.calibration_pairs(PAIRS),
            bench.call_arguments,
            PAIRS,
            frozenset({"latents"}),
        )
    lists: list[Any] = [ast.literal_eval(each) for each in PRINTED.findall(printed.getvalue())]
    if not lists:
        raise ExecutionError(
            "MagCache's calibration printed no ratios: the installed diffusers calibrates "
            "otherwise. Leave magcache out of --methods"
        )
    means: list[float] = np.mean(lists, axis=0).tolist()
    return means
