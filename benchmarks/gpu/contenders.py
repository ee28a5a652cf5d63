"""The ways to run a pipeline: untouched, by a policy, by cache-dit's own caches."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import cache_dit
import otcache_policies

import otcache_plugin

from .bench import Contender
from .documents import MODEL, REVISION, write_thresholds

POLICY = "uniform"
"""Needs no calibration; which steps a policy computes is all the same to the clock."""


def full() -> Contender:
    """Return the untouched pipeline."""
    return Contender("full", "untouched pipeline")


def policy(budget: int, executor: str = "velocity") -> Contender:
    """Return a policy of this project at a budget."""

    def enable(pipe: Any) -> None:
        cache_dit.enable_cache(pipe, policy=POLICY, budget=budget, executor=executor)

    return Contender(
        f"{executor} {budget}",
        f"policy {POLICY}, executor {executor}, {budget} computed steps",
        {"policy": POLICY, "executor": executor, "budget": budget},
        enable,
        cache_dit.disable_cache,
        reported,
        budget if executor == "velocity" else None,
    )


def probed(name: str, budget: int, steps: int) -> Contender:
    """Return a policy that decides at every step, by a threshold that decides nothing.

    Args:
        name: "teacache", or "dicache" and the depth of its probe.
        budget: 2 steps or all of them.
        steps: of the run.
    """

    def enable(pipe: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            document = Path(folder) / "document"
            write_thresholds(document, name, steps)
            cache_dit.enable_cache(
                pipe, policy=str(document), budget=budget, model=MODEL, revision=REVISION
            )

    return Contender(
        f"{name}, {budget} computed",
        f"policy {name}, executor probe, {budget} of {steps} steps computed whatever it observes",
        {"policy": name, "executor": "probe", "budget": budget},
        enable,
        cache_dit.disable_cache,
        reported,
    )


def dbcache() -> Contender:
    """Return cache-dit's own cache as it comes."""
    return Contender(
        "dbcache",
        "cache-dit's DBCache by its defaults, which decides by activations: on random weights "
        "other steps may be cached than on trained ones",
        {"cache_config": "default"},
        cache_dit.enable_cache,
        cache_dit.disable_cache,
        by_cache_dit,
    )


def steps_mask(budget: int, steps: int) -> Contender:
    """Return cache-dit's static mask of the steps that the policy would compute."""
    mask = [int(computed) for computed in uniform_mask(budget, steps)]
    config = {
        "Fn_compute_blocks": 1,
        "steps_computation_policy": "static",
        "steps_computation_mask": mask,
        "num_inference_steps": steps,
    }

    def enable(pipe: Any) -> None:
        cache_dit.enable_cache(pipe, cache_config=cache_dit.DBCacheConfig(**config))

    return Contender(
        f"steps_mask {budget}",
        f"cache-dit's steps_computation_mask with the {budget} steps that the policy computes",
        config,
        enable,
        cache_dit.disable_cache,
        by_cache_dit,
    )


def uniform_mask(budget: int, steps: int) -> tuple[bool, ...]:
    """Return which of the steps the uniform policy computes."""
    schedule = otcache_policies.UniformPolicy(steps).schedule(budget)
    return tuple(schedule.mask)


def reported(pipe: Any) -> dict[str, Any]:
    """Return what the plugin reports of the last run."""
    report = otcache_plugin.summary(pipe)
    return {
        "computed_steps": len(report.computed_steps),
        "planned_steps": list(report.planned_steps),
        "transformer_calls": report.transformer_calls,
        "as_planned": report.as_planned,
    }


def by_cache_dit(pipe: Any) -> dict[str, Any]:
    """Return what cache-dit says of the last run."""
    stats = cache_dit.summary(pipe, logging=False)
    cached = sorted({int(step) for each in stats for step in each.cached_steps})
    return {"cached_steps": cached, "cached_step_count": len(cached)}
